//! What a sandbox is made of, as values: build and run describe one, `apply` makes it.

use super::bounds::Bounds;
use super::privileges::Privileges;
use std::ffi::OsString;
use std::path::PathBuf;

/// A process in a root of its own. Everything here was checked and resolved
/// outside; making it real is `sandbox::spawn`.
#[derive(Debug)]
pub struct Spec {
    /// The export that becomes `/`.
    pub root: NfsMount,
    /// In order; a later one may lie inside an earlier one.
    pub mounts: Vec<Place>,
    pub argv: Vec<OsString>,
    /// It ends once a service that it started is in the background: that one is followed to its end.
    pub follow: bool,
    /// The whole environment, nothing inherited.
    pub env: Vec<(OsString, OsString)>,
    /// `name`, `uid`, `name:group`, `uid:gid`: looked up in the tree's own passwd and group.
    pub user: Option<String>,
    /// Absolute, inside the tree; created if missing.
    pub workdir: Option<PathBuf>,
    pub hostname: Option<String>,
    pub stdio: Stdio,
    pub profile: Profile,
    /// What the command may do beyond its user.
    pub privileges: Privileges,
    pub isolation: Isolation,
    /// User 0 is taken for granted where it is a prisoner of nothing: in a chroot.
    pub as_root: bool,
    /// The root takes no writes from the command, though its export does.
    pub read_only: bool,
    /// Limits and network.
    pub bounds: Bounds,
}

/// What stands between the command and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything that this system has.
    Full,
    /// A chroot and nothing else: for comparison.
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Build,
    Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// Descriptors 0–2 as they are; a terminal stays one (own session and
    /// controlling pty where stdin is a terminal).
    Inherit,
    /// stdin from /dev/null, stdout and stderr into one pipe that the caller reads.
    Captured,
    /// The same with a pipe for each.
    Apart,
    /// stdin from /dev/null, stdout and stderr as they are.
    NoInput,
}

#[derive(Clone)]
pub struct NfsMount {
    /// Export path, secret included.
    pub export: String,
    pub read_only: bool,
    /// Setuid files in it are in force. The root's are where [`Privileges`] say so.
    pub suid: bool,
    /// Device nodes in it can be opened. Never the root's.
    pub dev: bool,
}

impl std::fmt::Debug for NfsMount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Only the kind and id: the rest of the path is a secret.
        let shown: Vec<&str> = self.export.splitn(4, '/').take(3).collect();
        write!(f, "nfs {} ro={}", shown.join("/"), self.read_only)
    }
}

/// Something at a place inside the tree. Targets are absolute paths in the
/// tree, resolved inside its root only: a symlink never leads outside.
#[derive(Debug)]
pub struct Place {
    pub target: PathBuf,
    pub what: What,
    /// How an error names it: "graft /srv/www:/var/www/html".
    pub label: String,
}

/// What of a host directory is in force where it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFlags {
    pub read_only: bool,
    pub suid: bool,
    pub dev: bool,
}

#[derive(Debug)]
pub enum What {
    /// A graft or volume: an export, mounted with NFS. The directory is created if missing.
    Nfs(NfsMount),
    /// A host file seen read-only (resolv.conf, secrets): the tree's own file stays
    /// untouched; a mount point the sandbox had to create is removed again.
    BindFile { host: PathBuf },
    /// A host directory (EXEC --cache): read-write, never part of the tree.
    BindDir { host: PathBuf },
    /// A graft that is not served, but bound as it is.
    HostDir { host: PathBuf, flags: HostFlags },
    Tmpfs {
        mode: u32,
        /// In bytes; none leaves it to the kernel.
        size: Option<u64>,
    },
}

/// How the command ended, as a shell would say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// 0–255: the exit code, or 128 + the signal.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}
