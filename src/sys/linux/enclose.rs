//! Control groups and network namespaces that a sandbox's first process enters.

use super::super::fault::{Attempt, Fault};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::Resource;
use std::os::fd::{BorrowedFd, RawFd};

/// What setrlimit(2) bounds here, as `ulimit` and its like call it.
pub const RLIMITS: &[(&str, Resource)] = &[
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

/// Joins the groups whose doors are open; with `hidden`, sees them as the top from then on.
pub fn join_groups(doors: &[RawFd], hidden: bool) -> Result<(), Fault> {
    for door in doors {
        // SAFETY: the plan's owner holds it open.
        let door = unsafe { BorrowedFd::borrow_raw(*door) };
        nix::unistd::write(door, b"0").attempt("join a control group")?;
    }
    if doors.is_empty() || !hidden {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWCGROUP).attempt("hide the other control groups")
}

pub fn enter_net(net: RawFd) -> Result<(), Fault> {
    // SAFETY: the plan's owner holds it open.
    let net = unsafe { BorrowedFd::borrow_raw(net) };
    setns(net, CloneFlags::CLONE_NEWNET).attempt("enter the network namespace")
}
