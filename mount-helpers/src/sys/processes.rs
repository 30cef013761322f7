//! Linux: a PID namespace seen from outside, and which of its processes are about to end.

use nix::sys::stat::fstat;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Namespaces nest no deeper (linux/pid_namespace.h, MAX_PID_NS_LEVEL).
const DEPTH_MAX: usize = 32;

/// Numbers whose process is remembered.
const KNOWN_MAX: usize = 1024;

/// Signals whose default is not to end the process (signal(7)): CHLD, CONT, STOP, TSTP,
/// TTIN, TTOU, URG and WINCH, as /proc's masks have them.
const HARMLESS: u64 = {
    let signals = [17, 18, 19, 20, 21, 22, 23, 28];
    let (mut mask, mut i) = (0, 0);
    while i < signals.len() {
        mask |= 1 << (signals[i] - 1);
        i += 1;
    }
    mask
};

const KILL: u64 = 1 << (libc::SIGKILL - 1);

mod request {
    // ioctl_ns(2): a descriptor of the namespace above.
    nix::ioctl_none!(parent, 0xb7, 0x2);
}

/// A PID namespace, in whose numbers somebody names processes.
#[derive(Debug)]
pub(crate) struct PidNamespace {
    /// Device and inode of its file (namespaces(7)); `None` for this process's own.
    id: Option<(u64, u64)>,
    /// Its numbers, and ours of the same threads.
    known: Mutex<HashMap<u32, u32>>,
}

fn id(ns: impl AsFd) -> Option<(u64, u64)> {
    let stat = fstat(ns).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// The caller's own, to be given to [`PidNamespace::new`].
pub(crate) fn own_pid_namespace() -> io::Result<File> {
    File::open("/proc/self/ns/pid")
}

impl PidNamespace {
    /// `ns` is one of `/proc/PID/ns/pid`.
    pub(crate) fn new(ns: &OwnedFd) -> PidNamespace {
        let own = own_pid_namespace().ok().and_then(id);
        PidNamespace {
            id: id(ns).filter(|ns| Some(*ns) != own),
            known: Mutex::default(),
        }
    }

    /// Whether a signal is pending that will end the thread with this number. A thread that
    /// is not found is not said to end.
    pub(crate) fn is_ending(&self, pid: u32) -> bool {
        if self.id.is_none() {
            return status(&pid.to_string()).is_some_and(|s| s.ends());
        }
        let known = self.known.lock().get(&pid).copied();
        if let Some(ours) = known
            && let Some(status) = status(&ours.to_string())
            && self.names(&status, ours, pid)
        {
            return status.ends();
        }
        let Some((ours, status)) = self.find(pid) else {
            return false;
        };
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(pid, ours);
        status.ends()
    }

    fn find(&self, pid: u32) -> Option<(u32, Status)> {
        for process in numbers("/proc")? {
            let Some(threads) = numbers(&format!("/proc/{process}/task")) else {
                continue;
            };
            for thread in threads {
                let found = status(&thread.to_string());
                if let Some(found) = found.filter(|s| self.names(s, thread, pid)) {
                    return Some((thread, found));
                }
            }
        }
        None
    }

    /// Whether the thread that we call `ours` is called `pid` there.
    fn names(&self, status: &Status, ours: u32, pid: u32) -> bool {
        if !status.numbers.contains(&pid) {
            return false;
        }
        let Ok(file) = File::open(format!("/proc/{ours}/ns/pid")) else {
            return false;
        };
        let mut ns = OwnedFd::from(file);
        // From its own namespace outwards, as its numbers are from the last one on.
        for number in status.numbers.iter().rev().take(DEPTH_MAX) {
            if id(&ns) == self.id {
                return *number == pid;
            }
            // SAFETY: the request takes no argument and only makes a descriptor.
            let Ok(above) = (unsafe { request::parent(ns.as_raw_fd()) }) else {
                return false;
            };
            // SAFETY: the kernel has just made it for us, and nobody else knows of it.
            ns = unsafe { OwnedFd::from_raw_fd(above) };
        }
        false
    }
}

fn numbers(dir: &str) -> Option<impl Iterator<Item = u32> + use<>> {
    let entries = std::fs::read_dir(dir).ok()?;
    Some(entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()))
}

/// What /proc/PID/status (proc_pid_status(5)) says of a thread.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    /// Its number in each namespace from ours inwards.
    numbers: Vec<u32>,
    pending: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
}

fn status(pid: &str) -> Option<Status> {
    let bytes = std::fs::read(format!("/proc/{pid}/status")).ok()?;
    Some(Status::parse(&String::from_utf8_lossy(&bytes)))
}

impl Status {
    fn parse(text: &str) -> Status {
        let mut status = Status::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let mask = || u64::from_str_radix(value.trim(), 16).unwrap_or(0);
            match key {
                "NSpid" => {
                    let numbers = value.split_whitespace().filter_map(|n| n.parse().ok());
                    status.numbers = numbers.collect();
                }
                "SigPnd" | "ShdPnd" => status.pending |= mask(),
                "SigBlk" => status.blocked = mask(),
                "SigIgn" => status.ignored = mask(),
                "SigCgt" => status.caught = mask(),
                _ => {}
            }
        }
        status
    }

    fn ends(&self) -> bool {
        let handled = self.blocked | self.ignored | self.caught | HARMLESS;
        self.pending & KILL != 0 || self.pending & !handled != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use std::process::{Child, Command};

    fn with(pending: u64, caught: u64) -> Status {
        Status {
            pending,
            caught,
            ..Status::default()
        }
    }

    const fn bit(signal: i32) -> u64 {
        1 << (signal - 1)
    }

    #[test]
    fn a_process_ends_by_what_it_neither_handles_nor_survives() {
        assert!(!with(0, 0).ends());
        for signal in [
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGALRM,
            40,
        ] {
            assert!(with(bit(signal), 0).ends(), "{signal}");
            assert!(!with(bit(signal), bit(signal)).ends(), "{signal}");
        }
        for signal in [libc::SIGCHLD, libc::SIGWINCH, libc::SIGTSTP, libc::SIGCONT] {
            assert!(!with(bit(signal), 0).ends(), "{signal}");
        }
        assert!(with(KILL, KILL).ends());
    }

    #[test]
    fn a_status_is_read_from_proc() {
        let text = "Name:\tx\nNSpid:\t77\t5\t1\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000000100\nSigBlk:\t8000000000000000\n";
        let expected = Status {
            numbers: vec![77, 5, 1],
            pending: 0x101,
            blocked: 1 << 63,
            ..Status::default()
        };
        assert_eq!(Status::parse(text), expected);
    }

    /// A child in a PID namespace of its own, blocking SIGTERM with one pending.
    fn inside() -> Child {
        // The namespace is for this thread's children: it is not entered by the thread.
        unshare(CloneFlags::CLONE_NEWPID).unwrap();
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn a_thread_is_found_by_its_number_in_another_namespace() {
        let mut child = inside();
        let ns = File::open(format!("/proc/{}/ns/pid", child.id())).unwrap();
        let there = PidNamespace::new(&ns.into());
        assert!(there.id.is_some());
        assert_eq!(there.find(1).map(|(ours, _)| ours), Some(child.id()));
        assert!(there.find(2).is_none());
        assert!(!there.is_ending(1));
        // Known now; and another process may get its number.
        assert_eq!(there.known.lock().get(&1), Some(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!there.is_ending(1));
    }
}
