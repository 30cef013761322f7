//! Blobs that another store has and this one fetches when they are first read: a cache.
//!
//! What may be fetched was promised when its tree came ([`crate::sync`]). What was fetched is kept up
//! to a bound, and the least recently read goes first. A blob that anything of this store's own makes
//! stays, however it came.

use super::held::Held;
use super::{BlobStore, SMALL};
use crate::error::StoreError;
use crate::index::{Fetched, Large, Packed};
use crate::object::digest_of;
use crate::patience::about_to_wait;
use crate::sync::Want;
use crate::types::Digest;
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Let go of in one transaction.
const EVICT: usize = 256;
/// Reads that wait for the upstream at once, each on a thread of its own: a server has 512 for all that
/// waits, and what is here is read on as well.
pub(crate) const WAITING_MAX: usize = 384;

/// Takes one thing that was fetched; it may be another than was asked for.
pub type Take<'a> = &'a mut dyn FnMut(&Want, &mut dyn Read) -> Result<(), StoreError>;

/// Another store, which has what was promised.
pub trait Upstream: Send + Sync {
    /// Gives the blob, and others that are at hand with it. Bytes are checked by whoever takes them.
    fn fetch(&self, want: &Want, take: Take<'_>) -> Result<(), StoreError>;
}

/// What was fetched since the store was opened, and what is kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamUse {
    pub fetched: u64,
    pub fetched_bytes: u64,
    pub failed: u64,
    pub evicted: u64,
    pub held_bytes: u64,
    pub held_max: u64,
    /// Reads that wait for it now.
    pub waiting: u64,
}

#[derive(Default)]
struct State {
    held: Held,
    /// Being fetched now.
    busy: HashSet<Digest>,
    /// Reads that fetch one, or wait for another's fetch.
    waiting: usize,
}

#[derive(Default)]
pub(super) struct Away {
    upstream: OnceLock<(Arc<dyn Upstream>, u64)>,
    state: Mutex<State>,
    done: Condvar,
    counts: [AtomicU64; 4],
}

/// A read that waits; in its turn it is the one that fetches.
struct Turn<'a> {
    away: &'a Away,
    digest: &'a Digest,
    mine: bool,
}

impl<'a> Turn<'a> {
    fn wait(away: &'a Away, digest: &'a Digest) -> Result<Turn<'a>, StoreError> {
        let mut state = away.state.lock();
        if state.waiting >= WAITING_MAX {
            let digest = *digest;
            let why = format!("{WAITING_MAX} reads wait for it already");
            return Err(StoreError::Upstream { digest, why });
        }
        state.waiting += 1;
        let mut turn = Turn {
            away,
            digest,
            mine: false,
        };
        while !state.busy.insert(*digest) {
            away.done.wait(&mut state);
        }
        turn.mine = true;
        Ok(turn)
    }
}

/// Also where the fetch panics: others would wait for ever.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.away.state.lock();
        state.waiting -= 1;
        if self.mine {
            state.busy.remove(self.digest);
            self.away.done.notify_all();
        }
    }
}

/// A blob on its way into the store.
struct Arrival<'a>(&'a Away, Digest);

impl<'a> Arrival<'a> {
    fn of(away: &'a Away, digest: Digest) -> Arrival<'a> {
        away.state.lock().held.begin(digest);
        Arrival(away, digest)
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.0.state.lock().held.end(&self.1);
    }
}

impl BlobStore {
    /// What was fetched before: it may go, whether there is an upstream now or not.
    pub(crate) fn load_fetched(&self) -> Result<(), StoreError> {
        if !self.index.has_promises()? {
            return Ok(());
        }
        let mut state = self.away.state.lock();
        for (digest, promise) in self.index.all_promised()? {
            if promise.here {
                state.held.put(digest, promise.size);
            }
        }
        Ok(())
    }

    /// From now on what is promised is fetched, and kept up to `bound` bytes.
    pub(crate) fn set_upstream(&self, upstream: Arc<dyn Upstream>, bound: u64) {
        // Once only, as a server opens its store once.
        let _ = self.away.upstream.set((upstream, bound));
        // On a full disk say: the next fetch tries it again, and all that is here can be read.
        if let Err(e) = self.evict(0) {
            tracing::warn!("cannot let go of what upstream has: {e}");
        }
    }

    pub fn upstream_use(&self) -> Option<UpstreamUse> {
        let (_, bound) = self.away.upstream.get()?;
        let [fetched, fetched_bytes, failed, evicted] =
            [0, 1, 2, 3].map(|at: usize| self.away.counts[at].load(Ordering::Relaxed));
        let state = self.away.state.lock();
        Some(UpstreamUse {
            fetched,
            fetched_bytes,
            failed,
            evicted,
            held_bytes: state.held.bytes,
            held_max: *bound,
            waiting: state.waiting as u64,
        })
    }

    fn count(&self, at: usize, by: u64) {
        self.away.counts[at].fetch_add(by, Ordering::Relaxed);
    }

    /// It was read. Where others hold the list it is not noted: it is only an order.
    pub(super) fn read_now(&self, digest: &Digest) {
        if self.away.upstream.get().is_some()
            && let Some(mut state) = self.away.state.try_lock()
        {
            state.held.promote(digest);
        }
    }

    /// Something of this store's own has it: it stays. To be said before it is looked for.
    pub(crate) fn own(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut state = self.away.state.lock();
        match state.held.own(digest) {
            true => self.index.forget_promises(&[*digest]),
            false => Ok(()),
        }
    }

    /// The same, and of what comes until it is given back by [`BlobStore::unclaim`].
    pub(crate) fn claim(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut state = self.away.state.lock();
        match state.held.claim(digest) {
            true => self.index.forget_promises(&[*digest]),
            false => Ok(()),
        }
    }

    pub(crate) fn unclaim(&self, digests: impl Iterator<Item = Digest>) {
        let mut state = self.away.state.lock();
        digests.for_each(|digest| state.held.unclaim(&digest));
    }

    /// It came from another store, and may go.
    pub(crate) fn is_fetched(&self, digest: &Digest) -> bool {
        self.away.state.lock().held.has(digest)
    }

    /// It is gone, whoever took it.
    pub(super) fn forget_fetched(&self, digest: &Digest) {
        self.away.state.lock().held.pop(digest);
    }

    /// Brings a blob that is not here; an error where it was not promised, or could not be fetched.
    pub(super) fn bring(&self, digest: &Digest) -> Result<(), StoreError> {
        let Some(promise) = self.index.promised(digest)? else {
            return Err(StoreError::Missing {
                kind: "blob",
                digest: *digest,
            });
        };
        let Some((upstream, bound)) = self.away.upstream.get() else {
            return Err(StoreError::Away { digest: *digest });
        };
        about_to_wait()?;
        if promise.size > *bound {
            return Err(StoreError::NoCache {
                digest: *digest,
                size: promise.size,
                bound: *bound,
            });
        }
        let turn = Turn::wait(&self.away, digest)?;
        let brought = self.fetch(&**upstream, &Want::blob(*digest, promise.size));
        drop(turn);
        if brought.is_err() {
            self.count(2, 1);
        }
        brought
    }

    fn fetch(&self, upstream: &dyn Upstream, want: &Want) -> Result<(), StoreError> {
        // Another who waited for it too may have brought it.
        if self.is_here(want)? {
            return Ok(());
        }
        let mut found = false;
        let done = upstream.fetch(want, &mut |given, bytes| {
            let asked = given.digest == want.digest;
            match self.take(given, bytes, asked) {
                Ok(()) => found |= asked,
                Err(e) if asked => return Err(e),
                Err(e) => tracing::warn!("what upstream has beside {}: {e}", want.digest),
            }
            Ok(())
        });
        match (found, done) {
            (true, _) => Ok(()),
            (false, Err(e)) => Err(e),
            (false, Ok(())) => Err(StoreError::Away {
                digest: want.digest,
            }),
        }
    }

    /// A row alone is not enough: a file may be lost.
    fn is_here(&self, want: &Want) -> Result<bool, StoreError> {
        let file = || want.limit() <= SMALL || self.area.path(&want.digest).exists();
        Ok(self.has(&want.digest)? && file())
    }

    /// Of what was not asked for only that which will be.
    fn take(&self, want: &Want, bytes: &mut dyn Read, asked: bool) -> Result<(), StoreError> {
        let size = want.limit();
        if !asked {
            let wanted = self.index.promised(&want.digest)?;
            if wanted.is_none_or(|p| p.size != size) || size > SMALL {
                return Ok(());
            }
        }
        let digest = want.digest;
        let arrival = Arrival::of(&self.away, digest);
        // Made by this store meanwhile, it is its own.
        if self.is_here(want)? {
            return Ok(());
        }
        if size <= SMALL {
            let mut all = Vec::new();
            let read = bytes.take(size + 1).read_to_end(&mut all);
            read.map_err(StoreError::Input)?;
            self.expect(want, digest_of(&all), all.len() as u64)?;
            self.evict(size)?;
            let small = Fetched::Small(Packed::new(all));
            self.index.put_fetched(&digest, size, small)?;
        } else {
            let staged = self.stage(&mut bytes.take(size + 1), size + 1)?;
            self.expect(want, staged.digest, staged.size)?;
            self.evict(size)?;
            self.area.adopt(&[(staged.path.clone(), digest)])?;
            let used = staged.used;
            let large = Fetched::Large(Large { size, used });
            self.index.put_fetched(&digest, size, large)?;
        }
        self.count(0, 1);
        self.count(1, size);
        let mut state = self.away.state.lock();
        match state.held.is_owned(&digest) {
            true => self.index.forget_promises(&[digest])?,
            false => state.held.put(digest, size),
        }
        drop(state);
        drop(arrival);
        // Others may have fetched meanwhile.
        self.evict(0)
    }

    fn expect(&self, want: &Want, found: Digest, size: u64) -> Result<(), StoreError> {
        if size != want.limit() {
            return Err(StoreError::BlobSize {
                digest: want.digest,
                expected: want.limit(),
                found: size,
            });
        }
        match found == want.digest {
            true => Ok(()),
            false => Err(StoreError::Differs {
                digest: want.digest,
                found,
            }),
        }
    }

    /// Makes room for so many bytes. Readers keep what they have open.
    fn evict(&self, room: u64) -> Result<(), StoreError> {
        let Some((_, bound)) = self.away.upstream.get() else {
            return Ok(());
        };
        loop {
            // Held to the end, so that nobody makes one their own meanwhile.
            let mut state = self.away.state.lock();
            let mut go = Vec::new();
            while state.held.bytes + room > *bound && go.len() < EVICT {
                match state.held.pop_oldest() {
                    Some(one) => go.push(one),
                    None => break,
                }
            }
            if go.is_empty() {
                return Ok(());
            }
            let dropped = self.index.drop_fetched(&go);
            if let Err(e) = dropped.and_then(|()| self.index.settle()) {
                for (digest, size) in go.into_iter().rev() {
                    state.held.put_last(digest, size);
                }
                return Err(e);
            }
            for (digest, size) in &go {
                self.hot.remove(digest);
                self.open.remove(digest);
                self.verify.forget(digest);
                if *size > SMALL {
                    self.unlink(digest)?;
                }
            }
            self.count(3, go.len() as u64);
        }
    }
}
