//! Signals and descriptors of the command's own process.
#![allow(unsafe_code)]

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    // A second one means it: the default action takes this process away.
    if INTERRUPTED.swap(true, Ordering::SeqCst) {
        // SAFETY: _exit is async-signal-safe (signal-safety(7)).
        unsafe { libc::_exit(130) };
    }
}

/// From here on Ctrl-C, SIGTERM and SIGHUP set this flag instead of ending the process.
pub fn interrupts() -> &'static AtomicBool {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler touches one atomic and may call _exit, both async-signal-safe.
        let _ = unsafe { sigaction(signal, &action) };
    }
    &INTERRUPTED
}

static TOLD: AtomicBool = AtomicBool::new(false);

extern "C" fn be_told(_signal: libc::c_int) {
    TOLD.store(true, Ordering::SeqCst);
}

/// From here on INT, TERM and HUP set this flag instead of ending the process, each time.
pub fn note_interrupts() -> &'static AtomicBool {
    let handler = SigHandler::Handler(be_told);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler touches one atomic, which is async-signal-safe.
        let _ = unsafe { sigaction(signal, &action) };
    }
    &TOLD
}

/// Nobody is there any more to read or to be read.
pub fn leave_terminal() {
    let mut options = std::fs::OpenOptions::new();
    if let Ok(null) = options.read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

/// Whoever reads this process's standard output sees its end.
pub fn close_stdout() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
    }
}

/// What was written begins its way to the disk, so that a sync later finds little left. A hint: it
/// promises nothing.
#[cfg(target_os = "linux")]
pub fn begin_writing(file: &std::fs::File) {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open as long as `file` is borrowed; no memory is passed.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(not(target_os = "linux"))]
pub fn begin_writing(_file: &std::fs::File) {}
