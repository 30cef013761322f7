//! `pocker sync` with the store of another host, over its control API.

use super::lab::{Host, Lab, STORE};
use super::replay::at;
use super::support::{Done, until, wait};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const LINES: &str = "ENV WORD=kept
EXEC mkdir -p /data/many; i=0; while [ $i -lt 150 ]; do echo file $i >/data/many/$i; i=$((i + 1)); done
EXEC head -c 3000000 /dev/urandom >/data/a; head -c 2000000 /dev/urandom >/data/b; head -c 2000000 /dev/urandom >/data/c
RUN cat /data/many/7; echo $WORD
";
const SAYS: &str = "file 7\nkept\n";

/// A command of the host about its own store.
fn own(host: &Host, args: &[&str]) -> Done {
    let mut command = host.command(args);
    command.env_remove("POCKER_REMOTE");
    super::lab::run(command)
}

fn remote() -> String {
    format!("pocker://{STORE}")
}

fn bytes(done: &Done) -> u64 {
    let all: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    all[0]["bytes"].as_u64().expect("a number")
}

fn sound(fsck: &Done) {
    assert!(fsck.out.ends_with(": sound\n"), "{}", fsck.out);
}

#[test]
fn pockers_go_to_another_hosts_store_and_come_from_it() {
    let (lab, hosts) = Lab::with(20, 2);
    lab.world.pockerfile("box", LINES);
    let create = ["create", "--no-browse", "-f", "box.pockerfile", "box"];
    lab.pocker(&create).ok();
    // With a token that only runs.
    let (near, far) = (&hosts[0], &hosts[1]);
    near.show(&lab.token("reader", "run", "1d"));
    let got = own(near, &["sync", "--json", &remote(), "local", "box"]).ok();
    assert!(bytes(&got) > 7_000_000, "{}", got.out);
    assert_eq!(own(near, &["run", "box"]).ok().out, SAYS);
    sound(&own(near, &["fsck"]).ok());
    // Its store is the commands' own where they are told of no other.
    own(near, &["rm", "box"]).ok();
    // `remote` is what the other commands mean, `local` this host's own all the same.
    near.pocker(&["sync", "remote", "local", "--all"]).ok();
    assert_eq!(own(near, &["run", "box"]).ok().out, SAYS);
    // The other way, built on there.
    near.world.write(
        "on.pockerfile",
        "FROM box\nEXEC head -c 100000 /dev/urandom >/data/new\nRUN cat /data/many/8\n",
    );
    own(
        near,
        &["create", "--no-browse", "-f", "on.pockerfile", "on"],
    )
    .ok();
    own(near, &["sync", "local", &remote(), "on"]).fails(&["of role run", "takes build", "hint: "]);
    assert!(!lab.pocker(&["ls"]).ok().out.contains("on "));
    near.show(&lab.token("writer", "build", "1d"));
    let put = own(near, &["sync", "--json", "local", &remote(), "on"]).ok();
    assert!((100_000..150_000).contains(&bytes(&put)), "{}", put.out);
    assert_eq!(far.pocker(&["run", "on"]).ok().out, "file 8\n");
    sound(&lab.pocker(&["fsck"]).ok());
    for host in [near, far] {
        until("nothing is held", || lab.holds(host).is_empty());
    }
    for (from, to) in [
        ("pocker://10.99.0.1", "pocker://10.99.0.2"),
        ("remote", "local"),
        ("local", "pocker://10.99.0.1:7"),
    ] {
        let args = ["--server-timeout", "1", "sync", from, to, "on"];
        own(near, &args).fails(&["hint: "]);
    }
    own(near, &["serve", "--stop"]).ok();
}

/// Carries connections from a host to the server until so many bytes have passed either way.
struct Line {
    left: Arc<AtomicU64>,
}

impl Line {
    fn of(host: &Host, port: u16) -> Line {
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let listener = at(&host.net, || TcpListener::bind(("127.0.0.1", port))).expect("bound");
        let (net, shared) = (host.net.clone(), left.clone());
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = at(&net, || TcpStream::connect((STORE, 2050))) else {
                    continue;
                };
                let ends = [(&client, &server), (&server, &client)];
                for (from, to) in ends {
                    let from = from.try_clone().expect("dup");
                    let to = to.try_clone().expect("dup");
                    let left = shared.clone();
                    std::thread::spawn(move || carry(from, to, &left));
                }
            }
        });
        Line { left }
    }

    fn breaks_after(&self, bytes: u64) {
        self.left.store(bytes, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, left: &AtomicU64) {
    let mut part = [0; 8 << 10];
    while let Ok(n @ 1..) = from.read(&mut part) {
        let take = |left: u64| left.checked_sub(n as u64);
        let passes = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        if passes.is_err() || to.write_all(&part[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

/// The line breaks, the command and the server are killed: the next try goes on after what was sent.
#[test]
fn a_sync_that_was_cut_goes_on_after_what_was_sent() {
    let (mut lab, hosts) = Lab::with(20, 1);
    let host = &hosts[0];
    host.world.pockerfile("box", LINES);
    let create = ["create", "--no-browse", "-f", "box.pockerfile", "box"];
    own(host, &create).ok();
    let line = Line::of(host, 7052);
    let put = ["sync", "--json", "local", "pocker://127.0.0.1:7052", "box"];
    line.breaks_after(4_000_000);
    own(host, &put).fails(&["because: ", "hint: "]);
    assert!(!lab.pocker(&["ls"]).ok().out.contains("box"));
    line.breaks_after(u64::MAX);
    until("what came is the server's", || lab.holds(host).is_empty());
    // Of nine megabytes what had come whole is there: the root's busybox, of two.
    let rest = bytes(&own(host, &put).ok());
    assert!(rest < 8_000_000, "{rest} bytes were sent again");
    assert_eq!(host.pocker(&["run", "box"]).ok().out, SAYS);
    sound(&lab.pocker(&["fsck"]).ok());

    // The same the other way, and with the server killed under it.
    own(host, &["rm", "box"]).ok();
    own(host, &["gc"]).ok();
    let get = ["sync", "--json", "pocker://127.0.0.1:7052", "local", "box"];
    line.breaks_after(4_000_000);
    own(host, &get).fails(&["because: ", "hint: "]);
    line.breaks_after(u64::MAX);
    for millis in [5, 40] {
        let mut command = host.command(&get);
        command
            .env_remove("POCKER_REMOTE")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let child = command.spawn().expect("pocker starts");
        std::thread::sleep(std::time::Duration::from_millis(millis));
        lab.kill();
        lab.serve(STORE);
        let done = wait(child);
        assert!(
            done.status == 0 || done.err.contains("hint: "),
            "{}",
            done.err
        );
    }
    let rest = bytes(&own(host, &get).ok());
    assert!(rest < 8_000_000, "{rest} bytes were sent again");
    assert_eq!(own(host, &["run", "box"]).ok().out, SAYS);
    sound(&own(host, &["fsck"]).ok());
    own(host, &["serve", "--stop"]).ok();
}
