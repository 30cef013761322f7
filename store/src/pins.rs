//! What garbage collection must leave alone although nothing refers to it yet.
//!
//! A batch pins each digest before it asks whether the store has it, and until it ends. While a
//! collection runs, pins are kept until the collection ends: it may have
//! looked at the references before the batch committed its own. The collection removes rows and
//! files only under the lock of this table, and nothing that is pinned. A check of the
//! store ([`crate::fsck`]) counts as a collection.

use crate::types::Digest;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;

#[derive(Default)]
pub(crate) struct Pins {
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    counts: HashMap<Digest, u32>,
    /// Snapshots that a batch in progress refers to: all below them stays.
    roots: HashMap<Digest, u32>,
    collection: Option<Collection>,
}

#[derive(Default)]
struct Collection {
    /// Pins to let go when it ends.
    held: Vec<Digest>,
    held_roots: Vec<Digest>,
    /// Snapshots that came into use since it began.
    fresh: Vec<Digest>,
}

impl State {
    pub fn pinned(&self, digest: &Digest) -> bool {
        self.counts.contains_key(digest)
    }

    /// Snapshots that came into use since this was last asked.
    pub fn take_fresh(&mut self) -> Vec<Digest> {
        self.collection
            .as_mut()
            .map(|c| std::mem::take(&mut c.fresh))
            .unwrap_or_default()
    }
}

fn up(map: &mut HashMap<Digest, u32>, digest: Digest) {
    *map.entry(digest).or_default() += 1;
}

fn down(map: &mut HashMap<Digest, u32>, digest: Digest) {
    if let Some(count) = map.get_mut(&digest) {
        *count -= 1;
        if *count == 0 {
            map.remove(&digest);
        }
    }
}

impl Pins {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub fn pin(&self, digest: Digest) {
        up(&mut self.lock().counts, digest);
    }

    pub fn pin_all(&self, digests: &[Digest]) {
        let state = &mut *self.lock();
        digests.iter().for_each(|d| up(&mut state.counts, *d));
    }

    /// A snapshot and all below it.
    pub fn pin_root(&self, snapshot: Digest) {
        let state = &mut *self.lock();
        up(&mut state.roots, snapshot);
        if let Some(c) = &mut state.collection {
            c.fresh.push(snapshot);
        }
    }

    /// Lets go of what a batch pinned.
    pub fn release(&self, pins: impl Iterator<Item = Digest>, roots: impl Iterator<Item = Digest>) {
        let state = &mut *self.lock();
        match &mut state.collection {
            Some(c) => {
                c.held.extend(pins);
                c.held_roots.extend(roots);
            }
            None => {
                pins.for_each(|d| down(&mut state.counts, d));
                roots.for_each(|d| down(&mut state.roots, d));
            }
        }
    }

    /// A snapshot came into use. False where no collection runs, and so nothing had to be done.
    pub fn touch(&self, snapshot: Digest) -> bool {
        match &mut self.lock().collection {
            Some(c) => {
                c.fresh.push(snapshot);
                true
            }
            None => false,
        }
    }

    /// A step came into use, and so its snapshot; as [`Pins::touch`].
    pub fn touch_step(&self, key: Digest, snapshot: Digest) -> bool {
        let state = &mut *self.lock();
        let Some(c) = &mut state.collection else {
            return false;
        };
        c.fresh.push(snapshot);
        c.held.push(key);
        up(&mut state.counts, key);
        true
    }

    /// Starts a collection: the snapshots that batches refer to. `None` where one runs.
    pub fn begin(&self) -> Option<(CollectionGuard<'_>, Vec<Digest>)> {
        let mut state = self.lock();
        if state.collection.is_some() {
            return None;
        }
        state.collection = Some(Collection::default());
        Some((
            CollectionGuard { pins: self },
            state.roots.keys().copied().collect(),
        ))
    }
}

/// A collection in progress; it ends when this is dropped.
pub(crate) struct CollectionGuard<'a> {
    pins: &'a Pins,
}

impl Drop for CollectionGuard<'_> {
    fn drop(&mut self) {
        let state = &mut *self.pins.lock();
        if let Some(c) = state.collection.take() {
            c.held.into_iter().for_each(|d| down(&mut state.counts, d));
            c.held_roots
                .into_iter()
                .for_each(|d| down(&mut state.roots, d));
        }
    }
}
