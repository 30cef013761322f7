//! The reply cache: outcomes of calls that must not run twice.

use crate::types::{Changed, OnceKey};
use std::collections::{HashMap, VecDeque};

/// Outcomes kept for a tree. More than a client has outstanding on it: calls of these kinds
/// block the thread that makes them, and a retransmission comes before its thread makes another.
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
