//! Whom the kernel ends where memory runs out: never the sandbox's supervisor, whose end is the end
//! of all that is inside.

use crate::sys::fault::{Attempt, Fault};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};

/// proc(5), /proc/pid/oom_score_adj: after everything else, and before everything else.
const LAST: &str = "-999";
const FIRST: &str = "1000";

/// Says for the command's process what is different for its supervisor.
#[derive(Debug)]
pub struct Spared {
    proc: OwnedFd,
    /// What the command's process is to have; none: what it has.
    command: Option<String>,
}

/// Spares this process. Where it may not ask for less than others (CAP_SYS_RESOURCE) and `limited`
/// says that the sandbox has memory of its own, the command asks for more.
pub fn spare(proc: OwnedFd, limited: bool) -> Result<Option<Spared>, Fault> {
    let before = match read(&proc) {
        Ok(before) => before,
        // Kernels without it choose as they do.
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno).attempt("read whom the kernel ends first"),
    };
    let command = match write(&proc, LAST) {
        Ok(()) => Some(before),
        Err(Errno::EACCES | Errno::EPERM) => limited.then(|| FIRST.to_owned()),
        Err(errno) => return Err(errno).attempt("be ended last when memory runs out"),
    };
    Ok(Some(Spared { proc, command }))
}

impl Spared {
    /// By the command's process, before it has given up anything.
    pub fn command(self) -> Result<(), Fault> {
        let Some(value) = &self.command else {
            return Ok(());
        };
        write(&self.proc, value).attempt("be ended as others are when memory runs out")
    }
}

fn read(proc: &OwnedFd) -> nix::Result<String> {
    let file = open(proc, OFlag::O_RDONLY)?;
    let mut text = [0; 16];
    let length = nix::unistd::read(&file, &mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).trim().to_owned())
}

fn write(proc: &OwnedFd, value: &str) -> nix::Result<()> {
    let file = open(proc, OFlag::O_WRONLY)?;
    nix::unistd::write(&file, value.as_bytes()).map(drop)
}

fn open(proc: &OwnedFd, how: OFlag) -> nix::Result<OwnedFd> {
    let how = how | OFlag::O_CLOEXEC;
    openat(proc.as_fd(), "self/oom_score_adj", how, Mode::empty())
}
