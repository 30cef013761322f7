//! Which blobs came from an upstream and may go again, and which this store has made its own.

use crate::types::Digest;
use lru::LruCache;
use std::collections::HashMap;

/// One that is being kept now: by how many, and whether somebody made it their own meanwhile.
#[derive(Default)]
struct Coming {
    by: u32,
    owned: bool,
}

pub(super) struct Held {
    /// Blobs that may go, by when they were read, with their sizes.
    lru: LruCache<Digest, u64>,
    pub bytes: u64,
    coming: HashMap<Digest, Coming>,
    /// Blobs of batches in progress: whatever is brought of them stays.
    claims: HashMap<Digest, u32>,
}

impl Default for Held {
    fn default() -> Held {
        Held {
            lru: LruCache::unbounded(),
            bytes: 0,
            coming: HashMap::new(),
            claims: HashMap::new(),
        }
    }
}

impl Held {
    pub fn has(&self, digest: &Digest) -> bool {
        self.lru.contains(digest)
    }

    pub fn put(&mut self, digest: Digest, size: u64) {
        if self.lru.put(digest, size).is_none() {
            self.bytes += size;
        }
    }

    /// As the one that goes next.
    pub fn put_last(&mut self, digest: Digest, size: u64) {
        self.put(digest, size);
        self.lru.demote(&digest);
    }

    /// It was read.
    pub fn promote(&mut self, digest: &Digest) {
        self.lru.promote(digest);
    }

    /// It may not go any more; false where it never might.
    pub fn pop(&mut self, digest: &Digest) -> bool {
        match self.lru.pop(digest) {
            Some(size) => {
                self.bytes -= size;
                true
            }
            None => false,
        }
    }

    /// The one that was not read for longest.
    pub fn pop_oldest(&mut self) -> Option<(Digest, u64)> {
        let (digest, size) = self.lru.pop_lru()?;
        self.bytes -= size;
        Some((digest, size))
    }

    /// It stays; true where it might have gone.
    pub fn own(&mut self, digest: &Digest) -> bool {
        if let Some(coming) = self.coming.get_mut(digest) {
            coming.owned = true;
        }
        self.pop(digest)
    }

    /// As [`Held::own`], and so does what comes of it until [`Held::unclaim`].
    pub fn claim(&mut self, digest: &Digest) -> bool {
        *self.claims.entry(*digest).or_default() += 1;
        self.own(digest)
    }

    pub fn unclaim(&mut self, digest: &Digest) {
        if let Some(claims) = self.claims.get_mut(digest) {
            *claims -= 1;
            if *claims == 0 {
                self.claims.remove(digest);
            }
        }
    }

    /// It is about to be kept.
    pub fn begin(&mut self, digest: Digest) {
        let owned = self.claims.contains_key(&digest);
        let coming = self.coming.entry(digest).or_default();
        coming.by += 1;
        coming.owned |= owned;
    }

    /// Somebody made it their own since [`Held::begin`].
    pub fn is_owned(&self, digest: &Digest) -> bool {
        self.coming.get(digest).is_some_and(|coming| coming.owned)
    }

    pub fn end(&mut self, digest: &Digest) {
        if let Some(coming) = self.coming.get_mut(digest) {
            coming.by -= 1;
            if coming.by == 0 {
                self.coming.remove(digest);
            }
        }
    }
}
