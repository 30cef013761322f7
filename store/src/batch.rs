//! Many puts that become visible at once, durably: what ingest and seal write through.
//!
//! Small blobs and objects go to the index in transactions of a few MiB on the way; nothing
//! refers to them before [`Batch::commit`], whose one durable transaction covers them too, as the
//! log is ordered. Large blobs wait in `staging/`. Commit: data durable, rename, folders
//! durable, then the rows.

use crate::blob::{SMALL, Staged};
use crate::error::StoreError;
use crate::failpoint;
use crate::index::{
    Large, Packed, Step, Sync, drop_step, forget_promises, put_large, put_objects, put_small,
    put_snapshot, put_step,
};
use crate::object::{
    Counts, DirObject, Entry, ObjectSink, SnapshotData, digest_of, edit_dir, put_dir,
};
use crate::sealed::SealedTree;
use crate::store::Store;
use crate::types::Digest;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes held back for one transaction.
const PENDING_BYTES: usize = 4 << 20;
/// Rows held back for one transaction.
const PENDING_ROWS: usize = 4096;
/// st_blocks counts these (POSIX leaves the unit open; all our systems agree).
const STAT_BLOCK: u64 = 512;

/// A file that becomes a large blob.
struct Incoming {
    path: PathBuf,
    digest: Digest,
    large: Large,
    /// Ours, removed if the batch is dropped.
    _staged: Option<Staged>,
}

/// What [`Batch::commit`] made.
#[derive(Clone, Default)]
pub struct Committed {
    /// Digest and ordinal of each snapshot put, in order.
    pub snapshots: Vec<(Digest, u32)>,
    /// Their trees, open: garbage collection leaves them alone as long as these are held.
    pub trees: Vec<Arc<SealedTree>>,
    /// The step that holds now, for each one put: the first of a key wins.
    pub steps: Vec<Step>,
}

/// Dropped without a commit, it leaves nothing that anything refers to.
pub struct Batch {
    store: Arc<Store>,
    /// With whether it is an object: a file may hold a directory's bytes.
    pinned: HashSet<(Digest, bool)>,
    /// Blobs that are in the store and stay there.
    kept: Vec<Digest>,
    roots: Vec<Digest>,
    claimed: Vec<Digest>,
    blobs: Vec<(Digest, Packed)>,
    objects: Vec<(Digest, Vec<u8>)>,
    pending: usize,
    incoming: Vec<Incoming>,
    /// Files whose blob is there already: they go at the commit.
    surplus: Vec<PathBuf>,
    snapshots: Vec<(Digest, Counts)>,
    /// With whether the step takes the place of one that its key has.
    steps: Vec<(Step, bool)>,
}

impl Batch {
    pub(crate) fn new(store: Arc<Store>) -> Batch {
        Batch {
            store,
            pinned: HashSet::new(),
            kept: Vec::new(),
            roots: Vec::new(),
            claimed: Vec::new(),
            blobs: Vec::new(),
            objects: Vec::new(),
            pending: 0,
            incoming: Vec::new(),
            surplus: Vec::new(),
            snapshots: Vec::new(),
            steps: Vec::new(),
        }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Blobs that something refers to now: they stay as long as the batch is there. They count as
    /// put by nobody.
    pub(crate) fn keep(&mut self, blobs: Vec<Digest>) {
        self.store.pins.pin_all(&blobs);
        self.kept.extend(blobs);
    }

    /// False where this batch has pinned, and so handled, the digest before.
    fn pin(&mut self, digest: Digest, object: bool) -> bool {
        let new = self.pinned.insert((digest, object));
        if new {
            self.store.pins.pin(digest);
        }
        new
    }

    /// What an upstream may have of it is this store's own from here on.
    fn claim(&mut self, digest: &Digest) -> Result<(), StoreError> {
        self.claimed.push(*digest);
        self.store.blobs().claim(digest)
    }

    fn has_large(&mut self, digest: &Digest) -> Result<bool, StoreError> {
        self.claim(digest)?;
        Ok(self.store.index.large(digest)?.is_some())
    }

    /// A blob of at most [`SMALL`] bytes.
    pub fn put_small_blob(&mut self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = digest_of(&bytes);
        if bytes.len() as u64 > SMALL {
            let staged = self.store.blobs().stage(&mut bytes.as_slice(), u64::MAX)?;
            return self.put_staged(staged);
        }
        if self.pin(digest, false) {
            self.claim(&digest)?;
            let packed = Packed::new(bytes);
            self.pending += packed.bytes.len();
            self.blobs.push((digest, packed));
            self.spill()?;
        }
        Ok(digest)
    }

    /// A blob of any size; its digest and size.
    pub fn put_reader(&mut self, reader: &mut dyn io::Read) -> Result<(Digest, u64), StoreError> {
        let mut head = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut *reader, SMALL + 1), &mut head)
            .map_err(StoreError::Input)?;
        let size = head.len() as u64;
        if size <= SMALL {
            return Ok((self.put_small_blob(head)?, size));
        }
        let mut all = io::Read::chain(head.as_slice(), reader);
        let staged = self.store.blobs().stage(&mut all, u64::MAX)?;
        let size = staged.size;
        Ok((self.put_staged(staged)?, size))
    }

    /// A file that [`crate::BlobStore::stage`] made.
    pub fn put_staged(&mut self, staged: Staged) -> Result<Digest, StoreError> {
        let digest = staged.digest;
        if staged.size <= SMALL {
            let bytes =
                std::fs::read(&staged.path).map_err(|e| StoreError::io("read", &staged.path, e))?;
            return self.put_small_blob(bytes);
        }
        if self.pin(digest, false) && !self.has_large(&digest)? {
            let large = Large {
                size: staged.size,
                used: staged.used,
            };
            let path = staged.path.clone();
            self.incoming.push(Incoming {
                path,
                digest,
                large,
                _staged: Some(staged),
            });
        }
        Ok(digest)
    }

    /// A file of the caller's, on the store's file system, with the digest and size that the caller
    /// found and that nobody writes to any more. At the commit it is renamed into the
    /// blob area, or removed where the blob is there already; till then it stays.
    pub fn put_large(
        &mut self,
        path: PathBuf,
        digest: Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        let meta = path
            .metadata()
            .map_err(|e| StoreError::io("stat", &path, e))?;
        if meta.len() != size {
            return Err(StoreError::BlobSize {
                digest,
                expected: size,
                found: meta.len(),
            });
        }
        if size <= SMALL {
            let bytes = std::fs::read(&path).map_err(|e| StoreError::io("read", &path, e))?;
            self.put_small_blob(bytes)?;
            self.surplus.push(path);
        } else if self.pin(digest, false) && !self.has_large(&digest)? {
            let large = Large {
                size,
                used: size.min(meta.blocks() * STAT_BLOCK),
            };
            self.incoming.push(Incoming {
                path,
                digest,
                large,
                _staged: None,
            });
        } else {
            self.surplus.push(path);
        }
        Ok(())
    }

    /// A directory of `entries`, sorted by name and unique. What they name must be
    /// put in this batch or be held by a tree that is open.
    pub fn put_dir(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<(Digest, Counts), StoreError> {
        put_dir(self, entries)
    }

    /// The directory that `base` becomes by `changes` (`None`: the name goes). Costs
    /// the pages that change.
    pub fn edit_dir(
        &mut self,
        base: &Digest,
        changes: &BTreeMap<Vec<u8>, Option<Entry>>,
    ) -> Result<(Digest, Counts), StoreError> {
        edit_dir(self, base, changes)
    }

    /// Its ordinal is known when the batch is committed.
    pub fn put_snapshot(&mut self, data: &SnapshotData) -> Result<Digest, StoreError> {
        let digest = self.put_object(data.encode()?)?;
        self.snapshots.push((digest, data.counts));
        Ok(digest)
    }

    /// Its snapshot must be put in this batch before or be in the store.
    pub fn put_step(&mut self, step: Step) -> Result<(), StoreError> {
        self.add_step(step, false)
    }

    /// The same, in place of the step that its key has: it was built again on purpose.
    pub fn replace_step(&mut self, step: Step) -> Result<(), StoreError> {
        self.add_step(step, true)
    }

    fn add_step(&mut self, step: Step, replace: bool) -> Result<(), StoreError> {
        self.pin(step.key, true);
        self.roots.push(step.snapshot);
        self.store.pins.pin_root(step.snapshot);
        let own = self
            .snapshots
            .iter()
            .any(|(digest, _)| *digest == step.snapshot);
        if !own && self.store.index.ordinal(&step.snapshot)?.is_none() {
            return Err(StoreError::Missing {
                kind: "snapshot",
                digest: step.snapshot,
            });
        }
        self.steps.push((step, replace));
        Ok(())
    }

    fn spill(&mut self) -> Result<(), StoreError> {
        if self.pending < PENDING_BYTES && self.blobs.len() + self.objects.len() < PENDING_ROWS {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.store
            .index
            .put_bytes(Sync::Ordered, &self.blobs, &self.objects)?;
        self.blobs.clear();
        self.objects.clear();
        self.pending = 0;
        Ok(())
    }

    /// Makes all of it durable and visible.
    pub fn commit(mut self) -> Result<Committed, StoreError> {
        let files: Vec<_> = self
            .incoming
            .iter()
            .map(|i| (i.path.clone(), i.digest))
            .collect();
        self.store.blobs().area.adopt(&files)?;
        failpoint::pass("batch.adopted");
        let promises = self.store.index.has_promises()?;
        let bytes = self.pending as u64 + 64 * (self.incoming.len() as u64 + 1);
        let done = self
            .store
            .index
            .write("commit a batch", Sync::Full, bytes, |tx| {
                put_small(tx, &self.blobs)?;
                put_objects(tx, &self.objects)?;
                for file in &self.incoming {
                    put_large(tx, &file.digest, &file.large)?;
                }
                if promises {
                    forget_promises(tx, self.claimed.iter())?;
                }
                let mut done = Committed::default();
                for (digest, counts) in &self.snapshots {
                    let ordinal = put_snapshot(tx, digest, counts.nodes, counts.bytes)?;
                    done.snapshots.push((*digest, ordinal));
                }
                for (step, replace) in &self.steps {
                    if *replace {
                        drop_step(tx, &step.key)?;
                    }
                    done.steps.push(put_step(tx, step)?);
                }
                Ok(done)
            });
        let mut done = done.map_err(out_of_ordinals)?;
        failpoint::pass("batch.committed");
        for (digest, _) in &done.snapshots {
            done.trees.push(self.store.sealed(digest)?);
        }
        for path in std::mem::take(&mut self.surplus) {
            if let Err(e) = std::fs::remove_file(&path) {
                tracing::warn!("remove {}: {e}", path.display());
            }
        }
        Ok(done)
    }
}

/// The one constraint that a commit can meet is the one on ordinals.
fn out_of_ordinals(e: StoreError) -> StoreError {
    match &e {
        StoreError::Db { source, .. }
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
        {
            StoreError::Ordinals
        }
        _ => e,
    }
}

impl ObjectSink for Batch {
    fn put_object(&mut self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = digest_of(&bytes);
        if self.pin(digest, true) {
            self.pending += bytes.len();
            self.objects.push((digest, bytes));
            self.spill()?;
        }
        Ok(digest)
    }

    fn dir_object(&mut self, digest: &Digest) -> Result<DirObject, StoreError> {
        if self.objects.iter().any(|(d, _)| d == digest) {
            self.flush()?;
        }
        self.store.objects.dir(digest)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.store.blobs().unclaim(self.claimed.drain(..));
        self.store.pins.release(
            self.pinned
                .drain()
                .map(|(digest, _)| digest)
                .chain(self.kept.drain(..)),
            self.roots.drain(..),
        );
    }
}
