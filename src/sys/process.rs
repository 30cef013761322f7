//! Processes: fork, a tie to the parent, descriptors, the end.

use super::os;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

/// Descriptors above this are not looked for: where close_range(2) is missing and no limit is set, and one by one.
const FALLBACK_DESCRIPTORS: RawFd = 65_536;

/// A process, named so that a pid used again is not mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Started {
    pub pid: u32,
    /// None: it was gone when it was looked at.
    pub start: Option<u64>,
}

impl Started {
    pub fn of(pid: u32) -> Started {
        Started {
            pid,
            start: crate::control::sys::process_start(pid),
        }
    }

    pub fn me() -> Started {
        Started::of(std::process::id())
    }

    pub fn lives(&self) -> bool {
        self.start.is_some() && crate::control::sys::process_start(self.pid) == self.start
    }

    /// For signals to it and to no other; none where it has ended.
    pub fn handle(&self) -> Option<os::Handle> {
        let handle = os::Handle::open(self.pid).ok()?;
        self.lives().then_some(handle)
    }
}

/// Both sides of [`fork_tied`].
pub enum Forked {
    /// The child lives no longer than `tie` is held open.
    Parent { child: Pid, tie: OwnedFd },
    /// Give `tie` to [`tie_to_parent`] first of all.
    Child { tie: OwnedFd },
}

/// fork(2), for a process of one thread (see [`threads`]).
pub fn fork_tied() -> nix::Result<Forked> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the callers checked that this process has one thread, so no lock is
    // held by a thread that the child lacks, and the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent { child, tie: write }),
        ForkResult::Child => Ok(Forked::Child { tie: read }),
    }
}

/// Ends this process when its parent ends, including a parent that ended
/// between fork and this call.
pub fn tie_to_parent(tie: OwnedFd) -> nix::Result<()> {
    os::die_with_parent()?;
    let mut fds = [PollFd::new(tie.as_fd(), PollFlags::POLLIN)];
    // The parent never writes: any event is the end of its last descriptor.
    if poll(&mut fds, PollTimeout::ZERO)? > 0 {
        exit_now(1);
    }
    Ok(())
}

/// _exit(2): no handlers, no flushing of buffers that belong to the parent.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

unsafe extern "C" {
    /// environ(7).
    static mut environ: *mut *mut libc::c_char;
}

/// For this process and what it starts. For a process of one thread.
pub fn set_variable(name: &str, value: &std::path::Path) {
    // SAFETY: no other thread reads or writes the environment meanwhile.
    unsafe { std::env::set_var(name, value) }
}

/// Overwrites this process's environment, which /proc/PID/environ shows to those who may
/// trace it. For a process of one thread, which has no use for it any more.
pub fn forget_environment() {
    // SAFETY: environ(7) is null or an array of writable strings that ends with null; no
    // other thread looks at them, and strings that became empty are still strings.
    unsafe {
        let mut at = (&raw const environ).read();
        while !at.is_null() && !at.read().is_null() {
            let variable = at.read();
            variable.write_bytes(0, libc::strlen(variable));
            at = at.add(1);
        }
    }
}

/// Overwrites this process's arguments, which /proc/PID/cmdline shows to everybody: those at
/// `os::arguments()`. For a process of one thread, which has no use for them any more.
pub fn forget_arguments(at: &Option<std::ops::Range<usize>>) {
    const NAME: &[u8] = b"pocker";
    let Some(at) = at else { return };
    // SAFETY: the kernel laid argv(7)'s strings there, writable and one after the other, and
    // no other thread looks at them; bytes that became zero are still strings.
    unsafe {
        let start = std::ptr::with_exposed_provenance_mut::<u8>(at.start);
        start.write_bytes(0, at.len());
        start.copy_from(NAME.as_ptr(), NAME.len().min(at.len() - 1));
    }
}

/// Threads of this process, where the system tells.
pub fn threads() -> usize {
    os::threads()
}

/// Closes every descriptor from 3 up but those of `keep`.
pub fn close_except(keep: &[RawFd]) {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut first: RawFd = 3;
    for fd in keep {
        if fd > first {
            close_between(first, fd - 1);
        }
        first = first.max(fd + 1);
    }
    close_between(first, RawFd::MAX);
}

/// Closes every directory that is open, save those that stand for the standard streams, which become /dev/null.
pub fn close_directories() {
    use nix::sys::stat::{SFlag, fstat};
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let limit = limit.ok().and_then(|(soft, _)| RawFd::try_from(soft).ok());
    let limit = limit.map_or(FALLBACK_DESCRIPTORS, |soft| soft.min(FALLBACK_DESCRIPTORS));
    for fd in 0..limit {
        // SAFETY: it is asked about before anything is done with it, and one that is not open is an error.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let is = fstat(borrowed).is_ok_and(|stat| {
            SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
        });
        if !is {
            continue;
        }
        // SAFETY: this process uses no directory that it was started with, and has opened none that it uses later.
        unsafe { libc::close(fd) };
        if fd <= 2 {
            // The lowest that is free, which is this one.
            let null = std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null");
            std::mem::forget(null);
        }
    }
}

fn close_between(first: RawFd, last: RawFd) {
    if os::close_range(first, last) {
        return;
    }
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .ok()
        .and_then(|(soft, _)| RawFd::try_from(soft).ok())
        .map_or(FALLBACK_DESCRIPTORS, |soft| soft.min(1 << 20));
    for fd in first..=last.min(limit) {
        // SAFETY: the caller gives up all descriptors of the range, and nothing
        // it still uses owns one.
        unsafe { libc::close(fd) };
    }
}

/// A descriptor that came with a message (SCM_RIGHTS).
pub fn own(received: RawFd) -> OwnedFd {
    // SAFETY: the kernel made it for this process, and it was never owned yet.
    unsafe { OwnedFd::from_raw_fd(received) }
}
