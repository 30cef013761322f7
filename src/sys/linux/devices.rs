//! A small /dev: the nodes that every program expects and no device of the host.

use super::tmpfs;
use crate::sys::fault::{Attempt, Fault};
use crate::sys::tty::{self, Terminal};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::sys::termios::{SetArg, tcsetattr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Name, major, minor (Documentation/admin-guide/devices.txt of the kernel).
const NODES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Group 5 is `tty` in every distribution that has one, as grantpt(3) wants.
const DEVPTS: &str = "newinstance,ptmxmode=0666,mode=0620,gid=5";

/// Fills `dir`, on a tmpfs of its own with devpts and shared memory below. Each node is made
/// in `nodes`, where devices are in force, and bound from there: in `dir` itself they are
/// not, so a node that a command makes there opens nothing.
pub fn make(dir: &Path, nodes: &Path) -> Result<(), Fault> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    tmpfs(dir, 0o755, quiet | MsFlags::MS_NODEV).attempt("mount a tmpfs")?;
    let before = umask(Mode::empty());
    let made = make_nodes(dir, nodes);
    umask(before);
    made?;
    for (name, to) in LINKS {
        std::os::unix::fs::symlink(to, dir.join(name)).attempt(format!("link {name}"))?;
    }
    let (pts, shm) = (dir.join("pts"), dir.join("shm"));
    std::fs::create_dir(&pts).attempt("create pts")?;
    std::fs::create_dir(&shm).attempt("create shm")?;
    let devpts = Path::new("devpts");
    super::mount_at(Some(devpts), &pts, Some("devpts"), quiet, DEVPTS).attempt("mount devpts")?;
    tmpfs(&shm, 0o1777, MsFlags::MS_NOSUID | MsFlags::MS_NODEV).attempt("mount shm")
}

fn make_nodes(dir: &Path, nodes: &Path) -> Result<(), Fault> {
    let mode = Mode::from_bits_truncate(0o666);
    for (name, major, minor) in NODES {
        let making = || format!("make device {name}");
        let (node, place) = (nodes.join(name), dir.join(name));
        mknod(&node, SFlag::S_IFCHR, mode, makedev(major, minor)).attempt(making())?;
        std::fs::File::create(&place).attempt(making())?;
        let bind = MsFlags::MS_BIND;
        super::mount_at(Some(&node), &place, None, bind, "").attempt(making())?;
        let again = bind | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        super::mount_at(None, &place, None, again, "").attempt(making())?;
    }
    Ok(())
}

/// A pseudo terminal of the instance in `dir`, set up like the caller's: (master, slave).
pub fn terminal(dir: &Path, like: &Terminal) -> Result<(OwnedFd, OwnedFd), Fault> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let ptmx = dir.join("pts/ptmx");
    let master = open(&ptmx, flags, Mode::empty()).attempt("open ptmx")?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
    Errno::result(done).attempt("unlock the terminal")?;
    let slave = open_slave(&master, flags).attempt("open the terminal")?;
    tcsetattr(&slave, SetArg::TCSANOW, &like.termios).attempt("set up the terminal")?;
    tty::set_size(slave.as_fd(), &like.size).attempt("size the terminal")?;
    Ok((master, slave))
}

fn open_slave(master: &OwnedFd, flags: OFlag) -> nix::Result<OwnedFd> {
    // SAFETY: TIOCGPTPEER (Linux 4.13) takes open flags.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) };
    let fd = Errno::result(fd)?;
    // SAFETY: the call made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
