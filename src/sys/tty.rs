//! Terminals: the caller's, put into raw mode for a while, and the sandbox's own.

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The caller's terminal as a sandbox's own starts out.
#[derive(Clone, Debug)]
pub struct Terminal {
    pub termios: Termios,
    pub size: libc::winsize,
    /// Which of descriptors 0–2 are terminals.
    pub on: [bool; 3],
}

impl Terminal {
    /// None where standard input is no terminal.
    pub fn of_stdin() -> Option<Terminal> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        Some(Terminal {
            termios: tcgetattr(&stdin).ok()?,
            size: size_of(stdin.as_fd()).ok()?,
            on: [
                true,
                std::io::stdout().is_terminal(),
                std::io::stderr().is_terminal(),
            ],
        })
    }
}

pub fn size_of(fd: BorrowedFd<'_>) -> nix::Result<libc::winsize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ fills the structure that it is given.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    nix::errno::Errno::result(done).map(|_| size)
}

/// Tells the terminal its size; its foreground processes get SIGWINCH when that changed.
pub fn set_size(fd: BorrowedFd<'_>, size: &libc::winsize) -> nix::Result<()> {
    // SAFETY: TIOCSWINSZ only reads the structure.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, size as *const _) };
    nix::errno::Errno::result(done).map(drop)
}

/// Makes `fd` the controlling terminal of the calling session leader.
pub fn control(fd: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    nix::errno::Errno::result(done).map(drop)
}

/// Standard input in raw mode until dropped.
pub struct Raw {
    before: Termios,
}

impl Raw {
    pub fn enter() -> nix::Result<Raw> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSADRAIN, &raw)?;
        Ok(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}
