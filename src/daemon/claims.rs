//! Who builds which step: one builder a key, the others wait and take its result.

use parking_lot::Mutex;
use std::collections::HashMap;

/// A right to build a step, held by a process.
#[derive(Clone, Debug)]
struct Claim {
    id: u64,
    pid: u32,
    start: Option<u64>,
    rebuild: bool,
}

/// All claims; in memory only, as builders claim again after a restart.
#[derive(Default)]
pub struct Claims {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    by_key: HashMap<String, Claim>,
    /// Processes that build, and since when, in seconds.
    builders: HashMap<u32, (Option<u64>, i64)>,
}

/// What asking for a claim gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Yours(u64),
    /// The process that has it.
    Taken(u32),
}

impl Claims {
    /// `start` is when process `pid` started, `alive` says whether a process still is the same.
    pub fn ask(
        &self,
        key: &str,
        pid: u32,
        start: Option<u64>,
        rebuild: bool,
        alive: impl Fn(u32, Option<u64>) -> bool,
    ) -> Asked {
        let mut inner = self.inner.lock();
        if let Some(held) = inner.by_key.get(key)
            && alive(held.pid, held.start)
        {
            return Asked::Taken(held.pid);
        }
        inner.next += 1;
        let id = inner.next;
        inner.by_key.insert(
            key.to_string(),
            Claim {
                id,
                pid,
                start,
                rebuild,
            },
        );
        Asked::Yours(id)
    }

    /// A process builds: until it ends, nothing finished since then is garbage.
    pub fn builder(&self, pid: u32, start: Option<u64>, now: i64) {
        self.inner
            .lock()
            .builders
            .entry(pid)
            .or_insert((start, now));
    }

    /// Since when somebody has been building.
    pub fn building_since(&self, alive: impl Fn(u32, Option<u64>) -> bool) -> Option<i64> {
        let mut inner = self.inner.lock();
        inner.builders.retain(|pid, (start, _)| alive(*pid, *start));
        inner.builders.values().map(|(_, since)| *since).min()
    }

    pub fn release(&self, id: u64) {
        self.inner.lock().by_key.retain(|_, claim| claim.id != id);
    }

    /// Whether the claim was made to build a finished step again.
    pub fn is_rebuild(&self, id: u64) -> bool {
        self.inner
            .lock()
            .by_key
            .values()
            .any(|claim| claim.id == id && claim.rebuild)
    }

    /// The step is finished, whoever had the claim.
    pub fn finished(&self, key: &str) {
        self.inner.lock().by_key.remove(key);
    }

    /// Claims of living processes.
    pub fn live(&self, alive: impl Fn(u32, Option<u64>) -> bool) -> usize {
        let mut inner = self.inner.lock();
        inner.by_key.retain(|_, c| alive(c.pid, c.start));
        inner.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_builder_a_step_until_it_ends_or_dies() {
        let claims = Claims::default();
        let Asked::Yours(first) = claims.ask("k", 10, None, false, |_, _| true) else {
            panic!("nobody had it")
        };
        assert_eq!(
            claims.ask("k", 11, None, false, |_, _| true),
            Asked::Taken(10)
        );
        assert!(matches!(
            claims.ask("other", 11, None, false, |_, _| true),
            Asked::Yours(_)
        ));
        claims.release(first);
        assert!(matches!(
            claims.ask("k", 11, None, false, |_, _| true),
            Asked::Yours(_)
        ));
        assert!(matches!(
            claims.ask("k", 12, None, false, |pid, _| pid != 11),
            Asked::Yours(_)
        ));
        assert_eq!(claims.live(|_, _| true), 2);
    }
}
