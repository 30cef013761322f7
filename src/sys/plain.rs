//! Any Unix: chroot(2) and a session of its own, nothing more. Processes that leave
//! the command's process group outlive it, and the root can't hold mounts of its own.
//! The plan for such a system (`Platform::Chroot`) asks for no more than is here.

use super::capability::Capabilities;
use super::fault::{Attempt, Fault};
use super::tty::Terminal;
use nix::sys::resource::Resource;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Uid, chdir, chroot, setuid};
use std::ffi::OsStr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// What setrlimit(2) bounds on any system.
pub const RLIMITS: &[(&str, Resource)] = &[
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("stack", Resource::RLIMIT_STACK),
];

/// Sandboxes here share the host's namespaces.
pub const NAMESPACES: bool = false;

/// What a sandbox's first process builds on.
pub struct Ground {
    /// A directory made for this sandbox, which nobody else may enter.
    private: PathBuf,
    /// In it, for the root to be mounted on: a mount shows its own mode, not what it covers.
    point: PathBuf,
}

impl Default for Ground {
    fn default() -> Ground {
        // Nobody can guess it and be there first; without a random number, `create` still refuses what is there.
        let random = getrandom::u64().unwrap_or(u64::from(std::process::id()));
        // Short: OpenBSD mounts on paths of at most 89 bytes.
        let private = Path::new("/tmp").join(format!("pocker-{random:016x}"));
        Ground {
            point: private.join("r"),
            private,
        }
    }
}

impl Ground {
    pub fn unshare(&self, _net: bool) -> Result<(), Fault> {
        Err(lacks("namespaces"))
    }

    pub fn unshare_mounts(&self) -> Result<(), Fault> {
        Err(lacks("namespaces"))
    }

    pub fn scratch(&self) -> Result<(), Fault> {
        use std::os::unix::fs::DirBuilderExt;
        for dir in [&self.private, &self.point] {
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(dir)
                .attempt(format!("create {}", dir.display()))?;
        }
        Ok(())
    }

    pub fn root_point(&self) -> &Path {
        &self.point
    }

    pub fn adopt_root(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    pub fn stage_point(&self) -> &Path {
        &self.point
    }

    pub fn stage_tmpfs(&self, _mode: u32, _size: Option<u64>) -> Result<(), Fault> {
        Err(lacks("mounts in a sandbox"))
    }

    pub fn stage_devices(
        &self,
        _terminal: Option<&Terminal>,
    ) -> Result<Option<(OwnedFd, OwnedFd)>, Fault> {
        Err(lacks("a /dev of its own"))
    }

    pub fn terminal(&self, _like: &Terminal) -> Result<(OwnedFd, OwnedFd), Fault> {
        Err(lacks("a /dev of its own"))
    }

    pub fn stage_bind_dir(&self, _host: &Path) -> Result<(), Fault> {
        Err(lacks("bind mounts"))
    }

    pub fn stage_host_dir(
        &self,
        _host: &Path,
        _read_only: bool,
        _suid: bool,
        _dev: bool,
    ) -> Result<(), Fault> {
        Err(lacks("bind mounts"))
    }

    pub fn stage_bind_file(&self, _host: &Path) -> Result<(), Fault> {
        Err(lacks("bind mounts"))
    }

    pub fn attach_dir(&mut self, _target: &Path) -> Result<(), Fault> {
        Err(lacks("mounts in a sandbox"))
    }

    pub fn attach_file(&mut self, _target: &Path) -> Result<(), Fault> {
        Err(lacks("bind mounts"))
    }

    pub fn mount_point(&mut self, _target: &Path) -> Result<(), Fault> {
        Err(lacks("mounts in a sandbox"))
    }

    pub fn enclose(
        &self,
        _groups: &[RawFd],
        _memory: bool,
        _hidden: bool,
        _net: Option<RawFd>,
    ) -> Result<(), Fault> {
        Err(lacks("control groups and networks of a sandbox's own"))
    }

    pub fn hostname(&self, _name: &OsStr) -> Result<(), Fault> {
        Err(lacks("a host name of its own"))
    }

    pub fn enter(&mut self) -> Result<(), Fault> {
        chdir(&self.point).attempt("enter the root")?;
        chroot(".").attempt("chroot")?;
        chdir("/").attempt("enter the root")
    }

    pub fn enter_plain(&mut self) -> Result<(), Fault> {
        self.enter()
    }

    pub fn seal_root(&mut self) -> Result<(), Fault> {
        Err(lacks("mounts in a sandbox"))
    }

    pub fn proc(&self) -> Result<(), Fault> {
        Err(lacks("a /proc of its own"))
    }

    pub fn not_spared(&self) -> Result<(), Fault> {
        Ok(())
    }

    pub fn confine(&self, _granted: Capabilities, _setuid: bool) -> Result<(), Fault> {
        Err(lacks("capabilities"))
    }

    /// Nobody inside sees the supervisor's namespaces, for there are none.
    pub fn confine_supervisor(&self) -> Result<(), Fault> {
        Ok(())
    }

    pub fn become_user(
        &self,
        uid: Uid,
        _kept: Capabilities,
        _bound: Capabilities,
    ) -> Result<(), Fault> {
        setuid(uid).attempt("set the user")
    }

    pub fn descriptors(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// The mount itself is undone by the mounter before this.
    pub fn clean(&mut self) {
        let _ = std::fs::remove_dir(&self.point);
        let _ = std::fs::remove_dir(&self.private);
    }
}

fn lacks(what: &str) -> Fault {
    Fault::new(format!("this system has no {what}"))
}

/// Where a process gives up rights as a whole it does so later (`sys::bsd`).
pub fn confine_server(_kept: Capabilities) -> Result<(), Fault> {
    Ok(())
}

/// Linux alone has it.
pub fn landlock() -> Option<i32> {
    None
}

pub fn enclose(_paths: &[(PathBuf, &str)], _ports: &[u16], _connects: bool) -> Result<bool, Fault> {
    Ok(false)
}

pub fn no_more_sockets() -> Result<(), Fault> {
    Ok(())
}

pub fn no_more_unix_sockets() -> Result<(), Fault> {
    Ok(())
}

/// One child that has ended, taken; whether it led a group is not told.
pub fn reap_one() -> nix::Result<Option<(WaitStatus, bool)>> {
    match waitpid(None::<nix::unistd::Pid>, Some(WaitPidFlag::WNOHANG))? {
        WaitStatus::StillAlive => Ok(None),
        ended => Ok(Some((ended, false))),
    }
}

/// Not told by any call that all these systems have: what is followed here is tracked (`sys::track`).
pub fn children() -> Vec<nix::unistd::Pid> {
    Vec::new()
}

/// There is no such tie here: see the module's text.
pub fn die_with_parent() -> nix::Result<()> {
    Ok(())
}

pub fn told_of_parents_end(_by: nix::sys::signal::Signal) -> nix::Result<()> {
    Ok(())
}

pub fn shield() -> Result<(), Fault> {
    Ok(())
}

pub fn program() -> std::io::Result<std::path::PathBuf> {
    std::env::current_exe()
}

/// Nothing is mounted in a sandbox here.
pub fn in_memory(_dir: &std::os::fd::OwnedFd) -> bool {
    false
}

pub fn arguments() -> Option<std::ops::Range<usize>> {
    None
}

/// Not told by any call that all these systems have.
pub fn threads() -> usize {
    1
}

pub fn is_made_up(_dir: &impl std::os::fd::AsFd) -> bool {
    false
}

pub fn close_range(_first: RawFd, _last: RawFd) -> bool {
    false
}

/// Networks of a sandbox's own.
pub mod netns {
    use super::{Fault, OwnedFd, lacks};

    pub fn create() -> Result<OwnedFd, Fault> {
        Err(lacks("networks of a sandbox's own"))
    }

    pub fn show(_namespace: &OwnedFd, _at: &std::path::Path) -> Result<(), Fault> {
        Err(lacks("mounts of a process's own"))
    }
}
/// Not told by all these systems.
pub fn name_senders(_socket: &OwnedFd) -> nix::Result<()> {
    Ok(())
}

pub fn sender(_part: &nix::sys::socket::ControlMessageOwned) -> Option<u32> {
    None
}

pub fn sender_space() -> Vec<u8> {
    Vec::new()
}

pub fn cgroups_of(_pid: u32) -> Option<Vec<PathBuf>> {
    None
}

/// A process by its pid alone: whoever has it.
pub struct Handle(nix::unistd::Pid);

impl Handle {
    pub fn open(pid: u32) -> nix::Result<Handle> {
        let pid = i32::try_from(pid).map_err(|_| nix::errno::Errno::ESRCH)?;
        let handle = Handle(nix::unistd::Pid::from_raw(pid));
        handle.signal(0).map(|()| handle)
    }

    pub fn signal(&self, number: i32) -> nix::Result<()> {
        let signal = match number {
            0 => None,
            number => Some(nix::sys::signal::Signal::try_from(number)?),
        };
        nix::sys::signal::kill(self.0, signal)
    }

    pub fn ends_within(&self, time: std::time::Duration) -> bool {
        let deadline = std::time::Instant::now() + time;
        while self.signal(0).is_ok() {
            if std::time::Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        true
    }
}

/// A running sandbox, which cannot be entered here.
pub struct Target;

impl Target {
    pub fn open(
        _init: super::process::Started,
        _command: super::process::Started,
    ) -> Result<Target, Fault> {
        Err(lacks("namespaces that could be entered"))
    }

    pub fn join(&self) -> Result<(), Fault> {
        Err(lacks("namespaces that could be entered"))
    }
}

/// Not told by any call that all these systems have.
pub fn usage(_init: super::process::Started, _cgroups: &[PathBuf]) -> Option<super::usage::Usage> {
    None
}
