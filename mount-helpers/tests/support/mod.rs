//! A served file system, mounted by FUSE in a mount namespace of the test's own.

mod memfs;

pub use memfs::{HIDDEN, MemFs};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use pocker_mount_helpers::fuse::FuseHelper;
use pocker_mount_helpers::{
    Cache, MountError, MountHelper, Mounted, Request, RestartCommand, Server, Session,
};
use pocker_nfs::server::{Options, Server as NfsServer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long anything awaited may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct World {
    /// First, so that a test that fails never walks into a mount whose server is gone.
    guard: Detach,
    pub fs: Arc<MemFs>,
    pub target: PathBuf,
    session: Box<dyn Session>,
    server: Option<(Runtime, NfsServer)>,
    dir: TempDir,
}

/// Detaches what is mounted there when the test ends.
struct Detach(PathBuf);

impl Drop for Detach {
    fn drop(&mut self) {
        // Nothing is mounted after a test that went well.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn helper() -> FuseHelper {
    let test = std::env::current_exe().unwrap();
    let program = test
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/fuse_helper");
    FuseHelper::with_program(program, Vec::new())
}

impl World {
    pub fn new() -> World {
        World::with(None)
    }

    /// A session opened outside, then a mount namespace of this thread's own.
    pub fn with(restart: Option<RestartCommand>) -> World {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("nfs.sock");
        let session = helper().session(&Server::Unix(socket), restart).unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let target = dir.path().join("mnt");
        std::fs::create_dir(&target).unwrap();
        let mut world = World {
            guard: Detach(target.clone()),
            fs: Arc::new(MemFs::new()),
            target,
            session,
            server: None,
            dir,
        };
        world.serve();
        world
    }

    pub fn serve(&mut self) {
        let socket = self.dir.path().join("nfs.sock");
        let _ = std::fs::remove_file(&socket);
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(async {
            let listener = tokio::net::UnixListener::bind(&socket).unwrap();
            let options = Options {
                owner: Some(nix::unistd::geteuid().as_raw()),
                ..Options::default()
            };
            let server = NfsServer::new(self.fs.clone());
            server.listen_unix(listener, options);
            server
        });
        self.server = Some((runtime, server));
    }

    /// Closes all connections at once, in the middle of whatever they do.
    pub fn cut(&mut self) {
        let (runtime, server) = self.server.take().unwrap();
        drop(server);
        // What is still being done may answer a call that was sent after this, so it is waited for, but not for ever.
        runtime.shutdown_timeout(Duration::from_secs(1));
        std::fs::remove_file(self.dir.path().join("nfs.sock")).unwrap();
    }

    pub fn try_mount(
        &mut self,
        export: &str,
        target: &Path,
        read_only: bool,
        cache: Cache,
    ) -> Result<Mounted, MountError> {
        self.session.mount(&Request {
            export: export.as_bytes(),
            target,
            read_only,
            nosuid: false,
            nodev: false,
            noexec: false,
            cache,
            outlives: true,
        })
    }

    pub fn mount(&mut self, cache: Cache) -> Mounted {
        let target = self.target.clone();
        self.try_mount("/t", &target, false, cache).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Polls until `done`, or fails.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "waited too long: {what}");
        std::thread::yield_now();
    }
}

impl World {
    /// Closes the session; what is returned keeps the server.
    pub fn close_session(self) -> impl Sized {
        drop(self.session);
        (self.guard, self.server, self.dir)
    }
}

/// Connections to a unix socket of this process that are open.
pub fn connections(socket: &str) -> usize {
    let list = std::fs::read_to_string("/proc/net/unix").unwrap();
    // Columns: the fourth is flags (10000: listening), the last the path.
    let open = |l: &&str| l.ends_with(socket) && l.split_whitespace().nth(3) != Some("00010000");
    list.lines().filter(open).count()
}

mod sys;
pub use sys::*;
