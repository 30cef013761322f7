//! Raw peers of the control API: a stream that was recorded, one of another version, one that says
//! nothing.

use super::lab::{Host, Lab, STORE};
use super::support::{until, wait};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Runs `f` on a thread of a host's network.
pub(super) fn at<T: Send>(net: &str, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let net = File::open(format!("/run/netns/{net}")).expect("a network");
            setns(net, CloneFlags::CLONE_NEWNET).expect("entered");
            f()
        });
        done.join().expect("no panic")
    })
}

fn server(net: &str) -> TcpStream {
    at(net, || TcpStream::connect((STORE, 2050))).expect("connected")
}

/// Carries one connection, and keeps what the client sent.
fn record(host: &Host, listener: TcpListener) -> std::thread::JoinHandle<Vec<u8>> {
    let net = host.net.clone();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut server = server(&net);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (mut from, mut to) = (
            server.try_clone().expect("dup"),
            client.try_clone().expect("dup"),
        );
        let back = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut part = [0; 16 << 10];
        while let Ok(n @ 1..) = client.read(&mut part) {
            kept.lock()
                .expect("unpoisoned")
                .extend_from_slice(&part[..n]);
            if server.write_all(&part[..n]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
        let _ = back.join();
        let kept = kept.lock().expect("unpoisoned");
        kept.clone()
    })
}

#[test]
fn a_recorded_stream_says_nothing_to_anybody_a_second_time() {
    let (lab, mut hosts) = Lab::with(20, 1);
    let host = &mut hosts[0];
    let remote = std::mem::replace(&mut host.remote, "pocker://127.0.0.1:7050".into());
    let listener = at(&host.net, || TcpListener::bind("127.0.0.1:7050")).expect("bound");
    let recorded = record(host, listener);
    host.pocker(&["volume", "create", "data"]).ok();
    let stream = recorded.join().expect("recorded");
    host.remote = remote;
    assert!(lab.pocker(&["volume", "ls"]).ok().out.contains("data"));
    host.pocker(&["volume", "rm", "data"]).ok();
    let calls = |lab: &Lab| lab.log().matches("token=\"host1\"").count();
    let before = calls(&lab);
    for cut in [stream.len(), stream.len() / 2] {
        let mut again = server(&host.net);
        let _ = again.write_all(&stream[..cut]);
        let _ = again.shutdown(Shutdown::Write);
        again
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("set");
        let mut answer = Vec::new();
        let _ = again.read_to_end(&mut answer);
    }
    until("it was refused", || lab.log().contains("no TLS"));
    assert_eq!(calls(&lab), before, "no call came of it");
    assert!(!lab.pocker(&["volume", "ls"]).ok().out.contains("data"));
}

/// A server with this lab's certificate that answers anything with that version.
fn stand_in(lab: &Lab, version: &'static str) -> std::thread::JoinHandle<()> {
    let tls = |file: &str| lab.world.path("tls").join(file);
    let config = pocker::tls::server(&tls("server.pem"), &tls("server.key")).expect("a server's");
    let listener = at(&lab.net, || TcpListener::bind((STORE, 7051))).expect("bound");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut tls = rustls::ServerConnection::new(config).expect("a connection");
        let mut stream = rustls::Stream::new(&mut tls, &mut stream);
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked);
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nx-pocker-version: {version}\r\ncontent-length: 2\r\n\r\n[]"
        );
        let _ = stream.flush();
        let _ = stream.read(&mut asked);
    })
}

#[test]
fn another_version_on_either_side_is_told_of() {
    let (lab, mut hosts) = Lab::with(20, 1);
    let host = &mut hosts[0];
    let remote = std::mem::replace(&mut host.remote, format!("pocker://{STORE}:7051"));
    let stand_in = stand_in(&lab, "9.9.9");
    let done = host.pocker(&["ls"]);
    stand_in.join().expect("no panic");
    host.remote = remote;
    let said = done.fails(&["hint: "]).err;
    insta::assert_snapshot!(said.replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r"
    error: the server at pocker://10.99.0.1:7051 is pocker 9.9.9, and this command pocker VERSION
    hint: have the same version on all hosts: `pocker version`
    ");
    // And the server is asked by another version.
    let config = pocker::tls::client(&host.ca).expect("a client's");
    let name = STORE.try_into().expect("a name");
    let mut tls = rustls::ClientConnection::new(config, name).expect("a connection");
    let mut socket = server(&host.net);
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    let token = std::fs::read_to_string(&host.token).expect("a token");
    write!(
        stream,
        "GET /v1/pockers HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-pocker-version: 0.0.1\r\nauthorization: Bearer {}\r\n\r\n",
        token.trim()
    )
    .expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains("and this command 0.0.1") && answer.contains("hint"),
        "{answer}"
    );
    host.pocker(&["ls"]).ok();
}

#[test]
fn who_says_nothing_keeps_nobody_from_being_heard() {
    let (_lab, hosts) = Lab::with(20, 2);
    let silent: Vec<TcpStream> = (0..300)
        .map_while(|_| at(&hosts[1].net, || TcpStream::connect((STORE, 2050)).ok()))
        .collect();
    assert!(silent.len() > 250, "{}", silent.len());
    let mut child = hosts[0].command(&["ls"]);
    wait(child.spawn().expect("pocker starts")).ok();
}
