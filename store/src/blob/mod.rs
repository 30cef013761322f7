//! The bytes of regular files, by their SHA-256: rows up to [`SMALL`], files beyond.

mod files;
mod held;
mod packed;
mod stage;
mod upstream;
mod verify;

pub use packed::PackReport;
use parking_lot::Mutex;
pub use stage::Staged;
pub(crate) use stage::write_sparse;
#[cfg(test)]
pub(crate) use upstream::WAITING_MAX;
pub use upstream::{Take, Upstream, UpstreamUse};
pub use verify::Verified;

use crate::cache::{Cache, CacheUse};
use crate::error::StoreError;
use crate::index::Index;
use crate::patience::about_to_wait;
use crate::types::Digest;
pub(crate) use files::Area;
pub(crate) use packed::Packs;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use verify::Verify;

/// Largest blob that is a row: SQLite reads one of this size faster than a file opens.
pub const SMALL: u64 = 16 * 1024;
/// Bytes of small blobs in memory.
const HOT_BYTES: usize = 16 << 20;
/// Descriptors of large blobs kept open, a quarter of the usual limit of 1024 a process.
const OPEN_FILES: usize = 256;
/// Large blobs whose space in use is remembered, with about 100 bytes each.
const USED_KNOWN: usize = 32_768;

/// Reads blobs, and stages new ones; a [`crate::Batch`] makes those part of the store.
pub struct BlobStore {
    index: Arc<Index>,
    pub(crate) area: Area,
    hot: Cache<Digest, Arc<[u8]>>,
    open: Cache<Digest, Arc<File>>,
    used: Cache<Digest, u64>,
    verify: Verify,
    packs: Mutex<Packs>,
    packing: packed::Packing,
    away: upstream::Away,
}

impl BlobStore {
    pub(crate) fn new(index: Arc<Index>, area: Area, packs: Packs) -> BlobStore {
        BlobStore {
            packs: Mutex::new(packs),
            packing: Default::default(),
            index,
            area,
            hot: Cache::new(HOT_BYTES),
            open: Cache::new(OPEN_FILES),
            used: Cache::new(USED_KNOWN),
            verify: Verify::default(),
            away: Default::default(),
        }
    }

    /// Of small blobs, and of descriptors of large ones.
    pub(crate) fn caches(&self) -> (CacheUse, CacheUse) {
        (self.hot.usage(), self.open.usage())
    }

    /// True where the blob is in the store.
    pub fn has(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.index.has_small(digest)? || self.index.large(digest)?.is_some())
    }

    /// All of a small blob.
    pub fn small(&self, digest: &Digest) -> Result<Arc<[u8]>, StoreError> {
        if let Some(bytes) = self.hot.get(digest) {
            return Ok(bytes);
        }
        let bytes: Arc<[u8]> = match self.index.small(digest)? {
            Some(bytes) => bytes.into(),
            None => {
                self.bring(digest)?;
                // Gone again where the cache is far too small; the next read brings it.
                let gone = StoreError::Away { digest: *digest };
                self.index.small(digest)?.ok_or(gone)?.into()
            }
        };
        self.read_now(digest);
        self.verify.small(digest, &bytes)?;
        self.hot.put(*digest, bytes.clone(), bytes.len() + 128);
        Ok(bytes)
    }

    /// A shared descriptor of a large blob.
    pub fn shared(&self, digest: &Digest) -> Result<Arc<File>, StoreError> {
        if let Some(file) = self.open.get(digest) {
            return Ok(file);
        }
        let file = Arc::new(self.open(digest)?);
        self.open.put(*digest, file.clone(), 1);
        Ok(file)
    }

    /// A descriptor of a large blob, for reading only, the caller's own.
    pub fn open(&self, digest: &Digest) -> Result<File, StoreError> {
        about_to_wait()?;
        let path = self.area.path(digest);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if !self.unpack(digest)? {
                    self.bring(digest)?;
                }
                File::open(&path)
            }
            file => file,
        };
        let file = file.map_err(|e| StoreError::io("open blob", &path, e))?;
        self.read_now(digest);
        self.verify.large(digest, &file, &path)?;
        Ok(file)
    }

    /// Appends up to `count` bytes from `offset` of a blob of `size` bytes to `out`.
    /// Less than that only at its end.
    pub fn read_at(
        &self,
        digest: &Digest,
        size: u64,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let count = u64::from(count).min(size.saturating_sub(offset)) as usize;
        if count == 0 {
            return Ok(());
        }
        let short = |found| StoreError::BlobSize {
            digest: *digest,
            expected: size,
            found,
        };
        if size <= SMALL {
            let bytes = self.small(digest)?;
            let at = offset as usize;
            out.extend_from_slice(bytes.get(at..at + count).ok_or(short(bytes.len() as u64))?);
            return Ok(());
        }
        let file = self.shared(digest)?;
        if crate::sys::read_cached(&file, out, offset, count) {
            return Ok(());
        }
        about_to_wait()?;
        let start = out.len();
        out.resize(start + count, 0);
        file.read_exact_at(&mut out[start..], offset).map_err(|e| {
            out.truncate(start);
            match (e.kind(), file.metadata()) {
                (io::ErrorKind::UnexpectedEof, Ok(meta)) => short(meta.len()),
                _ => StoreError::io("read blob", &self.area.path(digest), e),
            }
        })
    }

    /// Bytes on disk without holes, as stat(2)'s blocks have it.
    pub fn used(&self, digest: &Digest, size: u64) -> Result<u64, StoreError> {
        if size <= SMALL {
            return Ok(size);
        }
        if let Some(used) = self.used.get(digest) {
            return Ok(used);
        }
        let used = self.index.large(digest)?.map_or(size, |l| l.used);
        self.used.put(*digest, used, 1);
        Ok(used)
    }

    /// Writes `reader`'s bytes to a staged file, hashing them on the way, at most `limit`
    /// of them. Runs of zeros become holes.
    pub fn stage(&self, reader: &mut dyn io::Read, limit: u64) -> Result<Staged, StoreError> {
        stage::stage(&self.area, reader, limit)
    }

    /// From now on blobs are checked against their digests when they are first read, by whatever
    /// way. What memory holds of those that were read before goes, so that they are read again.
    pub(crate) fn verify_reads(&self) {
        self.verify.switch_on();
        self.hot.clear();
        self.open.clear();
    }

    pub(crate) fn verified(&self) -> Option<Verified> {
        self.verify.is_on().then(|| self.verify.report())
    }

    /// Its file is about to go, though not the blob.
    fn forget_open(&self, digest: &Digest) {
        self.open.remove(digest);
        self.verify.forget(digest);
    }

    /// Bytes that go when a large blob goes, its file or its packed one.
    pub(crate) fn takes(&self, digest: &Digest) -> Result<u64, StoreError> {
        let packed = self.packed_size(digest).unwrap_or(0);
        Ok(self.area.takes(digest)? + packed)
    }

    /// Removes what there is of a large blob.
    pub(crate) fn unlink(&self, digest: &Digest) -> Result<(), StoreError> {
        self.forget_packed(digest)?;
        self.area.unlink(digest)
    }

    /// The blob is going: nothing in memory may outlive it.
    pub(crate) fn forget(&self, digest: &Digest) {
        self.hot.remove(digest);
        self.open.remove(digest);
        self.used.remove(digest);
        self.verify.forget(digest);
        self.forget_fetched(digest);
    }
}
