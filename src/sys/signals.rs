//! Signals: caught into a pipe by the process that waits for a sandbox, waited
//! for by the sandbox's own supervisors, reset before the command starts.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, signal, sigprocmask,
};
use nix::unistd::pipe2;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// What is passed on to the command.
pub const FORWARDED: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Tells the stage of a sandbox to end all of it now: while it mounts, by its own
/// death; once it supervises, by killing and reaping what it started. (SIGKILL would
/// leave the latter to nobody.)
pub const END: Signal = Signal::SIGALRM;

/// Linux has 64 signals, real-time ones included; other systems refuse those they lack.
const LAST: libc::c_int = 64;

/// Where the handler writes; -1 while nobody catches.
static PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note(number: libc::c_int) {
    let saved = Errno::last_raw();
    let byte = number as u8;
    // SAFETY: write(2) is async-signal-safe; the pipe does not block, and one that
    // is full already holds enough to wake the reader.
    unsafe { libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
    Errno::set_raw(saved);
}

/// While it lives, [`FORWARDED`] and SIGCHLD arrive at [`Catcher::fd`] instead of
/// ending the process. One per process at a time.
pub struct Catcher {
    read: OwnedFd,
    _write: OwnedFd,
    old: Vec<(Signal, SigAction)>,
    mask: SigSet,
}

impl Catcher {
    pub fn install() -> nix::Result<Catcher> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let mask = SigSet::thread_get_mask()?;
        PIPE.compare_exchange(-1, write.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst)
            .map_err(|_| Errno::EBUSY)?;
        let mut catcher = Catcher {
            read,
            _write: write,
            old: Vec::new(),
            mask,
        };
        let mut caught = SigSet::empty();
        for signal in FORWARDED.into_iter().chain([Signal::SIGCHLD]) {
            catcher.catch(signal)?;
            caught.add(signal);
        }
        // A blocked SIGCHLD would never wake who waits.
        caught.thread_unblock()?;
        Ok(catcher)
    }

    fn catch(&mut self, signal: Signal) -> nix::Result<()> {
        let action = SigAction::new(
            SigHandler::Handler(note),
            SaFlags::SA_RESTART,
            SigSet::empty(),
        );
        // SAFETY: `note` does nothing but async-signal-safe calls.
        let old = unsafe { sigaction(signal, &action) }?;
        if matches!(old.handler(), SigHandler::SigIgn) && signal != Signal::SIGCHLD {
            // Somebody wants it ignored (nohup): that stays so.
            // SAFETY: gives back the disposition that was there.
            unsafe { sigaction(signal, &old) }?;
        } else {
            self.old.push((signal, old));
        }
        Ok(())
    }

    /// Readable when signals have arrived.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Those that arrived since the last call.
    pub fn drain(&self) -> Vec<Signal> {
        let mut bytes = [0u8; 64];
        let read = nix::unistd::read(&self.read, &mut bytes).unwrap_or(0);
        bytes[..read]
            .iter()
            .filter_map(|&n| Signal::try_from(i32::from(n)).ok())
            .collect()
    }
}

impl Drop for Catcher {
    fn drop(&mut self) {
        let _ = set_mask(&self.mask);
        for (signal, old) in self.old.drain(..) {
            // SAFETY: gives back the disposition that was there.
            let _ = unsafe { sigaction(signal, &old) };
        }
        PIPE.store(-1, Ordering::SeqCst);
    }
}

/// Blocks everything; returns the mask that was in force.
pub fn block_all() -> nix::Result<SigSet> {
    let mut old = SigSet::empty();
    sigprocmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut old),
    )?;
    Ok(old)
}

pub fn set_mask(mask: &SigSet) -> nix::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None)
}

/// [`END`] ends this process at once, until [`block_all`].
pub fn let_end() -> nix::Result<()> {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { signal(END, SigHandler::SigDfl) }?;
    let mut mask = SigSet::all();
    mask.remove(END);
    set_mask(&mask)
}

/// Waits for one of [`FORWARDED`], [`END`] or SIGCHLD, all of them blocked.
pub fn wait_any() -> nix::Result<Signal> {
    let mut set = SigSet::empty();
    set.extend(FORWARDED);
    set.extend([Signal::SIGCHLD, END]);
    set.wait()
}

/// One of those that are blocked and came meanwhile, which is taken.
pub fn pending() -> Option<Signal> {
    let mut raw = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the kernel fills the set, which is looked at only where it did.
    let came = unsafe {
        if libc::sigpending(raw.as_mut_ptr()) != 0 {
            return None;
        }
        SigSet::from_sigset_t_unchecked(raw.assume_init())
    };
    let all = FORWARDED.into_iter().chain([Signal::SIGCHLD, END]);
    let first = all.into_iter().find(|signal| came.contains(*signal))?;
    let mut one = SigSet::empty();
    one.add(first);
    one.wait().ok()
}

/// Every signal back to its default and none blocked, for a program about to start.
pub fn reset() -> nix::Result<()> {
    for number in 1..=LAST {
        // SAFETY: SIG_DFL runs no code of ours. SIGKILL and SIGSTOP are refused, rightly.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    set_mask(&SigSet::empty())
}
