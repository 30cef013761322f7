//! Started again: by its policy, by hand, with the machine.

use crate::support::{World, until};
use crate::{
    detach, detach_command, ended, inspect, json, kill_dead, live, lives, pid, supervisor, world,
};

#[test]
fn a_policy_starts_it_again_with_a_clean_tree_and_a_bound() {
    let w = world();
    std::fs::create_dir(w.path("g")).expect("mkdir");
    let graft = format!("{}:/mnt", w.path("g").display());
    let script = "test ! -e /mark || exit 99; touch /mark; echo x >>/mnt/starts; exit 3";
    let flags = ["--restart", "on-failure:2", "-d", &graft];
    let name = detach_command(&w, &flags, &["/bin/sh", "-c", script]);
    assert_eq!(w.pocker(&["wait", &name]).status, 3);
    let starts = std::fs::read_to_string(w.path("g/starts")).expect("read");
    assert_eq!(starts, "x\nx\nx\n");
    assert_eq!(inspect(&w, &name)["starts"], 3);
    // Success is none.
    let name = detach_command(&w, &["--restart", "on-failure"], &["/bin/true"]);
    assert_eq!(w.pocker(&["wait", &name]).status, 0);
    assert_eq!(inspect(&w, &name)["starts"], 1);
}

#[test]
fn stop_and_kill_end_what_would_start_again() {
    let w = world();
    let name = detach_command(&w, &["--restart", "always"], &["/bin/false"]);
    until("it waits for a later start", || {
        let now = inspect(&w, &name);
        now["state"] == "restarting" && now["starts"].as_u64() > Some(2)
    });
    // It may be in the middle of the next start.
    until("there is no command to enter", || {
        let done = w.pocker(&["exec", &name, "true"]);
        done.status != 0 && done.err.contains("no command running") && done.err.contains("hint:")
    });
    let watcher = supervisor(&w, &name);
    w.pocker(&["stop", &name]).ok();
    assert!(!lives(watcher));
    assert_eq!(inspect(&w, &name)["state"], "ended");
    let name = detach(&w, &["--restart", "always"]);
    let command = pid(&inspect(&w, &name)["pid"]);
    kill_dead(command);
    until("it runs again", || {
        let now = inspect(&w, &name);
        now["state"] == "running" && now["starts"] == 2
    });
    w.pocker(&["kill", &name]).ok();
    assert_eq!(inspect(&w, &name)["state"], "ended");
    assert_eq!(inspect(&w, &name)["end"]["status"], 137);
    assert_eq!(inspect(&w, &name)["starts"], 2);
}

#[test]
fn restart_has_the_same_run_begin_anew_live_or_ended() {
    let w = world();
    let name = detach(&w, &["-e", "A=b"]);
    let first = inspect(&w, &name);
    w.pocker(&["exec", &name, "touch", "/mark"]).ok();
    w.pocker(&["restart", &name]).ok();
    let second = inspect(&w, &name);
    assert_eq!(first["supervisor"], second["supervisor"]);
    assert_eq!(second["starts"], 2);
    assert_ne!(first["pid"], second["pid"]);
    let seen = w.pocker(&["exec", &name, "sh", "-c", "ls /mark; echo $A"]);
    assert_eq!(seen.ok().out, "b\n");
    w.pocker(&["stop", &name]).ok();
    w.pocker(&["restart", &name]).ok();
    let third = inspect(&w, &name);
    assert_eq!(first["id"], third["id"]);
    assert_ne!(first["supervisor"], third["supervisor"]);
    // One that does not heed TERM.
    let stubborn = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"];
    let other = detach_command(&w, &["--name", "other"], &stubborn);
    w.pocker(&["restart", "-t", "0", &other]).ok();
    assert_eq!(inspect(&w, &other)["starts"], 2);
}

#[test]
fn a_kept_tree_is_there_at_the_next_start() {
    let w = world();
    let name = detach(&w, &["--keep"]);
    w.pocker(&["exec", &name, "sh", "-c", "echo kept >/mark"])
        .ok();
    // Another name is no other tree.
    for (before, name) in [(name.as_str(), "moved"), ("moved", name.as_str())] {
        w.pocker(&["rename", before, name]).ok();
        w.pocker(&["restart", "-t", "0", name]).ok();
        let mark = w.pocker(&["exec", name, "cat", "/mark"]);
        assert_eq!(mark.ok().out, "kept\n");
    }
    // One run at a time has it.
    let volumes = json(&w, &["volume", "ls", "--json"]);
    assert_eq!(volumes[0]["name"], "box.kept");
    w.pocker(&["volume", "rm", "box.kept"])
        .fails(&["in use", "hint:"]);
    w.pocker(&["stop", &name]).ok();
    let front = [
        "run", "--keep", "--name", "box", "box", "--", "cat", "/mark",
    ];
    assert_eq!(w.pocker(&front).ok().out, "kept\n");
    w.pocker(&["volume", "rm", "box.kept"]).ok();
    assert_ne!(w.pocker(&front).status, 0);
}

#[test]
fn boot_starts_what_is_marked_once() {
    let w = world();
    detach(
        &w,
        &[
            "--restart",
            "always",
            "--name",
            "kept",
            "-e",
            "A=of the mark",
        ],
    );
    detach(&w, &["--name", "other"]);
    detach(&w, &["--restart", "always", "--name", "gone"]);
    w.pocker(&["rename", "kept", "web"]).ok();
    w.pocker(&["stop", "gone"]).ok();
    w.pocker(&["prune", "gone"]).ok();
    w.pocker(&["boot"]).ok();
    assert_eq!(live(&w), ["other", "web"]);
    machine_goes_down(&w);
    assert_eq!(w.pocker(&["boot", "--dry-run"]).ok().out, "web\n");
    assert_eq!(w.pocker(&["boot"]).ok().out, "web\n");
    assert_eq!(w.pocker(&["boot"]).ok().out, "");
    assert_eq!(live(&w), ["web"]);
    let seen = w.pocker(&["exec", "web", "sh", "-c", "echo $A"]);
    assert_eq!(seen.ok().out, "of the mark\n");
    // Started under its name without the mark, it has none.
    w.pocker(&["stop", "web"]).ok();
    detach(&w, &["--name", "web"]);
    w.pocker(&["stop", "web"]).ok();
    assert_eq!(w.pocker(&["boot"]).ok().out, "");
}

#[test]
fn boot_starts_the_others_though_one_cannot() {
    let w = world();
    w.create("frail", crate::UP).ok();
    w.pocker(&["run", "--detach", "--restart", "always", "frail"])
        .ok();
    detach(&w, &["--restart", "always"]);
    machine_goes_down(&w);
    w.pocker(&["rm", "frail"]).ok();
    let done =
        w.pocker(&["boot"])
            .fails(&["no pocker named frail", "frail did not start", "hint:"]);
    assert_eq!(done.out, "box\n");
    assert_eq!(live(&w), ["box"]);
}

#[test]
fn what_boot_cannot_start_keeps_its_log_and_its_place() {
    let w = world();
    let name = detach(&w, &["--restart", "always", "--name", "web"]);
    crate::log_has(&w, &name, "up");
    w.pocker(&["stop", "web"]).ok();
    let before = inspect(&w, "web");
    w.pocker(&["rm", "box"]).ok();
    w.pocker(&["boot"]).fails(&["web did not start", "hint:"]);
    let now = inspect(&w, "web");
    assert_eq!(
        (&now["id"], &now["state"]),
        (&before["id"], &"ended".into())
    );
    assert!(
        now["end"]["error"].to_string().contains("no pocker"),
        "{now}"
    );
    assert!(w.pocker(&["logs", "web"]).ok().out.contains("bye"));
    w.create("box", crate::UP).ok();
    assert_eq!(w.pocker(&["boot"]).ok().out, "web\n");
    let after = inspect(&w, "web");
    assert_eq!((&after["id"], &after["starts"]), (&before["id"], &2.into()));
    assert!(w.pocker(&["logs", "web"]).ok().out.contains("bye"));
}

/// Everything is killed, and what is in the folder of sockets is gone as /run is.
fn machine_goes_down(w: &World) {
    let all = json(w, &["ps", "--json"]);
    let server = nix::unistd::Pid::from_raw(w.server_pid());
    for run in all.as_array().expect("a list") {
        kill_dead(pid(&run["supervisor"]));
        let command = pid(&run["pid"]);
        until("its command is gone", || !lives(command));
    }
    kill_dead(server);
    std::fs::remove_dir_all(w.path("s/runs")).expect("removed");
}

#[test]
fn a_pocker_that_is_gone_ends_its_run() {
    let w = world();
    let name = detach_command(&w, &["--restart", "always"], &["/bin/false"]);
    until("it waits", || inspect(&w, &name)["state"] == "restarting");
    // Between two starts nothing of it is in use.
    until("it is removed", || w.pocker(&["rm", "box"]).status == 0);
    assert_eq!(ended(&w, &name), 125);
    let why = inspect(&w, &name)["end"]["error"].to_string();
    assert!(why.contains("no pocker named box"), "{why}");
}

#[test]
fn boot_can_stop_what_it_started_and_nothing_else() {
    let w = world();
    detach(&w, &["--restart", "always", "--name", "marked"]);
    detach(&w, &["--name", "other"]);
    w.pocker(&["boot", "--stop"]).ok();
    assert_eq!(live(&w), ["other"]);
    assert_eq!(w.pocker(&["boot"]).ok().out, "marked\n");
}

#[test]
fn the_service_files_are_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = concat!(env!("CARGO_MANIFEST_DIR"), "/mount-helpers/service");
    let unit = std::fs::read_to_string(format!("{at}/pocker-boot.service")).expect("read");
    // The program is not installed here.
    let unit = unit.replace("/usr/local/bin/pocker", env!("CARGO_BIN_EXE_pocker"));
    assert!(unit.contains(" boot\n") && unit.contains(" boot --stop\n"));
    let copy = dir.path().join("pocker-boot.service");
    std::fs::write(&copy, unit).expect("written");
    let done = std::process::Command::new("systemd-analyze")
        .arg("verify")
        .arg(&copy)
        .output()
        .expect("systemd-analyze");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success() && !said.contains("pocker-boot"),
        "{said}"
    );
    for script in ["pocker.rc", "pocker_boot.rc"] {
        let done = std::process::Command::new("sh")
            .arg("-n")
            .arg(format!("{at}/{script}"))
            .status();
        assert!(done.expect("sh").success(), "{script}");
    }
}

#[test]
fn what_a_file_said_at_the_start_is_what_exec_finds() {
    let w = world();
    w.write("vars", "A=first\n");
    // Relative to where it was said.
    let name = detach(&w, &["--env-file", "vars"]);
    std::fs::remove_file(w.path("vars")).expect("removed");
    let seen = || w.pocker(&["exec", &name, "sh", "-c", "echo $A"]).ok().out;
    assert_eq!(seen(), "first\n");
    // The same supervisor goes by what it read; another one reads it again.
    w.pocker(&["restart", &name]).ok();
    assert_eq!(seen(), "first\n");
    w.pocker(&["stop", &name]).ok();
    w.pocker(&["restart", &name]).fails(&["vars"]);
    w.write("vars", "A=second\n");
    w.pocker(&["restart", &name]).ok();
    assert_eq!(seen(), "second\n");
}
