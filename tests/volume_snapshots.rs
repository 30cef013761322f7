//! Volumes as they were: snapshots of ones in use, roll backs, clones, archives, many writers; and
//! what is said where that cannot be.

mod support;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{Done, World, wait};

fn world() -> World {
    let world = World::new();
    world.create("box", "RUN true\n").ok();
    world
}

fn sh(w: &World, volume: &str, script: &str) -> Done {
    w.pocker(&["run", "-v", volume, "box", "--", "/bin/sh", "-c", script])
}

fn volume(w: &World, args: &[&str]) -> Done {
    w.pocker(&[&["volume"], args].concat())
}

/// What a command that fails says: one line and a hint, with nothing that differs from time to time.
#[track_caller]
fn said(w: &World, args: &[&str]) -> String {
    let done = w.pocker(args);
    assert_ne!(done.status, 0, "{args:?}: {}", done.out);
    assert_eq!(done.out, "");
    let dir = w.dir.path().display().to_string();
    let text = done.err.replace(&dir, "DIR");
    let mut out = String::new();
    let mut in_number = false;
    for word in text.split_inclusive(' ') {
        let digits = word.trim_matches(|c: char| !c.is_ascii_digit());
        let pid = in_number && digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit());
        out.push_str(&if pid {
            word.replace(digits, "PID")
        } else {
            word.to_owned()
        });
        in_number = word.contains("process");
    }
    out
}

/// A run with a volume that says "ready" and then reads a line.
fn holder(w: &World, volume: &str, script: &str) -> Child {
    let script = format!("{script}; echo ready; read line");
    let args = ["run", "-v", volume, "box", "--", "/bin/sh", "-c", &script];
    let mut command = w.command(&args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("pocker");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    child.stdout = Some(out.into_inner());
    child
}

fn end(mut child: Child) -> Done {
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"go on\n").expect("written");
    drop(input);
    wait(child)
}

const FILL: &str = "cd /v && head -c 300000 /dev/urandom >large && echo one >small && sync";

#[test]
fn a_volume_in_use_goes_back_when_nobody_has_it() {
    let w = world();
    volume(&w, &["create", "data"]).ok();
    let run = holder(
        &w,
        "data:/v",
        &format!("{FILL}; sha256sum large small >sum; sync"),
    );
    let made = volume(&w, &["snapshot", "data", "first"]).ok().out;
    assert_eq!(made, "data@first\n");
    let unnamed = volume(&w, &["snapshot", "data"]).ok().out;
    assert!(unnamed.starts_with("data@2"), "{unnamed}");
    let refused = volume(&w, &["rollback", "data@first"]).fails(&[
        "volume data is in use by run ",
        " of box (process ",
        "hint: stop it first: ",
    ]);
    assert_eq!(refused.err.lines().count(), 2, "{}", refused.err);
    end(run).ok();
    let change = "cd /v && rm small && mkdir more && dd if=/dev/zero of=large bs=1k seek=10 count=5 conv=notrunc 2>/dev/null; sync";
    sh(&w, "data:/v", change).ok();
    let check = "cd /v && sha256sum -c sum >/dev/null && ls | tr '\\n' ' '";
    assert_ne!(sh(&w, "data:/v:ro", check).status, 0);
    volume(&w, &["rollback", "data@first"]).ok();
    assert_eq!(sh(&w, "data:/v:ro", check).ok().out, "large small sum ");
    // It can be done again, from what the volume was to what it is, and after a restart.
    sh(&w, "data:/v", change).ok();
    w.pocker(&["serve", "--stop"]).ok();
    w.pocker(&["gc"]).ok();
    volume(&w, &["rollback", "data@first"]).ok();
    assert_eq!(sh(&w, "data:/v:ro", check).ok().out, "large small sum ");

    let listed = volume(&w, &["snapshots", "data"]).ok().out;
    let first = listed.lines().find(|line| line.starts_with("data@first "));
    assert!(first.expect("listed").contains("300.1 kB"), "{listed}");
    let json = volume(&w, &["snapshots", "--json", "data"]).ok().out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json[0]["name"], &json[0]["files"]),
        (&"first".into(), &3.into())
    );
    let all = volume(&w, &["ls", "--json"]).ok().out;
    assert!(all.contains("\"snapshots\": 2"), "{all}");
    w.pocker(&["fsck"]).ok();

    // What only the volume has of a snapshot stays with it.
    sh(
        &w,
        "data:/v",
        "cd /v && head -c 200000 /dev/zero | tr '\\0' x >other; sync",
    )
    .ok();
    volume(&w, &["snapshot", "data", "second"]).ok();
    volume(&w, &["rm", "data@second"]).ok();
    w.pocker(&["gc"]).ok();
    assert_eq!(
        sh(&w, "data:/v:ro", "tr -d x </v/other | wc -c").ok().out,
        "0\n"
    );
    volume(&w, &["rm", "data"]).fails(&["volume data has 2 snapshots", "rm --snapshots data"]);
    volume(&w, &["rm", "--snapshots", "data"]).ok();
    // Another one of that name has none of them.
    volume(&w, &["create", "data"]).ok();
    assert_eq!(volume(&w, &["snapshots", "data"]).ok().out, "");
    w.pocker(&["gc"]).ok();
    w.pocker(&["fsck"]).ok();
}

#[test]
fn clones_and_archives_are_what_the_volume_was() {
    let w = world();
    volume(&w, &["create", "data"]).ok();
    let fill = format!(
        "{FILL}; ln large second; ln -s small link; chown 5:6 small; chmod 4751 small; sync"
    );
    let run = holder(&w, "data:/v", &fill);
    volume(&w, &["snapshot", "data", "s"]).ok();
    volume(&w, &["clone", "data@s", "then"]).ok();
    sh(&w, "then:/v", "cd /v && sha256sum large >sum && rm second").ok();
    let out = |name: &str, to: &str| {
        volume(&w, &["export", name, "-o", to]).ok();
        std::fs::read(w.path(to)).expect("an archive")
    };
    // The clone is its own, the volume is in use, and an archive is the same each time.
    let archive = out("data@s", "a.tar");
    assert!(archive == out("data", "b.tar"));
    assert!(archive != out("then", "c.tar"));
    end(run).ok();
    w.pocker(&["serve", "--stop"]).ok();
    assert!(archive == out("data", "b.tar"));
    volume(&w, &["clone", "data", "now"]).ok();
    assert!(archive == out("now", "b.tar"));
    volume(&w, &["import", "back", "a.tar"]).ok();
    assert!(archive == out("back", "b.tar"));
    let pipe = "\"$0\" volume export data | gzip | \"$0\" volume import piped -";
    let pocker = w.command(&["version"]);
    let mut command = Command::new("sh");
    command.arg("-c").arg(pipe).arg(pocker.get_program());
    for (name, value) in pocker.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.stderr(Stdio::piped()).spawn().expect("sh");
    wait(child).ok();
    assert!(archive == out("piped", "b.tar"));
    let check =
        "cd /v && test $(stat -c %h large) = 2 && stat -c '%u %g %a' small && readlink link";
    let same = "5 6 4751\nsmall\n";
    assert_eq!(sh(&w, "back:/v", check).ok().out, same);
    // The volume and its snapshots go; what was made of them stays.
    volume(&w, &["rm", "--snapshots", "data"]).ok();
    w.pocker(&["gc"]).ok();
    assert!(archive == out("now", "b.tar"));
    w.pocker(&["fsck"]).ok();
}

/// A backup has a volume's snapshots, and what is restored goes back to them.
#[test]
fn backups_have_snapshots() {
    let w = world();
    volume(&w, &["create", "data"]).ok();
    sh(&w, "data:/v", &format!("{FILL}; sha256sum large >sum")).ok();
    volume(&w, &["snapshot", "data", "s"]).ok();
    sh(&w, "data:/v", "echo changed >/v/large").ok();
    w.pocker(&["store", "backup", "backups"]).ok();
    volume(&w, &["rm", "--snapshots", "data"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    std::fs::remove_dir_all(w.path("store")).expect("removed");
    w.pocker(&["store", "restore", "backups"]).ok();
    w.pocker(&["fsck"]).ok();
    assert_eq!(sh(&w, "data:/v:ro", "cat /v/large").ok().out, "changed\n");
    volume(&w, &["rollback", "data@s"]).ok();
    sh(&w, "data:/v:ro", "cd /v && sha256sum -c sum").ok();
}

#[test]
fn many_write_to_a_shared_volume() {
    let w = world();
    volume(&w, &["create", "--shared", "data"]).ok();
    let first = holder(&w, "data:/v", "echo first >/v/first");
    let second = holder(
        &w,
        "data:/v",
        "echo second >>/v/first; cat /v/first >/v/both; sync",
    );
    assert!(
        volume(&w, &["ls", "--json"])
            .ok()
            .out
            .contains("\"shared\": true")
    );
    volume(&w, &["snapshot", "data", "s"]).ok();
    volume(&w, &["rollback", "data@s"]).fails(&["in use by run ", "hint: "]);
    end(first).ok();
    end(second).ok();
    volume(&w, &["rollback", "data@s"]).ok();
    // Going back does not make it another kind.
    w.pocker(&["serve", "--stop"]).ok();
    assert!(
        volume(&w, &["ls", "--json"])
            .ok()
            .out
            .contains("\"shared\": true")
    );
    let both = sh(&w, "data:/v:ro", "cat /v/both").ok().out;
    assert_eq!(both, "first\nsecond\n");
    volume(&w, &["clone", "data", "own"]).ok();
    let run = holder(&w, "own:/v", "true");
    sh(&w, "own:/v", "true").fails(&["volume own is in use by run "]);
    sh(&w, "own:/v:ro", "true").ok();
    end(run).ok();
}

#[test]
fn what_cannot_be_is_said_and_nothing_is_changed() {
    let w = world();
    volume(&w, &["create", "data"]).ok();
    volume(&w, &["create", "other"]).ok();
    sh(&w, "data:/v", "echo kept >/v/f").ok();
    volume(&w, &["snapshot", "data", "s"]).ok();
    std::fs::write(w.path("broken.tar"), vec![7; 2000]).expect("write");
    std::fs::write(w.path("cut.tar"), "").expect("write");
    std::fs::create_dir(w.path("mnt")).expect("mkdir");
    let mnt = w.path("mnt").display().to_string();
    let mut all = String::new();
    let mut say = |args: &[&str]| {
        let shown = args.join(" ").replace(&mnt, "DIR/mnt");
        all.push_str(&format!("$ pocker {shown}\n{}", said(&w, args)));
    };
    say(&["volume", "snapshot", "none"]);
    say(&["volume", "snapshot", "data", "s"]);
    say(&["volume", "snapshot", "data", "S"]);
    say(&["volume", "snapshots", "none"]);
    say(&["volume", "rollback", "data"]);
    say(&["volume", "rollback", "data@none"]);
    say(&["volume", "rollback", "none@s"]);
    say(&["volume", "rollback", "../x@s"]);
    say(&["volume", "rm", "data@none"]);
    say(&["volume", "rm", "data"]);
    say(&["volume", "rm", "--snapshots", "data@s"]);
    say(&["volume", "clone", "data@s", "other"]);
    say(&["volume", "clone", "data@none", "new"]);
    say(&["volume", "clone", "none", "new"]);
    say(&["volume", "clone", "data", "a/b"]);
    say(&["volume", "export", "none"]);
    say(&["volume", "export", "data@none", "-o", "x.tar"]);
    say(&["volume", "import", "other", "broken.tar"]);
    say(&["volume", "import", "new", "broken.tar"]);
    say(&["volume", "import", "new", "cut.tar"]);
    say(&["volume", "import", "new", "none.tar"]);
    w.pocker(&["mount", "--volume", "data", &mnt]).ok();
    say(&["volume", "rollback", "data@s"]);
    say(&["run", "-v", "data:/v", "box"]);
    w.pocker(&["umount", &mnt]).ok();
    insta::assert_snapshot!(all);
    let listed = volume(&w, &["ls", "--json"]).ok().out;
    assert!(!listed.contains("\"new\""), "{listed}");
    assert_eq!(
        volume(&w, &["snapshots", "data"]).ok().out.lines().count(),
        2
    );
    volume(&w, &["rollback", "data@s"]).ok();
    assert_eq!(sh(&w, "data:/v", "cat /v/f").ok().out, "kept\n");
    w.pocker(&["gc"]).ok();
    w.pocker(&["fsck"]).ok();
}

/// Unmounted with the value.
struct Disk<'a>(&'a Path);

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

/// A file that takes all room but so many bytes of its file system, whoever else writes there.
fn fill_but(file: &Path, left: u64) {
    let mut ballast = std::fs::File::create(file).expect("ballast");
    let piece = [1; 64 << 10];
    let full = loop {
        if let Err(e) = ballast.write_all(&piece) {
            break e;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    let held = ballast.metadata().expect("stat").len();
    ballast.set_len(held - left).expect("cut");
}

/// The writers go on, and the next try has room.
#[test]
fn a_snapshot_on_a_full_disk_is_none() {
    let w = World::new();
    let at = w.path("store");
    std::fs::create_dir(&at).expect("mkdir");
    let options = Some("size=24m");
    mount(None::<&str>, &at, Some("tmpfs"), MsFlags::empty(), options).expect("a tmpfs");
    let disk = Disk(&at);
    w.create("box", "RUN true\n").ok();
    volume(&w, &["create", "data"]).ok();
    let fill = "cd /v && head -c 2000000 /dev/urandom >large; i=0; while test $i -lt 100; do head -c 12000 /dev/urandom >f$i; i=$((i+1)); done; sync";
    sh(&w, "data:/v", fill).ok();
    let ballast = at.join("ballast");
    fill_but(&ballast, 64 << 10);
    let full = volume(&w, &["snapshot", "data", "s"]).fails(&["volume data", "hint: free space"]);
    assert_eq!(full.err.lines().count(), 2, "{}", full.err);
    assert_eq!(volume(&w, &["snapshots", "data"]).ok().out, "");
    std::fs::remove_file(&ballast).expect("removed");
    sh(
        &w,
        "data:/v",
        "cd /v && echo more >more && cat large >/dev/null",
    )
    .ok();
    volume(&w, &["snapshot", "data", "s"]).ok();
    w.pocker(&["gc"]).ok();
    w.pocker(&["fsck"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    drop(disk);
}

/// `cp` of a store that a server has open: it is said what that is, and a right copy is one.
#[test]
fn a_copy_of_a_store_in_use_is_no_store() {
    let w = world();
    volume(&w, &["create", "data"]).ok();
    let run = holder(&w, "data:/v", "echo kept >/v/f; sync");
    let copy = |name: &str| {
        let cp = Command::new("cp")
            .arg("-a")
            .arg(w.path("store"))
            .arg(w.path(name))
            .status();
        assert!(cp.expect("cp").success());
    };
    copy("copy");
    let of_copy = |name: &str, args: &[&str]| {
        let (store, sockets) = (w.path(name), w.path("s-copy"));
        let dirs = [
            "--store",
            store.to_str().expect("text"),
            "--socket-dir",
            sockets.to_str().expect("text"),
        ];
        w.pocker(&[&dirs[..], args].concat())
    };
    for _ in 0..2 {
        let done = of_copy("copy", &["volume", "ls"]).fails(&[
            "is a copy that was made while process ",
            "had the original open",
            "hint: ",
            "pocker store backup",
        ]);
        assert_eq!(done.err.matches("error: ").count(), 1, "{}", done.err);
    }
    end(run).ok();
    let pid = w.server_pid();
    w.pocker(&["serve", "--stop"]).ok();
    support::until("the server is gone", || !support::runs(pid));
    copy("right");
    let listed = of_copy("right", &["volume", "ls"]).ok().out;
    assert!(listed.contains("data "), "{listed}");
    of_copy("right", &["serve", "--stop"]).ok();
    // The original is as it was.
    assert_eq!(sh(&w, "data:/v:ro", "cat /v/f").ok().out, "kept\n");
}
