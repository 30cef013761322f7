//! The life of runs in the background: started, listed, spoken to, stopped, started again, and what
//! is left where somebody was killed.

mod again;
mod bad_input;
mod begin;
mod damage;
mod health;
mod inside;
mod leftovers;
mod logs;
mod service;
#[path = "../support/mod.rs"]
mod support;
mod tree;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{Done, World, until};

/// A pocker whose command says so and waits.
const UP: &str = "RUN trap 'echo bye; exit 7' TERM; trap 'echo reload' HUP; echo up; echo down >&2; while :; do sleep 0.05; done\n";

fn world() -> World {
    let world = World::new();
    world.create("box", UP).ok();
    world
}

/// Starts `box` in the background with flags before its name; its name.
#[track_caller]
fn detach(w: &World, flags: &[&str]) -> String {
    detach_command(w, flags, &[])
}

#[track_caller]
fn detach_command(w: &World, flags: &[&str], command: &[&str]) -> String {
    let done = started(w, flags, command).ok();
    done.out.trim_end().to_owned()
}

fn started(w: &World, flags: &[&str], command: &[&str]) -> Done {
    let mut args = vec!["run", "--detach"];
    args.extend(flags);
    args.push("box");
    if !command.is_empty() {
        args.push("--");
        args.extend(command);
    }
    w.pocker(&args)
}

#[track_caller]
fn json(w: &World, args: &[&str]) -> Value {
    let out = w.pocker(args).ok().out;
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e} in {out}"))
}

#[track_caller]
fn inspect(w: &World, name: &str) -> Value {
    json(w, &["inspect", name])
}

/// What `ps` lists, by name.
#[track_caller]
fn live(w: &World) -> Vec<String> {
    let all = json(w, &["ps", "--json"]);
    let mut names: Vec<String> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|run| run["name"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn supervisor(w: &World, name: &str) -> Pid {
    pid(&inspect(w, name)["supervisor"])
}

#[track_caller]
fn pid(value: &Value) -> Pid {
    let pid = value.as_i64().expect("a pid");
    Pid::from_raw(i32::try_from(pid).expect("a pid"))
}

fn lives(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim()
        .chars()
        .next();
    state.is_some_and(|state| state != 'Z')
}

#[track_caller]
fn kill_dead(pid: Pid) {
    kill(pid, Signal::SIGKILL).expect("killed");
    until("it is gone", || !lives(pid));
}

#[track_caller]
fn log_has(w: &World, name: &str, text: &str) {
    until(&format!("{text:?} in the log"), || {
        let done = w.pocker(&["logs", name]).ok();
        done.out.contains(text) || done.err.contains(text)
    });
}

/// Waits until it has ended, and how.
#[track_caller]
fn ended(w: &World, name: &str) -> i64 {
    until("it ends", || inspect(w, name)["state"] == "ended");
    inspect(w, name)["end"]["status"]
        .as_i64()
        .expect("a status")
}

/// No control group is noted that a dead supervisor had made.
#[track_caller]
fn no_groups(w: &World) {
    let noted = std::fs::read_dir(w.path("s/cgroups")).into_iter().flatten();
    let noted: Vec<_> = noted.flatten().map(|entry| entry.path()).collect();
    let texts: Vec<_> = noted.iter().map(std::fs::read_to_string).collect();
    assert!(noted.is_empty(), "{noted:?}: {texts:?}");
}
