//! A run's network: the host's, none, or its own with ports that lead there, by each engine.
//! The host is a network namespace of the test's own.

use crate::support::{Done, World, until, wait};
use crate::world;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A host without an outside, but with an address that is not its loopback's.
struct Host {
    name: String,
    servers: Vec<Child>,
}

const ADDRESS: &str = "10.77.1.1";

impl Host {
    fn new(world: &World) -> Host {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let nth = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("pkt{}-{nth}", std::process::id());
        sh(&format!("ip netns add {name}"));
        let mut host = Host {
            name,
            servers: Vec::new(),
        };
        for line in [
            "ip link set lo up",
            "ip link add a0 type veth peer name a1",
            "ip link add b0 type veth peer name b1",
            "ip address add 10.77.0.1/24 dev a0",
            &format!("ip address add {ADDRESS}/24 dev b0"),
            "for d in a0 a1 b0 b1; do ip link set $d up; done",
            "ip route add default via 10.77.0.254",
        ] {
            let done = wait(
                host.command(&["/bin/sh", "-c", line])
                    .spawn()
                    .expect("starts"),
            );
            done.ok();
        }
        for (at, says) in [(ADDRESS, "outside"), ("127.0.0.1", "loopback")] {
            let dir = world.path(says);
            std::fs::create_dir_all(&dir).expect("mkdir");
            std::fs::write(dir.join("x"), format!("{says}\n")).expect("write");
            let listen = format!("{at}:8001");
            let dir = dir.to_string_lossy().into_owned();
            let args = ["busybox", "httpd", "-f", "-p", &listen, "-h", &dir];
            host.servers
                .push(host.command(&args).spawn().expect("starts"));
            until("it serves", || {
                host.fetch(&format!("{at}:8001")).status == 0
            });
        }
        host
    }

    /// Something in this network; the file systems are the test's.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn fetch(&self, at: &str) -> Done {
        let url = format!("http://{at}/x");
        let args = ["curl", "-s", "-m", "3", &url];
        wait(self.command(&args).spawn().expect("starts"))
    }

    /// `pocker run OPTIONS box -- sh -c SCRIPT` in this network, with this PATH.
    fn start(&self, world: &World, path: &Path, options: &[&str], script: &str) -> Child {
        let pocker = env!("CARGO_BIN_EXE_pocker");
        let mut args = vec![pocker, "run"];
        args.extend(options);
        args.extend(["box", "--", "/bin/sh", "-c", script]);
        let mut command = self.command(&args);
        for (name, value) in world.command(&args).get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env_remove("SOURCE_DATE_EPOCH").env("PATH", path);
        command.spawn().expect("starts")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .status();
    }
}

fn sh(line: &str) {
    let status = Command::new("/bin/sh").args(["-c", line]).status();
    assert!(status.expect("sh starts").success(), "{line}");
}

/// A PATH with one engine and what mounting needs.
fn path_with(world: &World, engine: Option<&str>) -> PathBuf {
    let dir = world.path(&format!("path-{}", engine.unwrap_or("none")));
    std::fs::create_dir_all(&dir).expect("mkdir");
    for program in engine.into_iter().chain(["nsenter"]) {
        let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
            .iter()
            .map(|at| Path::new(at).join(program))
            .find(|at| at.exists())
            .unwrap_or_else(|| panic!("the tests need {program}; scripts/test installs it"));
        std::os::unix::fs::symlink(found, dir.join(program)).expect("symlink");
    }
    dir
}

/// A run with a network of its own, made by what is in PATH.
fn private_with(world: &World, path: &Path) -> Done {
    let mut command = world.command(&["run", "--net", "private", "box"]);
    command
        .env("PATH", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    wait(command.spawn().expect("starts"))
}

/// Processes of an engine that were started for this world.
fn engines(world: &World) -> Vec<u32> {
    let named = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        ["slirp4netns", "pasta"].iter().any(|name| {
            let first = line.split(|b| *b == 0).next().unwrap_or_default();
            first.ends_with(name.as_bytes())
        })
    };
    world.processes().into_iter().filter(named).collect()
}

fn both_ways(engine: &str) {
    let w = world();
    let host = Host::new(&w);
    let path = path_with(&w, Some(engine));
    let script = format!(
        "
        cat /etc/resolv.conf
        # Half-closed connections are not this engine's best.
        get() {{ (printf 'GET /x HTTP/1.0\\r\\n\\r\\n'; sleep 1) | timeout $2 nc $1 8001 | grep -E '^(outside|loopback)' || echo no $1; }}
        get {ADDRESS} 30; get 127.0.0.1 2; get $(ip route | awk '/default/ {{ print $3 }}') 2
        mkdir /www; echo inside >/www/x
        exec httpd -f -p 80 -h /www"
    );
    let ports = ["--net", "private", "-p", "127.0.0.1:8080:80"];
    let mut child = host.start(&w, &path, &ports, &script);
    until("the run serves", || {
        if child.try_wait().expect("wait").is_some() {
            let mut said = String::new();
            let err = child.stderr.as_mut().expect("a pipe");
            std::io::Read::read_to_string(err, &mut said).expect("read");
            panic!("it ended: {said}");
        }
        host.fetch("127.0.0.1:8080").out == "inside\n"
    });
    assert_eq!(engines(&w).len(), 1);
    // What it was started with is gone already.
    let files = std::fs::read_dir(w.path("s")).expect("the socket directory");
    let names = files.map(|file| file.expect("a file").file_name());
    let ours = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.starts_with("net-") || name.starts_with("resolv-")
    };
    assert_eq!(names.filter(ours).count(), 0);
    // Only where it was asked for, and not to who is elsewhere.
    assert_ne!(host.fetch(&format!("{ADDRESS}:8080")).status, 0);
    // A port that is in use: one line, and what to do.
    let second = host.start(&w, &path, &ports, "true");
    let done = wait(second);
    assert_eq!(done.status, 125, "{}", done.err);
    done.fails(&[
        "--publish 127.0.0.1:8080:80/tcp",
        "in use",
        "hint: choose another port",
    ]);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("kill");
    let done = wait(child);
    let lines: Vec<&str> = done.out.lines().collect();
    let found = lines.iter().position(|line| *line == "outside");
    let found = found.unwrap_or_else(|| panic!("{}\n{}", done.out, done.err));
    assert_eq!(lines[0], "nameserver 10.0.2.3");
    assert_eq!(lines[found + 1], "no 127.0.0.1");
    assert!(lines[found + 2].starts_with("no 10."), "{}", done.out);
    until("the engine is gone", || engines(&w).is_empty());

    // The supervisor is killed: the engine goes all the same.
    let mut child = host.start(&w, &path, &["--net", "private"], "exec sleep 600");
    until("its engine runs", || engines(&w).len() == 1);
    child.kill().expect("killed");
    child.wait().expect("waited for");
    until("the engine is gone", || engines(&w).is_empty());
    // Asked for, the host's loopback is there at the gateway's address.
    let script = "(printf 'GET /x HTTP/1.0\\r\\n\\r\\n'; sleep 1) | timeout 30 nc $(ip route | awk '/default/ { print $3 }') 8001";
    let child = host.start(&w, &path, &["--net", "private", "--host-loopback"], script);
    let done = wait(child);
    assert!(done.out.ends_with("loopback\n"), "{}{}", done.out, done.err);
}

#[test]
fn a_private_network_by_slirp4netns() {
    both_ways("slirp4netns");
}

#[test]
fn a_private_network_by_pasta() {
    both_ways("pasta");
}

#[test]
fn none_is_a_loopback_and_what_cannot_be_is_refused() {
    let w = world();
    let script = "cat /proc/net/dev | tail -n +3 | cut -d: -f1; httpd -p 127.0.0.1:80 -h /etc; printf 'GET /group HTTP/1.0\\r\\n\\r\\n' | nc -w 3 127.0.0.1 80 | grep -o ^mail";
    let done = crate::run(&w, &["--net", "none"], script);
    assert!(
        done.out.split_whitespace().eq(["lo", "mail"]),
        "{}{}",
        done.out,
        done.err
    );
    let refused = |options: &[&str]| crate::run(&w, options, "true");
    refused(&["-p", "8080:80"]).fails(&["--publish", "hint: add --net private"]);
    refused(&["--net", "none", "--host-loopback"]).fails(&["--host-loopback", "hint:"]);
    for wrong in [["--net", "bridge"], ["-p", "80"], ["-p", "80:80/sctp"]] {
        let done = refused(&wrong);
        assert_eq!(done.status, 125, "{}", done.err);
    }
    let elsewhere = ["--net", "private", "-p", "198.51.100.7:8080:80"];
    refused(&elsewhere).fails(&["cannot listen on 198.51.100.7:8080", "hint:"]);
    private_with(&w, &path_with(&w, None)).fails(&[
        "slirp4netns",
        "pasta",
        "hint: apt-get install slirp4netns",
        "passt",
    ]);
    // An engine that does not work says why; one that hangs is given up.
    let dir = w.path("broken");
    std::fs::create_dir_all(&dir).expect("mkdir");
    let engine = dir.join("slirp4netns");
    std::fs::write(&engine, "#!/bin/sh\necho it is broken >&2\nexit 3\n").expect("write");
    sh(&format!("chmod +x {}", engine.display()));
    private_with(&w, &dir).fails(&["slirp4netns did not start: it is broken", "hint:"]);
    assert!(engines(&w).is_empty());
    std::fs::write(&engine, "#!/bin/sh\nexec sleep 600\n").expect("write");
    private_with(&w, &dir).fails(&["slirp4netns was not ready within 10 s", "hint:"]);
    until("it is gone", || engines(&w).is_empty());
}
