//! What only looks: help, and a server that lets nothing change.

use super::support::{World, until};

#[test]
fn help_is_a_command_too() {
    let w = World::new();
    let flag = w.pocker(&["--help"]).ok().out;
    assert_eq!(w.pocker(&["help"]).ok().out, flag);
    for command in [
        &["gc"][..],
        &["volume"],
        &["volume", "create"],
        &["store", "backup"],
    ] {
        let flag = w.pocker(&[command, &["--help"]].concat()).ok().out;
        assert_eq!(w.pocker(&[&["help"], command].concat()).ok().out, flag);
    }
    w.pocker(&["help", "nothing"]).fails(&["nothing"]);
    let dir = w.path("man");
    std::fs::create_dir(&dir).expect("mkdir");
    w.pocker(&["man", &dir.display().to_string()]).ok();
    for page in [
        "pocker.1",
        "pocker-gc.1",
        "pocker-pin.1",
        "pocker-store-backup.1",
    ] {
        assert!(dir.join(page).exists(), "{page}");
    }
}

#[test]
fn a_read_only_server_is_looked_at_and_says_what_to_do_instead() {
    let w = World::new();
    w.create("box", "RUN true\n").ok();
    w.create("gone", "EXEC echo x >/x\nRUN true\n").ok();
    w.pocker(&["rm", "gone"]).ok();
    w.pocker(&["volume", "create", "data", "--from", "box"])
        .ok();
    w.pocker(&["serve", "--stop"]).ok();
    let mut server = w.command(&["serve", "--read-only"]);
    let log = std::fs::File::create(w.path("log")).expect("a log");
    let mut server = server.stderr(log).spawn().expect("pocker starts");
    until("it serves", || w.pocker(&["serve", "--stats"]).status == 0);
    let fsck = w.pocker(&["fsck"]).ok().out;
    assert!(fsck.ends_with(": sound\n"), "{fsck}");
    let gc = w.pocker(&["gc", "--dry-run", "--keep", "1"]).ok().out;
    assert!(gc.contains("would free 2 steps"), "{gc}");
    std::fs::create_dir(w.path("mnt")).expect("mkdir");
    let mnt = w.path("mnt").display().to_string();
    w.pocker(&["mount", "--volume", "data:ro", &mnt]).ok();
    assert!(w.path("mnt/bin/busybox").exists());
    assert!(std::fs::write(w.path("mnt/new"), "x").is_err());
    w.pocker(&["umount", &mnt]).ok();
    let said = "read-only: it was started with `pocker serve --read-only`";
    let start = "start it without --read-only";
    for (args, instead) in [
        (&["fsck", "--repair"][..], "without --repair"),
        (&["gc"], "--dry-run"),
        (&["mount", "--volume", "data", &mnt], "data:ro"),
        (&["mount", "--rw", "box", &mnt], "without --rw"),
        (&["pin", "box"], "serve --stop"),
        (&["volume", "rm", "data"], "serve --stop"),
        (&["run", "box"], "serve --stop"),
    ] {
        let instead = instead.replace("data:ro", "NAME:ro");
        w.pocker(args).fails(&[said, "hint: ", start, &instead]);
    }
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("waited for");
    assert!(w.pocker(&["gc"]).ok().out.contains("freed 2 steps"));
}
