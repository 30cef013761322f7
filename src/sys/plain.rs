//! Any Unix: chroot(2) and a session of its own, nothing more. Processes that leave
//! the command's process group outlive it, and the root can't hold mounts of its own.
//! The plan for such a system (`Platform::Chroot`) asks for no more than is here.

use super::fault::{Attempt, Fault};
use super::tty::Terminal;
use nix::sys::resource::Resource;
use nix::unistd::{chdir, chroot};
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
    /// A directory made for this sandbox, for the root to be mounted on.
    point: PathBuf,
}

impl Default for Ground {
    fn default() -> Ground {
        let name = format!("pocker-{}", std::process::id());
        // Short: OpenBSD mounts on paths of at most 89 bytes.
        Ground {
            point: Path::new("/tmp").join(name),
        }
    }
}

impl Ground {
    pub fn unshare(&self, _net: bool) -> Result<(), Fault> {
        Err(lacks("namespaces"))
    }

    pub fn scratch(&self) -> Result<(), Fault> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&self.point)
            .attempt(format!("create {}", self.point.display()))
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

    pub fn stage_tmpfs(&self, _mode: u32) -> Result<(), Fault> {
        Err(lacks("mounts in a sandbox"))
    }

    pub fn stage_devices(
        &self,
        _terminal: Option<&Terminal>,
    ) -> Result<Option<(OwnedFd, OwnedFd)>, Fault> {
        Err(lacks("a /dev of its own"))
    }

    pub fn stage_bind_dir(&self, _host: &Path) -> Result<(), Fault> {
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

    pub fn enclose(&self, _groups: &[RawFd], _net: Option<RawFd>) -> Result<(), Fault> {
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

    pub fn proc(&self, _sealed: bool) -> Result<(), Fault> {
        Err(lacks("a /proc of its own"))
    }

    pub fn confine(&self) -> Result<(), Fault> {
        Err(lacks("capabilities"))
    }

    pub fn descriptors(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// The mount itself is undone by the mounter before this.
    pub fn clean(&mut self) {
        let _ = std::fs::remove_dir(&self.point);
    }
}

fn lacks(what: &str) -> Fault {
    Fault::new(format!("this system has no {what}"))
}

/// There is no such tie here: see the module's text.
pub fn die_with_parent() -> nix::Result<()> {
    Ok(())
}

/// Not told by any call that all these systems have.
pub fn threads() -> usize {
    1
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
