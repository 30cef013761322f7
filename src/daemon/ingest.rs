//! An archive that becomes a sealed tree of its own (PROOT, FROM an archive, import).

use super::archive::entry::Kind as TarKind;
use super::archive::{ArchiveError, Sink};
use pocker_store::object::Meta;
use pocker_store::{Ingest, IngestDone, IngestError, IngestLimits, Special, Store};
use std::io::Read;
use std::sync::Arc;

/// Feeds an archive's entries to the store's ingest.
pub struct IngestSink {
    ingest: Ingest,
    from_outside: bool,
}

/// Devices that every root has, as Linux numbers them: null, zero, full, random, urandom; tty,
/// console, ptmx.
const COMMON: [(u32, u32); 8] = [
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (1, 9),
    (5, 0),
    (5, 1),
    (5, 2),
];

fn failed(path: &[u8], e: IngestError) -> ArchiveError {
    match e {
        IngestError::Store(e) => ArchiveError::Store {
            path: path.escape_ascii().to_string(),
            source: Box::new(e),
        },
        IngestError::Input { source, .. } => ArchiveError::Read(source),
        // Its own text names the path.
        refused => ArchiveError::Refused(refused.to_string()),
    }
}

impl IngestSink {
    /// `from_outside`: whoever made the archive is not known to mean well, so that nothing in it may
    /// be read in two ways, and devices are those that every root has.
    pub fn new(store: &Arc<Store>, from_outside: bool) -> IngestSink {
        let limits = IngestLimits {
            once: from_outside,
            ..IngestLimits::default()
        };
        IngestSink {
            ingest: store.ingest_within(limits),
            from_outside,
        }
    }

    /// What comes now lies on what came before.
    pub fn next_layer(&mut self) {
        self.ingest.next_layer();
    }

    pub fn hide(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        self.ingest.hide(path).map_err(|e| failed(path, e))
    }

    pub fn hide_below(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        self.ingest.hide_below(path).map_err(|e| failed(path, e))
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
        if self.from_outside
            && let TarKind::Char(rdev) | TarKind::Block(rdev) = &kind
            && !(matches!(kind, TarKind::Char(_)) && COMMON.contains(&(rdev.major, rdev.minor)))
        {
            return Err(ArchiveError::Device {
                path: path.escape_ascii().to_string(),
                major: rdev.major,
                minor: rdev.minor,
            });
        }
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
