//! Leases of processes on other hosts: each is over when it was not renewed for a term, and then
//! for good. One table a process, as the server is: whoever has an [`Owner`] can tell whether it lives.
//!
//! The table is of memory. A server that was started anew knows none, so each lease that its records
//! name has a whole term from its start: no host loses anything by a server's absence.
//!
//! [`Owner`]: super::docs::Owner

use crate::control::hosts::{Id, Lease};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Ended leases are remembered up to this many, so that none comes to life again.
const ENDED_MAX: usize = 4096;

struct Entry {
    host: Id,
    until: Instant,
    /// Given back, or found to be over.
    over: bool,
}

struct Table {
    term: Duration,
    began: Instant,
    leases: HashMap<Id, Entry>,
    /// From where a host called last: of IPv4 and of IPv6.
    addresses: HashMap<Id, [Option<IpAddr>; 2]>,
}

impl Table {
    fn new(term: Duration, now: Instant) -> Table {
        Table {
            term,
            began: now,
            leases: HashMap::new(),
            addresses: HashMap::new(),
        }
    }

    fn lives(&mut self, lease: Lease, now: Instant) -> bool {
        match self.leases.get_mut(&lease.id) {
            Some(entry) => {
                // Once somebody was told that it is over, it stays over.
                entry.over |= now >= entry.until;
                !entry.over && entry.host == lease.host
            }
            None => now < self.began + self.term,
        }
    }

    fn renew(&mut self, lease: Lease, known: bool, now: Instant) -> bool {
        let until = now + self.term;
        if let Some(entry) = self.leases.get_mut(&lease.id) {
            entry.over |= now >= entry.until;
            if entry.over || entry.host != lease.host {
                return false;
            }
            entry.until = until;
            return true;
        }
        // One that is renewed was there before this server: what it held has a term, and no more.
        if known && now >= self.began + self.term {
            return false;
        }
        self.forget_some();
        let entry = Entry {
            host: lease.host,
            until,
            over: false,
        };
        self.leases.insert(lease.id, entry);
        true
    }

    fn end(&mut self, lease: Lease, now: Instant) {
        let entry = self.leases.entry(lease.id).or_insert(Entry {
            host: lease.host,
            until: now,
            over: true,
        });
        entry.over |= entry.host == lease.host;
    }

    fn forget_some(&mut self) {
        if self.leases.len() >= ENDED_MAX {
            self.leases.retain(|_, entry| !entry.over);
        }
    }

    fn left(&mut self, lease: Lease, now: Instant) -> Duration {
        if !self.lives(lease, now) {
            return Duration::ZERO;
        }
        let until = self.leases.get(&lease.id).map(|entry| entry.until);
        until
            .unwrap_or(self.began + self.term)
            .saturating_duration_since(now)
    }
}

static TABLE: LazyLock<Mutex<Table>> =
    LazyLock::new(|| Mutex::new(Table::new(Duration::from_secs(60), Instant::now())));

/// How long a lease holds; every one that is not known yet does from now on.
pub fn start(term: Duration) {
    *TABLE.lock() = Table::new(term, Instant::now());
}

pub fn term() -> Duration {
    TABLE.lock().term
}

pub fn lives(lease: Lease) -> bool {
    TABLE.lock().lives(lease, Instant::now())
}

/// For a term from now on; false where it is over. `known`: it was told of its term before.
pub fn renew(lease: Lease, known: bool) -> bool {
    TABLE.lock().renew(lease, known, Instant::now())
}

/// Its holder needs it no more.
pub fn end(lease: Lease) {
    TABLE.lock().end(lease, Instant::now());
}

/// What is left of it.
pub fn left(lease: Lease) -> Duration {
    TABLE.lock().left(lease, Instant::now())
}

/// Leases of a host that live.
pub fn of(host: Id) -> Vec<Lease> {
    let mut table = TABLE.lock();
    let now = Instant::now();
    let all: Vec<Id> = table.leases.keys().copied().collect();
    let all = all.into_iter().map(|id| Lease { host, id });
    all.filter(|lease| table.leases[&lease.id].host == host && table.lives(*lease, now))
        .collect()
}

fn family(addr: IpAddr) -> usize {
    usize::from(addr.is_ipv6())
}

/// A host called from there.
pub fn is_seen_at(host: Id, addr: IpAddr) {
    let addr = addr.to_canonical();
    TABLE.lock().addresses.entry(host).or_default()[family(addr)] = Some(addr);
}

/// Whether that is a host's own address, as far as is known.
pub fn is_at(host: Id, addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    let table = TABLE.lock();
    let known = table.addresses.get(&host);
    known.is_some_and(|known| known[family(addr)] == Some(addr))
}

/// Whether some other host called from there.
pub fn is_anybody_at(addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    let table = TABLE.lock();
    let mut all = table.addresses.values();
    all.any(|known| known[family(addr)] == Some(addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(10);

    fn lease(id: u8) -> Lease {
        Lease {
            host: Id([1; 16]),
            id: Id([id; 16]),
        }
    }

    #[test]
    fn a_lease_that_was_not_renewed_is_over_for_good() {
        let began = Instant::now();
        let at = |secs| began + Duration::from_secs(secs);
        let mut table = Table::new(TERM, began);
        assert!(table.renew(lease(1), false, at(0)));
        assert!(table.renew(lease(1), true, at(9)));
        assert!(table.lives(lease(1), at(18)));
        assert!(!table.lives(lease(1), at(19)));
        assert!(!table.renew(lease(1), true, at(19)));
        // Also by a call that comes late and that nobody had asked about before.
        assert!(table.renew(lease(2), false, at(20)));
        assert!(!table.renew(lease(2), true, at(30)));
        assert_eq!(table.left(lease(2), at(30)), Duration::ZERO);
    }

    #[test]
    fn what_a_started_server_finds_has_a_term_from_its_start() {
        let began = Instant::now();
        let at = |secs| began + Duration::from_secs(secs);
        let mut table = Table::new(TERM, began);
        assert!(table.lives(lease(1), at(9)));
        assert_eq!(table.left(lease(1), at(4)), Duration::from_secs(6));
        assert!(!table.lives(lease(1), at(10)));
        assert!(!table.renew(lease(1), true, at(10)));
        assert!(table.renew(lease(2), true, at(9)));
        assert!(table.lives(lease(2), at(18)));
    }

    #[test]
    fn a_lease_is_of_one_host_and_ends_when_it_is_given_back() {
        let began = Instant::now();
        let mut table = Table::new(TERM, began);
        let other = Lease {
            host: Id([2; 16]),
            ..lease(1)
        };
        assert!(table.renew(lease(1), false, began));
        assert!(!table.renew(other, false, began));
        assert!(!table.lives(other, began));
        table.end(other, began);
        assert!(table.lives(lease(1), began));
        table.end(lease(1), began);
        assert!(!table.lives(lease(1), began));
        assert!(!table.renew(lease(1), false, began));
    }
}
