//! Places that may be taken at once: in all, and by one address, which a peer cannot make up (of IPv6 a net).

use parking_lot::Mutex;
use pocker_nfs::place::counted_as;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Notify;

/// Who has how many.
pub struct Crowd {
    all: usize,
    of_one: usize,
    here: Mutex<HashMap<IpAddr, usize>>,
    freed: Notify,
}

/// Taken until it is dropped.
pub struct Place(Arc<Crowd>, IpAddr);

impl Crowd {
    pub fn new(all: usize, of_one: usize) -> Arc<Crowd> {
        Arc::new(Crowd {
            all,
            of_one,
            here: Mutex::default(),
            freed: Notify::new(),
        })
    }

    pub fn admit(self: &Arc<Crowd>, from: IpAddr) -> Option<Place> {
        let from = counted_as(from);
        let mut here = self.here.lock();
        let own = here.get(&from).copied().unwrap_or_default();
        if here.values().sum::<usize>() >= self.all || own >= self.of_one {
            return None;
        }
        here.insert(from, own + 1);
        Some(Place(self.clone(), from))
    }

    /// A place, when there is one.
    pub async fn wait(self: &Arc<Crowd>, from: IpAddr) -> Place {
        loop {
            // Hears of what is freed from here on, so before it is looked.
            let freed = self.freed.notified();
            if let Some(place) = self.admit(from) {
                return place;
            }
            freed.await;
        }
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.here.lock().values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut here = self.0.here.lock();
        if let Some(n) = here.get_mut(&self.1) {
            *n -= 1;
            if *n == 0 {
                here.remove(&self.1);
            }
        }
        drop(here);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_all_have_so_many() {
        let crowd = Crowd::new(5, 3);
        let at = |n| IpAddr::from([10, 0, 0, n]);
        let mut mine: Vec<Place> = (0..3).filter_map(|_| crowd.admit(at(1))).collect();
        assert_eq!(mine.len(), 3);
        assert!(crowd.admit(at(1)).is_none());
        let theirs: Vec<Place> = (0..3).filter_map(|_| crowd.admit(at(2))).collect();
        assert_eq!(theirs.len(), 2, "five in all");
        mine.pop();
        assert!(crowd.admit(at(1)).is_some());
        drop((mine, theirs));
        assert_eq!(crowd.taken(), 0);
        assert!(crowd.here.lock().is_empty());
    }

    #[test]
    fn addresses_of_one_net_of_ipv6_share_their_places() {
        let crowd = Crowd::new(5, 2);
        let at = |net, host| IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]);
        let mine: Vec<Place> = (0..3).filter_map(|n| crowd.admit(at(1, n))).collect();
        assert_eq!(mine.len(), 2);
        let other = crowd.admit(at(2, 0));
        assert!(other.is_some(), "another net");
        drop((mine, other));
        assert!(crowd.here.lock().is_empty());
    }

    #[tokio::test]
    async fn who_waits_has_the_place_that_another_leaves() {
        let crowd = Crowd::new(1, 1);
        let at = |n| IpAddr::from([10, 0, 0, n]);
        let first = crowd.wait(at(1)).await;
        let waits = tokio::spawn({
            let crowd = crowd.clone();
            async move { drop(crowd.wait(at(2)).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(first);
        waits.await.expect("it has it");
        assert_eq!(crowd.taken(), 0);
    }
}
