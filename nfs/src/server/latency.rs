//! How long calls took, in buckets whose bounds double: cheap to count, exact to a factor
//! of two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of 1 µs, 2 µs, … 2^22 µs (4 s), and one bucket for what took longer.
pub const BUCKETS: usize = 24;

#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

/// A reading of [`Latency`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Calls that took less than 2^i µs and not less than the bucket before; the last one
    /// has no bound.
    pub buckets: [u64; BUCKETS],
    /// All of them together.
    pub total: Duration,
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    // 0 for less than 1 µs, 1 for less than 2, and so on.
    ((u64::BITS - micros.leading_zeros()) as usize).min(BUCKETS - 1)
}

impl Latency {
    pub fn count(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(took)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn read(&self) -> Times {
        Times {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed)),
            total: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }
}

impl Times {
    pub fn calls(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn mean(&self) -> Duration {
        let nanos = self.total.as_nanos() / u128::from(self.calls().max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What `share` (0 to 1) of the calls stayed below: the bound of the bucket that holds it.
    pub fn below(&self, share: f64) -> Duration {
        let wanted = (self.calls() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (i, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(1 << i);
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_below_its_buckets_bound() {
        for (micros, expected) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1 << 22, 23)] {
            assert_eq!(bucket(Duration::from_micros(micros)), expected, "{micros}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn shares_are_told_by_the_bound_that_holds_them() {
        let latency = Latency::default();
        assert_eq!(latency.read().below(0.5), Duration::ZERO);
        for _ in 0..98 {
            latency.count(Duration::from_micros(5));
        }
        latency.count(Duration::from_micros(100));
        latency.count(Duration::from_micros(100));
        let times = latency.read();
        assert_eq!(times.calls(), 100);
        assert_eq!(times.below(0.5), Duration::from_micros(8));
        assert_eq!(times.below(0.98), Duration::from_micros(8));
        assert_eq!(times.below(0.99), Duration::from_micros(128));
        assert_eq!(times.mean(), Duration::from_nanos(6_900));
    }
}
