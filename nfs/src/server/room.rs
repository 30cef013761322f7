//! Memory that calls hold, of one connection and of the whole server.
//!
//! A connection's first [`FLOOR`] bytes are its own, so small calls go on whatever others
//! do. What it holds beyond comes from a pool that all connections share. It may draw more
//! only while the pool has [`SHARE`] times what it would have drawn then: however many are
//! greedy, something is left for a newcomer, and nobody has to say who is greedy. Who finds
//! the pool empty waits in line; meanwhile peers that hold some of it and stand still
//! are cut off ([`Limits::pressed`]).

use super::connection::Limits;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, Semaphore};

/// Memory is counted in units of this many bytes.
const UNIT: usize = 4 << 10;
/// What each connection may hold without drawing from the pool: a small call or a few.
const FLOOR: usize = (24 << 10) / UNIT;
/// Units that must be free for each one that a connection has drawn.
const SHARE: usize = 4;
/// Bytes held by all calls of a server together, beyond each connection's floor: 256 reads
/// or writes of the largest size at once.
pub const SERVER_HELD: usize = 256 << 20;

/// What the connections of a server hold together.
pub struct Pool {
    free: Semaphore,
    total: usize,
    waiting: AtomicUsize,
}

impl Pool {
    pub fn new(bytes: usize) -> Pool {
        let total = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Pool {
            free: Semaphore::new(total),
            total,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Bytes that calls hold now.
    pub fn held(&self) -> usize {
        (self.total - self.free.available_permits().min(self.total)) * UNIT
    }

    /// Calls that wait for memory.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Somebody waits for memory.
    pub fn short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn try_take(&self, units: usize) -> bool {
        // At most `total`, which fits.
        let taken = self.free.try_acquire_many(units as u32);
        taken.map(|permit| permit.forget()).is_ok()
    }

    /// Waits in line.
    async fn take(&self, units: usize) -> Option<Taken<'_>> {
        struct InLine<'a>(&'a AtomicUsize);
        impl Drop for InLine<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _line = InLine(&self.waiting);
        self.free.acquire_many(units as u32).await.ok()?.forget();
        Some(Taken { pool: self, units })
    }

    fn give(&self, units: usize) {
        if units > 0 {
            self.free.add_permits(units);
        }
    }
}

/// Units out of the pool that no connection has in its books yet.
struct Taken<'a> {
    pool: &'a Pool,
    units: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.pool.give(self.units);
    }
}

/// One connection's books. Drawn from the pool is what is used beyond the floor.
#[derive(Default)]
struct Books {
    calls: usize,
    used: usize,
}

impl Books {
    fn drawn(&self) -> usize {
        self.used.saturating_sub(FLOOR)
    }
}

struct Account {
    books: Mutex<Books>,
    freed: Notify,
    pool: Arc<Pool>,
    in_flight: usize,
    most: usize,
}

/// Whether a call gets what it asks for.
enum Got {
    Held(Held),
    /// When the connection gives something back.
    Later,
    /// When the pool has so much.
    Short(usize),
}

impl Account {
    /// `taken` is what the caller waited for at the pool.
    fn get(self: &Arc<Account>, units: usize, slot: bool, taken: Option<&mut Taken<'_>>) -> Got {
        let mut books = self.books.lock();
        let fits = books.used == 0 || books.used + units <= self.most;
        if slot && books.calls >= self.in_flight || !fits {
            return Got::Later;
        }
        let before = books.drawn();
        let need = (books.used + units).saturating_sub(FLOOR) - before;
        match taken {
            Some(taken) if taken.units >= need => taken.units -= need,
            Some(_) => return Got::Short(need),
            None if need == 0 => {}
            None if before > 0 && (before + need) * SHARE > self.pool.free.available_permits() => {
                return Got::Later;
            }
            None if self.pool.try_take(need) => {}
            None => return Got::Short(need),
        }
        books.used += units;
        books.calls += usize::from(slot);
        Got::Held(Held {
            account: self.clone(),
            units,
            slot,
        })
    }

    fn give(&self, units: usize, slot: bool) {
        let mut books = self.books.lock();
        let before = books.drawn();
        books.used -= units;
        books.calls -= usize::from(slot);
        let back = before - books.drawn();
        drop(books);
        self.pool.give(back);
        self.freed.notify_one();
    }
}

/// Where the calls of one connection get what they hold.
pub(crate) struct Room(Arc<Account>);

impl Room {
    pub fn new(limits: &Limits, pool: &Arc<Pool>) -> Room {
        Room(Arc::new(Account {
            books: Mutex::default(),
            freed: Notify::new(),
            in_flight: limits.in_flight.max(1),
            most: (limits.held / UNIT).clamp(1, pool.total),
            pool: pool.clone(),
        }))
    }

    fn units(&self, bytes: usize) -> usize {
        bytes.div_ceil(UNIT).min(self.0.most)
    }

    /// So many bytes, if they can be had at once.
    pub fn try_hold(&self, bytes: usize) -> Option<Held> {
        match self.0.get(self.units(bytes), false, None) {
            Got::Held(held) => Some(held),
            _ => None,
        }
    }

    /// So many bytes, and a call's slot where `slot`. One future of a connection at a time.
    pub fn hold(&self, bytes: usize, slot: bool) -> impl Future<Output = Held> + Send + 'static {
        let (account, units) = (self.0.clone(), self.units(bytes));
        async move {
            loop {
                let need = match account.get(units, slot, None) {
                    Got::Held(held) => return held,
                    Got::Later => {
                        account.freed.notified().await;
                        continue;
                    }
                    Got::Short(need) => need,
                };
                tokio::select! {
                    taken = account.pool.take(need) => {
                        // The semaphore is never closed.
                        let Some(mut taken) = taken else { continue };
                        if let Got::Held(held) = account.get(units, slot, Some(&mut taken)) {
                            return held;
                        }
                    }
                    // What the connection gave back may be enough.
                    () = account.freed.notified() => {}
                }
            }
        }
    }

    /// The connection holds what others may wait for.
    pub fn draws(&self) -> bool {
        self.0.books.lock().drawn() > 0
    }

    /// Others wait for what this connection holds.
    pub fn pressed(&self) -> bool {
        self.0.pool.short() && self.draws()
    }
}

/// Memory, and perhaps a call's slot, given back when this is dropped.
pub(crate) struct Held {
    account: Arc<Account>,
    units: usize,
    slot: bool,
}

impl Held {
    pub fn bytes(&self) -> usize {
        self.units * UNIT
    }

    /// Takes over what `other`, of the same connection, holds.
    pub fn add(&mut self, mut other: Held) {
        self.units += std::mem::take(&mut other.units);
        // A slot of its own is given back.
    }

    /// Gives back what is beyond so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let keep = bytes.div_ceil(UNIT).min(self.units);
        let back = self.units - keep;
        self.units = keep;
        if back > 0 {
            self.account.give(back, false);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.units > 0 || self.slot {
            self.account.give(self.units, self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::time::Duration;
    use tokio::time::timeout;

    const MIB: usize = 1 << 20;

    fn room(pool: &Arc<Pool>) -> Room {
        Room::new(&Limits::default(), pool)
    }

    fn fill(room: &Room) -> Vec<Held> {
        std::iter::from_fn(|| room.try_hold(MIB)).collect()
    }

    #[test]
    fn what_was_held_comes_back() {
        let pool = Arc::new(Pool::new(8 * MIB));
        let room = room(&pool);
        let mut held = room.try_hold(2 * MIB).expect("free");
        assert_eq!(pool.held(), 2 * MIB - FLOOR * UNIT);
        held.shrink(MIB);
        held.add(room.try_hold(MIB / 2).expect("free"));
        assert_eq!(held.bytes(), MIB + MIB / 2);
        assert_eq!(pool.held(), MIB + MIB / 2 - FLOOR * UNIT);
        drop(held);
        assert_eq!(pool.held(), 0);
        assert!(!room.draws());
    }

    /// However many take all they can get, the next one gets something too.
    #[test]
    fn greed_leaves_something_for_others() {
        let pool = Arc::new(Pool::new(64 * MIB));
        let rooms: Vec<Room> = (0..12).map(|_| room(&pool)).collect();
        let taken: Vec<Vec<Held>> = rooms.iter().map(fill).collect();
        assert!(taken.iter().all(|taken| !taken.is_empty()));
        let first = taken[0].len();
        assert!((8..=16).contains(&first), "the first took {first} MiB");
        assert!(pool.held() <= 64 * MIB);
    }

    #[test]
    fn a_small_call_needs_no_pool() {
        let pool = Arc::new(Pool::new(MIB));
        let (greedy, other) = (room(&pool), room(&pool));
        let _all = greedy.try_hold(4 * MIB).expect("clamped to the pool");
        assert!(other.try_hold(MIB).is_none());
        assert!(other.try_hold(16 << 10).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_turn_and_seen() {
        let pool = Arc::new(Pool::new(2 * MIB));
        let (a, b, c) = (room(&pool), room(&pool), room(&pool));
        let held = a.try_hold(2 * MIB).expect("free");
        let mut second = pin!(b.hold(2 * MIB, true));
        let mut third = pin!(c.hold(2 * MIB, true));
        let wait = Duration::from_secs(1);
        assert!(timeout(wait, &mut second).await.is_err());
        assert!(timeout(wait, &mut third).await.is_err());
        assert!(a.pressed(), "others wait for what it holds");
        assert!(!b.pressed());
        drop(held);
        assert!(timeout(wait, &mut third).await.is_err(), "it came later");
        let second = timeout(wait, second).await.expect("its turn");
        assert!(timeout(wait, &mut third).await.is_err());
        drop(second);
        timeout(wait, third).await.expect("its turn");
        assert!(!pool.short());
    }
}
