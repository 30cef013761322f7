//! The sandbox's /proc, and what of it is hidden or can only be read.

use super::mount_at;
use crate::sys::fault::{Attempt, Fault};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, fchdir};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// The kernel's own settings: its files ask for user 0, not for a capability.
const READ_ONLY: &[&str] = &["sys", "sysrq-trigger", "irq", "bus", "fs", "mtrr"];

/// What tells of the host, its memory and its other processes, or reaches its hardware.
const HIDDEN: &[&str] = &[
    // The machine's memory, and what of it is where.
    "kcore",
    "kpagecount",
    "kpageflags",
    "kpagecgroup",
    "slabinfo",
    "vmallocinfo",
    "vmcore",
    // Keys and timers of all processes, whatever their namespace.
    "keys",
    "key-users",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "latency_stats",
    // The kernel's log and what it prints.
    "kmsg",
    "dynamic_debug",
    // Which keys were pressed when (side channels), and hardware.
    "interrupts",
    "scsi",
    "acpi",
    "asound",
    "driver",
];

/// By the first process of the pid namespace, whose view it is.
pub fn mount() -> Result<OwnedFd, Fault> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_at(Some(Path::new("proc")), "/proc", Some("proc"), flags, "").attempt("")?;
    // From here on by the mount itself: another process may change what the path leads to
    // where a part of it is in a graft.
    let mounted = open_path("/proc", OFlag::O_DIRECTORY).attempt("open it")?;
    let kind = fstatfs(&mounted).attempt("look at it")?.filesystem_type();
    if kind != PROC_SUPER_MAGIC {
        return Err(Fault::new("something else is there"));
    }
    fchdir(&mounted).attempt("enter it")?;
    let null = null_device()?;
    for name in READ_ONLY {
        read_only(name, flags)?;
    }
    for name in HIDDEN {
        hide(name, &null, flags)?;
    }
    chdir("/").attempt("leave it")?;
    Ok(mounted)
}

fn open_path(path: &str, more: OFlag) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC | more, Mode::empty())
}

/// The sandbox's own, and nothing that the tree put in its place.
fn null_device() -> Result<OwnedFd, Fault> {
    let null = open_path("/dev/null", OFlag::O_NOFOLLOW).attempt("open /dev/null")?;
    let stat = fstat(&null).attempt("look at /dev/null")?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    match kind == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3) {
        true => Ok(null),
        false => Err(Fault::new("/dev/null is something else")),
    }
}

fn read_only(name: &str, flags: MsFlags) -> Result<(), Fault> {
    let path = Path::new(name);
    match mount_at(Some(path), path, None, MsFlags::MS_BIND, "") {
        // Not in this kernel.
        Err(Errno::ENOENT) => return Ok(()),
        done => done.attempt(format!("bind {name}"))?,
    }
    let again = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount_at(None, path, None, again, "").attempt(format!("restrict {name}"))
}

fn hide(name: &str, null: &OwnedFd, flags: MsFlags) -> Result<(), Fault> {
    let hiding = || format!("hide {name}");
    let target = match open_path(name, OFlag::O_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(()),
        opened => opened.attempt(hiding())?,
    };
    let stat = fstat(&target).attempt(hiding())?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        let empty = flags | MsFlags::MS_RDONLY;
        let data = "size=0,nr_inodes=1,mode=555";
        let tmpfs = Some(Path::new("tmpfs"));
        return mount_at(tmpfs, name, Some("tmpfs"), empty, data).attempt(hiding());
    }
    // Relative to the mount: this process's own entry in it.
    let null = format!("self/fd/{}", null.as_raw_fd());
    mount_at(Some(Path::new(&null)), name, None, MsFlags::MS_BIND, "").attempt(hiding())
}
