//! A stream of bytes as records: the server's reader and the client's, beside a plain one.

use crate::rpc::{FRAGMENTS_MAX, LAST_FRAGMENT, RECORD_MAX, read_record};
use crate::server::fuzz::{Inbox, Room, Spares};
use crate::server::{Limits, Pool, SERVER_HELD};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, ReadBuf};

/// Zero bytes behind the stream, in units of this many: a long record in a short input.
const TAIL_UNIT: usize = 8;

/// One input: how the stream is cut into reads, what is behind it, and the stream.
struct Input<'a> {
    cut: u8,
    tail: usize,
    stream: &'a [u8],
}

fn input(data: &[u8]) -> Option<Input<'_>> {
    let ([cut, high, low], stream) = data.split_first_chunk()?;
    Some(Input {
        cut: *cut,
        tail: usize::from(u16::from_be_bytes([*high, *low])) * TAIL_UNIT,
        stream,
    })
}

/// Heap that a stream may take, whatever lengths it announces: both readers keep what came,
/// grown by doubling, beside the copy made here; one read's buffer; the pool's books.
pub fn records_bound(data: &[u8]) -> usize {
    let came = input(data).map_or(0, |i| i.stream.len() + i.tail);
    (512 << 10) + 6 * came
}

/// * Both readers find the records that a plain one finds, however the stream is cut, and end
///   with an error where it does.
/// * What a record claims is never more than the longest record.
pub fn records(data: &[u8]) {
    let Some(input) = input(data) else { return };
    let mut stream = input.stream.to_vec();
    stream.resize(stream.len() + input.tail, 0);
    let plain = plain(&stream);
    server(&stream, input.cut, &plain);
    client(&stream, input.cut, &plain);
}

struct Plain {
    /// Where each record's pieces are.
    records: Vec<Vec<std::ops::Range<usize>>>,
    /// The stream does not end between two records.
    bad: bool,
}

fn plain(stream: &[u8]) -> Plain {
    let mut records = Vec::new();
    let (mut pieces, mut len, mut at) = (Vec::new(), 0, 0);
    let bad = |records| Plain { records, bad: true };
    loop {
        let Some(mark) = stream[at..].first_chunk() else {
            let bad = at < stream.len() || !pieces.is_empty();
            return Plain { records, bad };
        };
        let mark = u32::from_be_bytes(*mark);
        let part = (mark & !LAST_FRAGMENT) as usize;
        at += 4;
        len += part;
        if len > RECORD_MAX || pieces.len() == FRAGMENTS_MAX {
            return bad(records);
        }
        if stream.len() - at < part {
            return bad(records);
        }
        pieces.push(at..at + part);
        at += part;
        if mark & LAST_FRAGMENT != 0 {
            records.push(std::mem::take(&mut pieces));
            len = 0;
        }
    }
}

fn same(record: &[u8], pieces: &[std::ops::Range<usize>], stream: &[u8]) -> bool {
    let mut rest = record;
    for piece in pieces {
        match rest.strip_prefix(&stream[piece.clone()]) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// The stream in pieces; a wait after each.
struct Cut<'a> {
    rest: &'a [u8],
    cut: u8,
    turn: u32,
    waits: bool,
}

impl AsyncRead for Cut<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.turn += 1;
        if self.waits && self.turn.is_multiple_of(2) {
            return Poll::Pending;
        }
        let hash = self.turn.wrapping_mul(0x9e37_79b9) ^ u32::from(self.cut) << 7;
        let most = match self.cut % 4 {
            0 => usize::MAX,
            1 => 1 + (hash >> 20) as usize % 7,
            2 => 1 + (hash >> 8) as usize % 40_000,
            _ => [1, 4, 4096, 16 << 10][hash as usize % 4],
        };
        let n = most.min(self.rest.len()).min(buf.remaining());
        let (now, later) = self.rest.split_at(n);
        buf.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

fn server(stream: &[u8], cut: u8, plain: &Plain) {
    let mut inbox = Inbox::new(Arc::new(Spares::default()));
    let pool = Arc::new(Pool::new(SERVER_HELD));
    let room = Room::new(&Limits::default(), &pool);
    let mut from = Cut {
        rest: stream,
        cut,
        turn: 0,
        waits: true,
    };
    let cx = &mut Context::from_waker(Waker::noop());
    let mut found = 0;
    let ended = loop {
        match inbox.find() {
            Err(_) => break false,
            Ok(true) => {
                let pieces = plain.records.get(found);
                let right = pieces.is_some_and(|p| same(inbox.record(), p, stream));
                assert!(right, "record {found} of {}", plain.records.len());
                found += 1;
                if found % 3 == 0 {
                    drop(inbox.take());
                } else {
                    inbox.done();
                }
                continue;
            }
            Ok(false) => {}
        }
        if let Some(bytes) = inbox.wants() {
            assert!(bytes <= RECORD_MAX + (4 << 10), "a claim of {bytes} bytes");
            match room.try_hold(bytes) {
                Some(held) => inbox.claim(held, bytes),
                None => panic!("one connection's record does not fit its share"),
            }
            continue;
        }
        if inbox.ended() {
            break true;
        }
        match inbox.poll_fill(cx, &mut from) {
            Ok(true) => {}
            Ok(false) => inbox.rest(),
            Err(_) => break false,
        }
    };
    assert_eq!(found, plain.records.len(), "records found");
    assert_eq!(ended, !plain.bad, "how the stream ends");
    drop(inbox);
    assert_eq!(pool.held(), 0, "memory still held");
}

fn client(stream: &[u8], cut: u8, plain: &Plain) {
    let mut from = Cut {
        rest: stream,
        cut,
        turn: 0,
        waits: false,
    };
    let cx = &mut Context::from_waker(Waker::noop());
    let mut record = Vec::new();
    let mut found = 0;
    loop {
        let read = {
            let reading = pin!(read_record(&mut from, &mut record, RECORD_MAX));
            match reading.poll(cx) {
                Poll::Ready(read) => read,
                Poll::Pending => panic!("it waits for what is there"),
            }
        };
        match read {
            Ok(true) => {
                let pieces = plain.records.get(found);
                assert!(pieces.is_some_and(|p| same(&record, p, stream)), "{found}");
                found += 1;
            }
            Ok(false) => break assert!(!plain.bad, "an end inside a record"),
            Err(_) => break assert!(plain.bad, "an error where none is"),
        }
    }
    assert_eq!(found, plain.records.len(), "records found");
}
