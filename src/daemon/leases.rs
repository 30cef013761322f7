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

/// Ended leases are remembered up to this many, so that none comes to life again: the latest.
const ENDED_MAX: usize = 4096;
/// Leases that live: of one host, which has one for each command, and of all.
const LIVE_OF_ONE: usize = 4096;
const LIVE_MAX: usize = 65_536;

struct Entry {
    host: Id,
    until: Instant,
    /// Given back, or found to be over.
    over: bool,
}

/// What became of a call to renew one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    Yes,
    Over,
    /// Its host, or all, have as many as may be.
    Full,
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

    fn renew(&mut self, lease: Lease, known: bool, now: Instant) -> Renewed {
        let until = now + self.term;
        if let Some(entry) = self.leases.get_mut(&lease.id) {
            entry.over |= now >= entry.until;
            if entry.over || entry.host != lease.host {
                return Renewed::Over;
            }
            entry.until = until;
            return Renewed::Yes;
        }
        // One that is renewed was there before this server: what it held has a term, and no more.
        if known && now >= self.began + self.term {
            return Renewed::Over;
        }
        if !self.has_room(lease.host, now) {
            return Renewed::Full;
        }
        let entry = Entry {
            host: lease.host,
            until,
            over: false,
        };
        self.leases.insert(lease.id, entry);
        Renewed::Yes
    }

    fn end(&mut self, lease: Lease, now: Instant) {
        let known = self.leases.contains_key(&lease.id);
        if !known && !self.has_room(lease.host, now) {
            return;
        }
        let entry = self.leases.entry(lease.id).or_insert(Entry {
            host: lease.host,
            until: now,
            over: true,
        });
        if entry.host == lease.host && !entry.over {
            (entry.over, entry.until) = (true, now);
        }
    }

    /// Whether one more may be known. Nothing is looked through before there are very many.
    fn has_room(&mut self, host: Id, now: Instant) -> bool {
        if self.leases.len() < ENDED_MAX {
            return true;
        }
        let (mut live, mut own) = (0, 0);
        for entry in self.leases.values_mut() {
            entry.over |= now >= entry.until;
            live += usize::from(!entry.over);
            own += usize::from(!entry.over && entry.host == host);
        }
        if self.leases.len() - live >= ENDED_MAX {
            self.forget_oldest();
        }
        live < LIVE_MAX && own < LIVE_OF_ONE
    }

    /// Half of the ended ones.
    fn forget_oldest(&mut self) {
        let over = self.leases.iter().filter(|(_, entry)| entry.over);
        let mut over: Vec<(Instant, Id)> = over.map(|(id, entry)| (entry.until, *id)).collect();
        over.sort();
        for (_, id) in &over[..over.len() / 2] {
            self.leases.remove(id);
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

/// For a term from now on, where it is not over. `known`: it was told of its term before.
pub fn renew(lease: Lease, known: bool) -> Renewed {
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

/// Nothing is known of it any more.
pub fn forget(host: Id) {
    TABLE.lock().addresses.remove(&host);
}

/// Of how many hosts it is known where they are, and whether this is one of them.
pub fn known(host: Id) -> (usize, bool) {
    let table = TABLE.lock();
    (table.addresses.len(), table.addresses.contains_key(&host))
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
        assert_eq!(table.renew(lease(1), false, at(0)), Renewed::Yes);
        assert_eq!(table.renew(lease(1), true, at(9)), Renewed::Yes);
        assert!(table.lives(lease(1), at(18)));
        assert!(!table.lives(lease(1), at(19)));
        assert_eq!(table.renew(lease(1), true, at(19)), Renewed::Over);
        // Also by a call that comes late and that nobody had asked about before.
        assert_eq!(table.renew(lease(2), false, at(20)), Renewed::Yes);
        assert_eq!(table.renew(lease(2), true, at(30)), Renewed::Over);
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
        assert_eq!(table.renew(lease(1), true, at(10)), Renewed::Over);
        assert_eq!(table.renew(lease(2), true, at(9)), Renewed::Yes);
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
        assert_eq!(table.renew(lease(1), false, began), Renewed::Yes);
        assert_eq!(table.renew(other, false, began), Renewed::Over);
        assert!(!table.lives(other, began));
        table.end(other, began);
        assert!(table.lives(lease(1), began));
        table.end(lease(1), began);
        assert!(!table.lives(lease(1), began));
        assert_eq!(table.renew(lease(1), false, began), Renewed::Over);
    }

    fn nth(host: u8, n: usize) -> Lease {
        let mut id = [host; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        Lease {
            host: Id([host; 16]),
            id: Id(id),
        }
    }

    #[test]
    fn what_is_known_of_leases_is_bounded_whatever_comes() {
        let began = Instant::now();
        let at = |secs| began + Duration::from_secs(secs);
        let mut table = Table::new(TERM, began);
        // One after the other, each left to run out: nobody asks after any.
        for n in 0..3 * ENDED_MAX {
            let now = at(n as u64 / 100);
            assert_eq!(table.renew(nth(1, n), false, now), Renewed::Yes);
        }
        assert!(
            table.leases.len() <= 2 * ENDED_MAX,
            "{}",
            table.leases.len()
        );
        // The latest are remembered.
        let last = nth(1, 3 * ENDED_MAX - 1);
        assert_eq!(table.renew(last, true, at(10_000)), Renewed::Over);
    }

    #[test]
    fn a_host_has_so_many_leases_and_others_have_theirs() {
        let now = Instant::now();
        let mut table = Table::new(TERM, now);
        for n in 0..LIVE_OF_ONE {
            assert_eq!(table.renew(nth(1, n), false, now), Renewed::Yes);
        }
        assert_eq!(table.renew(nth(1, LIVE_OF_ONE), false, now), Renewed::Full);
        assert_eq!(table.renew(nth(2, 0), false, now), Renewed::Yes);
        assert_eq!(table.renew(nth(1, 0), true, now), Renewed::Yes);
        table.end(nth(1, 0), now);
        assert_eq!(table.renew(nth(1, LIVE_OF_ONE), false, now), Renewed::Yes);
        assert!(!table.lives(nth(1, 0), now));
    }
}
