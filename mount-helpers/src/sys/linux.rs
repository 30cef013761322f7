//! Linux: mounts, network namespaces, and what a helper process sets for itself.

use crate::helper::Unmounted;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// linux/prctl.h; neither `nix` nor older `libc` name it.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// The per-mount flags that a request can ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountFlags {
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

impl MountFlags {
    fn bits(self) -> MsFlags {
        let mut flags = MsFlags::empty();
        for (asked, flag) in [
            (self.read_only, MsFlags::MS_RDONLY),
            (self.nosuid, MsFlags::MS_NOSUID),
            (self.nodev, MsFlags::MS_NODEV),
            (self.noexec, MsFlags::MS_NOEXEC),
        ] {
            flags.set(flag, asked);
        }
        flags
    }
}

/// mount(2) in the calling thread's mount namespace. The source and the data
/// are bytes, as export paths are.
pub(crate) fn mount_fs(
    source: &[u8],
    target: &Path,
    fstype: &str,
    flags: MountFlags,
    data: &str,
) -> io::Result<()> {
    let source = CString::new(source)?;
    mount(
        Some(source.as_c_str()),
        target,
        Some(fstype),
        flags.bits(),
        Some(data),
    )?;
    Ok(())
}

/// Binds a directory; the flags are those of the mount it is in.
pub(crate) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    Ok(mount(Some(source), target, none, MsFlags::MS_BIND, none)?)
}

/// Makes the kernel load a file system's module, as mount(2) does for a type
/// it does not know. Without data nothing is ever mounted.
pub(crate) fn load_fs(fstype: &str) {
    let none: Option<&str> = None;
    // The outcome does not matter: /proc/filesystems tells.
    let _ = mount(none, "/", Some(fstype), MsFlags::empty(), none);
}

/// Whether the kernel has the file system.
pub(crate) fn knows_fs(fstype: &str) -> bool {
    std::fs::read_to_string("/proc/filesystems").is_ok_and(|list| {
        list.lines()
            .any(|line| line.split_whitespace().next_back() == Some(fstype))
    })
}

/// Whether what is mounted at `target` is NFS.
pub(crate) fn is_nfs(target: &Path) -> io::Result<bool> {
    Ok(nix::sys::statfs::statfs(target)?.filesystem_type() == nix::sys::statfs::NFS_SUPER_MAGIC)
}

/// Unmounts: plainly, else detached from the tree.
pub(crate) fn unmount(target: &Path) -> io::Result<Unmounted> {
    match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(Unmounted::Gone),
        Err(nix::Error::EBUSY) => {
            umount2(target, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)?;
            Ok(Unmounted::Detached)
        }
        Err(e) => Err(e.into()),
    }
}

/// Fails the calls that wait for a dead server, and detaches.
pub(crate) fn unmount_dead(target: &Path) -> io::Result<Unmounted> {
    let how = MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_FORCE | MntFlags::MNT_DETACH;
    umount2(target, how)?;
    Ok(Unmounted::Detached)
}

/// Moves the calling thread into a network namespace for good.
pub(crate) fn enter_netns(path: &Path) -> io::Result<()> {
    Ok(setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?)
}

/// A thread in a network namespace that is not its own.
pub(crate) struct Away {
    home: File,
}

impl Away {
    /// `path` is a pinned namespace, or one of `/proc/PID/ns/net`.
    pub(crate) fn to(path: &Path) -> io::Result<Away> {
        let home = File::open("/proc/thread-self/ns/net")?;
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        Ok(Away { home })
    }

    pub(crate) fn back(self) -> io::Result<()> {
        Ok(setns(&self.home, CloneFlags::CLONE_NEWNET)?)
    }
}

/// Tells the kernel that this process stands behind a file system: its own
/// allocations then never wait for that file system's writeback. Needs
/// CAP_SYS_RESOURCE; inherited by threads started later.
pub(crate) fn set_io_flusher() -> io::Result<()> {
    // SAFETY: this prctl reads its integer arguments only.
    match unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes ownership of a descriptor that recvmsg(2) just installed.
pub(crate) fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller passes a descriptor from a received SCM_RIGHTS
    // message, which nobody else in this process knows of.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Forks: the parent exits with 0, the child goes on in a session of its own,
/// where no terminal's signals reach it. Only a process of one thread may do so.
pub(crate) fn detach() -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other(
            "the mount helper was entered after threads were started",
        ));
    }
    // SAFETY: there is one thread, so the child inherits no lock held by another.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { .. } => {
            // SAFETY: _exit only ends the process; nothing here needs flushing.
            unsafe { libc::_exit(0) }
        }
        nix::unistd::ForkResult::Child => {
            nix::unistd::setsid()?;
            Ok(())
        }
    }
}
