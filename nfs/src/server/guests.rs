//! A listener's connections: how many there may be, and who gives way when there are as many.
//!
//! Whoever comes then takes the place of one of the peer's that has most, where that one has
//! more than the newcomer would: however many connections somebody opens, others still get
//! theirs. An NFS client that is cut off connects again and repeats its calls.

use crate::place::counted_as;
use crate::vfs::Peer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Connections of one listener, unless it is told to take fewer ([`super::Options`]).
pub const CONNECTIONS_MAX: usize = 4096;
/// Between two complaints about peers that are turned away: a flood must not fill the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Address(IpAddr),
    Local(u32),
    Memory,
}

impl Who {
    fn of(peer: &Peer) -> Who {
        match peer {
            Peer::Tcp(addr) | Peer::Udp(addr) => Who::Address(counted_as(addr.ip())),
            Peer::Unix { uid, .. } => Who::Local(*uid),
            Peer::Memory => Who::Memory,
        }
    }
}

#[derive(Default)]
struct Table {
    /// The latest is the last, and the first to go: the others are more likely at work.
    places: HashMap<Who, Vec<(u64, oneshot::Sender<()>)>>,
    open: usize,
    next: u64,
}

/// The connections of one listener.
pub struct Guests {
    table: Mutex<Table>,
    max: usize,
    complained: Mutex<(Option<Instant>, u64)>,
}

/// A connection's place, given back when this is dropped.
pub struct Place {
    guests: Arc<Guests>,
    who: Who,
    id: u64,
}

impl Guests {
    pub fn new(max: usize) -> Arc<Guests> {
        Arc::new(Guests {
            table: Mutex::default(),
            max: max.clamp(1, CONNECTIONS_MAX),
            complained: Mutex::default(),
        })
    }

    /// A place, and what becomes ready when another's need for it is greater; `None` where
    /// `peer` has as many as anybody.
    pub fn admit(self: &Arc<Guests>, peer: &Peer) -> Option<(Place, oneshot::Receiver<()>)> {
        let who = Who::of(peer);
        let mut table = self.table.lock();
        if table.open >= self.max {
            let own = table.places.get(&who).map_or(0, Vec::len);
            let most = table.places.iter().max_by_key(|(_, places)| places.len());
            let greedy = most
                .filter(|(_, places)| places.len() > own + 1)
                .map(|(greedy, _)| *greedy);
            let Some(gone) = greedy.and_then(|greedy| table.places.get_mut(&greedy)?.pop()) else {
                drop(table);
                self.complain(&format!("{} connections are open", self.max));
                return None;
            };
            table.open -= 1;
            // Its task may be over already.
            let _ = gone.1.send(());
        }
        let (give_way, told) = oneshot::channel();
        let id = table.next;
        table.next += 1;
        table.open += 1;
        table.places.entry(who).or_default().push((id, give_way));
        let guests = self.clone();
        Some((Place { guests, who, id }, told))
    }

    /// Says why peers are turned away, once for many.
    pub fn complain(&self, why: &str) {
        let mut complained = self.complained.lock();
        complained.1 += 1;
        if complained.0.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            let turned_away = std::mem::take(&mut complained.1);
            complained.0 = Some(Instant::now());
            tracing::warn!(turned_away, "refused a connection: {why}");
        }
    }

    fn leave(&self, who: Who, id: u64) {
        let mut table = self.table.lock();
        let Some(places) = table.places.get_mut(&who) else {
            return;
        };
        let before = places.len();
        places.retain(|(other, _)| *other != id);
        let left = before - places.len();
        if places.is_empty() {
            table.places.remove(&who);
        }
        table.open -= left;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.leave(self.who, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> Peer {
        Peer::Tcp(([192, 0, 2, last], 700).into())
    }

    #[test]
    fn addresses_of_one_net_of_ipv6_are_one_peer() {
        let guests = Guests::new(4);
        let from = |net: u16, host: u16| {
            let ip = std::net::Ipv6Addr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]);
            Peer::Tcp((ip, 700).into())
        };
        let one: Vec<_> = (0..4).map(|n| guests.admit(&from(1, n)).unwrap()).collect();
        assert!(guests.admit(&from(1, 9)).is_none(), "it has as many");
        assert!(guests.admit(&from(2, 1)).is_some());
        drop(one);
    }

    #[test]
    fn who_has_most_gives_way_to_who_has_less() {
        let guests = Guests::new(8);
        let mut greedy: Vec<_> = (0..8).map(|_| guests.admit(&from(1)).unwrap()).collect();
        assert!(
            guests.admit(&from(1)).is_none(),
            "it has as many as anybody"
        );
        let (mut others, mut cut) = (Vec::new(), 0);
        for other in [2, 3, 2, 3, 2, 3] {
            others.extend(guests.admit(&from(other)));
            cut += greedy
                .iter_mut()
                .filter_map(|g| g.1.try_recv().ok())
                .count();
        }
        // 8 are shared as 3, 3 and 2 at the evenest, and nobody takes from who has no more.
        assert_eq!((others.len(), cut), (5, 5));
        assert_eq!(guests.table.lock().open, 8);
        assert!(greedy[0].1.try_recv().is_err(), "the latest go first");
        drop((greedy, others));
        assert_eq!(guests.table.lock().open, 0);
        assert!(guests.table.lock().places.is_empty());
        assert!(guests.admit(&from(1)).is_some());
    }
}
