//! Leases of processes on other hosts: each is over when it was not renewed for a term, and then
//! for good. One table a process, as the server is: whoever has an [`Owner`] can tell whether it lives.
//!
//! The table is of memory. A server that was started anew knows none, so each lease that its records
//! name has a whole term from its start: no host loses anything by a server's absence.
//!
//! [`Owner`]: super::docs::Owner

use crate::control::hosts::{Id, Lease};
use parking_lot::Mutex;
use pocker_nfs::place::counted_as;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Many hosts may be at one place, behind one address: so many times what a token has is there.
pub const OF_PLACE: usize = 4;
/// Ended leases are remembered up to this many, so that none comes to life again: the latest.
const ENDED_MAX: usize = 4096;
/// Leases that live: of one host, which has one for each command; of one address, as a host's number is of its
/// own making; and of all.
const LIVE_OF_ONE: usize = 4096;
const LIVE_OF_ADDRESS: usize = OF_PLACE * LIVE_OF_ONE;
const LIVE_MAX: usize = 65_536;

struct Entry {
    host: Id,
    /// From where it was asked for.
    from: IpAddr,
    until: Instant,
    /// Given back, or found to be over.
    over: bool,
}

/// What became of a call to renew one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    Yes,
    Over,
    /// Its host, its address, or all, have as many as may be.
    Full,
}

/// A host's last call.
struct Seen {
    /// From where: of IPv4 and of IPv6.
    at: [Option<IpAddr>; 2],
    /// The name of the token that it showed.
    token: String,
    /// In seconds.
    last: i64,
}

struct Table {
    term: Duration,
    began: Instant,
    leases: HashMap<Id, Entry>,
    seen: HashMap<Id, Seen>,
}

impl Table {
    fn new(term: Duration, now: Instant) -> Table {
        Table {
            term,
            began: now,
            leases: HashMap::new(),
            seen: HashMap::new(),
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

    fn renew(&mut self, lease: Lease, known: bool, from: IpAddr, now: Instant) -> Renewed {
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
        if !self.has_room(lease.host, Some(from), now) {
            return Renewed::Full;
        }
        let entry = Entry {
            host: lease.host,
            from,
            until,
            over: false,
        };
        self.leases.insert(lease.id, entry);
        Renewed::Yes
    }

    fn end(&mut self, lease: Lease, now: Instant) {
        let known = self.leases.contains_key(&lease.id);
        if !known && !self.has_room(lease.host, None, now) {
            return;
        }
        let entry = self.leases.entry(lease.id).or_insert(Entry {
            host: lease.host,
            from: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            until: now,
            over: true,
        });
        if entry.host == lease.host && !entry.over {
            (entry.over, entry.until) = (true, now);
        }
    }

    /// Whether one more may be known. Nothing is looked through before there are very many.
    fn has_room(&mut self, host: Id, from: Option<IpAddr>, now: Instant) -> bool {
        let from = from.map(counted_as);
        if self.leases.len() < ENDED_MAX {
            return true;
        }
        let (mut live, mut own, mut there) = (0, 0, 0);
        for entry in self.leases.values_mut() {
            entry.over |= now >= entry.until;
            live += usize::from(!entry.over);
            own += usize::from(!entry.over && entry.host == host);
            there += usize::from(!entry.over && Some(counted_as(entry.from)) == from);
        }
        if self.leases.len() - live >= ENDED_MAX {
            self.forget_oldest();
        }
        live < LIVE_MAX && own < LIVE_OF_ONE && there < LIVE_OF_ADDRESS
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
pub fn renew(lease: Lease, known: bool, from: IpAddr) -> Renewed {
    let from = from.to_canonical();
    TABLE.lock().renew(lease, known, from, Instant::now())
}

/// From where it was asked for, where that is known.
pub fn from(lease: Lease) -> Option<IpAddr> {
    TABLE.lock().leases.get(&lease.id).map(|entry| entry.from)
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

/// A host called from there at that second, with a token of that name.
pub fn is_seen_at(host: Id, addr: IpAddr, token: &str, second: i64) {
    let addr = addr.to_canonical();
    let mut table = TABLE.lock();
    let seen = table.seen.entry(host).or_insert_with(|| Seen {
        at: [None; 2],
        token: String::new(),
        last: second,
    });
    seen.at[family(addr)] = Some(addr);
    seen.last = second;
    if seen.token != token {
        seen.token = token.to_owned();
    }
}

/// Nothing is known of it any more.
pub fn forget(host: Id) {
    TABLE.lock().seen.remove(&host);
}

/// The token that a host showed last.
pub fn token_of(host: Id) -> Option<String> {
    let table = TABLE.lock();
    table.seen.get(&host).map(|seen| seen.token.clone())
}

/// Of how many hosts it is known where they are, and how many of them showed that token last.
pub fn known(token: &str) -> (usize, usize) {
    let table = TABLE.lock();
    let of_token = table.seen.values().filter(|seen| seen.token == token);
    (table.seen.len(), of_token.count())
}

/// The hosts whose last call was before that second.
pub fn unseen_since(second: i64) -> Vec<Id> {
    let table = TABLE.lock();
    let old = table.seen.iter().filter(|(_, seen)| seen.last < second);
    old.map(|(id, _)| *id).collect()
}

/// Those with which a host shares what is counted: a host's number is of its own making, and it may have many.
pub struct Kin {
    host: Option<Id>,
    /// Those that showed its token last.
    of_token: HashSet<Id>,
    /// Those that called from where it calls from.
    at_place: HashSet<Id>,
}

/// None is this host, which has no other number.
pub fn kin(host: Option<Id>) -> Kin {
    let mut kin = Kin {
        host,
        of_token: HashSet::new(),
        at_place: HashSet::new(),
    };
    let table = TABLE.lock();
    let Some(own) = host.and_then(|host| table.seen.get(&host)) else {
        return kin;
    };
    let own_places: Vec<IpAddr> = own.at.iter().flatten().map(|at| counted_as(*at)).collect();
    for (id, seen) in &table.seen {
        if seen.token == own.token {
            kin.of_token.insert(*id);
        }
        let mut places = seen.at.iter().flatten();
        if places.any(|at| own_places.contains(&counted_as(*at))) {
            kin.at_place.insert(*id);
        }
    }
    kin
}

/// Which of them have as many as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The host, with those of its token.
    Token,
    Place,
}

impl Kin {
    /// Whether as many of these are theirs as a token may have, or a place.
    pub fn full(&self, owners: impl IntoIterator<Item = Option<Id>>, most: usize) -> Option<Full> {
        let (mut of_token, mut at_place) = (0, 0);
        for owner in owners {
            let own = owner == self.host;
            let is_in = |kin: &HashSet<Id>| owner.is_some_and(|owner| kin.contains(&owner));
            of_token += usize::from(own || is_in(&self.of_token));
            at_place += usize::from(own || is_in(&self.at_place));
        }
        if of_token >= most {
            return Some(Full::Token);
        }
        (at_place >= OF_PLACE * most).then_some(Full::Place)
    }
}

/// Whether that is a host's own address, as far as is known.
pub fn is_at(host: Id, addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    let table = TABLE.lock();
    let seen = table.seen.get(&host);
    seen.is_some_and(|seen| seen.at[family(addr)] == Some(addr))
}

/// Whether some other host called from there.
pub fn is_anybody_at(addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    let table = TABLE.lock();
    let mut all = table.seen.values();
    all.any(|seen| seen.at[family(addr)] == Some(addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(10);
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

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
        assert_eq!(table.renew(lease(1), false, HERE, at(0)), Renewed::Yes);
        assert_eq!(table.renew(lease(1), true, HERE, at(9)), Renewed::Yes);
        assert!(table.lives(lease(1), at(18)));
        assert!(!table.lives(lease(1), at(19)));
        assert_eq!(table.renew(lease(1), true, HERE, at(19)), Renewed::Over);
        // Also by a call that comes late and that nobody had asked about before.
        assert_eq!(table.renew(lease(2), false, HERE, at(20)), Renewed::Yes);
        assert_eq!(table.renew(lease(2), true, HERE, at(30)), Renewed::Over);
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
        assert_eq!(table.renew(lease(1), true, HERE, at(10)), Renewed::Over);
        assert_eq!(table.renew(lease(2), true, HERE, at(9)), Renewed::Yes);
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
        assert_eq!(table.renew(lease(1), false, HERE, began), Renewed::Yes);
        assert_eq!(table.renew(other, false, HERE, began), Renewed::Over);
        assert!(!table.lives(other, began));
        table.end(other, began);
        assert!(table.lives(lease(1), began));
        table.end(lease(1), began);
        assert!(!table.lives(lease(1), began));
        assert_eq!(table.renew(lease(1), false, HERE, began), Renewed::Over);
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
            assert_eq!(table.renew(nth(1, n), false, HERE, now), Renewed::Yes);
        }
        assert!(
            table.leases.len() <= 2 * ENDED_MAX,
            "{}",
            table.leases.len()
        );
        // The latest are remembered.
        let last = nth(1, 3 * ENDED_MAX - 1);
        assert_eq!(table.renew(last, true, HERE, at(10_000)), Renewed::Over);
    }

    #[test]
    fn a_host_has_so_many_leases_and_others_have_theirs() {
        let now = Instant::now();
        let mut table = Table::new(TERM, now);
        for n in 0..LIVE_OF_ONE {
            assert_eq!(table.renew(nth(1, n), false, HERE, now), Renewed::Yes);
        }
        assert_eq!(
            table.renew(nth(1, LIVE_OF_ONE), false, HERE, now),
            Renewed::Full
        );
        assert_eq!(table.renew(nth(2, 0), false, HERE, now), Renewed::Yes);
        assert_eq!(table.renew(nth(1, 0), true, HERE, now), Renewed::Yes);
        table.end(nth(1, 0), now);
        assert_eq!(
            table.renew(nth(1, LIVE_OF_ONE), false, HERE, now),
            Renewed::Yes
        );
        assert!(!table.lives(nth(1, 0), now));
    }

    #[test]
    fn a_net_of_ipv6_has_so_many_leases() {
        let now = Instant::now();
        let mut table = Table::new(TERM, now);
        let at = |net, host| IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]);
        for n in 0..LIVE_OF_ADDRESS {
            let id = nth((n % 100) as u8, n);
            let entry = Entry {
                host: id.host,
                from: at(1, n as u16),
                until: now + TERM,
                over: false,
            };
            table.leases.insert(id.id, entry);
        }
        let mut renew = |id, from| table.renew(nth(200, id), false, from, now);
        assert_eq!(renew(0, at(1, 0xffff)), Renewed::Full);
        assert_eq!(renew(0, at(2, 1)), Renewed::Yes);
    }

    #[test]
    fn an_address_has_so_many_leases_whatever_its_hosts_call_themselves() {
        let now = Instant::now();
        let mut table = Table::new(TERM, now);
        for n in 0..LIVE_OF_ADDRESS {
            let id = nth((n % 100) as u8, n);
            table.leases.insert(
                id.id,
                Entry {
                    host: id.host,
                    from: HERE,
                    until: now + TERM,
                    over: false,
                },
            );
        }
        let there = IpAddr::from([10, 0, 0, 2]);
        assert_eq!(table.renew(nth(200, 0), false, HERE, now), Renewed::Full);
        assert_eq!(table.renew(nth(200, 0), false, there, now), Renewed::Yes);
        assert_eq!(table.renew(nth(0, 0), true, HERE, now), Renewed::Yes);
    }
}
