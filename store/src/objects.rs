//! Directory objects, decoded once and shared by all trees of a store.

use crate::cache::{Cache, CacheUse};
use crate::error::StoreError;
use crate::index::Index;
use crate::object::{DirObject, Malformed, Page, SnapshotData, digest_of};
use crate::places::Places;
use crate::types::Digest;
use std::sync::Arc;

/// Bytes of decoded pages and indexes in memory: those of a million nodes, with some 100 bytes
/// each, so that calls on such a tree cost what they cost on a small one.
const OBJECT_BYTES: usize = 128 << 20;

pub(crate) struct Objects {
    index: Arc<Index>,
    dirs: Cache<Digest, DirObject>,
    pub places: Places,
}

impl Objects {
    pub fn new(index: Arc<Index>) -> Objects {
        Objects {
            index,
            dirs: Cache::new(OBJECT_BYTES),
            places: Places::default(),
        }
    }

    pub fn cache(&self) -> CacheUse {
        self.dirs.usage()
    }

    /// An object's bytes, checked against its name.
    pub fn bytes(&self, kind: &'static str, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let missing = StoreError::Missing {
            kind,
            digest: *digest,
        };
        let bytes = self.index.object(digest)?.ok_or(missing)?;
        if digest_of(&bytes) != *digest {
            let why = Malformed::new(kind, 0, "the bytes do not have this digest");
            return Err(StoreError::corrupt(*digest, why));
        }
        Ok(bytes)
    }

    pub fn dir(&self, digest: &Digest) -> Result<DirObject, StoreError> {
        if let Some(dir) = self.dirs.get(digest) {
            return Ok(dir);
        }
        let dir = self.read_dir(digest)?;
        self.dirs.put(*digest, dir.clone(), dir.weight() + 256);
        Ok(dir)
    }

    /// As [`Objects::dir`], past the cache.
    pub fn read_dir(&self, digest: &Digest) -> Result<DirObject, StoreError> {
        let bytes = self.bytes("directory", digest)?;
        DirObject::parse(bytes).map_err(|e| StoreError::corrupt(*digest, e))
    }

    /// A directory object that must be a page.
    pub fn page(&self, digest: &Digest) -> Result<Arc<Page>, StoreError> {
        match self.dir(digest)? {
            DirObject::Page(page) => Ok(page),
            DirObject::Index(_) => {
                let why = Malformed::new("directory page", 5, "an index where a page belongs");
                Err(StoreError::corrupt(*digest, why))
            }
        }
    }

    pub fn snapshot(&self, digest: &Digest) -> Result<SnapshotData, StoreError> {
        let bytes = self.bytes("snapshot", digest)?;
        SnapshotData::parse(&bytes).map_err(|e| StoreError::corrupt(*digest, e))
    }

    pub fn forget(&self, digest: &Digest) {
        self.dirs.remove(digest);
    }
}
