//! A command that puts a service into the background and ends: what it started is followed to its end, by what the
//! kernel says of forks and never by names. In namespaces whoever loses his parent becomes this process's child;
//! in a chroot the kernel tells of each fork below the command (kqueue(2), NOTE_TRACK).

use super::spec::Exit;
use super::supervise::exit_of;
use crate::sys::track::{Seen, Tracker};
use crate::sys::{Fault, os, signals};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};
use std::collections::BTreeSet;
use std::os::fd::RawFd;

/// Begun before the command is.
pub enum Followed {
    /// Orphans come to this process.
    Children,
    Tracked(Herd, Tracker),
}

/// Who lives of those that descend from the command.
#[derive(Debug, Default)]
pub struct Herd {
    alive: BTreeSet<i32>,
    last: Option<Exit>,
}

impl Herd {
    pub fn note(&mut self, seen: Seen) {
        match seen {
            Seen::Child(pid) => {
                self.alive.insert(pid);
            }
            Seen::End { pid, status } => {
                if self.alive.remove(&pid) {
                    let status = WaitStatus::from_raw(Pid::from_raw(pid), status).ok();
                    self.last = status.and_then(exit_of).or(self.last);
                }
            }
            // The kernel had no room for it: the run ends with those that are known.
            Seen::Lost => {}
        }
    }
}

impl Followed {
    pub fn begin() -> Result<Followed, Fault> {
        match os::NAMESPACES {
            true => Ok(Followed::Children),
            false => Ok(Followed::Tracked(Herd::default(), Tracker::begin()?)),
        }
    }

    pub fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Followed::Children => Vec::new(),
            Followed::Tracked(_, tracker) => vec![tracker.fd()],
        }
    }

    /// After the command ended as `exit` says: until all that it started have. How the last of them did is
    /// how the run did; a command that failed started nothing that is to stay.
    pub fn until_the_end(&mut self, exit: Exit) -> Exit {
        match self {
            Followed::Children if exit != Exit::Code(0) => exit,
            Followed::Children => children(exit),
            Followed::Tracked(herd, tracker) => tracked(herd, tracker, exit),
        }
    }
}

/// What asks to end is for each service with all its processes, what asks for something else for its first one.
fn tell(first: Pid, signal: Signal) {
    let ends = matches!(
        signal,
        Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGKILL
    );
    match getpgid(Some(first)) {
        Ok(group) if ends && group != getpgrp() && group.as_raw() > 1 => {
            let _ = killpg(group, signal);
        }
        Ok(_) => {
            let _ = kill(first, signal);
        }
        Err(_) => {}
    }
}

fn meant(signal: Signal) -> Signal {
    match signal {
        signals::END => Signal::SIGKILL,
        signal => signal,
    }
}

fn children(exit: Exit) -> Exit {
    let mut last = exit;
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => match signals::wait_any() {
                Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => {}
                Ok(signal) => {
                    for child in os::children() {
                        tell(child, meant(signal));
                    }
                }
                Err(_) => return last,
            },
            Ok(status) => last = exit_of(status).unwrap_or(last),
            Err(Errno::EINTR) => {}
            // There is none.
            Err(_) => return last,
        }
    }
}

fn tracked(herd: &mut Herd, tracker: &mut Tracker, exit: Exit) -> Exit {
    loop {
        let seen = tracker.look();
        // Zombies of this process's own.
        while matches!(
            waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)),
            Ok(status) if status != WaitStatus::StillAlive
        ) {}
        for one in seen {
            herd.note(one);
        }
        if herd.alive.is_empty() {
            return match exit {
                Exit::Code(0) => herd.last.unwrap_or(exit),
                failed => failed,
            };
        }
        let told = match exit {
            Exit::Code(0) => signals::pending().filter(|signal| *signal != Signal::SIGCHLD),
            // What a script that failed has left.
            _ => Some(signals::END),
        };
        if let Some(signal) = told {
            for pid in &herd.alive {
                tell(Pid::from_raw(*pid), meant(signal));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_followed_from_its_script_to_its_last_process() {
        let mut herd = Herd::default();
        let code = |code: i32| code << 8;
        let end = |pid, status| Seen::End { pid, status };
        // The script, su, the daemon, which forks, leaves its session and has a worker.
        for seen in [
            Seen::Child(10),
            Seen::Child(11),
            Seen::Child(12),
            end(11, code(0)),
            Seen::Child(13),
            end(12, code(0)),
            Seen::Child(14),
            end(10, code(0)),
        ] {
            herd.note(seen);
            assert!(!herd.alive.is_empty());
        }
        assert_eq!(herd.alive, BTreeSet::from([13, 14]));
        // Somebody who is not of the herd does not count.
        herd.note(end(99, code(9)));
        herd.note(end(14, Signal::SIGTERM as i32));
        assert_eq!(herd.last, Some(Exit::Signal(Signal::SIGTERM as i32)));
        herd.note(end(13, code(3)));
        assert!(herd.alive.is_empty());
        assert_eq!(herd.last, Some(Exit::Code(3)));
    }
}
