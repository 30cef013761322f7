//! A server in a network of the test's own, and what it serves there.

use super::support::{World, until};
use super::wire::{MOUNT, Wire, Xdr, root, word};
use nix::sched::{CloneFlags, unshare};
use pocker::control::Client;
use pocker::control::api::{NewTree, Purpose, TreeInfo};
use pocker::control::connect::Endpoint;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const PORT: u16 = 2049;
pub const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub struct Server {
    pub world: World,
    child: Option<Child>,
    pub control: Client,
}

impl Server {
    /// Takes this thread, and what it starts, to a network that has a loopback interface only.
    pub fn start() -> Server {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own");
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.is_ok_and(|s| s.success()), "ip link set lo up");
        let world = World::new();
        let log = std::fs::File::create(world.path("log")).expect("a log");
        let listen = format!("127.0.0.1:{PORT}");
        let mut command = world.command(&["serve", "--listen", &listen, "--portmap", "builtin"]);
        let child = command.stderr(log).stdin(Stdio::null()).spawn();
        let child = child.expect("the server starts");
        until("the server serves", || {
            std::fs::read_to_string(world.path("log")).is_ok_and(|l| l.contains("serving store="))
        });
        let control = Client::open(Endpoint {
            socket_dir: world.path("s"),
            store: world.path("store"),
            start: false,
            timeout: Duration::from_secs(30),
            remote: None,
        });
        Server {
            control: control.expect("the control socket"),
            world,
            child: Some(child),
        }
    }

    pub fn unix(&self) -> Wire {
        Wire::unix(&self.world.path("s/nfs.sock"))
    }

    /// An empty work tree that is this process's.
    pub fn tree(&self) -> TreeInfo {
        let tree = self.control.new_tree(&NewTree {
            base: None,
            purpose: Purpose::Build,
            label: "hostile".to_owned(),
            pid: std::process::id(),
        });
        tree.expect("a tree")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Resident memory in bytes (proc(5), status).
    pub fn resident(&self) -> usize {
        self.status("VmRSS:") << 10
    }

    /// The most that was resident.
    pub fn peak(&self) -> usize {
        self.status("VmHWM:") << 10
    }

    fn status(&self, field: &str) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let text = text.expect("the server runs");
        let line = text.lines().find_map(|l| l.strip_prefix(field));
        let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {field} in {text}"))
    }

    pub fn descriptors(&self) -> usize {
        let list = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        list.expect("the server runs").count()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.world.path("log")).expect("the log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let done = self.world.pocker(&["serve", "--stop"]);
        let Some(mut child) = self.child.take() else {
            return;
        };
        if done.status != 0 {
            // Nobody waits for a server that cannot be stopped.
            let _ = child.kill();
        }
        let status = child.wait().expect("wait");
        let log = self.log();
        if std::thread::panicking() {
            let from = log.len().saturating_sub(4000);
            eprintln!("--- the server's log ---\n{}", &log[from..]);
        } else {
            assert!(done.status == 0 && status.success(), "{}", done.err);
            assert!(!log.contains("panicked"), "the server panicked:\n{log}");
        }
    }
}

/// MNT's handle (RFC 1813 §5.2.1).
#[track_caller]
pub fn mount(wire: &mut Wire, path: &str) -> Vec<u8> {
    let said = wire.ask((MOUNT, 3, 1), &root(), &Xdr::new().opaque(path.as_bytes()));
    assert_eq!(said.status(), 0, "MNT");
    let super::wire::Said::Success(results) = said else {
        unreachable!("it has a status")
    };
    results[8..8 + word(&results, 1) as usize].to_vec()
}

/// What CREATE, MKDIR, SYMLINK or MKNOD made.
#[track_caller]
pub fn made(wire: &mut Wire, procedure: u32, args: &Xdr) -> Vec<u8> {
    let said = wire.nfs(procedure, args);
    assert_eq!(said.status(), 0, "procedure {procedure}");
    let super::wire::Said::Success(results) = said else {
        unreachable!("it has a status")
    };
    results[12..12 + word(&results, 2) as usize].to_vec()
}

/// A regular file of that many bytes.
#[track_caller]
pub fn file(wire: &mut Wire, dir: &[u8], name: &str, bytes: usize) -> Vec<u8> {
    let args = Xdr::new().opaque(dir).opaque(name.as_bytes());
    let fh = made(wire, 8, &args.u32(1).unchanged());
    let write = Xdr::new().opaque(&fh).u64(0);
    let write = write.words(&[bytes as u32, 2]).opaque(&vec![7; bytes]);
    assert_eq!(wire.nfs(7, &write).status(), 0, "WRITE");
    fh
}
