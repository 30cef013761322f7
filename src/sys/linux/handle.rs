//! A process that is meant and no other: pidfd_open(2).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Refers to one process, also once its pid is another's.
pub struct Handle(OwnedFd);

impl Handle {
    /// Whoever has `pid` now.
    pub fn open(pid: u32) -> nix::Result<Handle> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the call made this descriptor (closed on exec), and nothing else owns it.
        Ok(Handle(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Any signal of the system's, by number.
    pub fn signal(&self, number: i32) -> nix::Result<()> {
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: without information the kernel makes it up as for kill(2).
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                number,
                info,
                0,
            )
        };
        Errno::result(done).map(drop)
    }

    /// Whether it has ended, within so long.
    pub fn ends_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left.min(Duration::from_secs(3600)))
                .unwrap_or(PollTimeout::ZERO);
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left) {
                Ok(n) if n > 0 => return true,
                _ if Instant::now() >= deadline => return false,
                _ => {}
            }
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_signalled_and_its_end_is_seen() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep");
        let handle = Handle::open(child.id()).expect("lives");
        assert!(!handle.ends_within(Duration::from_millis(1)));
        handle.signal(libc::SIGKILL).expect("signalled");
        assert!(handle.ends_within(Duration::from_secs(30)));
        child.wait().expect("reaped");
        assert_eq!(handle.signal(0), Err(Errno::ESRCH));
    }
}
