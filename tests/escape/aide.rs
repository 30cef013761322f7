//! The server's aide, which has the rights that the server gave up: without it the server does not stay, and with it
//! the server needs no more of them, whatever its host's /proc hides.

use super::support::{World, runs, until};
use std::process::{Command, Stdio};

/// capabilities(7), by number.
const SYS_PTRACE: u64 = 1 << 19;

fn aide_of(server: i32) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
    let children = children.expect("children");
    children.trim().parse().expect("one child")
}

#[test]
fn a_server_whose_aide_is_killed_leaves_and_the_next_command_has_another() {
    let w = World::new();
    w.create("a", "RUN true\n").ok();
    let server = w.server_pid();
    let aide = nix::unistd::Pid::from_raw(aide_of(server));
    nix::sys::signal::kill(aide, nix::sys::signal::SIGKILL).expect("killed");
    until("the server has left", || !runs(server));
    let log = std::fs::read_to_string(w.path("s/serve.log")).expect("a log");
    assert!(log.contains("the server's aide"), "{log}");
    w.pocker(&["run", "a"]).ok();
    assert!(w.server_pid() != server);
}

#[test]
fn where_proc_hides_processes_the_aide_tells_of_them_and_the_server_traces_nobody() {
    let w = World::new();
    let pocker = w.command(&["serve"]);
    // A /proc of its own: the host's stays as it is.
    let hide = "mount -t proc -o hidepid=2,gid=54321 proc /proc";
    let script = format!("mount --make-rprivate / && {hide} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]);
    command.arg(pocker.get_program()).args(pocker.get_args());
    for (name, value) in pocker.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut server = command.stdin(Stdio::null()).spawn().expect("unshare");
    until("the server listens", || w.path("s/control.sock").exists());
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let bits = status.lines().find_map(|l| l.strip_prefix("CapPrm:"));
    let bits = u64::from_str_radix(bits.expect("a line").trim(), 16).expect("bits");
    assert_eq!(bits & SYS_PTRACE, 0);
    let file = w.pockerfile("box", "RUN sleep 600\n").display().to_string();
    w.pocker(&["create", "--no-browse", "-f", &file, "box"])
        .ok();
    let run = w.pocker(&["run", "--detach", "box"]).ok().out;
    // It is taken for no dead one.
    w.pocker(&["rm", "box"]).fails(&["run"]);
    w.pocker(&["stop", "-t", "0", run.trim()]).ok();
    w.pocker(&["rm", "box"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("it ends");
}
