//! What transfers that receive may hold together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So many digests, of several receipts: each is remembered to its receipt's end.
pub struct Room {
    pub most: usize,
    taken: AtomicUsize,
}

impl Room {
    pub const fn new(most: usize) -> Room {
        Room {
            most,
            taken: AtomicUsize::new(0),
        }
    }

    /// Room for one more; false where there is none.
    pub(super) fn take(&self) -> bool {
        let more = |taken: usize| (taken < self.most).then_some(taken + 1);
        let order = Ordering::Relaxed;
        self.taken.fetch_update(order, order, more).is_ok()
    }

    pub(super) fn give(&self, count: usize) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }
}
