//! What came from a peer, cut into records (RFC 5531 §11).
//!
//! Small records are answered where they lie. A large one gets a buffer of its own, which
//! grows with what arrives, never with what was announced, and is filled only once the
//! connection holds memory for it.

use super::room::Held;
use super::spares::Spares;
use crate::rpc::{FRAGMENTS_MAX, LAST_FRAGMENT, RECORD_MAX};
use bytes::BufMut;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Read from the socket at once.
const READ_AHEAD: usize = 64 << 10;
/// A record longer than this that is not here as a whole gets a buffer of its own.
const LARGE: usize = 16 << 10;
/// Claimed beside a large record, so that most calls need no more for their reply.
const BESIDE: usize = 1 << 10;
/// A large record's buffer at first; it doubles as it fills.
const FIRST_PART: usize = 64 << 10;
/// Bytes of a record mark.
const MARK: usize = 4;

/// A record that came in parts.
struct Parts {
    record: Vec<u8>,
    /// Of the fragment at hand.
    missing: usize,
    last: bool,
    fragments: usize,
    claim: Option<Claim>,
}

/// Memory for a record, and how many bytes of it.
struct Claim {
    held: Held,
    bytes: usize,
}

impl Parts {
    /// What must be claimed before more of the record is taken: all of it where its length
    /// is known, and else at most twice, as what holds some and waits for more can wait
    /// for ever.
    fn wants(&self) -> Option<usize> {
        let total = self.record.len() + self.missing;
        let claimed = self.claim.as_ref().map_or(0, |claim| claim.bytes);
        if claimed >= total + BESIDE {
            return None;
        }
        let whole = match self.last {
            true => total,
            false if total <= LARGE => LARGE,
            false => RECORD_MAX,
        };
        Some(whole + BESIDE)
    }
}

/// Where the record at hand is.
enum Whole {
    /// In the buffer, from `start`, so many bytes behind the mark.
    Here(usize),
    Own(Vec<u8>, Option<Claim>),
}

pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    parts: Option<Parts>,
    whole: Option<Whole>,
    ended: bool,
    spares: Arc<Spares>,
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Inbox {
    pub fn new(spares: Arc<Spares>) -> Inbox {
        Inbox {
            buffer: Vec::new(),
            start: 0,
            parts: None,
            whole: None,
            ended: false,
            spares,
        }
    }

    /// True where a whole record is at hand: [`Inbox::record`] is it.
    pub fn find(&mut self) -> io::Result<bool> {
        while self.whole.is_none() {
            if self.parts.is_some() {
                if !self.gather()? {
                    return Ok(false);
                }
                continue;
            }
            let here = &self.buffer[self.start..];
            let Some(mark) = mark(here) else {
                return Ok(false);
            };
            let (len, last) = mark;
            if len > RECORD_MAX {
                return Err(invalid("a record longer than allowed"));
            }
            if last && here.len() >= MARK + len {
                self.whole = Some(Whole::Here(len));
            } else if last && len <= LARGE {
                return Ok(false);
            } else {
                self.parts = Some(Parts {
                    record: self.spares.take(len),
                    missing: len,
                    last,
                    fragments: 1,
                    claim: None,
                });
                self.start += MARK;
            }
        }
        Ok(true)
    }

    /// Moves what is in the buffer to the record in parts; false where more must come.
    fn gather(&mut self) -> io::Result<bool> {
        let Some(parts) = &mut self.parts else {
            return Ok(true);
        };
        if parts.wants().is_some() {
            return Ok(false);
        }
        let here = &self.buffer[self.start..];
        let take = parts.missing.min(here.len());
        parts.record.extend_from_slice(&here[..take]);
        parts.missing -= take;
        self.start += take;
        if parts.missing > 0 {
            return Ok(false);
        }
        if parts.last {
            self.whole = self.parts.take().map(|p| Whole::Own(p.record, p.claim));
            return Ok(true);
        }
        let Some((len, last)) = mark(&self.buffer[self.start..]) else {
            return Ok(false);
        };
        parts.fragments += 1;
        if parts.record.len() + len > RECORD_MAX {
            return Err(invalid("a record longer than allowed"));
        }
        if parts.fragments > FRAGMENTS_MAX {
            return Err(invalid("a record of too many fragments"));
        }
        self.start += MARK;
        (parts.missing, parts.last) = (len, last);
        Ok(true)
    }

    /// Bytes to be claimed before more of the record at hand is taken. What was claimed
    /// before is given back: who waits must not hold.
    pub fn wants(&mut self) -> Option<usize> {
        let parts = self.parts.as_mut()?;
        let wants = parts.wants()?;
        parts.claim = None;
        Some(wants)
    }

    /// What [`Inbox::wants`] wanted.
    pub fn claim(&mut self, held: Held, bytes: usize) {
        if let Some(parts) = &mut self.parts {
            parts.claim = Some(Claim { held, bytes });
        }
    }

    /// Adds to what is claimed for the whole record at hand.
    pub fn add(&mut self, held: Held) {
        if let Some(Whole::Own(_, Some(claim))) = &mut self.whole {
            claim.bytes += held.bytes();
            claim.held.add(held);
        }
    }

    /// Bytes claimed for the whole record at hand.
    pub fn claimed(&self) -> usize {
        match &self.whole {
            Some(Whole::Own(_, Some(claim))) => claim.bytes,
            _ => 0,
        }
    }

    /// The record at hand, without its marks.
    pub fn record(&self) -> &[u8] {
        match &self.whole {
            Some(Whole::Here(len)) => &self.buffer[self.start + MARK..self.start + MARK + len],
            Some(Whole::Own(record, _)) => record,
            None => &[],
        }
    }

    /// The record at hand was answered.
    pub fn done(&mut self) {
        match self.whole.take() {
            Some(Whole::Here(len)) => self.start += MARK + len,
            Some(Whole::Own(record, _)) => self.spares.give(record),
            None => {}
        }
    }

    /// The record at hand, to be answered elsewhere, and what it holds.
    pub fn take(&mut self) -> (Vec<u8>, Option<Held>) {
        let record = match self.whole.take() {
            Some(Whole::Own(record, claim)) => return (record, claim.map(|claim| claim.held)),
            other => {
                self.whole = other;
                self.record().to_vec()
            }
        };
        self.done();
        (record, None)
    }

    /// A record has begun and is not whole.
    pub fn partial(&self) -> bool {
        self.whole.is_none() && (self.parts.is_some() || self.start < self.buffer.len())
    }

    /// Nothing that came is left.
    pub fn is_empty(&self) -> bool {
        self.whole.is_none() && !self.partial()
    }

    /// The peer sends no more.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Reads what is there; true where something came. At the end of the stream inside a
    /// record this is an error.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<bool> {
        if self.ended || self.wants().is_some() {
            return Ok(false);
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        let polled = match &mut self.parts {
            Some(parts) if parts.missing > 0 && self.buffer.is_empty() => {
                let room = parts.record.capacity() - parts.record.len();
                if room < parts.missing {
                    let more = parts.record.len().max(FIRST_PART).min(parts.missing);
                    parts.record.reserve_exact(more);
                }
                let missing = parts.missing;
                let before = parts.record.len();
                let polled = poll_once(cx, stream, &mut (&mut parts.record).limit(missing));
                parts.missing -= parts.record.len() - before;
                polled
            }
            _ => {
                if self.buffer.capacity() == 0 {
                    self.buffer.reserve_exact(READ_AHEAD);
                }
                if self.buffer.len() == self.buffer.capacity() {
                    // Never a whole buffer of one record: that has a buffer of its own.
                    self.buffer.drain(..self.start);
                    self.start = 0;
                }
                let room = self.buffer.capacity() - self.buffer.len();
                poll_once(cx, stream, &mut (&mut self.buffer).limit(room))
            }
        };
        match polled {
            Poll::Ready(Ok(0)) if self.partial() => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Ok(true)
            }
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(e)) => Err(e),
            Poll::Pending => Ok(false),
        }
    }

    /// Gives back the buffers of a connection that waits for its peer.
    pub fn rest(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
            self.start = 0;
            return;
        }
        // A record that lies here and is not whole is at most LARGE.
        let here = &self.buffer[self.start..];
        if self.partial() && here.len() < MARK + LARGE && self.buffer.capacity() > MARK + LARGE {
            let mut small = Vec::with_capacity(MARK + LARGE);
            small.extend_from_slice(here);
            self.buffer = small;
            self.start = 0;
        }
    }
}

fn poll_once(
    cx: &mut Context<'_>,
    stream: &mut (impl AsyncRead + Unpin),
    into: &mut impl BufMut,
) -> Poll<io::Result<usize>> {
    pin!(stream.read_buf(into)).poll(cx)
}

/// Length of the fragment that begins here, and whether it is its record's last.
fn mark(bytes: &[u8]) -> Option<(usize, bool)> {
    let word = u32::from_be_bytes(bytes.first_chunk::<MARK>().copied()?);
    Some(((word & !LAST_FRAGMENT) as usize, word & LAST_FRAGMENT != 0))
}
