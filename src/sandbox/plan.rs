//! From what a sandbox is made of to what is done, in order. Pure: nothing is looked
//! at on the host or in the tree.
//!
//! Three processes share one list. The *stage* makes namespaces and mounts; at
//! `Fork(Init)` a child goes on as pid 1 of the new pid namespace, and at
//! `Fork(Command)` a child of that becomes the command. Each parent supervises.
//! What later confines the command (capabilities, seccomp, no_new_privs, limits)
//! belongs between `Workdir` and `Identity`: after the last thing that needs root, in
//! the process that becomes the command and in no other.

use super::bounds::{Enclosure, Rlimit};
use super::mounter::{Caching, TreeFlags};
use super::privileges::Privileges;
use super::spec::{HostFlags, Isolation, NfsMount, Place, Profile, Spec, Stdio, What};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What this system gives a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Linux: namespaces, own mounts.
    Namespaces,
    /// chroot and a session.
    Chroot,
}

impl Platform {
    pub const HERE: Platform = if crate::sys::os::NAMESPACES {
        Platform::Namespaces
    } else {
        Platform::Chroot
    };
}

/// A process of the sandbox that begins at a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Init,
    Command,
}

/// The command's environment. Its values may be secret, so only names are shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Env(pub Vec<(OsString, OsString)>);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// What is put at a place.
#[derive(Debug)]
pub enum Source {
    Devices { terminal: bool },
    Tree { tree: NfsMount, flags: TreeFlags },
    BindFile(PathBuf),
    BindDir(PathBuf),
    HostDir { host: PathBuf, flags: HostFlags },
    Tmpfs { mode: u32, size: Option<u64> },
}

#[derive(Debug)]
pub enum Action {
    Unshare {
        net: bool,
    },
    /// So that mounts go with the sandbox, and nothing else.
    UnshareMounts,
    /// Into the namespaces and control groups of a sandbox that runs.
    Join,
    /// One of the sandbox's /dev, like the caller's.
    Terminal,
    Scratch,
    MountRoot {
        tree: NfsMount,
        flags: TreeFlags,
    },
    Mount {
        label: String,
        target: PathBuf,
        source: Source,
    },
    /// A directory for a mount that a later process makes.
    MountPoint {
        target: PathBuf,
    },
    Hostname(OsString),
    Enter,
    /// The same without namespaces: chroot(2) alone, with the host's /proc.
    EnterPlain,
    /// The root takes no more writes.
    SealRoot,
    Fork(Role),
    /// The next fork's child ends before what it starts does.
    Follow,
    /// Into the control groups and the network that are the sandbox's.
    Enclose(Enclosure),
    /// What is the kernel's and not a process's is hidden, or can only be read.
    MountProc,
    /// Own session; the sandbox's terminal, if it has one, controls it.
    Session,
    Stdio(Stdio),
    Workdir {
        dir: PathBuf,
        /// What the tree lacks of it is made.
        make: bool,
    },
    Limit(Rlimit),
    /// Gives up for good what only a host's root needs.
    Confine(Privileges),
    Identity {
        user: Option<String>,
        /// User 0 is refused, however the tree calls it.
        no_root: bool,
        privileges: Privileges,
    },
    /// The host's limits for a class of users (login.conf(5)), read before there is another root.
    LoginClass(&'static str),
    /// What the kernel refuses the command and all that it starts (pledge(2), execpromises).
    Promise(&'static str),
    Exec {
        argv: Vec<OsString>,
        env: Env,
    },
}

/// The phase that an error names.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Unshare { .. } | Action::UnshareMounts => f.write_str("make namespaces"),
            Action::Join => f.write_str("enter the run"),
            Action::Terminal => f.write_str("make a terminal"),
            Action::Scratch => f.write_str("make a place to mount on"),
            Action::MountRoot { .. } => f.write_str("mount the root"),
            Action::Mount { label, .. } => write!(f, "mount {label}"),
            Action::MountPoint { target } => write!(f, "make {}", target.display()),
            Action::Hostname(name) => write!(f, "set the host name {}", name.display()),
            Action::Enter | Action::EnterPlain => f.write_str("enter the root"),
            Action::SealRoot => f.write_str("make the root read-only"),
            Action::Follow => f.write_str("follow what the command starts"),
            Action::Fork(Role::Init) => f.write_str("start the sandbox's first process"),
            Action::Fork(Role::Command) => f.write_str("start the command's process"),
            Action::MountProc => f.write_str("mount /proc"),
            Action::Enclose(_) => f.write_str("bound it"),
            Action::Limit(limit) => write!(f, "limit {}", limit.name),
            Action::Session => f.write_str("start a session"),
            Action::Stdio(_) => f.write_str("connect standard input and output"),
            Action::Workdir { dir, .. } => {
                write!(f, "enter the working directory {}", dir.display())
            }
            Action::Confine(_) => f.write_str("confine the command"),
            Action::LoginClass(class) => write!(f, "take the limits of the login class {class}"),
            Action::Promise(_) => f.write_str("confine the command"),
            Action::Identity { user, .. } => {
                write!(f, "become user {}", user.as_deref().unwrap_or("root"))
            }
            Action::Exec { argv, .. } => {
                write!(
                    f,
                    "{}",
                    argv.first().map_or("".into(), |a| a.display().to_string())
                )
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("no command is given")]
    NoCommand,
    #[error("{what} holds a NUL byte")]
    Nul { what: String },
    #[error("{what}: {path:?} is not an absolute path inside the tree")]
    Path { what: String, path: PathBuf },
    #[error("{name:?} is no name for an environment variable")]
    EnvName { name: OsString },
    /// chroot(2) is no wall for user 0: fchdir(2), mount(2), signals and ptrace(2) go around it.
    #[error("a chroot keeps no root in: user 0 may mount, signal and trace what is outside")]
    Root,
    #[error(
        "a root that takes no writes needs mounts of the sandbox's own, which this system does not have"
    )]
    ReadOnly,
}

/// The list of actions that makes `spec`. `terminal`: the caller's standard input
/// is one, so the sandbox gets its own.
pub fn plan(spec: &Spec, platform: Platform, terminal: bool) -> Result<Vec<Action>, PlanError> {
    check(spec)?;
    let bare = spec.isolation == Isolation::Plain;
    let mut actions = match platform {
        Platform::Namespaces if bare => bare_chroot(spec, terminal),
        Platform::Namespaces => namespaces(spec, terminal),
        Platform::Chroot => plain(spec)?,
    };
    actions.extend(command(spec, platform, true));
    Ok(actions)
}

/// The list of actions that starts `spec`'s command in a sandbox that runs: of `spec`, only
/// what is the command's counts.
pub fn plan_enter(
    spec: &Spec,
    platform: Platform,
    terminal: bool,
) -> Result<Vec<Action>, PlanError> {
    check(spec)?;
    let mut actions = vec![Action::Join];
    actions.extend(terminal.then_some(Action::Terminal));
    actions.push(Action::Fork(Role::Command));
    actions.extend(command(spec, platform, false));
    Ok(actions)
}

/// What the process does that becomes the command.
fn command(spec: &Spec, platform: Platform, make: bool) -> Vec<Action> {
    let mut actions = vec![
        Action::Session,
        Action::Stdio(spec.stdio),
        Action::Workdir {
            dir: spec.workdir.clone().unwrap_or_else(|| "/".into()),
            make,
        },
    ];
    actions.extend(spec.bounds.rlimits.iter().copied().map(Action::Limit));
    if platform == Platform::Namespaces && spec.isolation == Isolation::Full {
        actions.push(Action::Confine(spec.privileges));
    }
    actions.push(Action::Identity {
        no_root: platform == Platform::Chroot && !spec.as_root,
        user: spec.user.clone(),
        privileges: spec.privileges,
    });
    if platform == Platform::Chroot && !spec.as_root {
        actions.push(Action::Promise(PROMISES));
    }
    actions.push(Action::Exec {
        argv: spec.argv.clone(),
        env: Env(spec.env.clone()),
    });
    actions
}

fn namespaces(spec: &Spec, terminal: bool) -> Vec<Action> {
    let mut actions = vec![Action::Unshare { net: false }];
    actions.extend(mounts(spec, terminal));
    actions.extend(spec.hostname.as_deref().map(|name| {
        let end = name.len().min(MAX_HOSTNAME);
        Action::Hostname(OsStr::from_bytes(&name.as_bytes()[..end]).to_owned())
    }));
    actions.push(Action::Enter);
    actions.extend(spec.read_only.then_some(Action::SealRoot));
    actions.push(Action::Fork(Role::Init));
    // The helper that serves the tree stays outside, where the run cannot starve it.
    actions.extend(spec.bounds.enclosure(spec.isolation).map(Action::Enclose));
    actions.push(Action::MountProc);
    actions.extend(spec.follow.then_some(Action::Follow));
    actions.push(Action::Fork(Role::Command));
    actions
}

/// What chroot(8) does, with the mounts of a run in it. Its mount namespace has the host's
/// root still: whoever leaves the chroot is there.
fn bare_chroot(spec: &Spec, terminal: bool) -> Vec<Action> {
    let mut actions = vec![Action::UnshareMounts];
    actions.extend(mounts(spec, terminal));
    actions.push(Action::Fork(Role::Command));
    actions.extend(spec.bounds.enclosure(spec.isolation).map(Action::Enclose));
    actions.push(Action::EnterPlain);
    actions
}

fn mounts(spec: &Spec, terminal: bool) -> Vec<Action> {
    let mut actions = vec![
        Action::Scratch,
        root(spec),
        Action::Mount {
            label: "/dev".to_owned(),
            target: "/dev".into(),
            source: Source::Devices { terminal },
        },
        Action::MountPoint {
            target: "/proc".into(),
        },
    ];
    actions.extend(spec.mounts.iter().map(mount));
    actions
}

/// HOST_NAME_MAX of Linux, less a terminating NUL that old programs leave room for.
const MAX_HOSTNAME: usize = 63;

/// What a command that is not root's may do, and all that it starts: files, processes, sockets. Not among it:
/// settings of the kernel, routes, other roots, tracing. What is refused fails (`error`), and kills nothing.
const PROMISES: &str = "stdio rpath wpath cpath dpath tmppath inet mcast fattr chown flock unix dns getpw sendfd recvfd tty proc exec prot_exec id error";
/// As OpenBSD's own services have it.
const CLASS: &str = "daemon";

/// A chroot whose grafts are mounts of the host below it; the rest is laid into the tree.
fn plain(spec: &Spec) -> Result<Vec<Action>, PlanError> {
    let user = spec.user.as_deref().unwrap_or("0");
    let name = user.split_once(':').map_or(user, |(name, _)| name);
    if !spec.as_root && matches!(name, "0" | "root") {
        return Err(PlanError::Root);
    }
    if spec.read_only {
        return Err(PlanError::ReadOnly);
    }
    let mut actions = vec![Action::Scratch, root(spec)];
    actions.extend(spec.mounts.iter().map(mount));
    actions.extend(spec.follow.then_some(Action::Follow));
    actions.push(Action::Fork(Role::Command));
    if spec.profile == Profile::Run {
        actions.push(Action::LoginClass(CLASS));
    }
    actions.push(Action::Enter);
    Ok(actions)
}

fn root(spec: &Spec) -> Action {
    let caching = match spec.root.read_only {
        true => Caching::Sealed,
        false => Caching::Exclusive,
    };
    Action::MountRoot {
        tree: spec.root.clone(),
        flags: TreeFlags {
            read_only: spec.root.read_only,
            nosuid: !spec.privileges.setuid,
            // Devices are those of the sandbox's own /dev, also while building.
            nodev: true,
            noexec: false,
            caching,
        },
    }
}

fn mount(place: &Place) -> Action {
    let source = match &place.what {
        What::Nfs(tree) => Source::Tree {
            tree: tree.clone(),
            flags: TreeFlags {
                read_only: tree.read_only,
                nosuid: !tree.suid,
                nodev: !tree.dev,
                noexec: false,
                caching: Caching::Shared,
            },
        },
        What::BindFile { host } => Source::BindFile(host.clone()),
        What::BindDir { host } => Source::BindDir(host.clone()),
        What::HostDir { host, flags } => Source::HostDir {
            host: host.clone(),
            flags: *flags,
        },
        What::Tmpfs { mode, size } => Source::Tmpfs {
            mode: *mode,
            size: *size,
        },
    };
    Action::Mount {
        label: place.label.clone(),
        target: place.target.clone(),
        source,
    }
}

fn check(spec: &Spec) -> Result<(), PlanError> {
    if spec.argv.first().is_none_or(|name| name.is_empty()) {
        return Err(PlanError::NoCommand);
    }
    for argument in &spec.argv {
        no_nul(argument, "an argument of the command")?;
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            return Err(PlanError::EnvName { name: name.clone() });
        }
        no_nul(name, "the environment")?;
        no_nul(value, "the environment")?;
    }
    for place in &spec.mounts {
        inside(&place.target, &place.label)?;
    }
    match &spec.workdir {
        Some(dir) => inside(dir, "the working directory"),
        None => Ok(()),
    }
}

fn no_nul(text: &OsStr, what: &str) -> Result<(), PlanError> {
    match text.as_bytes().contains(&0) {
        true => Err(PlanError::Nul {
            what: what.to_owned(),
        }),
        false => Ok(()),
    }
}

fn inside(path: &Path, what: &str) -> Result<(), PlanError> {
    no_nul(path.as_os_str(), what)?;
    let up = path.components().any(|c| c == Component::ParentDir);
    if path.is_absolute() && !up {
        return Ok(());
    }
    Err(PlanError::Path {
        what: what.to_owned(),
        path: path.to_owned(),
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
