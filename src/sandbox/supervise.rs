//! Waiting for a process of the sandbox: signals go on to it, orphans are reaped.

use super::plan::Role;
use super::spec::Exit;
use crate::sys::{os, signals};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Who ended beside the child that is waited for, and whether he led a process group.
pub type Others<'a> = &'a mut dyn FnMut(WaitStatus, bool);

/// Until `child` ends. All signals are blocked here, so none is lost.
pub fn until_end(child: Pid, role: Role, others: Others<'_>) -> Exit {
    loop {
        match signals::wait_any() {
            Ok(Signal::SIGCHLD) => {
                if let Some(exit) = reap(child, others) {
                    return exit;
                }
            }
            Ok(signals::END) => kill_now(child, role),
            Ok(signal) => forward(child, role, signal),
            Err(Errno::EINTR) => {}
            // Signals can't be waited for: wait for children alone.
            Err(_) => return wait_blocking(child),
        }
    }
}

/// What a terminal would send to a whole group goes to the command's group; what
/// kill(1) sends goes to the command.
fn forward(child: Pid, role: Role, signal: Signal) {
    let group = matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGWINCH);
    // Before its setsid, the command has no group of its own.
    let _ = match role == Role::Command && group {
        true => killpg(child, signal).or_else(|_| kill(child, signal)),
        false => kill(child, signal),
    };
}

/// The end of pid 1 ends its whole namespace, and is not reaped before that is done.
fn kill_now(child: Pid, role: Role) {
    if role == Role::Command {
        let _ = killpg(child, Signal::SIGKILL);
    }
    let _ = kill(child, Signal::SIGKILL);
}

/// Everything that has ended by now; `child`'s end, if it is among them.
fn reap(child: Pid, others: Others<'_>) -> Option<Exit> {
    let mut ended = None;
    loop {
        match os::reap_one() {
            Ok(None) | Err(Errno::ECHILD) => return ended,
            Ok(Some((status, _))) if status.pid() == Some(child) => {
                ended = exit_of(status).or(ended);
            }
            Ok(Some((status, led))) => others(status, led),
            Err(Errno::EINTR) => {}
            Err(_) => return ended,
        }
    }
}

fn wait_blocking(child: Pid) -> Exit {
    loop {
        match waitpid(child, None) {
            Ok(status) => match exit_of(status) {
                Some(exit) => return exit,
                None => continue,
            },
            Err(Errno::EINTR) => {}
            Err(_) => return Exit::Signal(Signal::SIGKILL as i32),
        }
    }
}

pub fn exit_of(status: WaitStatus) -> Option<Exit> {
    match status {
        WaitStatus::Exited(_, code) => Some(Exit::Code(code)),
        WaitStatus::Signaled(_, signal, _) => Some(Exit::Signal(signal as i32)),
        _ => None,
    }
}
