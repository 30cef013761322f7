//! Streams that are no records, or are records very slowly (RFC 5531 §11).

use super::server::{HERE, Server, mount};
use super::wire::*;
use pocker_nfs::server::SERVER_HELD;

/// As `pocker_nfs` has them: a record's longest, and its most fragments.
const RECORD_MAX: u32 = (1 << 20) + 4096;
const FRAGMENTS_MAX: usize = 4096;
/// What the kernel takes before anybody looks: both sockets' buffers at their largest (tcp(7),
/// tcp_wmem and tcp_rmem), with room to spare.
const SOCKETS: usize = 40 << 20;

fn null(xid: u32) -> Vec<u8> {
    call(xid, (NFS, 3, 0), &root(), &Xdr::new())
}

/// Sends until the server closes the connection, which it must do before so many bytes.
#[track_caller]
fn closed(wire: &mut Wire, part: &[u8], most: usize) {
    let mut sent = 0;
    loop {
        match wire.try_send(part) {
            Ok(()) => sent += part.len(),
            // Neither read nor closed.
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("{sent} bytes: {e}"),
            Err(_) => return,
        }
        assert!(sent < most, "{sent} bytes were taken");
    }
}

#[test]
fn records_longer_than_any_call_end_their_connection_and_take_no_memory() {
    let server = Server::start();
    let mut other = Wire::tcp(HERE);
    other.lives();
    let before = server.peak();
    for mark in [
        LAST - 1,
        u32::MAX,
        LAST | (RECORD_MAX + 1),
        RECORD_MAX + 1,
        1 << 30,
        LAST | 1 << 28,
    ] {
        for unix in [false, true] {
            let mut wire = match unix {
                true => server.unix(),
                false => Wire::tcp(HERE),
            };
            // What was whole before it is answered.
            wire.send(&marked(&null(1)));
            wire.send(&mark.to_be_bytes());
            assert_eq!(wire.reply(1), Said::Success(Vec::new()));
            assert_eq!(wire.record(), None, "mark {mark:#x}");
        }
    }
    // The longest one is taken, and its call fails alone.
    let mut longest = null(2);
    longest.resize(RECORD_MAX as usize, 0);
    other.send(&marked(&longest));
    assert_eq!(other.reply(2), Said::Success(Vec::new()));
    other.lives();
    // Together in fragments, each of which is short enough.
    let mut wire = Wire::tcp(HERE);
    let half = [
        &(RECORD_MAX / 2 + 1).to_be_bytes()[..],
        &vec![0; RECORD_MAX as usize / 2 + 1],
    ];
    closed(&mut wire, &half.concat(), 2 * RECORD_MAX as usize + SOCKETS);
    other.lives();
    let grown = server.peak() - before;
    assert!(grown < 32 << 20, "{grown} bytes");
}

#[test]
fn fragments_without_end_end_their_connection() {
    let server = Server::start();
    let mut other = Wire::tcp(HERE);
    let before = server.peak();
    // Empty ones, one byte each, and a whole call first.
    let parts: [&[u8]; 3] = [&[0; 4], &[0, 0, 0, 1, 9], &[0, 0, 0, 2, 0, 0]];
    for part in parts {
        let mut wire = Wire::tcp(HERE);
        let many: Vec<u8> = part.repeat(512);
        closed(&mut wire, &many, FRAGMENTS_MAX * 8 + SOCKETS);
        other.lives();
    }
    // As many as may be make one record; an empty last one is one too.
    let mut wire = Wire::tcp(HERE);
    let call = null(3);
    let mut stream = Vec::new();
    for byte in &call {
        stream.extend([0, 0, 0, 1, *byte]);
    }
    stream.extend(vec![0; 4 * (FRAGMENTS_MAX - call.len() - 1)]);
    stream.extend(LAST.to_be_bytes());
    wire.send(&stream);
    assert_eq!(wire.reply(3), Said::Success(Vec::new()));
    wire.lives();
    let grown = server.peak() - before;
    assert!(grown < 32 << 20, "{grown} bytes");
}

/// One connection waits behind each byte of a call; others are answered meanwhile, and so is
/// each of them once it goes on.
#[test]
fn a_call_that_comes_slowly_keeps_nobody_waiting() {
    let server = Server::start();
    let mut other = Wire::tcp(HERE);
    let top = mount(&mut other, &server.tree().export.path);
    let getattr = call(7, (NFS, 3, 1), &root(), &Xdr::new().opaque(&top));
    let stream = marked(&getattr);
    let mut slow: Vec<(usize, Wire)> = Vec::new();
    for sent in 0..stream.len() {
        let mut wire = match sent % 2 {
            0 => Wire::tcp(HERE),
            _ => server.unix(),
        };
        wire.send(&stream[..sent]);
        slow.push((sent, wire));
        other.lives();
    }
    // Another byte for each, over and over: no connection is taken for dead.
    for step in 1..=3 {
        for (sent, wire) in &mut slow {
            if *sent + 1 < stream.len() {
                wire.send(&stream[*sent..=*sent]);
                *sent += 1;
            }
        }
        let said = other.nfs(1, &Xdr::new().opaque(&top));
        assert_eq!(said.status(), 0, "step {step}");
    }
    for (sent, wire) in &mut slow {
        wire.send(&stream[*sent..]);
        assert_eq!(wire.reply(7).status(), 0);
    }
    // A call in one byte a segment, from its first to its last.
    for byte in &stream {
        other.send(std::slice::from_ref(byte));
    }
    assert_eq!(other.reply(7).status(), 0);
    // Whoever leaves inside a call leaves nothing behind.
    let open = server.descriptors();
    let gone = slow.len();
    for (at, (_, wire)) in slow.iter_mut().enumerate() {
        wire.send(&stream[..1 + at % (stream.len() - 1)]);
    }
    drop(slow);
    super::support::until("the connections are gone", || {
        server.descriptors() + gone <= open
    });
    other.lives();
    assert!(server.peak() < SERVER_HELD);
}
