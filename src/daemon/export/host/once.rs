//! The reply cache of a graft: in memory, so exactly once over a broken
//! connection, not over a killed server (the host's file system has no
//! transaction to put a record into).

use pocker_nfs::proto::fattr3;
use pocker_nfs::vfs::{Made, OnceKey, Wcc};
use std::collections::{HashMap, VecDeque};

/// Replies remembered a graft: more than one client has outstanding at a time.
const KEPT: usize = 1024;

/// What a call that must not run twice answered.
#[derive(Clone, Copy)]
pub enum Outcome {
    Changed(Wcc),
    Made(Made),
    Renamed(Wcc, Wcc),
    Linked(fattr3, Wcc),
    /// An extended attribute.
    Set,
}

#[derive(Default)]
pub struct OnceRing {
    known: HashMap<OnceKey, Outcome>,
    order: VecDeque<OnceKey>,
}

impl OnceRing {
    pub fn get(&self, key: Option<OnceKey>) -> Option<Outcome> {
        self.known.get(&key?).copied()
    }

    pub fn put(&mut self, key: Option<OnceKey>, outcome: Outcome) {
        let Some(key) = key else { return };
        if self.known.insert(key, outcome).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}
