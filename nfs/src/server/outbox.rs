//! Replies on their way to a peer, in the order in which they came to be.

use super::room::Held;
use super::spares::Spares;
use crate::failpoint;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// A reply up to this is copied behind the one before, so that one write takes both.
const SMALL: usize = 8 << 10;
/// Sent bytes that the arena keeps before it is moved together: a peer that always leaves
/// something unread must not make it grow for ever.
const MOVE: usize = 256 << 10;
/// Kept between batches; a larger buffer goes back.
const KEEP: usize = 64 << 10;

enum Piece {
    /// Of `arena`, up to this place.
    Arena(usize),
    Own {
        bytes: Vec<u8>,
        sent: usize,
        _held: Held,
    },
}

#[derive(Default)]
pub(super) struct Outbox {
    /// Small replies, one behind the other.
    pub arena: Vec<u8>,
    arena_sent: usize,
    /// Up to where `pieces` speaks of `arena`.
    queued: usize,
    pieces: VecDeque<Piece>,
    /// What the replies in `arena` hold, each until the arena was sent to that place.
    held: VecDeque<(usize, Held)>,
    /// What the stream took may lie in it: TLS keeps what the peer does not take yet.
    unflushed: bool,
    /// Bytes of replies that were written, ever.
    pub written: u64,
    spares: Arc<Spares>,
}

impl Outbox {
    pub fn new(spares: Arc<Spares>) -> Outbox {
        Outbox {
            spares,
            ..Outbox::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && !self.unflushed
    }

    /// Bytes in memory that wait to be written, those held by calls left out.
    pub fn waiting(&self) -> usize {
        self.arena.len() - self.arena_sent
    }

    /// What was appended to `arena` is a reply, which holds that.
    pub fn queue(&mut self, held: Option<Held>) {
        let to = self.arena.len();
        if let Some(held) = held {
            self.held.push_back((to, held));
        }
        if to == self.queued {
            return;
        }
        self.queued = to;
        match self.pieces.back_mut() {
            Some(Piece::Arena(end)) => *end = to,
            _ => self.pieces.push_back(Piece::Arena(to)),
        }
    }

    /// A reply that was made elsewhere.
    pub fn push(&mut self, bytes: Vec<u8>, held: Held) {
        if bytes.len() <= SMALL {
            self.arena.extend_from_slice(&bytes);
            self.spares.give(bytes);
            return self.queue(Some(held));
        }
        self.pieces.push_back(Piece::Own {
            bytes,
            sent: 0,
            _held: held,
        });
    }

    /// Writes what the peer takes; true where it took something.
    pub fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> io::Result<bool> {
        let before = self.written;
        while let Some(piece) = self.pieces.front_mut() {
            let rest = match piece {
                Piece::Arena(end) => &self.arena[self.arena_sent..*end],
                Piece::Own { bytes, sent, .. } => &bytes[*sent..],
            };
            let left = rest.len();
            let sent = match poll_one(cx, stream, rest) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(sent) => sent?,
            };
            self.written += sent as u64;
            match piece {
                Piece::Arena(_) => self.arena_sent += sent,
                Piece::Own { sent: at, .. } => *at += sent,
            }
            if sent == left
                && let Some(Piece::Own { bytes, .. }) = self.pieces.pop_front()
            {
                self.spares.give(bytes);
            }
        }
        let was_unflushed = self.unflushed;
        self.unflushed |= self.written != before;
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut *stream).poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        while self
            .held
            .front()
            .is_some_and(|(end, _)| *end <= self.arena_sent)
        {
            self.held.pop_front();
        }
        if self.pieces.is_empty() {
            self.arena.clear();
            (self.arena_sent, self.queued) = (0, 0);
            self.held.clear();
            if self.arena.capacity() > KEEP {
                self.arena = Vec::new();
            }
        } else if self.arena_sent >= MOVE {
            self.move_together();
        }
        Ok(self.written != before || was_unflushed && !self.unflushed)
    }

    /// Forgets what was sent of the arena.
    fn move_together(&mut self) {
        let sent = std::mem::take(&mut self.arena_sent);
        self.arena = self.arena[sent..].to_vec();
        self.queued -= sent;
        for piece in &mut self.pieces {
            if let Piece::Arena(end) = piece {
                *end -= sent;
            }
        }
        for (end, _) in &mut self.held {
            *end -= sent;
        }
    }

    /// Gives back the buffers of a connection that waits for its peer.
    pub fn rest(&mut self) {
        if self.pieces.is_empty() {
            self.arena = Vec::new();
        }
    }
}

/// One write, between points where a test breaks the connection or ends the process.
fn poll_one<S: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    failpoint::hit("reply.write.before")?;
    let torn = failpoint::hit("reply.write.tear").is_err();
    let bytes = if torn {
        &bytes[..bytes.len() / 2]
    } else {
        bytes
    };
    let polled = Pin::new(&mut *stream).poll_write(cx, bytes);
    if torn {
        failpoint::hit("reply.write.torn")?;
    }
    if polled.is_ready() {
        failpoint::hit("reply.write.after")?;
    }
    polled
}
