//! Blobs checked against their digests when they are first read (`serve --verify-reads`).
//!
//! A large blob is read and hashed once, by the first who reads it or asks for its descriptor;
//! others who come meanwhile wait for that. Which ones were good is remembered, a bounded number of
//! them; so is which ones were not. A small one is hashed whenever its row is read, which costs less
//! than remembering it.

use crate::error::StoreError;
use crate::patience::about_to_wait;
use crate::types::Digest;
use parking_lot::{Condvar, Mutex};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Good blobs remembered, with about 40 bytes each. When there are more all are forgotten, and
/// checked again when they are read next.
const GOOD_MAX: usize = 1 << 18;
/// Bad blobs remembered. More of them are checked at each read, and refused each time.
const BAD_MAX: usize = 1 << 12;
/// Read and hashed at once.
const BUFFER: usize = 1 << 20;

/// What checking reads has found since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub blobs: u64,
    pub bytes: u64,
    /// Those whose bytes are not what was put, as far as they are remembered, and what their
    /// bytes are.
    pub bad: Vec<(Digest, Digest)>,
    /// Reads that were refused.
    pub refused: u64,
}

#[derive(Default)]
struct Known {
    good: HashSet<Digest>,
    bad: HashMap<Digest, Digest>,
    /// Being hashed now.
    busy: BTreeSet<Digest>,
}

#[derive(Default)]
pub(super) struct Verify {
    on: AtomicBool,
    known: Mutex<Known>,
    /// One was hashed.
    done: Condvar,
    blobs: AtomicU64,
    bytes: AtomicU64,
    refused: AtomicU64,
}

impl Verify {
    pub fn switch_on(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// An error where a small blob's bytes are not its own.
    pub fn small(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if !self.is_on() {
            return Ok(());
        }
        let found = crate::object::digest_of(bytes);
        self.count(bytes.len() as u64);
        match found == *digest {
            true => Ok(()),
            false => {
                let mut known = self.known.lock();
                Err(self.bad(&mut known, *digest, found))
            }
        }
    }

    /// An error where a large blob's file holds other bytes than its own.
    pub fn large(&self, digest: &Digest, file: &File, path: &Path) -> Result<(), StoreError> {
        if !self.is_on() {
            return Ok(());
        }
        let mut known = self.known.lock();
        loop {
            if known.good.contains(digest) {
                return Ok(());
            }
            if let Some(found) = known.bad.get(digest).copied() {
                return Err(self.refuse(*digest, found));
            }
            about_to_wait()?;
            if known.busy.insert(*digest) {
                break;
            }
            self.done.wait(&mut known);
        }
        drop(known);
        let hashed = hash(file);
        let mut known = self.known.lock();
        known.busy.remove(digest);
        self.done.notify_all();
        let (found, bytes) = hashed.map_err(|e| StoreError::io("read blob", path, e))?;
        self.count(bytes);
        if found != *digest {
            return Err(self.bad(&mut known, *digest, found));
        }
        if known.good.len() >= GOOD_MAX {
            known.good.clear();
        }
        known.good.insert(*digest);
        Ok(())
    }

    fn count(&self, bytes: u64) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn bad(&self, known: &mut Known, digest: Digest, found: Digest) -> StoreError {
        if known.bad.len() < BAD_MAX || known.bad.contains_key(&digest) {
            known.bad.insert(digest, found);
        }
        self.refuse(digest, found)
    }

    fn refuse(&self, digest: Digest, found: Digest) -> StoreError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        StoreError::Rotted { digest, found }
    }

    /// The blob goes, or comes back: what was known of it is known no more.
    pub fn forget(&self, digest: &Digest) {
        let mut known = self.known.lock();
        known.good.remove(digest);
        known.bad.remove(digest);
    }

    pub fn report(&self) -> Verified {
        let known = self.known.lock();
        let mut bad: Vec<_> = known.bad.iter().map(|(a, b)| (*a, *b)).collect();
        bad.sort();
        Verified {
            blobs: self.blobs.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            bad,
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// Digest and size, whatever the descriptor's own position is.
fn hash(file: &File) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    loop {
        let got = match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok((Digest(hash.finalize().into()), at)),
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hash.update(&buffer[..got]);
        at += got as u64;
    }
}
