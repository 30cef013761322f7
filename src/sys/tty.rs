//! Terminals: the caller's, put into raw mode for a while, and the sandbox's own.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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

/// Which of the caller's descriptors show what the sandbox's terminal says: where only
/// standard input is a terminal, that one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    Stdin,
    Stdout,
    Stderr,
}

impl Terminal {
    pub fn screen(&self) -> Screen {
        match self.on {
            [_, true, _] => Screen::Stdout,
            [_, _, true] => Screen::Stderr,
            _ => Screen::Stdin,
        }
    }
}

impl Screen {
    /// Shows all of `bytes`, or as much as a terminal takes before it is gone.
    pub fn show(self, mut bytes: &[u8]) {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let fd = match self {
            Screen::Stdin => stdin.as_fd(),
            Screen::Stdout => stdout.as_fd(),
            Screen::Stderr => stderr.as_fd(),
        };
        while !bytes.is_empty() {
            match nix::unistd::write(fd, bytes) {
                Ok(0) => return,
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
                    let _ = poll(&mut fds, PollTimeout::NONE);
                }
                Err(_) => return,
            }
        }
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
    Errno::result(done).map(|_| size)
}

/// Tells the terminal its size; its foreground processes get SIGWINCH when that changed.
pub fn set_size(fd: BorrowedFd<'_>, size: &libc::winsize) -> nix::Result<()> {
    // SAFETY: TIOCSWINSZ only reads the structure.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, size as *const _) };
    Errno::result(done).map(drop)
}

/// Makes `fd` the controlling terminal of the calling session leader.
pub fn control(fd: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    Errno::result(done).map(drop)
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
