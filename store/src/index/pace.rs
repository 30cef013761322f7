//! Whether the index answers out of memory just now, so that a query need not be handed to a thread.
//!
//! Nobody can ask SQLite whether it would have to wait for the disk. But rows that are read one after the other lie mostly
//! in the page cache, or mostly not, and waking a thread costs several times what such a query does. So a query is let in
//! where nothing may wait as long as the last ones took no longer than memory does; the first that waits for
//! the disk is the last for a while. A cold disk is thus met by one in [`RUN`] queries at the most.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longer than a query out of memory takes, and less than a read of a fast disk.
const QUICK: Duration = Duration::from_micros(60);
/// As many in a row must have been quick.
const RUN: u32 = 64;

#[derive(Default)]
pub(super) struct Pace(AtomicU32);

impl Pace {
    pub fn is_brisk(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= RUN
    }

    /// What a query took.
    pub fn took(&self, time: Duration) {
        if time > QUICK {
            self.0.store(0, Ordering::Relaxed);
        } else if !self.is_brisk() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_brisk_after_a_run_of_quick_queries_and_until_a_slow_one() {
        let pace = Pace::default();
        assert!(!pace.is_brisk());
        for _ in 1..RUN {
            pace.took(QUICK);
        }
        assert!(!pace.is_brisk());
        pace.took(Duration::ZERO);
        assert!(pace.is_brisk());
        pace.took(QUICK);
        assert!(pace.is_brisk());
        pace.took(QUICK + Duration::from_nanos(1));
        assert!(!pace.is_brisk());
        for _ in 0..RUN {
            pace.took(QUICK);
        }
        assert!(pace.is_brisk());
    }
}
