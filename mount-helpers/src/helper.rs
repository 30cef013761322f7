//! What all mount helpers have in common: the server they reach, the request
//! for a mount, its outcome, and the choice of a helper.

use crate::{bsd, fuse, linux_kernel, sys};
use pocker_nfs::secure::Secure;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the NFS server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// A unix socket of this host; the server checks the peer's uid.
    Unix(PathBuf),
    /// A TCP port, and the network namespace (a path as in `/run/netns/x` or
    /// `/proc/PID/ns/net`) from which to connect to it.
    Tcp {
        addr: SocketAddr,
        netns: Option<PathBuf>,
    },
    /// The same port of another host, which is looked up by its name again whenever a connection
    /// is made: for helpers that make their own.
    Host {
        name: String,
        port: u16,
        tls: Option<HostTls>,
    },
}

/// TLS with a server of another host (RFC 9289), where that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTls {
    /// Whom to believe that it is the server: a PEM file of certificates.
    pub ca: PathBuf,
    /// What is shown to it: the files of a certificate and of its key.
    pub shown: Option<(PathBuf, PathBuf)>,
    /// Nothing is said without it.
    pub required: bool,
}

/// Makes what does the handshakes with the host of that name.
pub type MakeSecure = fn(&str, &HostTls) -> io::Result<Arc<dyn Secure>>;

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Server::Unix(path) => write!(f, "{}", path.display()),
            Server::Host { name, port, .. } => write!(f, "{name}:{port}"),
            Server::Tcp { addr, netns: None } => write!(f, "{addr}"),
            Server::Tcp {
                addr,
                netns: Some(ns),
            } => write!(f, "{addr} in {}", ns.display()),
        }
    }
}

/// How long the kernel may believe what it has seen of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cache {
    /// Never changes: cached without bound.
    Sealed,
    /// The browse view: pockers and their steps come and go, in its first two levels; what
    /// is below a step never changes.
    View,
    /// The same, for steps of large files: where the kernel can, it reads those from the
    /// server's own, and each open of a file is a call.
    LargeView,
    /// A work tree that this mount alone changes: cached as long.
    Exclusive,
    /// Others may change it (a graft of a host directory): at most a second.
    Shared,
}

/// One mount to make.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The export's path on the server, as MOUNT names it.
    pub export: &'a [u8],
    /// An existing directory in the caller's mount namespace.
    pub target: &'a Path,
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    pub cache: Cache,
    /// The mount is to outlive its session. Others are for processes that end with it.
    pub outlives: bool,
}

/// Whether this host can use a helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub usable: bool,
    /// What was found, or what is missing.
    pub why: String,
    /// The command that mends it, where there is one.
    pub mend: Option<String>,
}

impl Probe {
    pub(crate) fn yes(why: impl Into<String>) -> Probe {
        Probe {
            usable: true,
            why: why.into(),
            mend: None,
        }
    }

    pub(crate) fn no(why: impl Into<String>, mend: Option<&str>) -> Probe {
        Probe {
            usable: false,
            why: why.into(),
            mend: mend.map(str::to_owned),
        }
    }
}

/// How to start an auto-started server again once it died: an argument vector,
/// program first. Whoever holds a mount runs it; it must return or be a server that
/// yields to one that is already there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartCommand {
    pub argv: Vec<OsString>,
}

/// One way of mounting.
pub trait MountHelper {
    fn name(&self) -> &'static str;
    /// Whether this way can reach `server` at all.
    fn takes(&self, server: &Server) -> bool;
    fn probe(&self) -> Probe;
    /// Whether it may be chosen where none is named.
    fn unasked(&self) -> bool {
        true
    }
    /// Whether the kernel keeps nothing of one mount for the next one of the same server:
    /// sealed trees are then best bound from one mount of the browse view ([`bind`]).
    fn keeps_by_mount(&self) -> bool {
        false
    }
    /// Prepares to mount exports of one server. Call it before entering a private
    /// mount namespace: a helper process stays in the namespace it was started in, and
    /// would keep that one, and so its own mounts, alive.
    fn session(
        &self,
        server: &Server,
        restart: Option<RestartCommand>,
    ) -> Result<Box<dyn Session>, MountError>;
}

/// A helper bound to a server. It stays usable after fork(2) in a child that has
/// one thread. Dropping it unmounts nothing.
pub trait Session: Send {
    /// Mounts in the caller's current mount namespace.
    fn mount(&mut self, req: &Request<'_>) -> Result<Mounted, MountError>;
    /// What there is to say of its mounts from here on nobody hears: whoever reads this process's
    /// errors need not wait for the session's end.
    fn quiet(&mut self) {}
}

/// Where a mount failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Starting or talking to the helper process.
    Helper,
    /// Reaching the NFS server.
    Server,
    /// Looking at the target.
    Target,
    /// Opening the kernel's device for file systems.
    Device,
    /// MOUNT's answer for the export.
    Export,
    /// mount(2).
    Mount,
    /// umount(2).
    Unmount,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Helper => "mount helper process",
            Phase::Server => "reach the NFS server",
            Phase::Target => "check the target directory",
            Phase::Device => "open /dev/fuse",
            Phase::Export => "ask the server for the export",
            Phase::Mount => "mount(2)",
            Phase::Unmount => "unmount",
        })
    }
}

/// What was tried, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {phase}: {cause}", .target.display())]
pub struct MountError {
    pub phase: Phase,
    /// The directory to mount on; before there is one, the server.
    pub target: PathBuf,
    pub cause: io::Error,
}

impl MountError {
    pub(crate) fn new(
        phase: Phase,
        target: impl Into<PathBuf>,
        cause: impl Into<io::Error>,
    ) -> MountError {
        MountError {
            phase,
            target: target.into(),
            cause: cause.into(),
        }
    }

    pub(crate) fn of_server(phase: Phase, server: &Server, cause: io::Error) -> MountError {
        MountError::new(phase, server.to_string(), cause)
    }
}

/// How a mount went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounted {
    /// It is gone.
    Gone,
    /// It was in use: detached from the tree, and gone once its last user is.
    Detached,
}

/// A mount. Dropping it unmounts it, silently; [`Mounted::leak`] leaves it.
#[derive(Debug)]
pub struct Mounted {
    target: PathBuf,
    unmount: fn(&Path, Option<&Server>) -> io::Result<Unmounted>,
    /// The server, where unmounting must know whether it is there.
    server: Option<Server>,
    live: bool,
}

impl Mounted {
    pub(crate) fn new(
        target: &Path,
        server: Option<Server>,
        unmount: fn(&Path, Option<&Server>) -> io::Result<Unmounted>,
    ) -> Mounted {
        Mounted {
            target: target.to_owned(),
            unmount,
            server,
            live: true,
        }
    }

    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Unmounts; a mount in use is detached, so that no new user finds it.
    pub fn unmount(mut self) -> Result<Unmounted, MountError> {
        self.live = false;
        (self.unmount)(&self.target, self.server.as_ref())
            .map_err(|cause| MountError::new(Phase::Unmount, self.target.clone(), cause))
    }

    /// Leaves it mounted.
    pub fn leak(mut self) {
        self.live = false;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.live
            && let Err(cause) = (self.unmount)(&self.target, self.server.as_ref())
        {
            tracing::warn!(target = %self.target.display(), %cause, "unmount failed");
        }
    }
}

/// Checks what mount(2) itself does not on every system: that the target is a
/// directory, reached without following a symlink at its end.
pub(crate) fn check_target(target: &Path) -> Result<(), MountError> {
    let fail = |cause| MountError::new(Phase::Target, target, cause);
    let meta = std::fs::symlink_metadata(target).map_err(fail)?;
    if meta.is_dir() {
        return Ok(());
    }
    Err(fail(io::Error::new(
        io::ErrorKind::NotADirectory,
        "not a directory",
    )))
}

/// Mounts a directory of a mount elsewhere too, read-only if that mount is: what the kernel
/// keeps of it serves both.
pub fn bind(source: &Path, target: &Path) -> Result<Mounted, MountError> {
    check_target(target)?;
    let bound = sys::bind(source, target);
    bound.map_err(|cause| MountError::new(Phase::Mount, target, cause))?;
    Ok(Mounted::new(target, None, |target, _| sys::unmount(target)))
}

/// All helpers, in the order in which they are tried.
pub fn helpers() -> Vec<Box<dyn MountHelper>> {
    vec![
        Box::new(linux_kernel::LinuxKernel),
        Box::new(fuse::FuseHelper::new()),
        Box::new(bsd::BsdKernel),
        Box::new(bsd::mount_nfs::MountNfs),
    ]
}

/// Why no helper was chosen.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    #[error("no mount helper is named {name:?}; there are {known}")]
    Unknown { name: String, known: String },
    #[error("the mount helper {name} cannot reach the server: {servers}")]
    WrongServer { name: &'static str, servers: String },
    #[error("the mount helper {name} cannot be used here: {}", .probe.why)]
    Unusable { name: &'static str, probe: Probe },
    #[error("this host can mount nothing: {why}")]
    None { why: String },
}

/// The helper named, or the first usable one, with the first of `servers`
/// (the same server's listeners) that it can reach.
pub fn choose(
    name: Option<&str>,
    servers: &[Server],
) -> Result<(Box<dyn MountHelper>, Server), ChooseError> {
    choose_from(helpers(), name, servers)
}

fn choose_from(
    helpers: Vec<Box<dyn MountHelper>>,
    name: Option<&str>,
    servers: &[Server],
) -> Result<(Box<dyn MountHelper>, Server), ChooseError> {
    let known: Vec<_> = helpers.iter().map(|h| h.name()).collect();
    let mut missing = Vec::new();
    for helper in helpers {
        let helper_name = helper.name();
        if name.map_or(!helper.unasked(), |n| n != helper_name) {
            continue;
        }
        let server = servers.iter().find(|s| helper.takes(s)).cloned();
        match (server, name) {
            (Some(server), _) => {
                let probe = helper.probe();
                if probe.usable {
                    return Ok((helper, server));
                }
                if name.is_some() {
                    return Err(ChooseError::Unusable {
                        name: helper_name,
                        probe,
                    });
                }
                missing.push(format!("{helper_name}: {}", probe.why));
            }
            (None, Some(_)) => {
                return Err(ChooseError::WrongServer {
                    name: helper_name,
                    servers: join(servers.iter().map(Server::to_string)),
                });
            }
            (None, None) => missing.push(format!("{helper_name}: no listener it can reach")),
        }
    }
    match name {
        Some(name) => Err(ChooseError::Unknown {
            name: name.to_owned(),
            known: known.join(", "),
        }),
        None => Err(ChooseError::None {
            why: missing.join("; "),
        }),
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(&'static str, bool, bool);

    impl MountHelper for Fake {
        fn name(&self) -> &'static str {
            self.0
        }
        fn takes(&self, server: &Server) -> bool {
            self.1 == matches!(server, Server::Tcp { .. })
        }
        fn probe(&self) -> Probe {
            Probe {
                usable: self.2,
                why: format!("{} usable: {}", self.0, self.2),
                mend: None,
            }
        }
        fn session(
            &self,
            server: &Server,
            _: Option<RestartCommand>,
        ) -> Result<Box<dyn Session>, MountError> {
            Err(MountError::of_server(
                Phase::Server,
                server,
                io::ErrorKind::Unsupported.into(),
            ))
        }
    }

    fn unix() -> Server {
        Server::Unix("/s".into())
    }

    fn tcp() -> Server {
        Server::Tcp {
            addr: ([127, 0, 0, 1], 2049).into(),
            netns: None,
        }
    }

    fn pick(
        list: &[(&'static str, bool, bool)],
        name: Option<&str>,
        servers: &[Server],
    ) -> Result<(&'static str, Server), String> {
        let helpers = list
            .iter()
            .map(|&(n, tcp, ok)| Box::new(Fake(n, tcp, ok)) as Box<dyn MountHelper>)
            .collect();
        choose_from(helpers, name, servers)
            .map(|(h, s)| (h.name(), s))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_first_usable_helper_that_reaches_the_server_is_chosen() {
        let list = [("k", true, true), ("f", false, true)];
        assert_eq!(pick(&list, None, &[unix(), tcp()]), Ok(("k", tcp())));
        assert_eq!(pick(&list, None, &[unix()]), Ok(("f", unix())));
        let broken = [("k", true, false), ("f", false, true)];
        assert_eq!(pick(&broken, None, &[unix(), tcp()]), Ok(("f", unix())));
    }

    #[test]
    fn a_named_helper_is_taken_or_refused_with_its_reason() {
        let list = [("k", true, false), ("f", false, true)];
        assert_eq!(pick(&list, Some("f"), &[unix()]), Ok(("f", unix())));
        let refused = pick(&list, Some("k"), &[tcp()]).unwrap_err();
        assert!(refused.contains("k usable: false"), "{refused}");
        let wrong = pick(&list, Some("k"), &[unix()]).unwrap_err();
        assert!(wrong.contains("cannot reach"), "{wrong}");
        let unknown = pick(&list, Some("x"), &[unix()]).unwrap_err();
        assert!(unknown.contains("k, f"), "{unknown}");
    }

    #[test]
    fn nothing_usable_says_why_for_each() {
        let none = pick(&[("k", true, false), ("f", false, false)], None, &[unix()]).unwrap_err();
        assert!(none.contains("k: no listener"), "{none}");
        assert!(none.contains("f usable: false"), "{none}");
    }

    #[test]
    fn an_error_names_target_phase_and_cause() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let shown = check_target(file.path()).unwrap_err().to_string();
        let path = file.path().display();
        assert_eq!(
            shown,
            format!("{path}: check the target directory: not a directory")
        );
    }
}
