//! Supervisors that were killed, at several points, and what the next command finds.

use crate::support::{until, wait};
use crate::{
    detach, detach_command, inspect, json, kill_dead, live, lives, pid, supervisor, world,
};
use nix::sys::signal::{Signal, kill};

#[test]
fn a_killed_supervisor_takes_its_run_along_and_the_next_command_says_so() {
    let w = world();
    std::fs::create_dir(w.path("g")).expect("mkdir");
    let graft = format!("{}:/mnt", w.path("g").display());
    let flags = ["-d", &graft, "--restart", "always", "--memory", "64M"];
    let name = detach(&w, &flags);
    let bystander = detach(&w, &["--name", "bystander"]);
    let before = inspect(&w, &name);
    let groups = before["details"]["cgroups"].as_array().expect("a list");
    let group = |at: usize| groups[at].as_str().expect("a path");
    assert!((0..groups.len()).all(|at| std::path::Path::new(group(at)).exists()));
    assert!(!groups.is_empty());
    let waiting = w.start(&["wait", &name]);
    kill_dead(supervisor(&w, &name));
    let command = pid(&before["pid"]);
    until("its command is gone", || !lives(command));
    let done = w.pocker(&["ps"]).ok();
    if !done.err.is_empty() {
        assert!(done.err.contains("had lost its supervisor"), "{}", done.err);
    }
    assert_eq!(wait(waiting).status, 137);
    let now = inspect(&w, &name);
    assert_eq!(now["state"], "ended");
    assert!(now["end"]["error"].to_string().contains("killed"), "{now}");
    assert_eq!(live(&w), [bystander.as_str()]);
    for at in 0..groups.len() {
        assert!(!std::path::Path::new(group(at)).exists(), "{}", group(at));
    }
    // Its name, its tree and its grafts are free.
    until("the server has let go", || {
        let listed = json(&w, &["ls", "box", "--json"]);
        listed[0]["running"].as_array().map(Vec::len) == Some(1)
    });
    w.pocker(&["restart", &name]).ok();
    assert_eq!(live(&w), [name, bystander]);
}

#[test]
fn a_command_that_is_killed_while_it_starts_a_run_leaves_nothing_for_long() {
    let w = world();
    for delay in [0, 5, 15, 30, 60, 120] {
        let mut child = w.start(&["run", "--detach", "--name", "half", "box"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().expect("killed");
        child.wait().expect("reaped");
        // Its supervisor either goes on and is found, or there is nothing.
        until("it settles", || {
            let all = json(&w, &["ps", "-a", "--json"]);
            let run = &all[0];
            run.is_null() || run["state"] == "running" || run["state"] == "ended"
        });
        if live(&w) == ["half"] {
            w.pocker(&["stop", "half"]).ok();
        }
        let name = detach(&w, &["--name", "half"]);
        w.pocker(&["kill", &name]).ok();
        w.pocker(&["prune"]).ok();
        crate::no_groups(&w);
    }
}

#[test]
fn a_supervisor_that_is_killed_while_it_starts_is_reported() {
    let w = world();
    for delay in [10, 40, 80] {
        let child = w.start(&["run", "--detach", "--name", "half", "box"]);
        let supervisor = std::cell::Cell::new(None);
        until("its supervisor is there", || {
            supervisor.set(w.processes().into_iter().find(|pid| {
                let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                words.windows(11).any(|part| part == b"\0supervise\0")
                    && nix::unistd::getsid(None) != nix::unistd::getsid(Some(at(*pid)))
            }));
            supervisor.get().is_some()
        });
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let _ = kill(at(supervisor.get().expect("found")), Signal::SIGKILL);
        let done = wait(child);
        if done.status != 0 {
            assert_eq!(done.status, 125);
            assert!(done.err.contains("supervisor was killed"), "{}", done.err);
        }
        until("all is settled", || live(&w).is_empty());
        w.pocker(&["prune"]).ok();
        assert_eq!(json(&w, &["ps", "-a", "--json"]), serde_json::json!([]));
        crate::no_groups(&w);
    }
}

fn at(pid: u32) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"))
}

#[test]
fn after_another_boot_nothing_is_taken_for_its_own() {
    let w = world();
    let name = detach_command(&w, &[], &["/bin/sleep", "1000"]);
    let run = inspect(&w, &name);
    let state = format!("{}/state.json", run["files"].as_str().expect("a path"));
    let text = std::fs::read_to_string(&state).expect("read");
    let boot = run["details"]["boot"].as_str().expect("a boot");
    // As after a loss of power with a folder of sockets on a disk: all pids are others' now.
    std::fs::write(&state, text.replace(boot, "of-yesterday")).expect("written");
    let (watcher, command) = (pid(&run["supervisor"]), pid(&run["pid"]));
    let done = w.pocker(&["ps", "-a"]).ok();
    assert!(done.err.contains("had lost its supervisor"), "{}", done.err);
    let now = inspect(&w, &name);
    assert!(
        now["end"]["error"]
            .to_string()
            .contains("machine went down"),
        "{now}"
    );
    assert!(lives(watcher) && lives(command), "they are others' now");
    kill(watcher, Signal::SIGTERM).expect("ended");
    until("it ends", || !lives(watcher));
}
