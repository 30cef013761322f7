//! Repairs, one finding at a time.
//!
//! Each under the lock of the pins, and none of what is pinned: a batch in progress relies on it, or is
//! about to put it anew.

use super::fault::{BlobFault, Fault, Repair, WorkFault};
use super::report::{Finding, Outcome};
use super::works;
use crate::error::StoreError;
use crate::index::{Doomed, Large, Table};
use crate::quarantine::Quarantine;
use crate::store::Store;
use crate::types::Digest;
use crate::work::Works;
use std::os::unix::fs::MetadataExt;

/// st_blocks counts these (POSIX leaves the unit open; all our systems agree).
const STAT_BLOCK: u64 = 512;
const BUSY: Outcome = Outcome::Left("a build in progress relies on it");
const CHANGED: Outcome = Outcome::Left("it changed since it was found");

pub(super) struct Mender<'a> {
    pub store: &'a Store,
    pub works: &'a [&'a Works],
}

impl Mender<'_> {
    /// One that fails does not keep the others from being tried, nor the report from being read.
    pub fn all(&self, findings: &mut [Finding]) {
        for finding in findings {
            let done = self.one(&finding.fault, finding.repair);
            finding.outcome = done.unwrap_or_else(|e| failed(&e));
        }
    }

    fn one(&self, fault: &Fault, repair: Repair) -> Result<Outcome, StoreError> {
        match (fault, repair) {
            (_, Repair::None) => Ok(Outcome::Found),
            (Fault::Work { tree, why }, _) => self.work(*tree, why),
            (Fault::Blob { digest, why }, _) => self.pinned(digest, || self.blob(digest, why)),
            (Fault::Object { digest, .. }, _) => self.pinned(digest, || self.object(digest)),
            (Fault::Step { key, snapshot }, _) => self.pinned(key, || self.step(key, snapshot)),
            (Fault::SnapshotRow { snapshot } | Fault::SnapshotSums { snapshot, .. }, _) => self
                .pinned(snapshot, || {
                    let counts = self.store.objects.snapshot(snapshot)?.counts;
                    let index = &self.store.index;
                    index.mend_snapshot(snapshot, counts.nodes, counts.bytes)?;
                    Ok(Outcome::Repaired)
                }),
            _ => Ok(Outcome::Found),
        }
    }

    fn pinned(
        &self,
        digest: &Digest,
        f: impl FnOnce() -> Result<Outcome, StoreError>,
    ) -> Result<Outcome, StoreError> {
        let pins = self.store.pins.lock();
        if pins.pinned(digest) {
            return Ok(BUSY);
        }
        let done = f();
        drop(pins);
        done
    }

    fn blob(&self, digest: &Digest, why: &BlobFault) -> Result<Outcome, StoreError> {
        match why {
            BlobFault::NoRow | BlobFault::RowSize { .. } => self.mend_row(digest),
            BlobFault::NoFile { .. } => self.drop_row(digest),
            BlobFault::Missing | BlobFault::NotAFile => Ok(Outcome::Found),
            _ if self.store.index.has_small(digest)? => self.small(digest),
            _ => self.large(digest),
        }
    }

    /// From the file, whose bytes have been found to be good.
    fn mend_row(&self, digest: &Digest) -> Result<Outcome, StoreError> {
        self.store.blobs.unpack(digest)?;
        let path = self.store.blobs.area.path(digest);
        let meta = path
            .symlink_metadata()
            .map_err(|e| StoreError::io("stat blob", &path, e))?;
        if meta.nlink() > 1 {
            return Ok(Outcome::Left("a work tree still has the file, too"));
        }
        let large = Large {
            size: meta.len(),
            used: meta.len().min(meta.blocks() * STAT_BLOCK),
        };
        self.store.index.mend_large(digest, &large)?;
        self.store.blobs.forget(digest);
        Ok(Outcome::Repaired)
    }

    fn drop_row(&self, digest: &Digest) -> Result<Outcome, StoreError> {
        let path = self.store.blobs.area.path(digest);
        if path.symlink_metadata().is_ok() || self.store.blobs.packed_size(digest).is_some() {
            return Ok(CHANGED);
        }
        self.remove(Table::LargeBlob, digest)
    }

    fn small(&self, digest: &Digest) -> Result<Outcome, StoreError> {
        let Some(bytes) = self.store.index.small(digest)? else {
            return Ok(CHANGED);
        };
        self.quarantine().write(&format!("blob-{digest}"), &bytes)?;
        self.remove(Table::SmallBlob, digest)
    }

    fn large(&self, digest: &Digest) -> Result<Outcome, StoreError> {
        let path = self.store.blobs.area.path(digest);
        match self.store.blobs.packed_path(digest) {
            Some(packed) if path.symlink_metadata().is_err() => self
                .quarantine()
                .link(&format!("blob-{digest}.zst"), &packed)?,
            _ => self.quarantine().link(&format!("blob-{digest}"), &path)?,
        }
        self.remove(Table::LargeBlob, digest)
    }

    fn object(&self, digest: &Digest) -> Result<Outcome, StoreError> {
        let Some(bytes) = self.store.index.object(digest)? else {
            return Ok(CHANGED);
        };
        self.quarantine()
            .write(&format!("object-{digest}"), &bytes)?;
        self.remove(Table::Object, digest)
    }

    fn step(&self, key: &Digest, snapshot: &Digest) -> Result<Outcome, StoreError> {
        if self.store.objects.snapshot(snapshot).is_ok() {
            // A build has put the snapshot again.
            return Ok(CHANGED);
        }
        self.store.index.remove_step(key)?;
        Ok(Outcome::Repaired)
    }

    fn quarantine(&self) -> Quarantine {
        Quarantine::of(self.store.dir())
    }

    /// Row, file, and what memory holds of it.
    fn remove(&self, table: Table, digest: &Digest) -> Result<Outcome, StoreError> {
        let row = Doomed {
            digest: *digest,
            bytes: 0,
            disk: 0,
        };
        self.store.remove(table, &[row])?;
        Ok(Outcome::Repaired)
    }

    fn work(&self, tree: u64, why: &WorkFault) -> Result<Outcome, StoreError> {
        let works = self.works.iter().find(|works| works.has(tree));
        match (works, why) {
            (Some(works), WorkFault::Unstaged { .. }) => {
                Ok(works::remove_unstaged(works, tree)?.unwrap_or(CHANGED))
            }
            _ => Ok(Outcome::Found),
        }
    }
}

pub(super) fn failed(e: &StoreError) -> Outcome {
    tracing::error!("repair: {e}");
    Outcome::Failed(e.to_string())
}
