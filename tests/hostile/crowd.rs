//! Very many connections, and those that hold as much of the server's memory as they get; and
//! one client beside them that must not notice.

use super::server::{HERE, Server, file, mount};
use super::support::until;
use super::wire::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pocker_nfs::server::{CONNECTIONS_MAX, SERVER_HELD};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

/// Connections that are made.
const CROWD: usize = 10_000;
/// Ports below 1024 that one address connects from.
const PORTS: u16 = 850;
/// Resident memory that a connection may take beside what calls hold: its task, half a small
/// record or a few small replies. (docs/limits.md)
const CONNECTION: usize = 40 << 10;
/// What calls held and gave back, which the allocator may keep in pieces.
const GIVEN_BACK: usize = SERVER_HELD / 2;
/// Resident memory beside all that: spare buffers, stacks, caches of the store.
const BESIDE: usize = 48 << 20;

fn descriptors(wanted: usize) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    let hard = hard.max(wanted as u64);
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    raised.unwrap_or_else(|e| panic!("this test needs {wanted} descriptors (ulimit -Hn): {e}"));
}

/// Connections from many addresses, none of them the client's.
fn crowd(from: u8, many: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    let mut at = 0u32;
    while all.len() < many {
        let address = Ipv4Addr::new(127, 0, from + (at / u32::from(PORTS)) as u8, 1);
        let port = 100 + (at % u32::from(PORTS)) as u16;
        at += 1;
        match connect(address, port, super::server::PORT) {
            Ok(stream) => all.push(stream),
            Err(e) => panic!("connection {} of {many}: {e}", all.len()),
        }
    }
    all
}

/// A client that does its work until it is told to stop: each call succeeds, with the result
/// that nobody else would change.
struct Neighbour {
    wire: Wire,
    top: Vec<u8>,
    log: Vec<u8>,
    round: u32,
}

impl Neighbour {
    fn new(server: &Server, mut wire: Wire) -> Neighbour {
        let top = mount(&mut wire, &server.tree().export.path);
        let log = file(&mut wire, &top, "log", 4096);
        Neighbour {
            wire,
            top,
            log,
            round: 0,
        }
    }

    fn work(&mut self) {
        self.round += 1;
        let (wire, round) = (&mut self.wire, self.round);
        let name = format!("file-{round}");
        let at = |name: &str| Xdr::new().opaque(&self.top).opaque(name.as_bytes());
        let fh = file(wire, &self.top, &name, 3000);
        let word = round.to_be_bytes();
        let write = Xdr::new()
            .opaque(&self.log)
            .u64(u64::from(round % 1000) * 4);
        assert_eq!(wire.nfs(7, &write.words(&[4, 2]).opaque(&word)).status(), 0);
        let read = Xdr::new()
            .opaque(&self.log)
            .u64(u64::from(round % 1000) * 4)
            .u32(4);
        let Said::Success(data) = wire.nfs(6, &read) else {
            panic!("READ")
        };
        assert!(data.ends_with(&word), "what was written is read");
        let read = Xdr::new().opaque(&fh).u64(0).u32(4096);
        let Said::Success(data) = wire.nfs(6, &read) else {
            panic!("READ")
        };
        assert!(data.ends_with(&[7; 3000]));
        let to = at(&name).opaque(&self.top).opaque(b"renamed");
        assert_eq!(wire.nfs(14, &to).status(), 0, "RENAME");
        assert_eq!(
            wire.nfs(3, &at(&name)).status(),
            2,
            "it is not there any more"
        );
        assert_eq!(wire.nfs(12, &at("renamed")).status(), 0, "REMOVE");
    }
}

#[test]
fn ten_thousand_connections_leave_room_for_others() {
    descriptors(CROWD + 1000);
    let server = Server::start();
    let mut neighbour = Neighbour::new(&server, Wire::tcp(HERE));
    let mut local = Neighbour::new(&server, server.unix());
    let before = server.resident();
    let quiet = server.descriptors();
    let mut all = Vec::new();
    for part in 0..20 {
        let some = crowd(10 + part * 10, CROWD / 20);
        for (at, stream) in some.iter().enumerate() {
            // A third is silent, a third has begun a call, a third has a call answered.
            let call = marked(&call(1, (NFS, 3, 0), &root(), &Xdr::new()));
            let sent = [0, 1 + at % (call.len() - 1), call.len()][at % 3];
            // Who had to give way already finds the connection closed.
            let _ = (&mut &*stream).write_all(&call[..sent]);
        }
        all.extend(some);
        neighbour.work();
        local.work();
    }
    assert_eq!(all.len(), CROWD);
    let open = server.descriptors();
    assert!(open < quiet + CONNECTIONS_MAX + 64, "{open} descriptors");
    assert!(
        open > quiet + 500,
        "{open} descriptors: the crowd is not there"
    );
    let grown = server.peak() - before;
    assert!(
        grown < CONNECTIONS_MAX * CONNECTION + BESIDE,
        "{grown} bytes"
    );
    // Who comes now finds a place, and keeps it.
    for last in 2..20 {
        let mut late = Wire::tcp(Ipv4Addr::new(127, 0, 0, last));
        late.lives();
        neighbour.work();
        late.lives();
    }
    let log = server.log();
    assert!(log.len() < 256 << 10, "{} bytes of log", log.len());
    drop(all);
    until("the crowd is gone", || server.descriptors() < quiet + 64);
    neighbour.work();
    local.work();
}

/// Puts as much into a connection as it takes at once.
fn stuff(mut stream: &TcpStream, bytes: &[u8]) -> usize {
    stream.set_nonblocking(true).expect("nonblocking");
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            // Cut off: others waited for what it held.
            Err(_) => break,
        }
    }
    sent
}

#[test]
fn half_records_and_replies_not_read_hold_no_more_than_the_server_gives() {
    const GREEDY: usize = 600;
    descriptors(4 * GREEDY);
    let server = Server::start();
    let mut neighbour = Neighbour::new(&server, Wire::tcp(HERE));
    let mut local = Neighbour::new(&server, server.unix());
    let big = file(&mut neighbour.wire, &neighbour.top, "big", 1 << 20);
    let before = server.resident();
    let greedy = crowd(30, GREEDY);
    // A WRITE of a MiB without its last byte.
    let data = vec![5; 1 << 20];
    let write = Xdr::new()
        .opaque(&big)
        .u64(0)
        .words(&[1 << 20, 0])
        .opaque(&data);
    let write = marked(&call(1, (NFS, 3, 7), &root(), &write));
    let half = &write[..write.len() - 1];
    // As many READs of a MiB as a connection may have outstanding, and no reply is read.
    let read = Xdr::new().opaque(&big).u64(0).u32(1 << 20);
    let reads = marked(&call(2, (NFS, 3, 6), &root(), &read)).repeat(64);
    let mut at = vec![0; GREEDY];
    for round in 0..30 {
        for (nth, stream) in greedy.iter().enumerate() {
            let bytes = if nth % 2 == 0 { half } else { &reads };
            at[nth] += stuff(stream, &bytes[at[nth]..]);
        }
        neighbour.work();
        local.work();
        assert_eq!(neighbour.round, round + 2 - 1);
    }
    let grown = server.peak() - before;
    assert!(
        grown < SERVER_HELD + GIVEN_BACK + GREEDY * CONNECTION + BESIDE,
        "{} MiB more than before",
        grown >> 20
    );
    assert!(grown > SERVER_HELD / 4, "{grown} bytes: nothing was held");
    // Who asks for much waits in line, and gets it.
    let mut late = Wire::tcp(Ipv4Addr::new(127, 0, 0, 7));
    let Said::Success(data) = late.nfs(6, &read) else {
        panic!("READ")
    };
    assert!(data.ends_with(&[7; 1 << 20]));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Those that are cut off come again at once.
        scope.spawn(|| {
            let mut from = 60;
            while !stop.load(Ordering::Relaxed) {
                let again = crowd(from, 50);
                for stream in &again {
                    stuff(stream, &reads);
                }
                from = if from > 200 { 60 } else { from + 1 };
            }
        });
        for _ in 0..100 {
            neighbour.work();
            local.work();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let grown = server.peak() - before;
    assert!(
        grown < SERVER_HELD + GIVEN_BACK + (GREEDY + 2 * 50) * CONNECTION + BESIDE,
        "{} MiB more than before",
        grown >> 20
    );
    drop(greedy);
    let mut late = Wire::tcp(Ipv4Addr::new(127, 0, 0, 8));
    let Said::Success(data) = late.nfs(6, &read) else {
        panic!("READ")
    };
    assert!(
        data.ends_with(&[7; 1 << 20]),
        "the half WRITEs wrote nothing"
    );
}
