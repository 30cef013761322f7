//! A command that puts a service into the background and ends: what it started is followed to its end, by what the
//! kernel says of forks and never by names. In namespaces whoever loses his parent becomes this process's child;
//! in a chroot the kernel tells of each fork below the command (kqueue(2), NOTE_TRACK).

use super::plan::Role;
use super::spec::Exit;
use super::supervise::{self, exit_of};
use crate::sys::track::{Seen, Tracker};
use crate::sys::{Fault, os, signals};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, getpgid, getpgrp};
use std::collections::BTreeSet;
use std::os::fd::RawFd;

/// Begun before the command is.
pub enum Followed {
    /// Orphans come to this process.
    Children,
    Tracked(Herd, Tracker),
}

/// How those ended that the command started. What leads a process group is a service's first process, which
/// knows how the service did; of the others some are killed with it.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    leader: Option<Exit>,
    other: Option<Exit>,
}

impl Ends {
    fn note(&mut self, exit: Option<Exit>, led: bool) {
        let last = match led {
            true => &mut self.leader,
            false => &mut self.other,
        };
        *last = exit.or(*last);
    }

    /// Where there was none: how the command did.
    fn over(self, command: Exit) -> Exit {
        self.leader.or(self.other).unwrap_or(command)
    }
}

/// Who lives of those that descend from the command, and who is known to lead a group.
#[derive(Debug, Default)]
pub struct Herd {
    alive: BTreeSet<i32>,
    leaders: BTreeSet<i32>,
    ends: Ends,
}

impl Herd {
    /// `command` counts among the living, and not for how it went.
    fn note(&mut self, command: i32, seen: Seen) {
        match seen {
            Seen::Child(pid) => {
                self.alive.insert(pid);
            }
            Seen::End { pid, status } => {
                if self.alive.remove(&pid) && pid != command {
                    let status = WaitStatus::from_raw(Pid::from_raw(pid), status).ok();
                    let led = self.leaders.remove(&pid);
                    self.ends.note(status.and_then(exit_of), led);
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

    /// Until `command` and all that it started have ended. How the last service did is how the run did; a
    /// command that failed started nothing that is to stay.
    pub fn until_the_end(&mut self, command: Pid) -> Exit {
        let mut ends = Ends::default();
        let exit = supervise::until_end(command, Role::Command, &mut |status, led| {
            ends.note(exit_of(status), led);
        });
        match self {
            Followed::Children if exit != Exit::Code(0) => exit,
            Followed::Children => children(ends, exit),
            Followed::Tracked(herd, tracker) => tracked(herd, tracker, command, exit),
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

fn children(mut ends: Ends, exit: Exit) -> Exit {
    loop {
        match os::reap_one() {
            Ok(Some((status, led))) => ends.note(exit_of(status), led),
            Ok(None) => match signals::wait_any() {
                Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => {}
                Ok(signal) => {
                    for child in os::children() {
                        tell(child, meant(signal));
                    }
                }
                Err(_) => return ends.over(exit),
            },
            Err(Errno::EINTR) => {}
            // There is none.
            Err(_) => return ends.over(exit),
        }
    }
}

fn tracked(herd: &mut Herd, tracker: &mut Tracker, command: Pid, exit: Exit) -> Exit {
    loop {
        let seen = tracker.look();
        // Zombies of this process's own.
        while matches!(os::reap_one(), Ok(Some(_))) {}
        for one in seen {
            herd.note(command.as_raw(), one);
        }
        let leads = |pid: &&i32| getpgid(Some(Pid::from_raw(**pid))) == Ok(Pid::from_raw(**pid));
        herd.leaders
            .extend(herd.alive.iter().filter(leads).copied());
        if herd.alive.is_empty() {
            return match exit {
                Exit::Code(0) => herd.ends.over(exit),
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
            herd.note(10, seen);
            assert!(!herd.alive.is_empty());
        }
        assert_eq!(herd.alive, BTreeSet::from([13, 14]));
        // Somebody who is not of the herd does not count; a worker that is killed counts less than its daemon.
        herd.leaders.insert(13);
        herd.note(10, end(99, code(9)));
        herd.note(10, end(13, code(3)));
        herd.note(10, end(14, Signal::SIGTERM as i32));
        assert!(herd.alive.is_empty());
        assert_eq!(herd.ends.over(Exit::Code(0)), Exit::Code(3));
        assert_eq!(Herd::default().ends.over(Exit::Code(4)), Exit::Code(4));
    }
}
