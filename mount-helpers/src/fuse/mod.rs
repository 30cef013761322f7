//! FUSE: a helper process speaks NFSv3 to the server and FUSE to the kernel.
//!
//! This half runs in whoever mounts: it starts the helper, and for each mount
//! opens `/dev/fuse`, calls mount(2) in its own mount namespace, and hands the
//! device to the helper. [`process`] is the helper itself.

mod absent;
mod ahead;
mod answers;
mod attr;
mod control;
mod data;
mod dir;
mod export;
mod fs;
mod hide;
mod meta;
mod names;
mod passthrough;
mod process;
mod reading;
mod remote;
mod restart;
mod table;
mod tasks;
mod unstable;
mod waiting;
mod walk;
mod xattr;

pub use process::fuse_helper_main;

use crate::helper::{
    MountError, MountHelper, Mounted, Phase, Probe, Request, RestartCommand, Server, Session,
    Unmounted, check_target,
};
use crate::sys::{self, MountFlags};
use control::{Answer, Hello};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const DEVICE: &str = "/dev/fuse";

/// How long the helper may take to answer for a mount: its own limit for the
/// server ([`process::EXPORT_DEADLINE`]) and some.
const ANSWER_DEADLINE: Duration = Duration::from_secs(40);

/// The longest answer, which is an error's text.
const ANSWER_MAX: u64 = 64 << 10;

/// What the kernel reads ahead, instead of its 128 KiB: as much as one READ carries.
const READ_AHEAD_KIB: &str = "1024";

/// The helper named `fuse`.
#[derive(Clone, Debug)]
pub struct FuseHelper {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Default for FuseHelper {
    fn default() -> FuseHelper {
        FuseHelper::new()
    }
}

impl FuseHelper {
    /// The helper process is this program again, as `mount-helper fuse`: a
    /// hidden command that must call [`fuse_helper_main`]. Found by its inode, so an
    /// upgrade under a running process does not matter.
    pub fn new() -> FuseHelper {
        FuseHelper::with_program(
            "/proc/self/exe".into(),
            vec!["mount-helper".into(), "fuse".into()],
        )
    }

    /// Another program, which must call [`fuse_helper_main`] when given `args`.
    pub fn with_program(program: PathBuf, args: Vec<OsString>) -> FuseHelper {
        FuseHelper { program, args }
    }

    /// Starts the helper. What is spawned forks once and exits, so that the helper
    /// is nobody's child: it may outlive this process, and none has to collect it.
    fn start(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = control::pair()?;
        let status = Command::new(&self.program)
            .arg0("pocker")
            .args(&self.args)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .status()?;
        if status.success() {
            return Ok(ours);
        }
        let shown = self.program.display();
        Err(io::Error::other(format!("{shown} did not start: {status}")))
    }
}

impl MountHelper for FuseHelper {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn takes(&self, _server: &Server) -> bool {
        true
    }

    fn keeps_by_mount(&self) -> bool {
        true
    }

    fn probe(&self) -> Probe {
        if !sys::knows_fs("fuse") {
            sys::load_fs("fuse");
        }
        if !sys::knows_fs("fuse") {
            let why = "the kernel has no FUSE (no \"fuse\" in /proc/filesystems)";
            return Probe::no(why, Some("modprobe fuse"));
        }
        match open_device() {
            Ok(_) => Probe::yes("the kernel has FUSE, and /dev/fuse can be opened"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Probe::no("/dev/fuse is missing", Some("mknod /dev/fuse c 10 229"))
            }
            Err(e) => Probe::no(format!("/dev/fuse cannot be opened: {e}"), None),
        }
    }

    fn session(
        &self,
        server: &Server,
        restart: Option<RestartCommand>,
    ) -> Result<Box<dyn Session>, MountError> {
        let fail = |cause| MountError::of_server(Phase::Helper, server, cause);
        let control = self.start().map_err(fail)?;
        let hello = Hello::new(server, restart.as_ref());
        control::send(control.as_fd(), &hello, &[]).map_err(fail)?;
        Ok(Box::new(FuseSession { control }))
    }
}

fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE)
}

struct FuseSession {
    control: OwnedFd,
}

impl Session for FuseSession {
    fn mount(&mut self, req: &Request<'_>) -> Result<Mounted, MountError> {
        let fail = |phase| move |cause| MountError::new(phase, req.target, cause);
        check_target(req.target)?;
        let device = open_device().map_err(fail(Phase::Device))?;
        let flags = MountFlags {
            read_only: req.read_only,
            nosuid: req.nosuid,
            nodev: req.nodev,
            noexec: req.noexec,
        };
        let data = data(device.as_raw_fd());
        sys::mount_fs(b"pocker", req.target, "fuse.pocker", flags, &data)
            .map_err(fail(Phase::Mount))?;
        let mounted = Mounted::new(req.target, None, unmount);
        self.hand_over(req, &device)
            .map_err(|(phase, cause)| fail(phase)(cause))?;
        read_ahead(req.target);
        Ok(mounted)
    }

    fn quiet(&mut self) {
        // A helper that is gone says nothing either.
        let _ = control::send(self.control.as_fd(), &control::Message::Quiet, &[]);
    }
}

impl FuseSession {
    /// Gives the device to the helper and waits until it serves it.
    fn hand_over(&self, req: &Request<'_>, device: &File) -> Result<(), (Phase, io::Error)> {
        let helper = |cause| (Phase::Helper, cause);
        let (mut near, far) = UnixStream::pair().map_err(helper)?;
        let message = control::Mount {
            export: req.export.to_vec(),
            cache: req.cache,
            read_only: req.read_only,
            outlives: req.outlives,
        };
        let pids = sys::own_pid_namespace().map_err(helper)?;
        let fds = [device.as_raw_fd(), far.as_raw_fd(), pids.as_raw_fd()];
        let message = control::Message::Mount(message);
        control::send(self.control.as_fd(), &message, &fds).map_err(helper)?;
        drop(far);
        near.set_read_timeout(Some(ANSWER_DEADLINE))
            .map_err(helper)?;
        let mut answer = Vec::new();
        near.by_ref()
            .take(ANSWER_MAX)
            .read_to_end(&mut answer)
            .map_err(|e| match e.kind() {
                // What a read that ran into its limit says (SO_RCVTIMEO).
                io::ErrorKind::WouldBlock => helper(io::ErrorKind::TimedOut.into()),
                _ => helper(e),
            })?;
        if answer.is_empty() {
            return Err(helper(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the mount helper ended without an answer",
            )));
        }
        match serde_json::from_slice(&answer) {
            Ok(Answer::Serving) => Ok(()),
            Ok(Answer::Failed { phase, errno, text }) => Err((
                phase.into(),
                match errno {
                    Some(errno) => io::Error::from_raw_os_error(errno),
                    None => io::Error::other(text),
                },
            )),
            Err(e) => Err(helper(e.into())),
        }
    }
}

/// The mount's data (fuse(8)): permissions are the kernel's to check, for all users.
fn data(device: i32) -> String {
    format!("fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other")
}

fn unmount(target: &Path, _server: Option<&Server>) -> io::Result<Unmounted> {
    sys::unmount(target)
}

/// Lets the kernel read ahead further. Where sysfs is not there it reads ahead less.
fn read_ahead(target: &Path) {
    let Ok(meta) = std::fs::metadata(target) else {
        return;
    };
    let (major, minor) = (
        nix::sys::stat::major(meta.dev()),
        nix::sys::stat::minor(meta.dev()),
    );
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(cause) = std::fs::write(&path, READ_AHEAD_KIB) {
        tracing::debug!(path, %cause, "read-ahead not changed");
    }
}
