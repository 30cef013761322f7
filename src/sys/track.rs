//! What the kernel tells of a process's descendants, wherever they go: kqueue(2) of the BSDs.

use super::Fault;

/// One thing that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A descendant began.
    Child(i32),
    /// One ended; its status as of wait(2).
    End { pid: i32, status: i32 },
    /// One could not be followed.
    Lost,
}

#[cfg(any(target_os = "openbsd", target_os = "freebsd"))]
mod imp {
    use super::*;
    use crate::sys::Attempt;
    use nix::errno::Errno;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

    /// How long a look waits for something to be seen: signals are looked for between two.
    const PATIENCE_NS: libc::c_long = 50_000_000;
    const EVENTS: usize = 32;

    pub struct Tracker {
        queue: OwnedFd,
        own: i32,
    }

    impl Tracker {
        /// From here on, of each process that this one forks and of theirs. A queue is not inherited.
        pub fn begin() -> Result<Tracker, Fault> {
            // SAFETY: makes a descriptor, which nothing else owns.
            let queue = unsafe { libc::kqueue() };
            let queue = Errno::result(queue).attempt("make a queue of the kernel's events")?;
            // SAFETY: as above.
            let queue = unsafe { OwnedFd::from_raw_fd(queue) };
            let own = nix::unistd::getpid().as_raw();
            // SAFETY: kevent is plain data, valid when all zero.
            let mut change: libc::kevent = unsafe { std::mem::zeroed() };
            change.ident = own as _;
            change.filter = libc::EVFILT_PROC as _;
            change.flags = libc::EV_ADD as _;
            change.fflags = (libc::NOTE_TRACK | libc::NOTE_EXIT) as _;
            // SAFETY: one change is read, and no event written.
            let done = unsafe {
                libc::kevent(
                    queue.as_raw_fd(),
                    &raw const change,
                    1,
                    std::ptr::null_mut(),
                    0,
                    std::ptr::null(),
                )
            };
            Errno::result(done).attempt("follow what the command starts")?;
            Ok(Tracker { queue, own })
        }

        pub fn fd(&self) -> RawFd {
            self.queue.as_raw_fd()
        }

        /// What was seen since the last look; none after a moment in which nothing was.
        pub fn look(&mut self) -> Vec<Seen> {
            // SAFETY: as in `begin`.
            let mut events: [libc::kevent; EVENTS] = unsafe { std::mem::zeroed() };
            // SAFETY: timespec is plain data too.
            let mut patience: libc::timespec = unsafe { std::mem::zeroed() };
            patience.tv_nsec = PATIENCE_NS;
            // SAFETY: the kernel writes at most as many events as there is room for.
            let got = unsafe {
                libc::kevent(
                    self.queue.as_raw_fd(),
                    std::ptr::null(),
                    0,
                    events.as_mut_ptr(),
                    EVENTS as _,
                    &raw const patience,
                )
            };
            let got = usize::try_from(got).unwrap_or(0);
            let mut seen = Vec::new();
            for event in &events[..got] {
                let (pid, notes) = (event.ident as i32, event.fflags as u32);
                if notes & libc::NOTE_TRACKERR as u32 != 0 {
                    seen.push(Seen::Lost);
                }
                if pid == self.own {
                    continue;
                }
                // Both may come in one.
                if notes & libc::NOTE_CHILD as u32 != 0 {
                    seen.push(Seen::Child(pid));
                }
                if notes & libc::NOTE_EXIT as u32 != 0 {
                    let status = event.data as i32;
                    seen.push(Seen::End { pid, status });
                }
            }
            seen
        }
    }
}

#[cfg(not(any(target_os = "openbsd", target_os = "freebsd")))]
mod imp {
    use super::*;
    use std::os::fd::RawFd;

    pub enum Tracker {}

    impl Tracker {
        pub fn begin() -> Result<Tracker, Fault> {
            Err(Fault::new(
                "this system does not tell what becomes of a service that leaves its script",
            ))
        }

        pub fn fd(&self) -> RawFd {
            match *self {}
        }

        pub fn look(&mut self) -> Vec<Seen> {
            match *self {}
        }
    }
}

pub use imp::*;
