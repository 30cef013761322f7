//! From `run --detach` to `stop`.

use crate::support::{World, until, wait};
use crate::{
    detach, detach_command, inspect, json, live, lives, log_has, pid, started, supervisor, world,
};
use nix::sys::signal::{Signal, kill};
use std::process::Stdio;

#[test]
fn a_run_in_the_background_is_there_until_it_is_stopped() {
    let w = world();
    assert_eq!(detach(&w, &[]), "box");
    assert_eq!(detach(&w, &[]), "box-2");
    assert_eq!(detach(&w, &["--name", "third"]), "third");
    assert_eq!(live(&w), ["box", "box-2", "third"]);
    let table = w.pocker(&["ps"]).ok().out;
    assert!(
        table.starts_with("NAME") && table.contains("running for"),
        "{table}"
    );
    log_has(&w, "box", "up\n");
    let one = inspect(&w, "box");
    assert_eq!(one["state"], "running");
    assert_eq!(one["pocker"], "box");
    let (watcher, command) = (pid(&one["supervisor"]), pid(&one["pid"]));
    // It is nobody's but init's: who started it is gone, and its session is its own.
    let session = nix::unistd::getsid(Some(watcher)).expect("a session");
    assert_eq!(session, watcher);
    // Twice the same one.
    w.pocker(&["stop", "box", one["id"].as_str().expect("an id")])
        .ok();
    w.pocker(&["stop", "box"]).fails(&["has ended"]);
    assert!(!lives(watcher) && !lives(command));
    assert_eq!(live(&w), ["box-2", "third"]);
    assert_eq!(
        inspect(&w, "box")["end"]["status"],
        7,
        "its TERM handler ran"
    );
    log_has(&w, "box", "bye\n");
    w.pocker(&["stop", "--all"]).ok();
    assert!(live(&w).is_empty());
    let all = json(&w, &["ps", "-a", "--json"]);
    assert_eq!(all.as_array().expect("a list").len(), 3);
    w.pocker(&["prune", "third"]).ok();
    w.pocker(&["logs", "third"]).fails(&["no run named third"]);
    w.pocker(&["prune"]).ok();
    assert_eq!(json(&w, &["ps", "-a", "--json"]), serde_json::json!([]));
    assert_eq!(
        std::fs::read_dir(w.path("s/runs")).expect("listed").count(),
        1,
        "the lock"
    );
}

#[test]
fn a_start_that_fails_leaves_the_ended_run_of_that_name_and_its_log() {
    let w = world();
    let named = ["--name", "web"];
    detach_command(&w, &named, &["/bin/sh", "-c", "echo first; exit 3"]);
    assert_eq!(w.pocker(&["wait", "web"]).out, "3\n");
    let failed = started(&w, &named, &["/no/such"]);
    assert_eq!(failed.status, 127, "{}", failed.err);
    log_has(&w, "web", "first\n");
    assert_eq!(inspect(&w, "web")["end"]["status"], 3);
    detach_command(&w, &named, &["/bin/sh", "-c", "echo second"]);
    log_has(&w, "web", "second\n");
    let all = json(&w, &["ps", "-a", "--json"]);
    assert_eq!(all.as_array().expect("a list").len(), 1);
    detach(&w, &["--name", "live"]);
    let stopped = w.pocker(&["serve", "--stop"]).ok().err;
    assert!(stopped.contains("stopped run live of box"), "{stopped}");
}

#[test]
fn what_does_not_heed_term_is_killed_and_its_grafts_are_gone() {
    let w = world();
    std::fs::create_dir(w.path("g")).expect("mkdir");
    let graft = format!("{}:/mnt", w.path("g").display());
    let stubborn = "trap '' TERM; echo here >/mnt/f; while :; do sleep 1; done";
    let name = detach_command(&w, &["-d", &graft], &["/bin/sh", "-c", stubborn]);
    let command = pid(&inspect(&w, &name)["pid"]);
    until("the graft is written", || w.path("g/f").exists());
    w.pocker(&["stop", "-t", "0", &name]).ok();
    assert!(!lives(command));
    assert_eq!(inspect(&w, &name)["end"]["status"], 137);
    let listed = json(&w, &["ls", "box", "--json"]);
    assert_eq!(listed[0]["running"], serde_json::json!([]));
    let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
    assert!(!mounts.contains("/graft/"), "{mounts}");
}

#[test]
fn what_never_ran_is_said_at_once_and_leaves_nothing() {
    let w = world();
    let run = |args: &[&str]| crate::started(&w, &[], args);
    assert_eq!(run(&["/no/such"]).fails(&["/no/such"]).status, 127);
    assert_eq!(run(&["/etc/passwd"]).status, 126);
    let done = crate::started(&w, &["-u", "nobody-here"], &[]);
    assert_eq!(done.fails(&["nobody-here"]).status, 125);
    let done = w.pocker(&["run", "--detach", "nothing"]);
    assert_eq!(
        done.fails(&["no pocker named nothing", "hint:"]).status,
        125
    );
    assert_eq!(json(&w, &["ps", "-a", "--json"]), serde_json::json!([]));
}

#[test]
fn the_server_may_die_and_the_run_goes_on() {
    let w = world();
    let name = detach(&w, &[]);
    let before = inspect(&w, &name);
    kill(nix::unistd::Pid::from_raw(w.server_pid()), Signal::SIGKILL).expect("killed");
    let done = w.pocker(&["exec", &name, "sh", "-c", "echo x >/f && cat /f"]);
    assert_eq!(done.ok().out, "x\n");
    let after = inspect(&w, &name);
    assert_eq!(before["pid"], after["pid"]);
    w.pocker(&["stop", &name]).ok();
}

#[test]
fn a_run_in_the_foreground_is_listed_stopped_and_forgotten() {
    let w = world();
    let child = w.start(&["run", "--name", "front", "box"]);
    until("it runs", || {
        let all = json(&w, &["ps", "--json"]);
        all[0]["state"] == "running"
    });
    w.pocker(&["logs", "front"]).fails(&["foreground", "hint:"]);
    assert_eq!(w.pocker(&["exec", "front", "echo", "in"]).ok().out, "in\n");
    w.pocker(&["stop", "front"]).ok();
    assert_eq!(wait(child).status, 7);
    assert_eq!(json(&w, &["ps", "-a", "--json"]), serde_json::json!([]));
}

#[test]
fn the_end_is_waited_for() {
    let w = world();
    std::fs::create_dir(w.path("g")).expect("mkdir");
    let graft = format!("{}:/mnt", w.path("g").display());
    let told = "until [ -e /mnt/go ]; do sleep 0.05; done; exit 5";
    let name = detach_command(&w, &["--rm", "-d", &graft], &["/bin/sh", "-c", told]);
    let waiting = w.start(&["wait", &name]);
    // By a descriptor of the process that sees to the run: forgotten afterwards, it is known to who has that.
    let files = format!("/proc/{}/fd", waiting.id());
    until("it is waited for", || {
        let files = std::fs::read_dir(&files).expect("it waits");
        let mut to = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        to.any(|to| to.to_string_lossy().contains("pidfd"))
    });
    w.write("g/go", "");
    let done = wait(waiting);
    assert_eq!((done.status, done.out.as_str()), (5, "5\n"));
    until("it is forgotten", || {
        json(&w, &["ps", "-a", "--json"]) == serde_json::json!([])
    });
    let name = detach_command(&w, &[], &["/bin/sh", "-c", "exit 3"]);
    let done = w.pocker(&["wait", &name]);
    assert_eq!((done.status, done.out.as_str()), (3, "3\n"));
}

#[test]
fn others_words_for_stopping_still_stop_them() {
    let w = world();
    let name = detach(&w, &["--restart", "always"]);
    let watcher = supervisor(&w, &name);
    w.pocker(&["rm", "--force", "box"]).ok();
    until("its supervisor ends", || !lives(watcher));
    w.create("box", crate::UP).ok();
    let watcher = {
        detach(&w, &["--name", "other"]);
        supervisor(&w, "other")
    };
    w.pocker(&["serve", "--stop"]).ok();
    until("its supervisor ends", || !lives(watcher));
    // One that waits for its next start holds no server.
    for stop in [&["serve", "--stop"][..], &["rm", "--force", "box"]] {
        let always = ["--name", "waits", "--restart", "always"];
        detach_command(&w, &always, &["/bin/false"]);
        until("it waits", || {
            inspect(&w, "waits")["starts"].as_u64() > Some(4)
        });
        w.pocker(stop).ok();
        assert!(live(&w).is_empty(), "{stop:?}");
    }
}

#[test]
fn nothing_in_the_background_holds_what_its_starter_had_open() {
    let w = world();
    w.pocker(&["serve", "--stop"]).ok();
    std::fs::create_dir(w.path("m")).expect("mkdir");
    let dir = w.path("m").display().to_string();
    // The server, a supervisor and two mount helpers; `cat` ends once nobody has the pipe.
    let commands: [&[&str]; 2] = [&["run", "--detach", "box"], &["mount", "box", &dir]];
    for args in commands {
        let pocker = w.command(args);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "\"$0\" \"$@\" 9>&1 >/dev/null 2>&1 </dev/null | cat"]);
        shell.arg(pocker.get_program()).args(pocker.get_args());
        for (name, value) in pocker.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        wait(shell.spawn().expect("sh starts")).ok();
    }
    assert_eq!(live(&w), ["box"]);
    w.pocker(&["umount", &dir]).ok();
}

#[test]
fn a_program_that_is_all_of_run_gets_the_signals_itself() {
    let w = World::new();
    // A shell that waits for its last command too, as dash does; busybox's takes its place.
    let shell = r#"printf '#!/bin/busybox sh\neval "$2"\n' >/waits && chmod 755 /waits"#;
    let up = r#"printf '#!/bin/busybox sh\ntrap "echo bye; exit 5" TERM; echo up; while :; do sleep 0.05; done\n' >/up && chmod 755 /up"#;
    let built = format!("EXEC {shell}\nEXEC {up}\nEXEC mv /waits /bin/sh\n");
    for (run, status) in [("/up 'a;b'", 5), ("A=b; exec /up", 5), ("A=b; /up", 143)] {
        w.create("box", &format!("{built}RUN {run}\n")).ok();
        let name = detach(&w, &[]);
        crate::log_has(&w, &name, "up");
        w.pocker(&["stop", &name]).ok();
        assert_eq!(crate::ended(&w, &name), status, "{run}");
    }
}
