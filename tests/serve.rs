//! `pocker serve` for other hosts, asked by other programs: rpcinfo and showmount over TCP
//! and UDP, in a network of the test's own; what it counts, for people and for Prometheus,
//! and what it refuses.

mod support;

use std::io::BufRead;
use std::process::{Child, Command, Stdio};
use support::{World, runs, until, wait};

/// A network with a loopback interface and nothing else.
struct Network(Child);

impl Network {
    fn new() -> Network {
        let child = Command::new("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up && exec sleep 600"])
            .spawn()
            .expect("unshare starts");
        let network = Network(child);
        until("the network is up", || {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", network.0.id()));
            comm.is_ok_and(|c| c == "sleep\n")
        });
        network
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let net = format!("--net=/proc/{}/ns/net", self.0.id());
        command.args([&net, "--"]).arg(program);
        command
    }

    /// What a program says; it may not know yet what it is asked, so it is asked again.
    fn says(&self, argv: &[&str], words: &[&str]) -> String {
        let mut said = String::new();
        until(&format!("{argv:?} says {words:?}"), || {
            let output = self.command(argv[0]).args(&argv[1..]).output();
            let output = output.expect("the program starts");
            said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            words.iter().all(|word| said.contains(word))
        });
        said
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server inside the network; stopped with the value.
struct Server<'a>(&'a World, Child);

impl Server<'_> {
    fn start<'a>(world: &'a World, network: &Network, args: &[&str]) -> Server<'a> {
        let plain = world.command(args);
        let mut command = network.command(plain.get_program());
        command.args(plain.get_args());
        for (key, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let log = std::fs::File::create(world.path("log")).expect("a log");
        let child = command.stderr(log).stdin(Stdio::null()).spawn();
        let server = Server(world, child.expect("the server starts"));
        until("the server serves", || {
            std::fs::read_to_string(world.path("log")).is_ok_and(|l| l.contains("serving store="))
        });
        server
    }

    fn stop(self) {}
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let done = self.0.pocker(&["serve", "--stop"]);
        if done.status != 0 {
            // Nobody waits for a server that cannot be stopped.
            let _ = self.1.kill();
        }
        let status = self.1.wait().expect("wait");
        if !std::thread::panicking() {
            assert!(done.status == 0 && status.success(), "{}", done.err);
        }
    }
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.path("log")).expect("the log")
}

#[test]
fn other_programs_find_and_list_what_is_served() {
    let (world, network) = (World::new(), Network::new());
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:2050",
        "--portmap",
        "builtin",
    ];
    let server = Server::start(&world, &network, &serve);
    let listed = network.says(&["rpcinfo", "-p", "127.0.0.1"], &["100003"]);
    let rows: Vec<String> = listed
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().take(4).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        rows,
        [
            "100000 2 tcp 111",
            "100000 2 udp 111",
            "100003 3 tcp 2050",
            "100005 1 tcp 2050",
            "100005 1 udp 2050",
            "100005 3 tcp 2050",
            "100005 3 udp 2050",
        ]
    );
    // NULL calls on both transports, through the portmapper.
    let ready = &["ready and waiting"];
    network.says(&["rpcinfo", "-t", "127.0.0.1", "nfs", "3"], ready);
    network.says(&["rpcinfo", "-t", "127.0.0.1", "mountd", "1"], ready);
    network.says(&["rpcinfo", "-u", "127.0.0.1", "mountd", "1"], ready);
    network.says(&["rpcinfo", "-u", "127.0.0.1", "mountd", "3"], ready);
    network.says(
        &["showmount", "--no-headers", "-e", "127.0.0.1"],
        &["/chroot"],
    );
    server.stop();
}

#[test]
fn the_hosts_own_portmapper_is_told_and_told_again() {
    let (world, network) = (World::new(), Network::new());
    // Its socket and its state in /run are the host's otherwise.
    let mut rpcbind = network.command("unshare");
    rpcbind.args([
        "-m",
        "sh",
        "-c",
        "mount -t tmpfs none /run && exec rpcbind -f -w",
    ]);
    let mut rpcbind = rpcbind.spawn().expect("rpcbind starts");
    network.says(&["rpcinfo", "-p", "127.0.0.1"], &["portmapper"]);
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:2050",
        "--portmap",
        "register",
    ];
    for _ in 0..2 {
        let server = Server::start(&world, &network, &serve);
        let listed = network.says(&["rpcinfo", "-p", "127.0.0.1"], &["100003", "2050"]);
        assert_eq!(listed.matches(" 2050 ").count(), 5, "{listed}");
        server.stop();
        let listed = network.says(&["rpcinfo", "-p", "127.0.0.1"], &["portmapper"]);
        assert!(!listed.contains("2050"), "{listed}");
    }
    let _ = rpcbind.kill();
    let _ = rpcbind.wait();
}

#[test]
fn without_a_portmapper_it_is_said_so() {
    let world = World::new();
    let network = Network::new();
    let plain = world.command(&[
        "serve",
        "--listen",
        "127.0.0.1:2050",
        "--portmap",
        "register",
    ]);
    let mut command = network.command(plain.get_program());
    command.args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = wait(command.spawn().expect("the server starts"));
    done.fails(&["portmapper", "127.0.0.1:111", "--portmap builtin"]);
    let done = world.pocker(&["serve", "--portmap", "builtin"]);
    done.fails(&["--portmap", "--listen"]);
}

#[test]
fn calls_are_counted_and_mounts_logged_without_their_secret() {
    let (world, network) = (World::new(), Network::new());
    let server = Server::start(&world, &network, &["serve", "--listen", "127.0.0.1:2050"]);
    world.create("box", "RUN true").ok();
    std::fs::create_dir(world.path("in")).expect("mkdir");
    world.pocker(&["mount", "box", "in"]).ok();
    assert!(world.path("in/bin/busybox").exists());
    let table = world.pocker(&["serve", "--stats"]).ok().out;
    for word in ["PROCEDURE", "LOOKUP", "MNT", "CLIENT", "local", "/chroot"] {
        assert!(table.contains(word), "{table}");
    }
    let json = world.pocker(&["serve", "--stats", "--json"]).ok().out;
    let stats: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let rows = stats["procedures"].as_array().expect("rows");
    let lookup = rows.iter().find(|r| r["name"] == "LOOKUP").expect("a row");
    let buckets = lookup["buckets"].as_array().expect("buckets");
    let counted: u64 = buckets.iter().filter_map(|b| b.as_u64()).sum();
    assert_eq!(Some(counted), lookup["calls"].as_u64());
    // A run's tree is mounted by its secret, which is in no line of the log.
    world.pocker(&["run", "box", "--", "/bin/true"]).ok();
    world.pocker(&["umount", "in"]).ok();
    // One line for each mount, and one for its end, which comes once the helper is done. The
    // view, from which steps are bound, stays mounted.
    let lines = |what: &str| {
        let text = log(&world);
        let lines = text.lines().filter(|l| l.contains(&format!(" {what} ")));
        let paths = lines.filter_map(|l| l.split("path=").nth(1));
        let trees = paths.filter(|path| !path.starts_with("/chroot"));
        let mut trees: Vec<String> = trees.map(|p| p.trim().to_owned()).collect();
        trees.sort();
        trees
    };
    until("each mount's end is logged", || {
        let (begun, ended) = (lines("mounted"), lines("unmounted"));
        assert!(ended.len() <= begun.len(), "{begun:?} {ended:?}");
        begun.iter().any(|p| p.starts_with("/run/")) && begun == ended
    });
    let runs = lines("mounted")
        .into_iter()
        .filter(|p| p.starts_with("/run/"));
    assert_eq!(runs.count(), 1);
    let text = log(&world);
    let run = text
        .lines()
        .find(|l| l.contains("mounted") && l.contains("path=/run/"));
    let run = run.unwrap_or_else(|| panic!("no run in {text}"));
    let id = run.split("path=/run/").nth(1).expect("a path");
    assert!(id.trim().bytes().all(|b| b.is_ascii_digit()), "{run}");
    server.stop();
}

/// Whoever stops the server may copy its store then. One that is about to leave answers no more, and
/// has the store yet.
#[test]
fn stop_returns_when_the_store_is_closed() {
    use nix::fcntl::{Flock, FlockArg};
    let world = World::new();
    world.create("box", "RUN true").ok();
    world.pocker(&["serve", "--stop"]).ok();
    let lock = world.path("store/lock");
    assert_eq!(lock.metadata().expect("the lock").len(), 0, "it was closed");
    std::fs::write(&lock, std::process::id().to_string()).expect("write");
    let file = std::fs::File::open(&lock).expect("the lock");
    let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("nobody has it");
    let us = format!("in use by process {}", std::process::id());
    let stop = ["serve", "--stop", "--server-timeout", "1"];
    world
        .pocker(&stop)
        .fails(&["not gone after 1 s", &us, "hint: do not copy"]);
    let mut waits = world.start(&["serve", "--stop"]);
    let said = waits.stderr.take().expect("stderr");
    let mut said = std::io::BufReader::new(said).lines();
    assert!(
        said.any(|line| line.expect("text").contains(&us)),
        "it waits"
    );
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(
        waits.try_wait().expect("wait").is_none(),
        "it is not closed"
    );
    drop(held);
    wait(waits).ok();
    assert!(world.pocker(&["ls"]).ok().out.contains("box"));
}

/// As one that is killed right now, it has a socket that takes one connection and no second.
#[test]
fn a_server_that_is_there_and_does_not_answer_is_waited_for() {
    use nix::sys::socket::{Backlog, listen};
    let dir = tempfile::tempdir().expect("a directory");
    let endpoint = pocker::control::connect::Endpoint {
        socket_dir: dir.path().to_path_buf(),
        store: dir.path().join("store"),
        start: false,
        timeout: support::PATIENCE,
        remote: None,
    };
    let listener = std::os::unix::net::UnixListener::bind(endpoint.control_socket());
    let listener = listener.expect("bound");
    listen(&listener, Backlog::new(0).expect("a length")).expect("shortened");
    let first = std::os::unix::net::UnixStream::connect(endpoint.control_socket());
    let opened = std::thread::spawn(move || pocker::control::Client::open(endpoint).map(drop));
    std::thread::sleep(std::time::Duration::from_millis(100));
    drop((
        first.expect("connected"),
        listener.accept().expect("the first"),
    ));
    // Looked at by a connection first; the next finds no room until somebody takes that one.
    std::thread::sleep(std::time::Duration::from_millis(200));
    listen(&listener, Backlog::new(64).expect("a length")).expect("as long as it was");
    listener.set_nonblocking(true).expect("set");
    let mut taken = Vec::new();
    until("the client is there", || {
        taken.extend(listener.accept().ok());
        opened.is_finished()
    });
    let opened = opened.join().expect("no panic");
    opened.expect("opened after a while");
}

#[test]
fn another_store_than_the_servers_is_refused_before_anything_is_done() {
    let world = World::new();
    world.create("box", "RUN true").ok();
    let other = world.path("other").display().to_string();
    let refused = [
        "control.sock serves ",
        ", not /",
        "/other",
        "hint: --socket-dir says which server; leave --store out",
    ];
    for line in [
        &["ls"][..],
        &["rm", "box"],
        &["run", "box"],
        &["run", "--detach", "box"],
        &["serve", "--stop"],
        &["serve", "--stats"],
    ] {
        world
            .pocker(&[&["--store", &other], line].concat())
            .fails(&refused);
    }
    let of_file = world.write("conf", &format!("store = {other:?}\n"));
    let mut command = world.command(&["--config", &of_file.display().to_string(), "ls"]);
    command.env_remove("POCKER_STORE");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().expect("pocker starts")).fails(&refused);
    assert!(!world.path("other").exists());
    // The same one by another name; and who names none takes what is served.
    std::os::unix::fs::symlink(world.path("store"), world.path("link")).expect("a link");
    let link = world.path("link").display().to_string();
    world
        .pocker(&["--store", &link, "run", "--detach", "--name", "a", "box"])
        .ok();
    let mut command = world.command(&["run", "--detach", "--name", "b", "box"]);
    command.env_remove("POCKER_STORE");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().expect("pocker starts")).ok();
}

#[test]
fn who_stops_the_server_under_a_build_is_told_of_the_next_one() {
    let world = World::new();
    world.pockerfile("slow", "EXEC sleep 60\nRUN true\n");
    let mut build = world.start(&["create", "-f", "slow.pockerfile", "slow"]);
    until("it builds", || {
        let stats = world.pocker(&["serve", "--stats", "--json"]).out;
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap_or_default();
        stats["leases"]["claims"] == 1 && stats["leases"]["build_trees"] == 1
    });
    let words = ["a build", "started another", "starts another"];
    let said = world.pocker(&["serve", "--stop"]).err;
    assert!(said.contains(words[0]), "{said}");
    assert!(words[1..].iter().any(|word| said.contains(word)), "{said}");
    let pid = nix::unistd::Pid::from_raw(build.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
    build.wait().expect("ended");
}

#[test]
fn a_read_only_server_changes_nothing() {
    let (world, network) = (World::new(), Network::new());
    world.create("box", "RUN true").ok();
    world.pocker(&["serve", "--stop"]).ok();
    let server = Server::start(&world, &network, &["serve", "--read-only"]);
    let refused = &["the server is read-only", "hint:"];
    world.create("other", "RUN true").fails(refused);
    world
        .pocker(&["run", "box", "--", "/bin/true"])
        .fails(refused);
    world.pocker(&["rm", "box"]).fails(refused);
    std::fs::create_dir(world.path("in")).expect("mkdir");
    world.pocker(&["mount", "box", "in"]).ok();
    let inside = |name: &str| world.path("in").join(name);
    assert!(inside("bin/busybox").exists());
    let made = std::fs::write(inside("new"), "x").expect_err("read-only");
    assert_eq!(made.raw_os_error(), Some(nix::errno::Errno::EROFS as i32));
    world.pocker(&["umount", "in"]).ok();
    assert!(world.pocker(&["ls"]).ok().out.contains("box"));
    server.stop();
}

/// One request over a connection of its own: status line, headers and body.
fn http(network: &Network, request: &str) -> String {
    use std::io::Write;
    let mut nc = network.command("timeout");
    nc.args(["60", "busybox", "nc", "127.0.0.1", "9100"]);
    nc.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut nc = nc.spawn().expect("nc starts");
    let mut stdin = nc.stdin.take().expect("its input");
    stdin.write_all(request.as_bytes()).expect("written");
    let output = nc.wait_with_output().expect("nc ends");
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
}

/// Samples as Prometheus' own reader of OpenMetrics has them: name, labels, value.
fn samples(text: &str) -> Vec<(String, String, f64)> {
    use std::io::Write;
    const READ: &str = "import sys, json\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
        print(json.dumps([(s.name, ','.join(s.labels.values()), s.value) for f in read(sys.stdin.read()) for s in f.samples]))";
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", READ]).stdin(Stdio::piped());
    let mut python = python
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut stdin = python.stdin.take().expect("its input");
    stdin.write_all(text.as_bytes()).expect("written");
    drop(stdin);
    let output = python.wait_with_output().expect("python3 ends");
    assert!(output.status.success(), "not OpenMetrics:\n{text}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn prometheus_reads_what_the_server_counts() {
    let (world, network) = (World::new(), Network::new());
    let server = Server::start(&world, &network, &["serve", "--metrics", "127.0.0.1:9100"]);
    world.create("box", "RUN true").ok();
    std::fs::create_dir(world.path("in")).expect("mkdir");
    world.pocker(&["mount", "box", "in"]).ok();
    std::fs::read(world.path("in/bin/busybox")).expect("read");
    let reply = http(&network, &get("/metrics"));
    let (head, text) = reply.split_once("\r\n\r\n").expect("head and body");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let samples = samples(text);
    let value = |name: &str, labels: &str| {
        let found = samples.iter().find(|(n, l, _)| n == name && l == labels);
        found
            .unwrap_or_else(|| panic!("no {name}{{{labels}}} in {text}"))
            .2
    };
    let json = world.pocker(&["serve", "--stats", "--json"]).ok().out;
    let stats: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let rows = stats["procedures"].as_array().expect("rows");
    let lookup = rows.iter().find(|r| r["name"] == "LOOKUP").expect("a row");
    let calls = value("pocker_nfs_call_seconds_count", "nfs,LOOKUP");
    assert!(calls > 0.0 && calls <= lookup["calls"].as_f64().expect("a number"));
    assert_eq!(
        value("pocker_nfs_call_seconds_bucket", "+Inf,nfs,LOOKUP"),
        calls
    );
    assert!(value("pocker_nfs_received_bytes_total", "nfs,LOOKUP") >= calls * 40.0);
    assert_eq!(value("pocker_store_objects", "pocker"), 1.0);
    assert_eq!(
        value("pocker_leases", "mount"),
        stats["leases"]["mounts"].as_f64().expect("a number")
    );
    let on_disk = value("pocker_store_bytes", "index") + value("pocker_store_bytes", "large");
    assert!(on_disk > 0.0);
    let ratio = value("pocker_store_logical_bytes", "") / on_disk;
    assert!((value("pocker_store_dedup_ratio", "") / ratio - 1.0).abs() < 0.01);
    assert!(value("pocker_cache_misses_total", "directories") > 0.0);
    // Nothing else is answered there.
    for request in [
        get("/v1/stats"),
        get("/"),
        get("/metrics").replace("GET", "POST"),
    ] {
        let reply = http(&network, &request);
        assert!(reply.starts_with("HTTP/1.1 40"), "{request}\n{reply}");
    }
    world.pocker(&["umount", "in"]).ok();
    server.stop();
}

#[test]
fn who_holds_on_to_a_connection_for_metrics_keeps_nobody_out() {
    let (world, network) = (World::new(), Network::new());
    let server = Server::start(&world, &network, &["serve", "--metrics", "127.0.0.1:9100"]);
    let mut idle: Vec<Child> = (0..20)
        .map(|_| {
            let mut nc = network.command("busybox");
            nc.args(["nc", "127.0.0.1", "9100"]).stdin(Stdio::piped());
            nc.spawn().expect("nc starts")
        })
        .collect();
    let reply = http(&network, &get("/metrics"));
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    for nc in &mut idle {
        let _ = nc.kill();
        nc.wait().expect("waited for");
    }
    server.stop();
}

/// capabilities(7), by number: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, NET_BIND_SERVICE.
const KEPT: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10;

/// A field of /proc/PID/status.
fn status(of: &std::path::Path, field: &str) -> String {
    let text = std::fs::read_to_string(of.join("status")).expect("it runs");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.expect(field).trim().to_owned()
}

/// The server's one child.
fn aide_of(server: i32) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
    let children = children.expect("children");
    children.trim().parse().expect("one child")
}

#[test]
fn the_server_has_given_up_what_serving_does_not_need() {
    let w = World::new();
    w.create("a", "RUN true\n").ok();
    let server = w.server_pid();
    // The same for each thread: capabilities and filters are a thread's.
    let threads: Vec<_> = std::fs::read_dir(format!("/proc/{server}/task"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(threads.len() > 1, "{threads:?}");
    // One that has nothing to do ends.
    for thread in threads.iter().filter(|thread| thread.exists()) {
        for set in ["CapEff", "CapPrm"] {
            let bits = u64::from_str_radix(&status(thread, set), 16).expect("bits");
            assert_eq!(bits, KEPT, "{set} of {}", thread.display());
        }
        assert_eq!(status(thread, "CapInh"), "0000000000000000");
        assert_eq!(status(thread, "NoNewPrivs"), "1");
        // A filter (proc(5)).
        assert_eq!(status(thread, "Seccomp"), "2");
    }
    // Who has the other rights is one child, of which nobody is told what it was started for.
    let aide = aide_of(server);
    let words = std::fs::read(format!("/proc/{aide}/cmdline")).expect("it runs");
    assert_eq!(words.split(|b| *b == 0).next(), Some(&b"pocker"[..]));
    assert!(!w.processes().contains(&(aide as u32)));
    // It unmounts for the server, and ends with it, however that ends.
    assert!(w.path("chroot/a").exists());
    w.pocker(&["serve", "--stop"]).ok();
    assert!(!w.path("chroot/a").exists());
    until("the aide is gone", || !runs(aide));
    w.create("a", "RUN true\n").ok();
    let server = w.server_pid();
    let aide = aide_of(server);
    let kill =
        |pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    kill(server).expect("killed");
    until("the aide is gone", || !runs(aide));
    // What is mounted waits for another one, which unmounts it.
    w.pocker(&["run", "a"]).ok();
}
