//! What the store tells about itself: what it holds, and how its caches do. Cheap enough to be
//! asked every few seconds, however large the store is: no blob is looked at.

use crate::cache::CacheUse;
use crate::error::StoreError;
use crate::store::Store;
use std::os::unix::fs::MetadataExt;

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sealed trees, and the bytes of all their files by name: what they would take unshared.
    pub snapshots: u64,
    pub logical_bytes: u64,
    pub steps: u64,
    pub pockers: u64,
    /// Bytes on disk of `index.db`: directories and small blobs.
    pub index_bytes: u64,
    /// Blobs that are files of their own, and their bytes on disk, holes left out.
    pub large_blobs: u64,
    pub large_bytes: u64,
}

impl Usage {
    /// Bytes on disk for all sealed trees.
    pub fn stored_bytes(&self) -> u64 {
        self.index_bytes + self.large_bytes
    }
}

impl Store {
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut usage = self.index.read("count what there is", |conn| {
            conn.query_row(
                "SELECT (SELECT count(*) FROM snapshot), (SELECT coalesce(sum(bytes), 0) FROM snapshot),
                    (SELECT count(*) FROM step), (SELECT count(*) FROM pocker),
                    (SELECT count(*) FROM large_blob), (SELECT coalesce(sum(used), 0) FROM large_blob)",
                [],
                |r| {
                    let number = |at| r.get::<_, i64>(at).map(|n| n as u64);
                    Ok(Usage {
                        snapshots: number(0)?,
                        logical_bytes: number(1)?,
                        steps: number(2)?,
                        pockers: number(3)?,
                        index_bytes: 0,
                        large_blobs: number(4)?,
                        large_bytes: number(5)?,
                    })
                },
            )
        })?;
        for (digest, packed) in self.blobs.packed() {
            let used = self.index.large(&digest)?.map_or(0, |large| large.used);
            usage.large_bytes = usage.large_bytes.saturating_sub(used) + packed;
        }
        let path = self.dir().join("index.db");
        let meta = std::fs::metadata(&path).map_err(|e| StoreError::io("look at", &path, e))?;
        usage.index_bytes = meta.blocks() * 512;
        Ok(usage)
    }

    /// Each cache by its name.
    pub fn caches(&self) -> [(&'static str, CacheUse); 3] {
        let (blobs, files) = self.blobs.caches();
        [
            ("directories", self.objects.cache()),
            ("small blobs", blobs),
            ("blob files", files),
        ]
    }
}
