//! Linux: namespaces, mounts that are staged in private and then moved to
//! their places, pivot_root(2).
//!
//! Nothing is mounted by a path through the tree. Each mount is made on a scratch
//! tmpfs that only this mount namespace has, and moved onto a descriptor of its
//! target (see [`resolve`]): a symlink, even one that appears meanwhile, can't lead it out.

mod confine;
mod devices;
mod enclose;
mod filter;
mod handle;
mod join;
mod landlock;
pub mod netns;
mod oom;
mod proc;
mod program;
mod resolve;
mod usage;

pub use handle::Handle;
pub use join::{Target, cgroups_of};
pub use program::{program, shield};
pub use usage::usage;

use super::capability::Capabilities;
use super::fault::{Attempt, Fault};
use super::tty::Terminal;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::statvfs::FsFlags;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Uid, chdir, chroot, fchdir, pivot_root, sethostname, setuid};
use oom::Spared;
use resolve::{Created, Kind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

pub use confine::confine_server;
pub use enclose::RLIMITS;
pub use filter::{no_more_sockets, no_more_unix_sockets};
pub use landlock::{enclose, landlock};

/// Sandboxes here have namespaces of their own.
pub const NAMESPACES: bool = true;

/// Covered by a tmpfs in the sandbox's own mount namespace; on the host it stays an empty directory.
const SCRATCH: &str = "/run/pocker/mnt";
const ROOT_POINT: &str = "/run/pocker/mnt/root";
const STAGE_DIR: &str = "/run/pocker/mnt/dir";
/// Where devices are in force.
const NODES: &str = "/run/pocker/mnt/nodes";
const STAGE_FILE: &str = "/run/pocker/mnt/file";

/// What a sandbox's first process builds on.
#[derive(Default)]
pub struct Ground {
    root: Option<OwnedFd>,
    /// Mount points the tree lacked, outermost first.
    created: Vec<Created>,
    /// By [`Ground::seal_root`].
    sealed: bool,
    /// Memory is limited for it.
    limited: bool,
    /// By [`Ground::proc`], for the command's process.
    spared: Option<Spared>,
}

impl Ground {
    pub fn unshare(&self, net: bool) -> Result<(), Fault> {
        let mut flags = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWPID;
        flags.set(CloneFlags::CLONE_NEWNET, net);
        unshare(flags).attempt("")?;
        private_mounts()
    }

    pub fn unshare_mounts(&self) -> Result<(), Fault> {
        unshare(CloneFlags::CLONE_NEWNS).attempt("")?;
        private_mounts()
    }

    /// Where root and mounts are made before they are moved.
    pub fn scratch(&self) -> Result<(), Fault> {
        std::fs::create_dir_all(SCRATCH).attempt(format!("create {SCRATCH}"))?;
        tmpfs(SCRATCH, 0o700, MsFlags::empty()).attempt("mount a tmpfs")?;
        std::fs::create_dir(ROOT_POINT).attempt("create a mount point")?;
        std::fs::create_dir(STAGE_DIR).attempt("create a mount point")?;
        std::fs::create_dir(NODES).attempt("create a directory")?;
        std::fs::File::create(STAGE_FILE)
            .map(drop)
            .attempt("create a mount point")
    }

    /// Where the root is to be mounted.
    pub fn root_point(&self) -> &Path {
        Path::new(ROOT_POINT)
    }

    /// The root is mounted: everything from here on is inside it.
    pub fn adopt_root(&mut self) -> Result<(), Fault> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        self.root = Some(open(ROOT_POINT, flags, Mode::empty()).attempt("open the mounted root")?);
        Ok(())
    }

    /// Where an export for [`Ground::attach_dir`] is to be mounted.
    pub fn stage_point(&self) -> &Path {
        Path::new(STAGE_DIR)
    }

    pub fn stage_tmpfs(&self, mode: u32, size: Option<u64>) -> Result<(), Fault> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let size = size.map_or(String::new(), |size| format!(",size={size}"));
        let data = format!("mode={mode:o}{size}");
        let kind = Path::new("tmpfs");
        mount_at(Some(kind), STAGE_DIR, Some("tmpfs"), flags, &data).attempt("mount a tmpfs")
    }

    /// Devices; with the caller's terminal, also a pair of the sandbox's own (master, slave).
    pub fn stage_devices(
        &self,
        terminal: Option<&Terminal>,
    ) -> Result<Option<(OwnedFd, OwnedFd)>, Fault> {
        devices::make(Path::new(STAGE_DIR), Path::new(NODES))?;
        terminal
            .map(|t| devices::terminal(Path::new(STAGE_DIR), t))
            .transpose()
    }

    /// A pair (master, slave) of the /dev that this process sees.
    pub fn terminal(&self, like: &Terminal) -> Result<(OwnedFd, OwnedFd), Fault> {
        devices::terminal(Path::new("/dev"), like)
    }

    pub fn stage_bind_dir(&self, host: &Path) -> Result<(), Fault> {
        bind(host, STAGE_DIR, MsFlags::empty())
    }

    /// A graft: setuid files and devices are in force where that was asked for.
    pub fn stage_host_dir(
        &self,
        host: &Path,
        read_only: bool,
        suid: bool,
        dev: bool,
    ) -> Result<(), Fault> {
        let mut flags = MsFlags::empty();
        flags.set(MsFlags::MS_RDONLY, read_only);
        flags.set(MsFlags::MS_NOSUID, !suid);
        flags.set(MsFlags::MS_NODEV, !dev);
        bind_as(host, STAGE_DIR, flags)
    }

    pub fn stage_bind_file(&self, host: &Path) -> Result<(), Fault> {
        if !host.metadata().attempt(show("look at", host))?.is_file() {
            return Err(Fault::new(format!("{} is not a file", host.display())));
        }
        bind(host, STAGE_FILE, MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC)
    }

    /// Moves what was staged onto a directory of the tree, created if missing.
    pub fn attach_dir(&mut self, target: &Path) -> Result<(), Fault> {
        self.attach(STAGE_DIR, target, Kind::Directory)
    }

    /// The same for a file.
    pub fn attach_file(&mut self, target: &Path) -> Result<(), Fault> {
        self.attach(STAGE_FILE, target, Kind::File)
    }

    fn attach(&mut self, stage: &str, target: &Path, kind: Kind) -> Result<(), Fault> {
        let point = self.locate(target, kind)?;
        let onto = format!("/proc/self/fd/{}", point.as_raw_fd());
        mount_at(Some(Path::new(stage)), onto, None, MsFlags::MS_MOVE, "").attempt("move the mount")
    }

    /// Creates a directory that the tree lacks, for a mount still to come.
    pub fn mount_point(&mut self, target: &Path) -> Result<(), Fault> {
        self.locate(target, Kind::Directory).map(drop)
    }

    fn locate(&mut self, target: &Path, kind: Kind) -> Result<OwnedFd, Fault> {
        let root = self
            .root
            .as_ref()
            .ok_or_else(|| Fault::new("no root is mounted"))?;
        resolve::locate(root, target, kind, &mut self.created)
    }

    pub fn hostname(&self, name: &std::ffi::OsStr) -> Result<(), Fault> {
        sethostname(name).attempt("")
    }

    /// The root becomes `/`, and what was `/` is gone from this mount namespace.
    pub fn enter(&mut self) -> Result<(), Fault> {
        let root = self
            .root
            .take()
            .ok_or_else(|| Fault::new("no root is mounted"))?;
        fchdir(&root).attempt("enter the root")?;
        match pivot_root(".", ".") {
            Ok(()) => umount2(".", MntFlags::MNT_DETACH).attempt("detach the old root")?,
            // An initramfs can't be pivoted away from; it stays below the new root.
            Err(Errno::EINVAL) => {
                mount_at(Some(Path::new(".")), "/", None, MsFlags::MS_MOVE, "")
                    .attempt("move the root")?;
                chroot(".").attempt("chroot")?;
            }
            Err(errno) => return Err(errno).attempt("pivot_root"),
        }
        chdir("/").attempt("enter the root")
    }

    /// By the first process of the pid namespace, for all that come from it.
    pub fn enclose(
        &mut self,
        groups: &[RawFd],
        memory: bool,
        hidden: bool,
        net: Option<RawFd>,
    ) -> Result<(), Fault> {
        enclose::join_groups(groups, hidden)?;
        self.limited = memory;
        net.map_or(Ok(()), enclose::enter_net)
    }

    /// chroot(2) into the root, where the host's processes are seen.
    pub fn enter_plain(&mut self) -> Result<(), Fault> {
        let root = self.root.as_ref();
        fchdir(root.ok_or_else(|| Fault::new("no root is mounted"))?).attempt("enter the root")?;
        chroot(".").attempt("chroot")?;
        let proc = Some(Path::new("proc"));
        mount_at(proc, "/proc", Some("proc"), MsFlags::empty(), "").attempt("mount /proc")
    }

    /// The mounts in it stay as they are.
    pub fn seal_root(&mut self) -> Result<(), Fault> {
        remount_root(MsFlags::MS_RDONLY).attempt("")?;
        self.sealed = true;
        Ok(())
    }

    /// By the first process of the pid namespace, whose view it is.
    pub fn proc(&mut self) -> Result<(), Fault> {
        self.spared = oom::spare(proc::mount()?, self.limited)?;
        Ok(())
    }

    /// By the command's process: memory runs out for it as for others.
    pub fn not_spared(&mut self) -> Result<(), Fault> {
        self.spared.take().map_or(Ok(()), Spared::command)
    }

    /// Takes effect with the next exec, but for the system calls, which go at once.
    pub fn confine(&self, granted: Capabilities, setuid: bool) -> Result<(), Fault> {
        confine::confine(granted, setuid)
    }

    /// The same for a process that stays inside as the sandbox's supervisor.
    pub fn confine_supervisor(&self) -> Result<(), Fault> {
        confine::confine_supervisor()
    }

    /// From root to another user, who has `kept` and, by setuid programs, at most `bound`.
    pub fn become_user(
        &self,
        uid: Uid,
        kept: Capabilities,
        bound: Capabilities,
    ) -> Result<(), Fault> {
        confine::bound(bound).attempt("bound the capabilities")?;
        if kept.is_empty() {
            return setuid(uid).attempt("set the user");
        }
        confine::keep_over_setuid().attempt("keep capabilities")?;
        setuid(uid).attempt("set the user")?;
        confine::raise(kept).attempt("keep capabilities")
    }

    /// Descriptors that [`Ground::clean`] needs.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.created.iter().map(Created::descriptor).collect()
    }

    /// Removes the mount points that the tree lacked, once no process uses them.
    pub fn clean(&mut self) {
        if self.sealed {
            // By now the command and its processes are gone.
            let _ = remount_root(MsFlags::empty());
        }
        // Before `enter`, the tree lies below ROOT_POINT; afterwards it is `/`.
        let base = Path::new(if self.root.is_some() { ROOT_POINT } else { "/" });
        for created in self.created.drain(..).rev() {
            created.remove(base);
        }
    }
}

/// Private, not slave: a mount made on the host meanwhile is none of ours.
fn private_mounts() -> Result<(), Fault> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount_at(None, "/", None, private, "").attempt("make all mounts private")
}

/// With the flags that it has, and `more`.
fn remount_root(more: MsFlags) -> nix::Result<()> {
    let has = nix::sys::statvfs::statvfs("/")?.flags();
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | more;
    flags.set(MsFlags::MS_NOSUID, has.contains(FsFlags::ST_NOSUID));
    flags.set(MsFlags::MS_NODEV, has.contains(FsFlags::ST_NODEV));
    flags.set(MsFlags::MS_NOEXEC, has.contains(FsFlags::ST_NOEXEC));
    mount_at(None, "/", None, flags, "")
}

fn mount_at(
    source: Option<&Path>,
    target: impl AsRef<Path>,
    kind: Option<&str>,
    flags: MsFlags,
    data: &str,
) -> nix::Result<()> {
    mount(source, target.as_ref(), kind, flags, Some(data))
}

fn tmpfs(at: impl AsRef<Path>, mode: u32, flags: MsFlags) -> nix::Result<()> {
    let data = format!("mode={mode:o}");
    mount_at(Some(Path::new("tmpfs")), at, Some("tmpfs"), flags, &data)
}

/// A host path at a place of ours, never with setuid files or devices in force.
fn bind(host: &Path, at: &str, flags: MsFlags) -> Result<(), Fault> {
    bind_as(host, at, flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
}

fn bind_as(host: &Path, at: &str, flags: MsFlags) -> Result<(), Fault> {
    mount_at(Some(host), at, None, MsFlags::MS_BIND, "").attempt(show("bind", host))?;
    let again = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount_at(None, at, None, again, "").attempt(show("restrict the bind of", host))
}

fn show(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}

pub fn die_with_parent() -> nix::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
}

/// In place of [`die_with_parent`].
pub fn told_of_parents_end(by: Signal) -> nix::Result<()> {
    nix::sys::prctl::set_pdeathsig(by)
}

/// Where this process's arguments lie, by proc_pid_stat(5).
pub fn arguments() -> Option<std::ops::Range<usize>> {
    let stat = std::fs::read("/proc/self/stat").ok()?;
    // The command in parentheses may hold spaces and parentheses.
    let after = stat.iter().rposition(|b| *b == b')')? + 2;
    let text = std::str::from_utf8(stat.get(after..)?).ok()?;
    let mut fields = text.trim_end().split(' ').skip(45);
    let mut address = || fields.next()?.parse().ok().filter(|at| *at > 0);
    let (start, end): (usize, usize) = (address()?, address()?);
    (start < end).then_some(start..end)
}

/// This process's children, those of its first thread (proc(5)).
pub fn children() -> Vec<nix::unistd::Pid> {
    let own = std::process::id();
    let text = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
    let text = text.unwrap_or_default();
    let pids = text
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok());
    pids.map(nix::unistd::Pid::from_raw).collect()
}

/// One child that has ended, taken, and whether it led a process group.
pub fn reap_one() -> nix::Result<Option<(WaitStatus, bool)>> {
    let look = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    let Some(pid) = waitid(Id::All, look)?.pid() else {
        return Ok(None);
    };
    // Its group is known until it is taken.
    let led = nix::unistd::getpgid(Some(pid)) == Ok(pid);
    let taken = waitpid(pid, Some(WaitPidFlag::WNOHANG))?;
    Ok(Some((taken, led)))
}

/// This directory is in memory, and lives no longer than its mount.
pub fn in_memory(dir: &OwnedFd) -> bool {
    nix::sys::statfs::fstatfs(dir)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

/// Each message on this socket says which process sent it.
pub fn name_senders(socket: &OwnedFd) -> nix::Result<()> {
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::PassCred, &true)
}

/// The sender, as this process's pid namespace has it.
pub fn sender(part: &nix::sys::socket::ControlMessageOwned) -> Option<u32> {
    match part {
        nix::sys::socket::ControlMessageOwned::ScmCredentials(who) => u32::try_from(who.pid()).ok(),
        _ => None,
    }
}

/// What [`sender`] needs of a message's space.
pub fn sender_space() -> Vec<u8> {
    nix::cmsg_space!(nix::sys::socket::UnixCredentials)
}

pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// What is in this directory the kernel makes up while it is read: processes, devices, settings.
pub fn is_made_up(dir: &impl std::os::fd::AsFd) -> bool {
    use nix::sys::statfs::{self, fstatfs};
    let made_up = [
        statfs::PROC_SUPER_MAGIC,
        statfs::SYSFS_MAGIC,
        statfs::DEVPTS_SUPER_MAGIC,
        statfs::CGROUP_SUPER_MAGIC,
        statfs::CGROUP2_SUPER_MAGIC,
    ];
    fstatfs(dir).is_ok_and(|fs| made_up.contains(&fs.filesystem_type()))
}

/// False where the kernel lacks close_range(2) (before 5.9).
pub fn close_range(first: RawFd, last: RawFd) -> bool {
    // SAFETY: the caller gives up all descriptors of the range.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}
