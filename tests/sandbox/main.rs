//! Sandboxes for real: root, namespaces and mounts, on a small tree of busybox.
//!
//! Needs root and a static busybox (Debian: `busybox-static`). Each case runs in a
//! process of its own that has one thread and a deadline. This process adopts
//! whatever a case leaves behind, so a left process fails the case.

mod escape;
mod files;
mod life;
mod signals;
mod terminal;
mod users;
mod view;
mod world;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::io::{Read, Seek};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

pub type Case = (&'static str, fn());

/// Long after any case's end, for machines that do much else.
const DEADLINE_SECONDS: u32 = 60;

fn cases() -> Vec<Case> {
    [
        life::CASES,
        signals::CASES,
        view::CASES,
        files::CASES,
        escape::CASES,
        users::CASES,
        terminal::CASES,
    ]
    .concat()
}

/// Programs that cases start as processes of their own.
fn helpers() -> Vec<Case> {
    [life::HELPERS, terminal::HELPERS].concat()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flags = |arg: &&String| !arg.starts_with("--");
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--case", name] => return one(&cases(), name),
        ["--helper", name] => return one(&helpers(), name),
        ["--list", ..] => {
            cases()
                .iter()
                .for_each(|(name, _)| println!("{name}: test"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let filters: Vec<&String> = args.iter().filter(flags).collect();
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    let (mut passed, mut failed) = (0, 0);
    for (name, _) in cases() {
        if !filters.is_empty() && !filters.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        match run(name) {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(why) => {
                println!("test {name} ... FAILED\n{why}");
                failed += 1;
            }
        }
    }
    // The line that cargo's own harness ends with, for whoever counts.
    let verdict = if failed > 0 { "FAILED" } else { "ok" };
    println!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    ExitCode::from(u8::from(failed > 0))
}

fn one(list: &[Case], name: &str) -> ExitCode {
    let Some((_, body)) = list.iter().find(|(n, _)| *n == name) else {
        eprintln!("no case {name}");
        return ExitCode::FAILURE;
    };
    nix::unistd::alarm::set(DEADLINE_SECONDS);
    body();
    ExitCode::SUCCESS
}

fn run(name: &str) -> Result<(), String> {
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let ours = |text: String| -> Vec<String> {
        let mine = |line: &&str| line.contains("/run/pocker/mnt") || line.contains(world::PREFIX);
        text.lines().filter(mine).map(str::to_owned).collect()
    };
    let mut log = tempfile::tempfile().map_err(|e| e.to_string())?;
    let out = |log: &std::fs::File| log.try_clone().map(Stdio::from).map_err(|e| e.to_string());
    let mut child = Command::new(std::env::current_exe().map_err(|e| e.to_string())?)
        .args(["--case", name])
        .stdin(Stdio::null())
        .stdout(out(&log)?)
        .stderr(out(&log)?)
        .spawn()
        .map_err(|e| e.to_string())?;
    let status = child.wait().map_err(|e| e.to_string())?;
    let left = leftovers();
    let mounted = ours(mounts());
    if status.success() && left.is_empty() && mounted.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    let _ = log.rewind();
    let _ = log.read_to_string(&mut text);
    Err(format!(
        "{status}; processes left: {left:?}; mounts left: {mounted:?}\n{text}"
    ))
}

/// Orphans of the last case become this process's children. None may stay.
fn leftovers() -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut left = Vec::new();
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return left,
            Ok(nix::sys::wait::WaitStatus::StillAlive) if Instant::now() > deadline => {
                left.push("one that does not end".to_owned());
                return left;
            }
            Ok(nix::sys::wait::WaitStatus::StillAlive) => std::thread::yield_now(),
            Ok(status) => left.push(format!("{status:?}")),
            Err(errno) => return vec![errno.to_string()],
        }
    }
}
