//! A real server, for tests that ask it over its sockets: killed, started again, and asked
//! for trees.

use super::{PATIENCE, World, until};
use pocker::control::api::{NewTree, Purpose, SealRequest, TreeInfo};
use pocker::control::connect::Endpoint;
use pocker::control::{Client, ClientError};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::Child;

pub struct Server {
    pub world: World,
    disks: Vec<PathBuf>,
    process: RefCell<Option<Child>>,
    client: RefCell<Option<Client>>,
    seals: Cell<u64>,
}

impl Server {
    pub fn start() -> Server {
        Server::of(World::new(), Vec::new())
    }

    /// In a world that was prepared; `disks` are unmounted in the end.
    pub fn of(world: World, disks: Vec<PathBuf>) -> Server {
        let server = Server {
            world,
            disks,
            process: RefCell::new(None),
            client: RefCell::new(None),
            seals: Cell::new(0),
        };
        server.run();
        server
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            socket_dir: self.world.path("s"),
            store: self.world.path("store"),
            start: false,
            timeout: PATIENCE,
            remote: None,
        }
    }

    pub fn nfs_socket(&self) -> PathBuf {
        self.endpoint().nfs_socket()
    }

    fn run(&self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.world.path("log"))
            .expect("a log");
        let mut command = self.world.command(&["serve"]);
        let child = command.stderr(log).spawn().expect("pocker starts");
        *self.process.borrow_mut() = Some(child);
        let mut client = None;
        until("the server answers", || {
            client = Client::open(self.endpoint()).ok();
            client.is_some()
        });
        *self.client.borrow_mut() = client;
    }

    /// kill -9, and another start.
    pub fn restart(&self) {
        self.client.borrow_mut().take();
        let child = self.process.borrow_mut().take();
        let mut child = child.expect("a server runs");
        child.kill().expect("killed");
        child.wait().expect("waited for");
        self.run();
    }

    /// The most memory that the process had at once, in bytes (proc(5), status).
    pub fn peak_memory(&self) -> usize {
        let process = self.process.borrow();
        let pid = process.as_ref().expect("a server runs").id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
        kib.expect("a number of KiB") << 10
    }

    pub fn ask<T>(&self, what: impl FnOnce(&Client) -> T) -> T {
        what(self.client.borrow().as_ref().expect("a server runs"))
    }

    pub fn clone_of(&self, base: Option<&str>) -> TreeInfo {
        let new = NewTree {
            base: base.map(str::to_owned),
            purpose: Purpose::Build,
            label: "operations".to_owned(),
            pid: std::process::id(),
        };
        self.ask(|client| client.new_tree(&new)).expect("a tree")
    }

    /// The snapshot's name.
    pub fn seal(&self, tree: u64) -> String {
        self.try_seal(tree).expect("sealed")
    }

    pub fn try_seal(&self, tree: u64) -> Result<String, ClientError> {
        self.seals.set(self.seals.get() + 1);
        let request = SealRequest {
            key: format!("{:064x}", self.seals.get()),
            claim: None,
            parent: None,
            instruction: "EXEC true".to_owned(),
            upstream: None,
            source_date_epoch: None,
        };
        let sealed = self.ask(|client| client.seal(tree, &request))?;
        Ok(sealed.snapshot)
    }

    pub fn drop_tree(&self, tree: u64) {
        self.ask(|client| client.drop_tree(tree)).expect("dropped");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.client.borrow_mut().take();
        let _ = self.world.pocker(&["serve", "--stop"]);
        if let Some(mut child) = self.process.borrow_mut().take() {
            let _ = child.wait();
        }
        for disk in &self.disks {
            // The server's last descriptor may close a moment later.
            let _ = nix::mount::umount2(disk, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}
