//! `pocker serve` that is killed and started again, by the test or at one of its own points.

use crate::support::{PATIENCE, World};
use crate::tree::Kind;
use parking_lot::Mutex;
use pocker::control::connect::Endpoint;
use pocker::control::{Client as Control, ClientError};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

pub struct Server {
    pub world: World,
    env: &'static [(&'static str, &'static str)],
    child: Mutex<Child>,
    boots: AtomicU32,
}

impl Server {
    pub fn new() -> Arc<Server> {
        Server::with(&[])
    }

    /// With more in its environment.
    pub fn with(env: &'static [(&str, &str)]) -> Arc<Server> {
        let world = World::new();
        let child = Mutex::new(start(&world, 0, env));
        let server = Server {
            world,
            env,
            child,
            boots: AtomicU32::new(0),
        };
        server.ask("status", |c| c.status());
        Arc::new(server)
    }

    pub fn nfs_socket(&self) -> PathBuf {
        self.world.path("s/nfs.sock")
    }

    /// Where the server looks for what a test wants.
    fn points(&self) -> PathBuf {
        self.world.path("points")
    }

    /// One line an event: `NAME TIMES ACTION`.
    pub fn arm(&self, lines: &str) {
        std::fs::write(self.world.path("points.new"), lines).expect("written");
        std::fs::rename(self.world.path("points.new"), self.points()).expect("renamed");
    }

    /// False where everything that was wanted has happened.
    pub fn disarm(&self) -> bool {
        std::fs::remove_file(self.points()).is_ok()
    }

    pub fn armed(&self) -> bool {
        self.points().exists()
    }

    /// Whether the server is dead, and if so starts another.
    pub fn revive(&self) -> bool {
        let mut child = self.child.lock();
        if child.try_wait().expect("wait").is_none() {
            return false;
        }
        *child = start(&self.world, self.boots.load(Ordering::SeqCst), self.env);
        true
    }

    pub fn kill(&self) {
        let mut child = self.child.lock();
        child.kill().expect("killed");
        child.wait().expect("wait");
        *child = start(&self.world, self.boots.load(Ordering::SeqCst), self.env);
    }

    /// As [`Server::kill`], and the next server is told that the machine has booted again.
    pub fn reboot(&self) {
        self.boots.fetch_add(1, Ordering::SeqCst);
        self.kill();
    }

    fn control(&self) -> Option<Control> {
        let endpoint = Endpoint {
            socket_dir: self.world.path("s"),
            store: self.world.path("store"),
            start: false,
            timeout: PATIENCE,
            remote: None,
        };
        Control::open(endpoint).ok()
    }

    /// A call of the control API, sent again to each server that comes after a dead one.
    pub fn ask<T: Send>(
        &self,
        what: &str,
        call: impl Fn(&Control) -> Result<T, ClientError> + Send,
    ) -> T {
        // The control client has a runtime of its own.
        std::thread::scope(|s| s.spawn(|| self.ask_here(what, call)).join())
            .unwrap_or_else(|e| std::panic::resume_unwind(e))
    }

    /// As [`Server::ask`], for what is taken away: it may be gone when the call comes again.
    pub fn ask_away(
        &self,
        what: &str,
        call: impl Fn(&Control) -> Result<(), ClientError> + Sync + Send,
    ) {
        let asked = AtomicU32::new(0);
        self.ask(what, |c| match call(c) {
            Err(ClientError::NotFound(_)) if asked.load(Ordering::SeqCst) > 0 => Ok(()),
            other => {
                asked.fetch_add(1, Ordering::SeqCst);
                other
            }
        });
    }

    fn ask_here<T>(&self, what: &str, call: impl Fn(&Control) -> Result<T, ClientError>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.revive();
            let error = match self.control().map(|c| call(&c)) {
                Some(Ok(done)) => return done,
                Some(Err(e)) => e.to_string(),
                None => "no server".to_string(),
            };
            let away = ["no answer", "no server", "cannot start"];
            assert!(
                away.iter().any(|a| error.starts_with(a)),
                "{what} is refused: {error}"
            );
            assert!(Instant::now() < deadline, "{what}: {error}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The folders of trees' large files.
    pub fn staged(&self, kind: Kind) -> Vec<PathBuf> {
        let dir = match kind {
            Kind::Volume => "store/volumes",
            _ => "store/staging",
        };
        let dirs = std::fs::read_dir(self.world.path(dir)).expect("listed");
        dirs.map(|dir| dir.expect("an entry").path()).collect()
    }

    /// The store's own check finds nothing wrong.
    pub fn fsck(&self, when: &str) {
        let done = self.ask("fsck", |c| c.fsck(false));
        let wrong: Vec<_> = done
            .findings
            .iter()
            .filter(|f| f.severity != "note")
            .collect();
        assert!(done.sound && wrong.is_empty(), "{when}: {wrong:?}");
    }
}

/// Where Linux says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn start(world: &World, boots: u32, env: &[(&str, &str)]) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(world.path("log"))
        .expect("a log");
    let mut command = world.command(&["serve"]);
    if boots > 0 {
        let id = world.write("boot_id", &format!("00000000-0000-4000-8000-{boots:012}\n"));
        let script = format!(
            "mount --bind {} {BOOT_ID} && exec \"$0\" serve",
            id.display()
        );
        let mut inside = std::process::Command::new("unshare");
        inside.args(["-m", "sh", "-c", &script]);
        inside.arg(command.get_program());
        inside.current_dir(world.dir.path());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(key, value),
                None => inside.env_remove(key),
            };
        }
        command = inside;
    }
    command.env("POCKER_FAILPOINTS", world.path("points"));
    command.envs(env.iter().copied());
    command.stderr(log).stdin(Stdio::null());
    command.spawn().expect("the server starts")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.disarm();
        let log = std::fs::read_to_string(self.world.path("log")).unwrap_or_default();
        if std::thread::panicking() {
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!("--- the server's log, its end ---\n{}", tail.join("\n"));
        } else {
            assert!(!log.contains("panicked"), "the server panicked:\n{log}");
        }
        let mut child = self.child.lock();
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        );
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
