//! The clock, handed to everything that must not read one itself.

use pocker_store::types::Time;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now; the epoch itself where the clock is before it.
pub fn now() -> Time {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => Time {
            secs: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
            nanos: d.subsec_nanos(),
        },
        Err(_) => Time { secs: 0, nanos: 0 },
    }
}
