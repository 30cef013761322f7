//! A lab: a host with the store, and others that use it.

use super::support::{Done, World, until, wait};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub const STORE: &str = "10.99.0.1";
/// A second address of the store's host.
pub const OTHER: &str = "10.99.0.2";
/// What its certificate calls it too.
pub const NAME: &str = "store.test";

static NETS: AtomicU32 = AtomicU32::new(0);

pub fn sh(text: &str) {
    let done = Command::new("sh").args(["-ec", text]).output();
    let done = Done::from(done.expect("sh starts"));
    assert_eq!(done.status, 0, "{text}: {}", done.err);
}

/// The store's host, with its server.
pub struct Lab {
    pub world: World,
    pub net: String,
    server: Option<Child>,
    pub lease: u64,
    /// What its server is told of TLS for NFS, if anything.
    pub rpc_tls: Option<&'static str>,
    nets: Vec<String>,
}

impl Lab {
    /// A server whose leases hold for so many seconds, and so many others that may use it.
    pub fn with(lease: u64, others: u8) -> (Lab, Vec<Host>) {
        let mut lab = Lab::new(lease);
        let hosts = (1..=others).map(|n| lab.join(n)).collect();
        lab.serve(STORE);
        (lab, hosts)
    }

    pub fn new(lease: u64) -> Lab {
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let net = format!("pk{}-{number}", std::process::id());
        sh(&format!(
            "ip netns add {net}
             ip -n {net} link set lo up
             ip -n {net} link add br0 type bridge
             ip -n {net} addr add {STORE}/24 dev br0
             ip -n {net} addr add {OTHER}/24 dev br0
             ip -n {net} link set br0 up"
        ));
        let lab = Lab {
            world: World::new(),
            nets: vec![net.clone()],
            net,
            server: None,
            lease,
            rpc_tls: None,
        };
        let dir = lab.world.path("tls").display().to_string();
        lab.pocker(&["serve", "init-tls", STORE, NAME, "127.0.0.1", "--dir", &dir])
            .ok();
        lab
    }

    /// Another host, at 10.99.0.10 + `number`, with a token that builds.
    pub fn join(&mut self, number: u8) -> Host {
        let net = format!("{}-{number}", self.net);
        let hub = &self.net;
        sh(&format!(
            "ip netns add {net}
             ip -n {net} link set lo up
             ip link add h{number} netns {hub} type veth peer name eth0 netns {net}
             ip -n {hub} link set h{number} master br0 up
             ip -n {net} addr add {}/24 dev eth0
             ip -n {net} link set eth0 up",
            Host::address_of(number)
        ));
        self.nets.push(net.clone());
        let world = World::new();
        let token = self.token(&format!("host{number}"), "build", "1d");
        let host = Host {
            net,
            number,
            ca: self.world.path("tls/ca.pem"),
            remote: format!("pocker://{STORE}"),
            token: world.path("token"),
            hosts_file: None,
            world,
        };
        host.show(&token);
        host
    }

    pub fn token(&self, name: &str, role: &str, expires: &str) -> String {
        let args = [
            "token",
            "create",
            "--role",
            role,
            "--expires",
            expires,
            "--name",
            name,
        ];
        self.pocker(&args).ok().out.trim().to_owned()
    }

    pub fn serve(&mut self, at: &str) {
        assert!(self.server.is_none(), "it serves already");
        // One that a command started for itself serves no others.
        self.pocker(&["serve", "--stop"]).ok();
        let log = self.world.path("log");
        let before = std::fs::read_to_string(&log).map_or(0, |log| log.len());
        let out = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log);
        let tls = |file: &str| self.world.path("tls").join(file).display().to_string();
        let mut command = self.command(&[
            "serve",
            "--listen",
            at,
            "--allow",
            "10.99.0.11,10.99.0.12/31",
            "--allow",
            "10.99.0.1",
            "--tls-cert",
            &tls("server.pem"),
            "--tls-key",
            &tls("server.key"),
            "--lease",
            &self.lease.to_string(),
        ]);
        if let Some(how) = self.rpc_tls {
            command.args(["--rpc-tls", how]);
        }
        let child = command.stderr(out.expect("a log")).spawn();
        self.server = Some(child.expect("the server starts"));
        until("the server serves", || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            log[before..].contains("serving store=")
        });
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("it serves");
        server.kill().expect("killed");
        server.wait().expect("waited for");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.world.path("log")).unwrap_or_default()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        inside(&self.net, &self.world.command(args))
    }

    pub fn pocker(&self, args: &[&str]) -> Done {
        run(self.command(args))
    }

    /// What `pocker hosts` says of one of them.
    pub fn host(&self, host: &Host) -> serde_json::Value {
        let all = self.pocker(&["hosts", "--json"]).ok().out;
        let all: serde_json::Value = serde_json::from_str(&all).expect("JSON");
        let all = all.as_array().expect("a list").clone();
        let of = |h: &serde_json::Value| h["address"] == host.address();
        all.into_iter().find(of).unwrap_or_default()
    }

    /// What it holds, as `pocker hosts` says it.
    pub fn holds(&self, host: &Host) -> String {
        let leases = self.host(host)["leases"].clone();
        let leases = leases.as_array().cloned().unwrap_or_default();
        let holds = leases.iter().map(|lease| lease["holds"].to_string());
        holds.collect::<Vec<_>>().join(" ")
    }

    pub fn stats(&self) -> serde_json::Value {
        let stats = self.pocker(&["serve", "--stats", "--json"]).ok().out;
        serde_json::from_str(&stats).expect("JSON")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        } else {
            assert!(!self.log().contains("panicked"), "{}", self.log());
        }
        let _ = self.pocker(&["serve", "--stop"]);
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
        for net in &self.nets {
            let _ = Command::new("ip").args(["netns", "del", net]).status();
        }
    }
}

/// Another host.
pub struct Host {
    pub world: World,
    pub net: String,
    pub number: u8,
    pub ca: PathBuf,
    pub remote: String,
    pub token: PathBuf,
    /// In place of its /etc/hosts.
    pub hosts_file: Option<PathBuf>,
}

impl Host {
    fn address_of(number: u8) -> String {
        format!("10.99.0.{}", 10 + number)
    }

    pub fn address(&self) -> String {
        Host::address_of(self.number)
    }

    /// The token that it shows from here on.
    pub fn show(&self, token: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&self.token, format!("{token}\n")).expect("write");
        std::fs::set_permissions(&self.token, PermissionsExt::from_mode(0o600)).expect("chmod");
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let own = self.world.command(args);
        let mut command = inside(&self.net, &own);
        if let Some(hosts) = &self.hosts_file {
            let mut apart = Command::new("unshare");
            let bind = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
            apart.args(["-m", "sh", "-c", bind]).arg(hosts);
            apart.arg(command.get_program()).args(command.get_args());
            copy_world(&command, &mut apart);
            command = apart;
        }
        command
            .env("POCKER_REMOTE", &self.remote)
            .env("POCKER_REMOTE_CA", &self.ca)
            .env("POCKER_TOKEN_FILE", &self.token);
        let own = self.world.path("own.conf");
        if own.exists() {
            command.env("POCKER_CONFIG", own);
        }
        command
    }

    pub fn pocker(&self, args: &[&str]) -> Done {
        run(self.command(args))
    }

    pub fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("pocker starts")
    }

    /// A Pockerfile over the busybox root, without the browse view.
    pub fn create(&self, name: &str, lines: &str) -> Done {
        run(self.creating(name, lines))
    }

    pub fn creating(&self, name: &str, lines: &str) -> Command {
        self.world.pockerfile(name, lines);
        self.command(&[
            "create",
            "--no-browse",
            "-f",
            &format!("{name}.pockerfile"),
            name,
        ])
    }

    /// Cuts it off, or joins it again.
    pub fn link(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        sh(&format!("ip -n {} link set eth0 {state}", self.net));
    }

    /// Every process of it ends at once, as with its machine.
    pub fn dies(&self) {
        self.link(false);
        // Supervisors start others again: until none is left.
        until("every process is gone", || {
            let all = self.world.processes();
            let all = all.into_iter().filter(|pid| *pid != std::process::id());
            let all: Vec<u32> = all
                .filter(|pid| super::support::runs(*pid as i32))
                .collect();
            for pid in &all {
                let pid = nix::unistd::Pid::from_raw(*pid as i32);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            all.is_empty()
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dies();
        }
    }
}

fn inside(net: &str, own: &Command) -> Command {
    let mut command = Command::new("nsenter");
    let net = OsString::from(format!("--net=/run/netns/{net}"));
    command.arg(net).arg(own.get_program()).args(own.get_args());
    copy_world(own, &mut command);
    command
}

fn copy_world(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    if let Some(dir) = from.get_current_dir() {
        to.current_dir(dir);
    }
    to.stdin(Stdio::null());
}

pub fn run(mut command: Command) -> Done {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().expect("pocker starts"))
}
