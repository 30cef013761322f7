//! `pocker store backup` of a store in use, and `pocker store restore`.

use super::support::{World, until, wait};
use super::{go_on, json, waiting_run};
use std::path::Path;

/// Another store's commands, with sockets of their own.
fn other(w: &World, name: &str, args: &[&str]) -> super::support::Done {
    let store = w.path(name).display().to_string();
    let sockets = w
        .path(&format!("s-{}", name.replace('/', "-")))
        .display()
        .to_string();
    let dirs = ["--store", &store, "--socket-dir", &sockets];
    w.pocker(&[&dirs[..], args].concat())
}

/// The store is sound, has nothing that it needs not, and is left by its server.
#[track_caller]
fn sound(w: &World, name: &str) {
    let done = other(w, name, &["fsck"]).ok().out;
    assert!(
        done.lines().count() == 1 && done.ends_with(": sound\n") && done.contains(" 1 volumes,"),
        "{done}"
    );
}

fn restore(w: &World, from: &Path, name: &str) {
    let from = from.display().to_string();
    let store = w.path(name).display().to_string();
    let done = w
        .pocker(&["--store", &store, "store", "restore", &from])
        .ok();
    assert!(
        done.out.contains(&store) && !done.out.contains("rotted"),
        "{}",
        done.out
    );
}

/// A build is in the middle of a step, a run writes to a volume, and backups are made.
#[test]
fn a_store_in_use_is_backed_up_and_restored() {
    let w = World::new();
    w.create("box", "EXEC echo kept >/word\nRUN cat /word\n")
        .ok();
    w.pocker(&["pin", "box@2"]).ok();
    w.pocker(&["volume", "create", "data"]).ok();
    // Counts in a large file, by one write, and then in a small one, by a rename.
    let script = "
        cd /data; head -c 300000 /dev/zero >large; n=0
        until test -e /go/stop; do
            n=$((n + 1))
            printf '%08d' $n | dd of=large bs=8 seek=36250 conv=notrunc 2>/dev/null
            echo $n >next && mv next small
            touch /go/counts
        done; echo $n";
    let run = waiting_run(&w, &["-v", "data:/data"], script);
    go_on(&w);
    until("it counts", || w.path("go/counts").exists());
    w.pockerfile(
        "slow",
        "EXEC echo begun >/begun; sleep 2; echo built >/word\nRUN cat /word\n",
    );
    let build = w.start(&["create", "-f", "slow.pockerfile", "slow"]);
    let shm = tempfile::tempdir_in("/dev/shm").expect("another file system");
    let far = shm.path().join("backups");
    let near = w.path("backups");
    for dir in [&far, &near, &far, &near] {
        let dir = dir.display().to_string();
        let done = json(&w, &["store", "backup", &dir]);
        assert_eq!(done["rotted"].as_array().map(Vec::len), Some(0), "{done}");
        assert_eq!(done["missing"].as_array().map(Vec::len), Some(0), "{done}");
        assert_eq!(done["volumes"], 1);
    }
    let again = json(&w, &["store", "backup", &far.display().to_string()]);
    assert_eq!(
        again["copied"], 0,
        "what was copied is not copied again: {again}"
    );
    wait(build).ok();
    std::fs::write(w.path("go/stop"), "").expect("write");
    let last: u64 = wait(run).ok().out.trim().parse().expect("a number");
    assert!(last > 0);
    assert_eq!(w.pocker(&["run", "slow"]).ok().out, "built\n");

    for (from, name) in [(&far, "far"), (&near, "near")] {
        restore(&w, from, name);
        sound(&w, name);
        assert_eq!(other(&w, name, &["run", "box"]).ok().out, "kept\n");
        let pins = other(&w, name, &["pin", "--list"]).ok().out;
        assert!(pins.contains("box@step2"), "{pins}");
        let read = "cd /data; dd if=large bs=1 skip=290000 count=8 2>/dev/null; echo; cat small";
        let volume = [
            "run",
            "-v",
            "data:/data",
            "box",
            "--",
            "/bin/sh",
            "-c",
            read,
        ];
        let said = other(&w, name, &volume).ok().out;
        let (large, small) = said.split_once('\n').expect("two lines");
        let large: u64 = large.parse().expect("a number");
        // In the very first round there is no small file yet.
        let small: u64 = small.trim().parse().unwrap_or(0);
        assert!(large == small || large == small + 1, "{large} {small}");
        assert!(large <= last, "{large} {last}");
        // It builds, from the cache and anew.
        let again = ["create", "--no-browse", "-f", "slow.pockerfile", "slow"];
        other(&w, name, &again).ok();
        assert_eq!(other(&w, name, &["run", "slow"]).ok().out, "built\n");
        other(&w, name, &["gc"]).ok();
        sound(&w, name);
        other(&w, name, &["serve", "--stop"]).ok();
    }
    w.pocker(&["fsck"]).ok();
}

/// The server is killed while it makes a backup: the last one is still there, and whole.
#[test]
fn a_backup_that_is_cut_short_is_never_seen() {
    let w = World::new();
    w.create("box", "RUN echo kept\n").ok();
    w.pocker(&["volume", "create", "data"]).ok();
    let dir = w.path("backups");
    let text = dir.display().to_string();
    w.pocker(&["store", "backup", &text]).ok();
    for round in 0..3 {
        let lines = format!("EXEC head -c 9000000 /dev/urandom >/noise{round}\nRUN true\n");
        w.create("more", &lines).ok();
        let pid = nix::unistd::Pid::from_raw(w.server_pid());
        let mut backup = w.start(&["store", "backup", &text]);
        // Somewhere in the middle: it has begun, or is through.
        until("it is at work", || {
            let begun = std::fs::read_dir(&dir).expect("list").any(|entry| {
                let name = entry.expect("an entry").file_name();
                name.to_string_lossy().ends_with(".partial")
            });
            begun || backup.try_wait().expect("wait").is_some()
        });
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
        // It finds the server gone, starts one, and asks again.
        wait(backup);
        let name = format!("store{round}");
        restore(&w, &dir, &name);
        sound(&w, &name);
        assert_eq!(other(&w, &name, &["run", "box"]).ok().out, "kept\n");
        other(&w, &name, &["serve", "--stop"]).ok();
    }
    w.pocker(&["store", "backup", &text]).ok();
    let mut names: Vec<_> = std::fs::read_dir(&dir)
        .expect("list")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(names[1..], ["current", "pocker-backup"]);
}

#[test]
fn what_is_something_else_is_left_alone() {
    let w = World::new();
    w.create("box", "RUN true\n").ok();
    std::fs::create_dir(w.path("home")).expect("mkdir");
    w.write("home/letter", "dear");
    let at = |name: &str| w.path(name).display().to_string();
    w.pocker(&["store", "backup", &at("home")])
        .fails(&["holds something else", "hint: "]);
    w.pocker(&["store", "backup", &at("store/inside")])
        .fails(&["inside the other", "hint: "]);
    w.pocker(&["store", "backup", &at("no/such/place")])
        .fails(&["cannot back up to", "No such file"]);
    w.pocker(&["store", "backup", "backups"]).ok();
    w.pocker(&["store", "restore", "backups"])
        .fails(&["is there already", "hint: "]);
    w.pocker(&["--store", &at("new"), "store", "restore", "home"])
        .fails(&["holds no backups", "hint: "]);
    assert!(!w.path("new").exists());
    assert_eq!(
        std::fs::read_to_string(w.path("home/letter")).expect("read"),
        "dear"
    );
    // A backup is a store that can be looked at as it is.
    let looked = other(&w, "backups/current", &["ls"]);
    let _ = other(&w, "backups/current", &["serve", "--stop"]);
    assert!(looked.ok().out.contains("box"));
}
