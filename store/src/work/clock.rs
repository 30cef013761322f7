//! Times that only go forward: clients use ctime and a directory's mtime as
//! change counters.

use crate::types::Time;

const NANOS: u32 = 1_000_000_000;

/// `now`, or the instant after `prev` where the clock did not pass it.
pub(super) fn bump(now: Time, prev: Time) -> Time {
    let next = if prev.nanos + 1 >= NANOS {
        Time {
            secs: prev.secs.saturating_add(1),
            nanos: 0,
        }
    } else {
        Time {
            secs: prev.secs,
            nanos: prev.nanos + 1,
        }
    };
    now.max(next)
}

/// Refuses what no file system could keep.
pub(super) fn valid(t: Time) -> bool {
    t.nanos < NANOS
}
