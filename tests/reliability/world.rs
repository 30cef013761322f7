//! What the tests here share: a store with something of everything, and looks at it.

use crate::support::World;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub fn long() -> bool {
    std::env::var_os("POCKER_LONG").is_some()
}

/// Two pockers, one to be removed, a volume, and an archive to import.
pub fn filled() -> World {
    let w = World::new();
    w.create("box", "EXEC echo kept >/kept\nRUN cat /kept\n")
        .ok();
    w.create(
        "gone",
        "EXEC dd if=/dev/urandom of=/gone bs=64k count=8 2>/dev/null\nRUN true\n",
    )
    .ok();
    w.pockerfile(
        "new",
        "EXEC dd if=/dev/urandom of=/data bs=64k count=8\nRUN echo new\n",
    );
    w.pocker(&["volume", "create", "data"]).ok();
    into_volume(&w, "data", "first").ok();
    std::fs::create_dir(w.path("src")).expect("mkdir");
    std::fs::write(w.path("src/large"), vec![7; 300_000]).expect("write");
    std::fs::write(w.path("src/small"), "small").expect("write");
    let tar = std::process::Command::new("tar")
        .args(["-cf", "a.tar", "-C", "src", "."])
        .current_dir(w.dir.path())
        .status();
    assert!(tar.expect("tar").success());
    w
}

/// Puts a file with its own name as content into a volume, durably.
pub fn into_volume(w: &World, volume: &str, name: &str) -> crate::support::Done {
    let script =
        format!("echo {name} >/v/{name}.new && sync && mv /v/{name}.new /v/{name} && sync /v");
    let mount = format!("{volume}:/v");
    w.pocker(&["run", "-v", &mount, "box", "--", "/bin/sh", "-c", &script])
}

/// The names in a volume that hold what they should.
pub fn in_volume(w: &World, volume: &str) -> Vec<String> {
    let script = "cd /v && for f in *; do test \"$(cat $f)\" = $f && echo $f; done; true";
    let mount = format!("{volume}:/v:ro");
    let done = w
        .pocker(&["run", "-v", &mount, "box", "--", "/bin/sh", "-c", script])
        .ok();
    done.out.lines().map(str::to_owned).collect()
}

/// Names of pockers.
pub fn listed(w: &World) -> Vec<String> {
    names(&w.pocker(&["ls", "--json"]).ok().out)
}

pub fn volumes(w: &World) -> Vec<String> {
    names(&w.pocker(&["volume", "ls", "--json"]).ok().out)
}

pub fn names(json: &str) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let all = json.as_array().expect("a list").iter();
    all.map(|one| one["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// `fsck` finds nothing wrong.
#[track_caller]
pub fn sound(w: &World, when: &str) {
    let done = w.pocker(&["fsck"]);
    assert_eq!(done.status, 0, "{when}: {}{}", done.out, done.err);
}

/// Who says in the lock file that it has the store.
pub fn holder(w: &World) -> Option<i32> {
    let text = std::fs::read_to_string(w.path("store/lock")).ok()?;
    text.trim().parse().ok()
}

/// Copies a folder as it is.
pub fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(done.expect("cp").success());
    assert!(to.metadata().expect("it is there").ino() > 0);
}

/// Of a xorshift64 (Marsaglia 2003).
pub struct Random(u64);

impl Random {
    /// Its seed is shown, and taken from `RELIABILITY_SEED` where that is set.
    pub fn new() -> Random {
        let given = std::env::var("RELIABILITY_SEED").ok();
        let seed = given.map_or_else(
            || {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).expect("random bytes");
                u64::from_le_bytes(bytes) | 1
            },
            |text| text.parse().expect("RELIABILITY_SEED is a number"),
        );
        eprintln!("RELIABILITY_SEED={seed}");
        Random(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}
