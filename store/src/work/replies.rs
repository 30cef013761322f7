//! The reply cache: outcomes of calls that must not run twice.

use crate::types::{Changed, OnceKey};
use std::collections::{HashMap, VecDeque};

/// Outcomes kept for a tree. A client never has more calls outstanding than its slot
/// table: 65 536 by Linux's limit for one transport shared by all its threads, but a call is
/// answered, retransmitted or given up in order, and we read no further than the engine's bound on
/// calls in flight, which is below this.
pub const REPLIES: usize = 4096;

/// A ring; the oldest outcome goes first.
#[derive(Default)]
pub(super) struct Replies {
    known: HashMap<OnceKey, Changed>,
    order: VecDeque<OnceKey>,
    /// Recorded ever; modulo [`REPLIES`] it is the row's slot.
    count: u64,
}

impl Replies {
    pub fn get(&self, key: &OnceKey) -> Option<&Changed> {
        self.known.get(key)
    }

    /// The sequence number to write the row under.
    pub fn record(&mut self, key: OnceKey, outcome: Changed) -> u64 {
        let seq = self.count;
        self.restore(seq, key, outcome);
        seq
    }

    /// In order of `seq`, from rows.
    pub fn restore(&mut self, seq: u64, key: OnceKey, outcome: Changed) {
        if self.order.len() == REPLIES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(key, outcome);
        self.order.push_back(key);
        self.count = seq + 1;
    }
}
