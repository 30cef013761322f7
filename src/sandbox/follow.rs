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

/// A process was lost sight of, so how the run went is not known (sysexits(3), EX_OSERR).
const LOST: Exit = Exit::Code(71);

/// How those ended that the command started. What leads a process group is a service's first process, which
/// knows how the service did; of the others some are killed with it.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    leader: Option<Exit>,
    other: Option<Exit>,
    /// The service was told to end.
    told: bool,
}

impl Ends {
    /// `left`: others are in the group that he led. Who forks once more after setsid(2) and ends well leaves the
    /// service to his child; where it was told to end, to nobody.
    fn note(&mut self, exit: Option<Exit>, led: bool, left: bool) {
        let handed_on = exit == Some(Exit::Code(0)) && left && !self.told;
        let last = match led && !handed_on {
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
    lost: bool,
}

impl Herd {
    /// `command` counts among the living, and not for how it went.
    fn note(&mut self, command: i32, seen: Seen, left: impl Fn(i32) -> bool) {
        match seen {
            Seen::Child(pid) => {
                self.alive.insert(pid);
            }
            Seen::End { pid, status } => {
                if self.alive.remove(&pid) && pid != command {
                    let status = WaitStatus::from_raw(Pid::from_raw(pid), status).ok();
                    let led = self.leaders.remove(&pid);
                    self.ends.note(status.and_then(exit_of), led, left(pid));
                }
            }
            // The kernel had no room for it: the run ends with those that are known, and not well.
            Seen::Lost => self.lost = true,
        }
    }

    fn over(&self, command: Exit) -> Exit {
        match (command, self.ends.over(command)) {
            (Exit::Code(0), Exit::Code(0)) if self.lost => LOST,
            (Exit::Code(0), how) => how,
            (failed, _) => failed,
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
            ends.note(exit_of(status), led, led && left(status));
        });
        match self {
            Followed::Children if exit != Exit::Code(0) => exit,
            Followed::Children => children(ends, exit),
            Followed::Tracked(herd, tracker) => tracked(herd, tracker, command, exit),
        }
    }
}

/// Whether somebody is in the group that he led who has ended.
fn left(leader: WaitStatus) -> bool {
    leader.pid().is_some_and(is_group)
}

fn is_group(leader: Pid) -> bool {
    killpg(leader, None) != Err(Errno::ESRCH)
}

fn asks_to_end(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGKILL
    )
}

/// What asks to end is for each service with all its processes, what asks for something else for its first one.
fn tell(first: Pid, signal: Signal) {
    match getpgid(Some(first)) {
        Ok(group) if asks_to_end(signal) && group != getpgrp() && group.as_raw() > 1 => {
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
    let tell_all = |signal| {
        for child in os::children() {
            tell(child, signal);
        }
    };
    let mut ending = false;
    loop {
        match os::reap_one() {
            Ok(Some((status, led))) => {
                ends.note(exit_of(status), led, led && left(status));
                // His children are this process's by now.
                if ending {
                    tell_all(Signal::SIGKILL);
                }
            }
            Ok(None) => match signals::wait_any() {
                Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => {}
                Ok(signal) => {
                    ending |= signal == signals::END;
                    ends.told |= asks_to_end(meant(signal));
                    tell_all(meant(signal));
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
    // Whoever is seen: also what a script that failed has left.
    let mut ending = exit != Exit::Code(0);
    loop {
        let seen = tracker.look();
        // One look does not give all there is.
        let all_seen = seen.is_empty();
        // Zombies of this process's own.
        while matches!(os::reap_one(), Ok(Some(_))) {}
        for one in seen {
            herd.note(command.as_raw(), one, |pid| is_group(Pid::from_raw(pid)));
        }
        let leads = |pid: &&i32| getpgid(Some(Pid::from_raw(**pid))) == Ok(Pid::from_raw(**pid));
        herd.leaders
            .extend(herd.alive.iter().filter(leads).copied());
        if all_seen && herd.alive.is_empty() {
            return herd.over(exit);
        }
        let told = signals::pending().filter(|signal| *signal != Signal::SIGCHLD);
        ending |= told == Some(signals::END);
        let told = if ending { Some(signals::END) } else { told };
        if let Some(signal) = told.map(meant) {
            herd.ends.told |= asks_to_end(signal);
            for pid in &herd.alive {
                tell(Pid::from_raw(*pid), signal);
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
            herd.note(10, seen, |_| false);
            assert!(!herd.alive.is_empty());
        }
        assert_eq!(herd.alive, BTreeSet::from([13, 14]));
        // Somebody who is not of the herd does not count; a worker that is killed counts less than its daemon.
        herd.leaders.insert(13);
        herd.note(10, end(99, code(9)), |_| false);
        herd.note(10, end(13, code(3)), |_| true);
        herd.note(10, end(14, Signal::SIGTERM as i32), |_| false);
        assert!(herd.alive.is_empty());
        assert_eq!(herd.ends.over(Exit::Code(0)), Exit::Code(3));
        assert_eq!(Herd::default().over(Exit::Code(4)), Exit::Code(4));
    }

    #[test]
    fn who_leads_and_forks_once_more_leaves_the_service_to_his_child() {
        let crash = Some(Exit::Signal(11));
        let ended = |told, left| {
            let mut ends = Ends {
                told,
                ..Ends::default()
            };
            ends.note(Some(Exit::Code(0)), true, left);
            ends.note(crash, false, false);
            ends.over(Exit::Code(0))
        };
        assert_eq!(Some(ended(false, true)), crash);
        // A worker that dies after its leader, or with it.
        assert_eq!(ended(false, false), Exit::Code(0));
        assert_eq!(ended(true, true), Exit::Code(0));
    }

    #[test]
    fn a_run_of_which_a_process_was_lost_did_not_go_well() {
        let mut herd = Herd::default();
        herd.note(10, Seen::Lost, |_| false);
        assert_eq!(herd.over(Exit::Code(0)), LOST);
        assert_eq!(herd.over(Exit::Code(4)), Exit::Code(4));
    }
}
