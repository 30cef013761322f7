//! What the cases run in: a tree of busybox, and a mounter that binds host directories.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use pocker::sandbox::{
    Bounds, Exit, Fault, Isolation, NfsMount, Place, Privileges, Profile, Sandbox, SandboxError,
    Spec, Stdio, TreeMount, TreeMounter, What, spawn,
};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// In the name of every directory that the cases make.
pub const PREFIX: &str = "pocker-sandbox-test-";

const APPLETS: &[&str] = &[
    "sh", "true", "false", "cat", "echo", "ps", "id", "ls", "hostname", "sleep", "kill", "dd",
    "test", "stat", "readlink", "pwd", "env", "touch", "mkdir", "rm", "tty", "stty", "grep", "wc",
    "seq", "mount", "umount", "cut", "head", "printf", "od", "chmod", "trap", "setsid", "sort",
    "tr",
];

/// A host directory with a tree in it, gone when dropped.
pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        let world = World { dir };
        for dir in ["bin", "etc", "dev", "proc", "tmp", "root"] {
            fs::create_dir_all(world.tree().join(dir)).unwrap();
        }
        fs::copy(busybox(), world.tree().join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", world.tree().join("bin").join(applet)).unwrap();
        }
        fs::write(
            world.tree().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:web:/srv/www:/bin/sh\n",
        )
        .unwrap();
        fs::write(
            world.tree().join("etc/group"),
            "root:x:0:\nweb:x:34:\nadm:x:4:www\nssl:x:5:other,www\n",
        )
        .unwrap();
        world
    }

    pub fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// A directory of the host beside the tree.
    pub fn host(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn spec(&self, argv: &[&str]) -> Spec {
        Spec {
            root: export(&self.tree()),
            mounts: Vec::new(),
            argv: argv.iter().map(OsString::from).collect(),
            env: vec![("PATH".into(), "/bin".into())],
            user: None,
            workdir: None,
            hostname: Some("box".to_owned()),
            stdio: Stdio::Captured,
            profile: Profile::Run,
            privileges: Privileges::RUN,
            isolation: Isolation::Full,
            follow: false,
            as_root: true,
            read_only: false,
            bounds: Bounds::default(),
        }
    }

    pub fn sh(&self, script: &str) -> Spec {
        self.spec(&["sh", "-c", script])
    }

    /// Everything in the tree, with content, to see that nothing was left or changed.
    pub fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        list(&self.tree(), &mut lines);
        lines.sort();
        lines
    }
}

fn list(dir: &Path, lines: &mut Vec<String>) {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.path().symlink_metadata().unwrap();
        lines.push(format!(
            "{} {:o} {} {}.{}",
            entry.path().display(),
            meta.mode(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
        if meta.is_dir() {
            list(&entry.path(), lines);
        }
    }
}

fn busybox() -> &'static Path {
    ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .expect("these tests need a static busybox (Debian: apt-get install busybox-static)")
}

pub fn export(dir: &Path) -> NfsMount {
    NfsMount {
        export: dir.to_str().unwrap().to_owned(),
        read_only: false,
        suid: false,
        dev: false,
    }
}

pub fn graft(host: &Path, target: &str) -> Place {
    Place {
        target: target.into(),
        what: What::Nfs(export(host)),
        label: format!("graft {}:{target}", "HOST"),
    }
}

pub fn place(target: &str, what: What) -> Place {
    Place {
        target: target.into(),
        what,
        label: target.to_owned(),
    }
}

/// An export is the path of a host directory here.
pub struct Binder;

impl TreeMounter for Binder {
    fn mount(&mut self, tree: &TreeMount<'_>) -> Result<(), Fault> {
        let host = Path::new(std::ffi::OsStr::from_bytes(tree.export));
        let fault = |errno: Errno| Fault {
            detail: "bind".to_owned(),
            errno: Some(errno as i32),
        };
        let none = None::<&Path>;
        mount(Some(host), tree.target, none, MsFlags::MS_BIND, none).map_err(fault)?;
        let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        flags.set(MsFlags::MS_RDONLY, tree.flags.read_only);
        flags.set(MsFlags::MS_NOSUID, tree.flags.nosuid);
        flags.set(MsFlags::MS_NODEV, tree.flags.nodev);
        flags.set(MsFlags::MS_NOEXEC, tree.flags.noexec);
        mount(none, tree.target, none, flags, none).map_err(fault)
    }

    fn unmount(&mut self, _target: &Path, _force: pocker::sandbox::Force) -> Result<(), Fault> {
        unreachable!("a mount namespace does that")
    }
}

pub fn start(spec: &Spec) -> Result<Sandbox, SandboxError> {
    spawn(spec, &mut Binder)
}

/// Runs to the end: output and exit. Afterwards this process has no children left.
pub fn run(spec: &Spec) -> (String, Exit) {
    let mut sandbox = start(spec).unwrap_or_else(|e| panic!("{e}"));
    let mut output = Vec::new();
    let exit = sandbox.wait_with(&mut |bytes| output.extend_from_slice(bytes));
    alone();
    (String::from_utf8_lossy(&output).into_owned(), exit)
}

/// Output of a script that must succeed.
pub fn output(spec: &Spec) -> String {
    let (text, exit) = run(spec);
    assert_eq!(exit, Exit::Code(0), "{text}");
    text
}

pub fn refused(spec: &Spec) -> SandboxError {
    match start(spec) {
        Ok(_) => panic!("it started"),
        Err(error) => {
            alone();
            error
        }
    }
}

/// No child, not even a zombie.
pub fn alone() {
    assert_eq!(waitpid(None::<Pid>, None), Err(Errno::ECHILD));
}

/// Polls until `done`, and fails after a time that is long enough for any machine.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

pub fn exists(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
