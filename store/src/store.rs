//! The store: one folder, one process.
//!
//! # On disk
//! ```text
//! DIR/                 mode 0700
//!   lock               flock(2) held for the life of the store; holds the pid, empty after a clean end
//!   place              which folder this is, so that a copy of a store in use is known for one
//!   index.db           SQLite, WAL, synchronous=FULL: everything that sealed trees consist of
//!   work.db            work trees (their module's own)
//!   volumes.db         volumes (the same module's), once there was one
//!   blobs/aa/aabb…     large blobs, named by the SHA-256 of their bytes, sparse where they have zeros
//!   packed/aa/aabb…    large blobs that nobody used for long, as zstd frames
//!   staging/in/        blobs in the making
//!   staging/N/         staged files of work tree N (their module's own)
//!   volumes/N/         the same of volume N
//!   quarantine/        what a check found rotted and moved aside; nothing reads it or takes it away
//! ```
//! `index.db` has the format in user_version and named features in a table; a newer format or an
//! unknown incompatible feature is refused by name. Objects are described in [`crate::object`].
//!
//! # Visible only when durable
//! A blob's row says that it is there. Small ones are rows themselves. A large one: written in
//! `staging/`, hashed on the way, synced (one syncfs(2) for a batch), renamed, its folder synced, then
//! the row, in a transaction that is durable when it returns. Removal goes the other way round: row,
//! then file. So after a crash there may be files without rows, never rows without
//! files; opening a store that was not closed sweeps those that came since it was opened. `staging/in/`
//! is swept at every start. A commit that failed may have left its frames in the log, to be replayed
//! after a crash, so it is written over before a file goes that has no row.
//!
//! # Locking
//! One process: the lock. Inside it: one writer connection behind a mutex; readers have
//! their own and never wait. Nothing holds a read transaction over more than one call.
//!
//! # Garbage collection
//! Live is what the pockers' steps, pinned steps, the caller's roots and the trees that are open reach. What a batch in
//! progress wrote or found is pinned ([`crate::pins`]), so collection runs beside builds.

use crate::batch::Batch;
use crate::blob::{Area, BlobStore, Packs, Verified};
use crate::error::StoreError;
use crate::index::{IdAndBytes, Index, Pinned, Pocker, Step};
use crate::objects::Objects;
use crate::pins::Pins;
use crate::sealed::SealedTree;
use crate::trees::Trees;
use crate::types::Digest;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Snapshot ordinals are below this: they have 22 bits of a browse view's fileid.
pub const ORDINALS: u32 = 1 << 22;
/// Ids taken from the index at once, so that a new tree does not wait for a disk.
/// Those not used when the process ends are never used.
const ID_BLOCK: u64 = 256;

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Make the store where there is none.
    pub create: bool,
    /// What names this boot of the machine: work trees of another one are gone.
    pub boot_id: Vec<u8>,
}

/// Space of the file system that the store is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsSpace {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// What a process without privileges may use.
    pub avail_bytes: u64,
    pub total_files: u64,
    pub free_files: u64,
    pub avail_files: u64,
}

/// Where a store is: another one's bytes may lack what was not stable when they were copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    device: u64,
    inode: u64,
    /// Of the folder, where the file system keeps it: inode numbers are used again.
    made: (u64, u32),
}

impl Place {
    fn of(dir: &Path) -> std::io::Result<Place> {
        let meta = std::fs::metadata(dir)?;
        let made = meta.created().ok();
        let made = made.and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        Ok(Place {
            device: meta.dev(),
            inode: meta.ino(),
            made: made.map_or((0, 0), |t| (t.as_secs(), t.subsec_nanos())),
        })
    }
}

pub struct Store {
    dir: PathBuf,
    boot_id: Vec<u8>,
    place: Place,
    id: [u8; 16],
    secret: [u8; 32],
    epoch: Mutex<u64>,
    /// The next id, and the end of those taken.
    ids: Mutex<(u64, u64)>,
    pub(crate) index: Arc<Index>,
    pub(crate) blobs: Arc<BlobStore>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) pins: Pins,
    pub(crate) trees: Trees,
    /// Steps used since this was last written down, and when.
    used: Mutex<HashMap<Digest, i64>>,
}

impl Store {
    /// Opens the store in `dir` for this process alone.
    pub fn open(dir: &Path, options: OpenOptions) -> Result<Arc<Store>, StoreError> {
        let lock = crate::lock::lock(dir, options.create)?;
        let unclean = lock.unclean();
        let index = Arc::new(Index::open(&dir.join("index.db"), options.create, lock)?);
        let area = Area::open(dir)?;
        // Nothing else uses what is in the making, so this is safe after any end.
        let staged = area.sweep_incoming()?;
        if let Some(since) = unclean {
            tracing::info!("the store was not closed: swept {staged} blobs in the making");
            sweep(&area, &index, since)?;
        }
        let field = |key| index.meta(key).map(Option::unwrap_or_default);
        let damaged = |why| StoreError::NotAStore {
            path: dir.to_path_buf(),
            why,
        };
        let id = field("store_id")?
            .try_into()
            .map_err(|_| damaged("its id is damaged"))?;
        let secret = field("secret")?
            .try_into()
            .map_err(|_| damaged("its secret is damaged"))?;
        let epoch = field("error_epoch")?
            .try_into()
            .map_err(|_| damaged("its epoch is damaged"))?;
        let packs = Packs::open(dir)?;
        let blobs = Arc::new(BlobStore::new(index.clone(), area, packs));
        // It has its place: a kill came before the packed one went.
        for (digest, _) in blobs.packed() {
            if blobs.area.path(&digest).exists() {
                blobs.forget_packed(&digest)?;
            }
        }
        blobs.load_fetched()?;
        Ok(Arc::new(Store {
            dir: dir.to_path_buf(),
            boot_id: options.boot_id,
            place: Place::of(dir).map_err(|e| StoreError::io("stat", dir, e))?,
            id,
            secret,
            epoch: Mutex::new(u64::from_le_bytes(epoch)),
            ids: Mutex::new((0, 0)),
            objects: Arc::new(Objects::new(index.clone())),
            blobs,
            index,
            pins: Pins::default(),
            trees: Trees::default(),
            used: Mutex::default(),
        }))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn boot_id(&self) -> &[u8] {
        &self.boot_id
    }

    pub fn blobs(&self) -> &Arc<BlobStore> {
        &self.blobs
    }

    /// From now on blobs are checked against their digests when they are first read.
    pub fn verify_reads(&self) {
        self.blobs.verify_reads();
    }

    /// From now on what is not here and was promised is fetched when it is first read, and kept up to
    /// so many bytes.
    pub fn set_upstream(&self, upstream: Arc<dyn crate::Upstream>, cache: u64) {
        self.blobs.set_upstream(upstream, cache);
    }

    /// What checking reads has found; nothing where they are not checked.
    pub fn verified(&self) -> Option<Verified> {
        self.blobs.verified()
    }

    /// Names this store among all.
    pub fn store_id(&self) -> [u8; 16] {
        self.id
    }

    /// The key of the handles' MACs; never shown, never logged.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// A number for a tree or a run; never the same twice.
    pub fn next_id(&self) -> Result<u64, StoreError> {
        let mut ids = self.ids.lock();
        if ids.0 == ids.1 {
            let first = self.index.advance("next_id", ID_BLOCK)?;
            *ids = (first, first + ID_BLOCK);
        }
        ids.0 += 1;
        Ok(ids.0 - 1)
    }

    /// RFC 1813 §3.3.7: one value for WRITE and COMMIT; it changes when unstable data may be gone:
    /// with the machine's boot, the store's place, and after each write that failed.
    pub fn write_verifier(&self) -> [u8; 8] {
        let epoch = *self.epoch.lock();
        let mut hash = Sha256::new();
        hash.update((self.boot_id.len() as u64).to_le_bytes());
        hash.update(&self.boot_id);
        hash.update(self.id);
        let Place {
            device,
            inode,
            made,
        } = self.place;
        for word in [device, inode, made.0, made.1.into()] {
            hash.update(word.to_le_bytes());
        }
        hash.update(epoch.to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut verifier = [0; 8];
        verifier.copy_from_slice(&digest[..8]);
        verifier
    }

    /// A write or an fsync failed: what was unstable may be gone. The verifier changes even where
    /// the disk does not take the new epoch; the error then says that it is not durable.
    pub fn bump_error_epoch(&self) -> Result<(), StoreError> {
        let mut epoch = self.epoch.lock();
        *epoch += 1;
        self.index.put_meta("error_epoch", &epoch.to_le_bytes())
    }

    pub fn statfs(&self) -> Result<FsSpace, StoreError> {
        crate::sys::space(&self.dir).map_err(|e| StoreError::io("statvfs", &self.dir, e))
    }

    /// Puts that become visible together.
    pub fn write_batch(self: &Arc<Store>) -> Batch {
        Batch::new(self.clone())
    }

    /// The tree of a snapshot.
    pub fn sealed(&self, snapshot: &Digest) -> Result<Arc<SealedTree>, StoreError> {
        // A collection in progress must know before the rows are read.
        self.pins.touch(*snapshot);
        if let Some(tree) = self.trees.get(snapshot) {
            return Ok(tree);
        }
        let missing = StoreError::Missing {
            kind: "snapshot",
            digest: *snapshot,
        };
        let ordinal = self.index.ordinal(snapshot)?.ok_or(missing)?;
        let (objects, blobs) = (self.objects.clone(), self.blobs.clone());
        let tree = Arc::new(SealedTree::open(*snapshot, ordinal, objects, blobs)?);
        Ok(self.trees.keep(tree))
    }

    /// `None` where no snapshot has this ordinal.
    pub fn sealed_by_ordinal(&self, ordinal: u32) -> Result<Option<Arc<SealedTree>>, StoreError> {
        self.index
            .snapshot_of(ordinal)?
            .map(|digest| self.sealed(&digest))
            .transpose()
    }

    /// Digest and ordinal of every snapshot.
    pub fn snapshots(&self) -> Result<Vec<(Digest, u32)>, StoreError> {
        self.index.snapshots()
    }

    pub fn step(&self, key: &Digest) -> Result<Option<Step>, StoreError> {
        let step = self.index.step(key)?;
        match step {
            // Who asks is about to use it: a collection in progress leaves it. It may have just gone.
            Some(step) if self.pins.touch_step(*key, step.snapshot) => self.index.step(key),
            step => Ok(step),
        }
    }

    /// Oldest first.
    pub fn steps(&self) -> Result<Vec<Step>, StoreError> {
        self.index.steps()
    }

    /// Keeps the step unless its key has one: the first wins. The one that holds.
    pub fn put_step(self: &Arc<Store>, step: Step) -> Result<Step, StoreError> {
        self.keep_step(step, false)
    }

    /// Keeps the step in place of the one that its key has.
    pub fn replace_step(self: &Arc<Store>, step: Step) -> Result<Step, StoreError> {
        self.keep_step(step, true)
    }

    fn keep_step(self: &Arc<Store>, step: Step, replace: bool) -> Result<Step, StoreError> {
        let mut batch = self.write_batch();
        let key = step.key;
        if replace {
            batch.replace_step(step)?;
        } else {
            batch.put_step(step)?;
        }
        let missing = StoreError::Missing {
            kind: "step",
            digest: key,
        };
        batch.commit()?.steps.pop().ok_or(missing)
    }

    pub fn pocker(&self, name: &[u8]) -> Result<Option<Pocker>, StoreError> {
        self.index.pocker(name)
    }

    /// By name.
    pub fn pockers(&self) -> Result<Vec<Pocker>, StoreError> {
        self.index.pockers()
    }

    /// Makes or replaces the pocker of that name; its steps must be there.
    pub fn put_pocker(&self, pocker: &Pocker) -> Result<(), StoreError> {
        // Pinned first: a collection that begins meanwhile sees either the pins or the pocker.
        pocker.steps.iter().for_each(|key| self.pins.pin(*key));
        let mut roots = Vec::new();
        let put = self
            .pin_snapshots(&pocker.steps, &mut roots)
            .and_then(|()| self.index.put_pocker(pocker));
        self.pins
            .release(pocker.steps.iter().copied(), roots.into_iter());
        put
    }

    fn pin_snapshots(&self, keys: &[Digest], roots: &mut Vec<Digest>) -> Result<(), StoreError> {
        for key in keys {
            let step = self.index.step(key)?.ok_or(StoreError::Missing {
                kind: "step",
                digest: *key,
            })?;
            self.pins.pin_root(step.snapshot);
            roots.push(step.snapshot);
        }
        Ok(())
    }

    /// False where there was none. Its steps stay until [`Store::gc`].
    pub fn remove_pocker(&self, name: &[u8]) -> Result<bool, StoreError> {
        self.index.remove_pocker(name)
    }

    /// Keeps a step, and its tree, whatever else refers to it; false where there is none.
    pub fn pin_step(&self, pinned: &Pinned) -> Result<bool, StoreError> {
        // A collection in progress must know of it first.
        self.step(&pinned.key)?;
        self.index.pin_step(pinned)
    }

    /// False where it was not pinned.
    pub fn unpin_step(&self, key: &Digest) -> Result<bool, StoreError> {
        self.index.unpin_step(key)
    }

    /// By key.
    pub fn pinned_steps(&self) -> Result<Vec<Pinned>, StoreError> {
        self.index.pinned_steps()
    }

    /// The steps whose keys begin with these hexadecimal digits: two at most. None where they
    /// are no such digits.
    pub fn steps_named(&self, digits: &str) -> Result<Vec<Digest>, StoreError> {
        let lower = !digits.bytes().any(|b| b.is_ascii_uppercase());
        match (
            format!("{digits:0<64}").parse(),
            format!("{digits:f<64}").parse(),
        ) {
            (Ok(from), Ok(upto)) if lower => self.index.keys_between(&from, &upto),
            _ => Ok(Vec::new()),
        }
    }

    /// These steps were used at `now`, in seconds by the caller's clock. Kept in memory until
    /// [`Store::keep_uses`]; only collection asks for it.
    pub fn use_steps(&self, keys: &[Digest], now: i64) {
        let mut used = self.used.lock();
        for key in keys {
            let last = used.entry(*key).or_insert(now);
            *last = now.max(*last);
        }
    }

    /// Writes down what was used; a killed process forgets what was used since the last time.
    pub fn keep_uses(&self) -> Result<(), StoreError> {
        let used = self.used.lock().clone();
        if used.is_empty() {
            return Ok(());
        }
        self.index.put_uses(&used)?;
        // Never missing from both.
        self.used.lock().retain(|key, at| used.get(key) != Some(at));
        Ok(())
    }

    /// When steps were last used, as far as that was noted after they were made.
    pub fn uses(&self) -> Result<HashMap<Digest, i64>, StoreError> {
        let mut all = self.index.uses()?;
        for (key, at) in &*self.used.lock() {
            let last = all.entry(*key).or_insert(*at);
            *last = (*last).max(*at);
        }
        Ok(all)
    }

    /// When a step was last used: made, found by a build, or let go of.
    pub fn last_use(&self, step: &Step) -> Result<i64, StoreError> {
        let noted = self.used.lock().get(&step.key).copied();
        let written = self.index.use_of(&step.key)?;
        let all = [Some(step.created), noted, written];
        Ok(all.into_iter().flatten().max().unwrap_or(step.created))
    }

    /// The step's tree lacks what a repair set aside, and has not come back since: a build makes the
    /// step anew, in place of this one, and with the same content mends all that had it.
    pub fn is_lost(&self, key: &Digest) -> Result<bool, StoreError> {
        let Some(lost) = self.index.lost(key)? else {
            return Ok(false);
        };
        if lost.is_empty() {
            return Ok(true);
        }
        for digest in &lost {
            if !self.blobs.has(digest)?
                && self.index.promised(digest)?.is_none()
                && self.index.object(digest)?.is_none()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A document of the daemon's.
    pub fn record(&self, kind: &str, id: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.index.record(kind, id)
    }

    pub fn put_record(&self, kind: &str, id: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        self.index.put_record(kind, id, bytes)
    }

    /// False where there was none.
    pub fn delete_record(&self, kind: &str, id: &[u8]) -> Result<bool, StoreError> {
        self.index.delete_record(kind, id)
    }

    /// Id and bytes of each, by id.
    pub fn records(&self, kind: &str) -> Result<Vec<IdAndBytes>, StoreError> {
        self.index.records(kind)
    }
}

/// Removes what a process killed after it had opened the store at `since` left: files without a
/// row. Older ones have lost theirs, and a check may bring it back.
fn sweep(area: &Area, index: &Index, since: SystemTime) -> Result<(), StoreError> {
    let mut orphans = Vec::new();
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = (since.as_secs() as i64, i64::from(since.subsec_nanos()));
    area.each(&mut |digest| {
        if index.large(&digest)?.is_none() {
            let path = area.path(&digest);
            let meta = path.symlink_metadata();
            let meta = meta.map_err(|e| StoreError::io("stat blob", &path, e))?;
            // A rename sets it, and nobody else can.
            if (meta.ctime(), meta.ctime_nsec()) >= since {
                orphans.push(digest);
            }
        }
        Ok(())
    })?;
    for digest in &orphans {
        area.unlink(digest)?;
    }
    tracing::info!("swept {} blob files without a row", orphans.len());
    Ok(())
}
