//! NFS calls from inside a run, as uid 0, to whatever can be reached.

use crate::host::{create, program};
use crate::support::{Done, World, until, wait};
use pocker::control::Client;
use pocker::control::api::{Graft, NewRun};
use pocker::control::connect::Endpoint;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A network with a loopback interface, and in it a server for other hosts.
struct Network<'a> {
    world: &'a World,
    holder: Child,
    server: Option<Child>,
}

const PORT: u16 = 20_490;

impl Network<'_> {
    fn new(world: &World) -> Network<'_> {
        let holder = Command::new("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up && exec sleep 600"])
            .spawn()
            .expect("unshare starts");
        let mut network = Network {
            world,
            holder,
            server: None,
        };
        until("the network is up", || {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", network.holder.id()));
            comm.is_ok_and(|c| c == "sleep\n")
        });
        let listen = format!("127.0.0.1:{PORT}");
        let log = std::fs::File::create(world.path("log")).expect("a log");
        let mut serve = network.command(&["serve", "--listen", &listen]);
        network.server = Some(serve.stderr(log).spawn().expect("the server starts"));
        until("the server serves", || {
            std::fs::read_to_string(world.path("log")).is_ok_and(|l| l.contains("serving store="))
        });
        network
    }

    /// `pocker` with this network as the host's.
    fn command(&self, args: &[&str]) -> Command {
        let plain = self.world.command(args);
        let mut command = Command::new("nsenter");
        let net = format!("--net=/proc/{}/ns/net", self.holder.id());
        command
            .args([&net, "--"])
            .arg(plain.get_program())
            .args(args);
        for (key, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
            .current_dir(self.world.path(""))
            .stdin(Stdio::null());
        command
    }

    fn pocker(&self, args: &[&str]) -> Done {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        wait(command.spawn().expect("start"))
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        let _ = self.world.pocker(&["serve", "--stop"]);
        if let Some(server) = &mut self.server {
            let _ = server.wait();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

pub fn client(world: &World) -> Client {
    Client::open(Endpoint {
        socket_dir: world.path("s"),
        store: world.path("store"),
        start: false,
        timeout: Duration::from_secs(30),
        remote: None,
    })
    .expect("the server answers")
}

fn hex_handle(world: &World, path: &str) -> String {
    let wire = world.path("s/nfs.sock");
    let mut stream = UnixStream::connect(wire).expect("connect");
    let mut call: Vec<u8> = Vec::new();
    for word in [7, 0, 2, 100_005, 3, 1, 0, 0, 0, 0, path.len() as u32] {
        call.extend(word.to_be_bytes());
    }
    call.extend(path.bytes());
    call.resize(call.len().next_multiple_of(4), 0);
    let mark = 0x8000_0000 | call.len() as u32;
    stream.write_all(&mark.to_be_bytes()).expect("write");
    stream.write_all(&call).expect("write");
    let mut head = [0; 4 + 24 + 8];
    stream.read_exact(&mut head).expect("read");
    let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four"));
    assert_eq!(word(28), 0, "MOUNT of {path}");
    let mut handle = vec![0; word(32) as usize];
    stream.read_exact(&mut handle).expect("read");
    hex::encode(handle)
}

#[test]
fn guesses_at_a_server_for_other_hosts_bring_nothing_and_it_answers_others() {
    let w = World::new();
    create(&w, "").ok();
    w.pocker(&["serve", "--stop"]).ok();
    let network = Network::new(&w);
    std::fs::create_dir(w.path("g")).expect("mkdir");
    std::fs::write(w.path("g/mark"), "kept\n").expect("write");
    let client = client(&w);
    // Another's run: its tree and its graft are there to be had by whoever knows their paths.
    let mut holder = Command::new("sleep").arg("600").spawn().expect("sleep");
    let new = |name: &str| NewRun {
        name: name.to_owned(),
        pid: holder.id(),
        grafts: vec![Graft {
            host: w.path("g").display().to_string(),
            target: "/g".to_owned(),
            read_only: false,
            suid: false,
            dev: false,
        }],
        ..NewRun::default()
    };
    let gone = client.new_run(&new("box")).expect("a run");
    let stale = hex_handle(&w, &gone.tree.export.path);
    client.end_run(gone.id).expect("ended");
    // A later run of the pocker drops the tree of the one before it.
    let other = client.new_run(&new("box")).expect("a run");
    let theirs = hex_handle(&w, &other.tree.export.path);
    let graft = hex_handle(&w, &other.grafts[0].path);
    let (run, secret) = other.tree.export.path.rsplit_once('/').expect("a secret");
    let flipped = secret.replacen(
        &secret[..1],
        if secret.starts_with('0') { "1" } else { "0" },
        1,
    );
    let mut values: Vec<String> = [
        run,
        &format!("{run}/"),
        &format!("{run}/{flipped}"),
        &format!("{run}/{}", &secret[1..]),
        &gone.tree.export.path,
        other.grafts[0].path.rsplit_once('/').expect("a secret").0,
        "/",
        "/run",
        "/graft",
        "/volume/data",
        "/etc",
        "/../etc",
        "/chroot/../etc",
    ]
    .iter()
    .map(|path| format!("path={path}"))
    .collect();
    values.push(format!("handle={stale}"));
    values.extend([&theirs, &graft].map(|handle| format!("flip={handle}")));
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for user in ["root", "www"] {
        let args = [&["run", "-u", user, "box", "--", "/nfs"], &values[..]].concat();
        let done = network.pocker(&args).ok();
        assert!(!done.out.contains("got:"), "{}", done.out);
        // A user's port opens nothing at all; root's, in the host's network, is answered.
        let answered = done
            .out
            .contains(&format!("answers: port {PORT} from a reserved port"));
        assert_eq!(answered, user == "root", "{}", done.out);
        assert!(!done.out.contains("from an ordinary"), "{}", done.out);
        assert!(!done.out.contains("answers: socket"), "{}", done.out);
        let tried = done.out.lines().find_map(|l| l.strip_prefix("tried: "));
        let tried: u32 = tried.expect("a number").parse().expect("a number");
        assert_eq!(tried > 1000, user == "root", "{}", done.out);
    }
    // The program finds what is to be had: with the path itself it gets it.
    let with = format!("path={}", other.tree.export.path);
    let done = network.pocker(&["run", "box", "--", "/nfs", &with]).ok();
    assert!(done.out.contains("got: port"), "{}", done.out);
    assert_eq!(
        std::fs::read_to_string(w.path("g/mark")).expect("read"),
        "kept\n"
    );
    client.end_run(other.id).expect("ended");
    let _ = holder.kill();
    let _ = holder.wait();
}

/// Numbers of the sockets that a process has open.
fn sockets_of(pid: i32) -> Vec<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    fds.filter_map(|fd| {
        let link = std::fs::read_link(fd.ok()?.path()).ok()?;
        let text = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(text.to_owned())
    })
    .collect()
}

#[test]
fn without_listen_nothing_can_be_connected_to_but_by_root_of_the_host() {
    let w = World::new();
    create(&w, "").ok();
    let server = w.server_pid();
    let ours = sockets_of(server);
    for table in ["tcp", "tcp6", "udp", "udp6", "raw"] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).expect("sockets");
        let bound: Vec<&str> = text
            .lines()
            .filter(|l| {
                l.split_whitespace()
                    .nth(9)
                    .is_some_and(|n| ours.iter().any(|o| o == n))
            })
            .collect();
        assert!(bound.is_empty(), "{table}: {bound:?}");
    }
    // Nor by a name that has no place in the file system, which every process could reach.
    let unix = std::fs::read_to_string("/proc/net/unix").expect("sockets");
    let abstracts = unix.lines().filter(|l| {
        l.contains(" @")
            && l.split_whitespace()
                .nth(6)
                .is_some_and(|n| ours.iter().any(|o| o == n))
    });
    assert_eq!(abstracts.count(), 0);
    // Were the socket's mode changed, the peer is still looked at.
    for name in ["nfs.sock", "files.sock", "control.sock"] {
        let path = w.path("s").join(name);
        let mode = std::fs::metadata(&path)
            .expect("a socket")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let socket = w.path("s/nfs.sock");
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    open(&w.path(""), 0o755);
    open(&w.path("s"), 0o755);
    let as_user = || {
        // `nfs` connects to what /proc/net/unix lists, which is this socket too.
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program("nfs"));
        let done = command.uid(33).gid(33).output().expect("nfs starts");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let answers = format!("answers: socket {}", socket.display());
    let everyone = std::fs::read_to_string("/proc/net/unix").expect("sockets");
    assert!(everyone.contains(&socket.display().to_string()));
    open(&socket, 0o666);
    let said = as_user();
    assert!(!said.contains(&answers), "{said}");
    let done = Command::new(program("nfs")).output().expect("nfs starts");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains(&answers), "root of the host: {said}");
    // No run finds it, whoever it is in there.
    let done = w.pocker(&["run", "box", "--", "/nfs"]).ok();
    assert!(!done.out.contains(&answers), "{}", done.out);
}
