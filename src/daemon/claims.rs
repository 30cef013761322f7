//! Who builds which step: one builder a key, the others wait and take its result.

use super::bounds::CLAIMS;
use super::docs::Owner;
use super::leases;
use parking_lot::Mutex;
use std::collections::HashMap;

/// A right to build a step, held by a process.
#[derive(Clone, Debug)]
struct Claim {
    id: u64,
    owner: Owner,
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
    builders: HashMap<Owner, i64>,
}

/// What asking for a claim gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Yours(u64),
    /// Its host has as many as it may.
    Full(leases::Full),
    /// Who has it.
    Taken(Owner),
}

impl Claims {
    /// `alive` says whether a process still is the same.
    pub fn ask(
        &self,
        key: &str,
        owner: Owner,
        rebuild: bool,
        alive: impl Fn(&Owner) -> bool,
    ) -> Asked {
        let mut inner = self.inner.lock();
        if let Some(held) = inner.by_key.get(key)
            && alive(&held.owner)
        {
            // Another host asks again where it heard no answer: it would wait for itself.
            if held.owner == owner && owner.host().is_some() {
                return Asked::Yours(held.id);
            }
            return Asked::Taken(held.owner);
        }
        let host = owner.host();
        if inner.by_key.len() >= CLAIMS {
            inner.by_key.retain(|_, claim| alive(&claim.owner));
            let owners = inner.by_key.values().map(|claim| claim.owner.host());
            if let Some(full) = leases::kin(host).full(owners, CLAIMS) {
                return Asked::Full(full);
            }
        }
        inner.next += 1;
        let id = inner.next;
        inner
            .by_key
            .insert(key.to_string(), Claim { id, owner, rebuild });
        Asked::Yours(id)
    }

    /// A process builds: until it ends, nothing finished since then is garbage.
    pub fn builder(&self, owner: Owner, now: i64) {
        self.inner.lock().builders.entry(owner).or_insert(now);
    }

    /// Since when somebody has been building.
    pub fn building_since(&self, alive: impl Fn(&Owner) -> bool) -> Option<i64> {
        let mut inner = self.inner.lock();
        inner.builders.retain(|owner, _| alive(owner));
        inner.builders.values().copied().min()
    }

    pub fn release(&self, id: u64) {
        self.inner.lock().by_key.retain(|_, claim| claim.id != id);
    }

    /// Whose a claim is.
    pub fn owner(&self, id: u64) -> Option<Owner> {
        let inner = self.inner.lock();
        let mut all = inner.by_key.values();
        all.find(|claim| claim.id == id).map(|claim| claim.owner)
    }

    /// Who builds which steps.
    pub fn held(&self) -> Vec<(Owner, String)> {
        let inner = self.inner.lock();
        let all = inner.by_key.iter();
        all.map(|(key, claim)| (claim.owner, key.clone())).collect()
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
    pub fn live(&self, alive: impl Fn(&Owner) -> bool) -> usize {
        let mut inner = self.inner.lock();
        inner.by_key.retain(|_, c| alive(&c.owner));
        inner.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_builder_a_step_until_it_ends_or_dies() {
        let claims = Claims::default();
        let process = |pid| Owner {
            pid,
            start: None,
            lease: None,
        };
        let ask =
            |key: &str, pid, alive: fn(&Owner) -> bool| claims.ask(key, process(pid), false, alive);
        let Asked::Yours(first) = ask("k", 10, |_| true) else {
            panic!("nobody had it")
        };
        assert_eq!(ask("k", 11, |_| true), Asked::Taken(process(10)));
        assert!(matches!(ask("other", 11, |_| true), Asked::Yours(_)));
        claims.release(first);
        assert!(matches!(ask("k", 11, |_| true), Asked::Yours(_)));
        assert!(matches!(
            ask("k", 12, |owner| owner.pid != 11),
            Asked::Yours(_)
        ));
        assert_eq!(claims.live(|_| true), 2);
    }
    /// Its answer may have been lost on the way: it is not told to wait for itself.
    #[test]
    fn another_host_that_asks_again_has_what_it_had() {
        use crate::control::hosts::{Id, Lease};
        let lease = |id| Lease {
            host: Id([1; 16]),
            id: Id([id; 16]),
        };
        let claims = Claims::default();
        let ask = |id| claims.ask("k", Owner::afar(lease(id)), false, |_| true);
        let first = ask(1);
        assert!(matches!(first, Asked::Yours(_)));
        assert_eq!(ask(1), first);
        assert_eq!(ask(2), Asked::Taken(Owner::afar(lease(1))));
    }

    #[test]
    fn a_host_builds_so_many_steps_at_once_and_others_go_on() {
        use crate::control::hosts::{Id, Lease};
        let owner = |host| {
            Owner::afar(Lease {
                host: Id([host; 16]),
                id: Id([1; 16]),
            })
        };
        let claims = Claims::default();
        let ask = |key: usize, host| claims.ask(&key.to_string(), owner(host), true, |_| true);
        assert!((0..CLAIMS).all(|key| matches!(ask(key, 1), Asked::Yours(_))));
        assert_eq!(ask(CLAIMS, 1), Asked::Full(leases::Full::Token));
        assert!(
            matches!(ask(0, 1), Asked::Yours(_)),
            "what it has it may ask for again"
        );
        assert!(matches!(ask(CLAIMS, 2), Asked::Yours(_)));
    }
}
