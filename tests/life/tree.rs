//! What a run made of its own tree, met by what enters it from outside.

use crate::support::World;
use crate::{detach_command, inspect, log_has, world};

/// A run whose command did this to its tree.
fn after(w: &World, flags: &[&str], script: &str) -> String {
    let script = format!("{script} && echo done; exec sleep 1000");
    let name = detach_command(w, flags, &["/bin/sh", "-c", &script]);
    log_has(w, &name, "done");
    name
}

#[test]
fn a_passwd_that_is_no_file_is_refused_and_waited_for_by_nobody() {
    let w = world();
    for (path, made) in [
        ("passwd", "mkfifo"),
        ("passwd", "ln -s /dev/zero"),
        ("group", "mkdir"),
        ("group", "truncate -s 9000000"),
    ] {
        let script = format!("rm /etc/{path} && {made} /etc/{path}");
        let flags = [
            "--health-cmd",
            "true",
            "--health-interval",
            "100ms",
            "--health-retries",
            "1",
        ];
        let name = after(&w, &flags, &script);
        w.pocker(&["exec", &name, "true"]).fails(&[
            &format!("/etc/{path} is not a plain file of at most 8 MiB"),
            "hint: put one there",
        ]);
        crate::support::until("it is asked", || {
            inspect(&w, &name)["health"] == "unhealthy"
        });
        w.pocker(&["kill", &name]).ok();
        w.pocker(&["prune"]).ok();
    }
    // As a tree has it from its build.
    w.create(
        "odd",
        "EXEC rm /etc/passwd && mkfifo /etc/passwd\nRUN true\n",
    )
    .ok();
    let done = w
        .pocker(&["run", "odd"])
        .fails(&["/etc/passwd is not a plain file", "hint: "]);
    assert_eq!(done.status, 125);
}

#[test]
fn a_working_directory_is_made_in_the_tree_and_nowhere_else() {
    let w = world();
    for dir in ["g", "g/there"] {
        std::fs::create_dir(w.path(dir)).expect("mkdir");
    }
    let graft = format!("{}:/mnt/g", w.path("g").display());
    w.pocker(&["volume", "create", "data"]).ok();
    let pwd = |dir: &str| {
        let args = [
            "run",
            "-d",
            &graft,
            "-v",
            "data:/data",
            "-w",
            dir,
            "box",
            "--",
            "/bin/pwd",
        ];
        w.pocker(&args)
    };
    for dir in ["/a/b", "/tmp/a/b", "/mnt/other", "/mnt/g/there"] {
        assert_eq!(pwd(dir).ok().out, format!("{dir}\n"));
    }
    for dir in ["/mnt/g/new", "/mnt/g/there/x/y", "/data/new"] {
        pwd(dir).fails(&["it is not there", "hint: make it first"]);
    }
    assert_eq!(
        w.pocker(&["run", "-v", "data:/data", "box", "--", "ls", "/data"])
            .ok()
            .out,
        ""
    );
    // `exec` makes nothing anywhere: it comes to a run as that is.
    let name = crate::detach(&w, &["-d", &graft]);
    for dir in ["/mnt/g/new", "/new", "/tmp/new"] {
        w.pocker(&["exec", "-w", dir, &name, "pwd"])
            .fails(&["No such file or directory", "hint: make it first"]);
    }
    w.pocker(&[
        "exec",
        &name,
        "sh",
        "-c",
        "test ! -e /new && test ! -e /tmp/new",
    ])
    .ok();
    let left: Vec<_> = std::fs::read_dir(w.path("g")).expect("listed").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(
        std::fs::read_dir(w.path("g/there"))
            .expect("listed")
            .next()
            .is_none()
    );
}
