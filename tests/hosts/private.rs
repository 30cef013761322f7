//! NFS between hosts over TLS (RFC 9289): what is seen between them, who gets in, and what is said where it
//! cannot be.

use super::lab::{Host, Lab, STORE, run, sh};
use super::replay::at;
use super::support::{Done, until};
use super::writer::Writer;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MARKER: &str = "nobody-else-is-to-read-this";

/// Every frame that a network sees.
struct Capture {
    stop: Arc<AtomicBool>,
    frames: std::thread::JoinHandle<Vec<u8>>,
}

impl Capture {
    fn of(net: &str) -> Capture {
        let raw = at(net, || {
            let all = SockProtocol::EthAll;
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), all)
        });
        let raw = raw.expect("a raw socket");
        setsockopt(&raw, sockopt::RcvBufForce, &(64 << 20)).expect("room for frames");
        let look = TimeVal::new(0, 50_000);
        setsockopt(&raw, sockopt::ReceiveTimeout, &look).expect("a limit");
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let frames = std::thread::spawn(move || {
            let (mut all, mut frame) = (Vec::new(), vec![0; 128 << 10]);
            loop {
                // Looked at first: what came until then is read.
                let over = told.load(Ordering::SeqCst);
                match recv(raw.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                    Ok(n) => all.extend_from_slice(&frame[..n]),
                    Err(_) if over => return all,
                    Err(_) => {}
                }
            }
        });
        Capture { stop, frames }
    }

    /// Whether these bytes were in them, and how many there were in all.
    fn saw(self, what: &[u8]) -> (bool, usize) {
        self.stop.store(true, Ordering::SeqCst);
        let all = self.frames.join().expect("no panic");
        let seen = all.windows(what.len()).any(|w| w == what);
        (seen, all.len())
    }
}

/// Reads what was sealed, and writes to its own tree.
fn read_and_write(host: &Host) -> (bool, usize) {
    let capture = Capture::of(&host.net);
    let text =
        format!("cat /secret | md5sum; yes {MARKER} | head -n 2000 >/own; sync; wc -l </own");
    let done = host.pocker(&["run", "box", "--", "sh", "-c", &text]).ok();
    assert!(done.out.ends_with("  -\n2000\n"), "{}", done.out);
    capture.saw(MARKER.as_bytes())
}

#[test]
fn what_nfs_carries_is_read_by_nobody_between_the_hosts() {
    let (mut lab, mut others) = (Lab::new(20), Vec::new());
    for n in 1..=2 {
        others.push(lab.join(n));
    }
    lab.rpc_tls = Some("off");
    lab.serve(STORE);
    let lines = format!("EXEC yes {MARKER} | head -n 20000 >/secret\nRUN true\n");
    others[0].create("box", &lines).ok();
    let (seen, bytes) = read_and_write(&others[0]);
    assert!(
        seen,
        "{bytes} bytes, and nothing is seen without TLS either"
    );
    // Unless told otherwise, it is private; and where it has to be.
    for (host, how) in [(&others[1], None), (&others[0], Some("require"))] {
        lab.kill();
        lab.rpc_tls = how;
        lab.serve(STORE);
        let (seen, bytes) = read_and_write(host);
        assert!(
            !seen && bytes > 100_000,
            "{how:?}: {bytes} bytes, seen: {seen}"
        );
    }
}

#[test]
fn a_writer_goes_on_over_tls_and_never_without() {
    let (mut lab, mut hosts) = (Lab::new(30), Vec::new());
    hosts.push(lab.join(1));
    lab.rpc_tls = Some("require");
    lab.serve(STORE);
    hosts[0].create("box", "RUN true\n").ok();
    let capture = Capture::of(&hosts[0].net);
    let writer = Writer::start(&hosts[0], "box", "w");
    for _ in 0..3 {
        lab.kill();
        std::thread::sleep(Duration::from_millis(200));
        lab.serve(STORE);
        writer.goes_on();
    }
    // One that has no TLS any more may be anybody.
    lab.kill();
    lab.rpc_tls = Some("off");
    let before = writer.done();
    lab.serve(STORE);
    std::thread::sleep(Duration::from_secs(3));
    // What was acknowledged before the server was killed may have been noted since.
    assert!(writer.done() <= before + 1, "it wrote without TLS");
    lab.kill();
    lab.rpc_tls = Some("require");
    lab.serve(STORE);
    writer.goes_on();
    assert!(writer.end() > 0);
    // As the header of each WRITE has it: program, version, procedure.
    let write = [100_003, 3, 7u32].map(u32::to_be_bytes).concat();
    let (seen, bytes) = capture.saw(&write);
    assert!(!seen && bytes > 100_000, "{bytes} bytes");
}

/// A command with these settings besides.
fn with(host: &Host, settings: &str, how: Option<&str>, args: &[&str]) -> Done {
    let config = host.world.write("conf", settings);
    let mut command = host.command(args);
    command.env("POCKER_CONFIG", config);
    if let Some(how) = how {
        command.env("POCKER_RPC_TLS", how);
    }
    run(command)
}

#[test]
fn what_one_side_wants_and_the_other_has_not_is_said_with_what_mends_it() {
    let (mut lab, mut hosts) = (Lab::new(20), Vec::new());
    hosts.push(lab.join(1));
    let host = &hosts[0];
    lab.rpc_tls = Some("off");
    lab.serve(STORE);
    host.create("box", "RUN echo hello\n").ok();
    let done = with(host, "rpc_tls = \"require\"\n", None, &["run", "box"]);
    done.fails(&[
        "the server has no TLS for NFS",
        "hint: have a certificate there",
    ]);
    lab.kill();
    lab.rpc_tls = Some("require");
    lab.serve(STORE);
    let done = with(host, "", Some("off"), &["run", "box"]);
    done.fails(&["the server wants TLS for NFS", "hint: leave out --rpc-tls"]);
    assert_eq!(host.pocker(&["run", "box"]).ok().out, "hello\n");
    lab.kill();
    lab.rpc_tls = Some("mutual");
    lab.serve(STORE);
    let done = host.pocker(&["run", "box"]);
    done.fails(&[
        "with a certificate of this host, which has none",
        "init-tls --host",
    ]);
    // Of another authority, and of this one.
    let tls = |dir: &str| lab.world.path(dir).display().to_string();
    for dir in [tls("other"), tls("tls")] {
        if dir.ends_with("other") {
            lab.pocker(&["serve", "init-tls", STORE, "--dir", &dir])
                .ok();
        }
        let made = lab.pocker(&["serve", "init-tls", "--host", "a.test", "--dir", &dir]);
        assert!(made.ok().out.contains("host-a.test.key"));
        let settings = format!(
            "remote_cert = \"{dir}/host-a.test.pem\"\nremote_key = \"{dir}/host-a.test.key\"\n"
        );
        let done = with(host, &settings, None, &["run", "box"]);
        match dir.ends_with("other") {
            true => drop(done.fails(&["does not take this host for NFS over TLS"])),
            false => assert_eq!(done.ok().out, "hello\n"),
        }
    }
    // Who has no certificate to show has nothing to demand.
    let done = lab.world.pocker(&[
        "serve",
        "--listen",
        "127.0.0.1:7049",
        "--rpc-tls",
        "require",
    ]);
    done.fails(&["no certificate to show", "init-tls"]);
}

#[test]
fn a_host_whose_certificate_is_revoked_is_out_and_the_other_goes_on() {
    let (mut lab, mut hosts) = (Lab::new(20), Vec::new());
    let dir = lab.world.path("tls").display().to_string();
    let certs =
        |lab: &Lab, args: &[&str]| lab.pocker(&[&["serve"], args, &["--dir", &dir]].concat());
    for (n, name) in [(1, "a.test"), (2, "b.test")] {
        let host = lab.join(n);
        certs(&lab, &["init-tls", "--host", name]).ok();
        let own = format!(
            "remote_cert = \"{dir}/host-{name}.pem\"\nremote_key = \"{dir}/host-{name}.key\"\n"
        );
        host.world.write("own.conf", &own);
        hosts.push(host);
    }
    lab.rpc_tls = Some("mutual");
    lab.serve(STORE);
    hosts[0].create("box", "RUN echo hello\n").ok();
    let out = Writer::start(&hosts[0], "box", "out");
    let other = Writer::start(&hosts[1], "box", "other");
    certs(&lab, &["revoke-cert", "c.test"]).fails(&["no certificate", "hint: `pocker serve certs"]);
    let done = certs(&lab, &["revoke-cert", "a.test"]).ok();
    assert!(
        done.out
            .starts_with("a.test: its certificate is revoked, and"),
        "{}",
        done.out
    );
    let listed = certs(&lab, &["certs", "--json"]).ok().out;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert!(listed[0]["revoked"].is_i64() && listed[1]["revoked"].is_null());
    until("its connections end", || {
        lab.log()
            .contains("its certificate was revoked: the connection ends")
    });
    let before = out.done();
    let done = hosts[0].pocker(&["run", "box"]);
    done.fails(&[
        "has revoked the certificate of this host",
        "init-tls --host",
    ]);
    other.goes_on();
    // What was acknowledged before may have been noted since.
    assert!(out.done() <= before + 1, "it goes on");
    assert_eq!(out.lost(), 0);
    assert_eq!(hosts[1].pocker(&["run", "box"]).ok().out, "hello\n");
    // The next one is good, and a server that was started again knows which is not.
    certs(&lab, &["init-tls", "--host", "a.test"]).ok();
    out.goes_on();
    lab.kill();
    lab.serve(STORE);
    assert_eq!(hosts[0].pocker(&["run", "box"]).ok().out, "hello\n");
    other.goes_on();
    out.goes_on();
    assert!(out.end() > 0 && other.end() > 0);
}

#[test]
fn another_stack_of_tls_shakes_hands_and_reads() {
    let (mut lab, mut hosts) = (Lab::new(20), Vec::new());
    hosts.push(lab.join(1));
    let dir = lab.world.path("tls").display().to_string();
    lab.pocker(&["serve", "init-tls", "--host", "a.test", "--dir", &dir])
        .ok();
    let peer = |alpn: &str, shown: &[String]| {
        let mut command = Command::new("nsenter");
        let net = format!("--net=/run/netns/{}", hosts[0].net);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/peer.py");
        command.args([&net, "python3", script, STORE]);
        command.arg(hosts[0].ca.clone()).arg(alpn).args(shown);
        run(command)
    };
    let host = [
        format!("{dir}/host-a.test.pem"),
        format!("{dir}/host-a.test.key"),
    ];
    let other = lab.world.path("other").display().to_string();
    sh(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a.test -days 2 \
         -keyout {other}.key -out {other}.pem 2>&1"
    ));
    let other = [format!("{other}.pem"), format!("{other}.key")];
    for (how, bare) in [("require", true), ("mutual", false)] {
        lab.rpc_tls = Some(how);
        lab.serve(STORE);
        // GETATTR without TLS is too weak, and TLS comes first and once.
        let denied = |xid, why| format!("{xid:08x}{:08x}{:08x}{:08x}{why:08x}", 1, 1, 1);
        let all = |alpn| {
            format!(
                "plain {}\nlate {}\nalpn {alpn}\nagain {}\nkind 2\n",
                denied(1, 5),
                denied(2, 1),
                denied(8, 1)
            )
        };
        assert_eq!(peer("sunrpc", &host).ok().out, all("sunrpc"), "{how}");
        assert_eq!(peer("-", &host).ok().out, all("None"), "as Linux's does");
        peer("h2", &host).fails(&["SSL"]);
        peer("sunrpc", &other).fails(&["SSL"]);
        let done = peer("sunrpc", &[]);
        match bare {
            true => assert_eq!(done.ok().out, all("sunrpc")),
            false => drop(done.fails(&["SSL"])),
        }
        lab.kill();
    }
    lab.serve(STORE);
}
