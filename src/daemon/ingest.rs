//! An archive that becomes a sealed tree of its own (PROOT, FROM an archive, import).

use super::archive::entry::Kind as TarKind;
use super::archive::{ArchiveError, Sink};
use pocker_store::object::Meta;
use pocker_store::{Ingest, IngestDone, IngestError, Special, Store};
use std::io::Read;
use std::sync::Arc;

/// Feeds an archive's entries to the store's ingest.
pub struct IngestSink {
    ingest: Ingest,
}

fn failed(path: &[u8], e: IngestError) -> ArchiveError {
    ArchiveError::Store {
        path: path.escape_ascii().to_string(),
        source: Box::new(e),
    }
}

impl IngestSink {
    pub fn new(store: &Arc<Store>) -> IngestSink {
        IngestSink {
            ingest: store.ingest(),
        }
    }

    /// The new tree; it is safe from garbage collection while the result is held.
    pub fn finish(self, clamp: Option<i64>) -> Result<IngestDone, ArchiveError> {
        self.ingest.finish(clamp).map_err(|e| failed(b".", e))
    }
}

impl Sink for IngestSink {
    fn dir(&mut self, path: &[u8], meta: Meta) -> Result<(), ArchiveError> {
        self.ingest.dir(path, meta).map_err(|e| failed(path, e))
    }

    fn file(
        &mut self,
        path: &[u8],
        meta: Meta,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        self.ingest
            .file(path, meta, size, data)
            .map_err(|e| failed(path, e))
    }

    fn symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), ArchiveError> {
        self.ingest
            .symlink(path, meta, target)
            .map_err(|e| failed(path, e))
    }

    fn special(&mut self, path: &[u8], meta: Meta, kind: TarKind) -> Result<(), ArchiveError> {
        let special = match kind {
            TarKind::Char(rdev) => Special::Char(rdev),
            TarKind::Block(rdev) => Special::Block(rdev),
            _ => Special::Fifo,
        };
        self.ingest
            .special(path, meta, special)
            .map_err(|e| failed(path, e))
    }

    fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        self.ingest
            .hardlink(path, target)
            .map_err(|e| failed(path, e))
    }
}
