//! An archive that becomes a sealed tree of its own (PROOT, FROM an archive, import).

use super::archive::entry::Kind as TarKind;
use super::archive::{ArchiveError, Sink};
use pocker_store::object::{Body, Meta};
use pocker_store::types::Digest;
use pocker_store::{Ingest, IngestError, Store};
use std::io::Read;

/// Feeds an archive's entries to the store's ingest.
pub struct IngestSink<'a> {
    ingest: Ingest<'a>,
}

fn failed(path: &[u8], e: IngestError) -> ArchiveError {
    ArchiveError::Store { path: path.escape_ascii().to_string(), source: Box::new(e) }
}

impl<'a> IngestSink<'a> {
    pub fn new(store: &'a Store) -> Result<IngestSink<'a>, ArchiveError> {
        let ingest = store.ingest().map_err(|e| ArchiveError::Store {
            path: ".".into(),
            source: Box::new(e),
        })?;
        Ok(IngestSink { ingest })
    }

    pub fn finish(self, clamp: Option<i64>) -> Result<Digest, ArchiveError> {
        Ok(self.ingest.finish(clamp).map_err(|e| failed(b".", e))?.snapshot)
    }
}

impl Sink for IngestSink<'_> {
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
        self.ingest.file(path, meta, size, data).map_err(|e| failed(path, e))
    }

    fn symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), ArchiveError> {
        self.ingest.symlink(path, meta, target).map_err(|e| failed(path, e))
    }

    fn special(&mut self, path: &[u8], meta: Meta, kind: TarKind) -> Result<(), ArchiveError> {
        let body = match kind {
            TarKind::Char(rdev) => Body::Char(rdev),
            TarKind::Block(rdev) => Body::Block(rdev),
            _ => Body::Fifo,
        };
        self.ingest.special(path, meta, body).map_err(|e| failed(path, e))
    }

    fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        self.ingest.hardlink(path, target).map_err(|e| failed(path, e))
    }
}
