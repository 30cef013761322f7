//! How long a peer may stall.

use super::room::Room;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// A peer that takes this many bytes of its replies is reading.
const READING: u64 = 16 << 10;
/// Looks at whether others wait for memory, in each time that a peer is given then.
const LOOKS: u32 = 8;

/// Watches for a record that does not end and for replies that are not read. The clock
/// is looked at only when the connection has nothing to do.
pub(super) struct Patience {
    limit: Duration,
    /// For who holds what others wait for.
    pressed: Duration,
    record: Option<Instant>,
    /// Since when replies wait, and how much was written by then.
    replies: Option<(Instant, u64)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub fn new(limit: Duration, pressed: Duration) -> Patience {
        Patience {
            limit,
            pressed: pressed.min(limit),
            record: None,
            replies: None,
            timer: None,
        }
    }

    /// The connection waits: for the rest of a record where `partial`, for the peer to read
    /// where `unread`, which is what was written so far. Ready when it has waited enough,
    /// which is sooner where it has a share of the server's memory for which others wait.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        partial: bool,
        unread: Option<u64>,
        room: &Room,
    ) -> Poll<io::Error> {
        if !partial && unread.is_none() {
            (self.record, self.replies) = (None, None);
            return Poll::Pending;
        }
        let now = Instant::now();
        self.record = partial.then(|| self.record.unwrap_or(now));
        self.replies = unread.map(|written| match self.replies {
            Some(since) if written < since.1 + READING => since,
            _ => (now, written),
        });
        let since = self.replies.map(|(since, _)| since);
        let first = self.record.into_iter().chain(since).min().unwrap_or(now);
        let mut until = first + self.limit;
        if until <= now || first + self.pressed <= now && room.pressed() {
            let why = if self.record == Some(first) {
                "the rest of a record never came"
            } else {
                "replies are not read"
            };
            return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        if room.draws() {
            // Whether memory is short is looked at again and again from then on.
            let look = (first + self.pressed).max(now + self.pressed / LOOKS);
            until = until.min(look);
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() > until || timer.is_elapsed() {
            timer.as_mut().reset(until);
        }
        // Woken then at the latest; an earlier deadline only means to look again.
        if timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(until);
            let _ = timer.as_mut().poll(cx);
        }
        Poll::Pending
    }

    /// A record ended: the next one has its own time.
    pub fn record_ended(&mut self) {
        self.record = None;
    }
}
