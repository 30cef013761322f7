//! What trees take on disk: together, each for itself, and each of itself alone.

use crate::error::StoreError;
use crate::object::{BodyRef, DirObject, Page};
use crate::store::Store;
use crate::types::Digest;
use std::collections::{HashMap, HashSet};

/// What some trees, which somebody holds together, take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldSizes {
    /// Bytes as they are stored, each content once.
    pub stored: u64,
    /// Of these what nobody else holds.
    pub own: u64,
    /// What each tree has that none before it had.
    pub added: Vec<u64>,
}

/// All that is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub held: Vec<HeldSizes>,
    /// Each content once, whoever holds it.
    pub stored: u64,
}

/// A blob or directory that somebody holds.
struct Content {
    stored: u64,
    /// The first who was found to hold it.
    holder: usize,
    shared: bool,
}

#[derive(Default)]
struct Count {
    all: HashMap<Digest, Content>,
}

impl Store {
    /// Sizes of what each holder's snapshots reach, in the order of `holders`. Looks at every
    /// directory, and at the contents of no file.
    pub fn sizes(&self, holders: &[Vec<Digest>]) -> Result<Sizes, StoreError> {
        let mut count = Count::default();
        let mut sizes = Sizes::default();
        for (holder, snapshots) in holders.iter().enumerate() {
            let mut seen = HashSet::new();
            let mut held = HeldSizes::default();
            for snapshot in snapshots {
                let added = count.snapshot(self, holder, snapshot, &mut seen)?;
                held.added.push(added);
                held.stored += added;
            }
            sizes.held.push(held);
        }
        for content in count.all.values() {
            sizes.stored += content.stored;
            if !content.shared {
                sizes.held[content.holder].own += content.stored;
            }
        }
        Ok(sizes)
    }

    /// Bytes that a blob or an object takes as it is stored.
    fn stored(&self, digest: &Digest) -> Result<u64, StoreError> {
        match self.blobs.packed_size(digest) {
            Some(packed) => Ok(packed),
            None => self.index.stored_size(digest),
        }
    }
}

impl Count {
    /// What the snapshot has that is not in `seen`.
    fn snapshot(
        &mut self,
        store: &Store,
        holder: usize,
        digest: &Digest,
        seen: &mut HashSet<Digest>,
    ) -> Result<u64, StoreError> {
        if !seen.insert(*digest) {
            return Ok(0);
        }
        let data = store.objects.snapshot(digest)?;
        let mut added = self.one(store, holder, digest)?;
        let mut todo = vec![data.root_dir];
        while let Some(dir) = todo.pop() {
            if !seen.insert(dir) {
                continue;
            }
            added += self.one(store, holder, &dir)?;
            // Not through the cache, as in a collection.
            match store.objects.read_dir(&dir)? {
                DirObject::Index(index) => todo.extend((0..index.len()).map(|p| index.digest(p))),
                DirObject::Page(page) => {
                    for blob in blobs(&page, &mut todo) {
                        if seen.insert(blob) {
                            added += self.one(store, holder, &blob)?;
                        }
                    }
                }
            }
        }
        Ok(added)
    }

    fn one(&mut self, store: &Store, holder: usize, digest: &Digest) -> Result<u64, StoreError> {
        if let Some(known) = self.all.get_mut(digest) {
            known.shared |= known.holder != holder;
            return Ok(known.stored);
        }
        let content = Content {
            stored: store.stored(digest)?,
            holder,
            shared: false,
        };
        let stored = content.stored;
        self.all.insert(*digest, content);
        Ok(stored)
    }
}

fn blobs(page: &Page, todo: &mut Vec<Digest>) -> Vec<Digest> {
    let mut blobs = Vec::new();
    for slot in 0..page.len() {
        match page.entry(slot).map(|e| e.body) {
            Some(BodyRef::Dir { digest, .. }) => todo.push(digest),
            Some(BodyRef::File { blob, .. }) => blobs.push(blob),
            _ => {}
        }
    }
    blobs
}
