//! The layers of an image, one on another: what a layer hides of those below it is said by names
//! (OCI image specification, "Layer", "Whiteouts").

use super::entry::{Kind, WHITEOUT};
use super::{ArchiveError, Sink, entries};
use crate::control::layers::Frames;
use crate::daemon::ingest::IngestSink;
use pocker_store::object::Meta;
use std::io::Read;

const OPAQUE: &[u8] = b".wh..wh..opq";
/// What a union file system that is long gone left in layers.
const REMAINS: &[u8] = b".wh..wh.";

/// Reads framed layers, the lowest first. How many entries there were.
pub fn read(stream: &mut dyn Read, sink: &mut IngestSink) -> Result<u64, ArchiveError> {
    let mut frames = Frames::new(stream);
    let mut count = 0;
    while frames.next_layer().map_err(ArchiveError::Read)? {
        let mut layer = Layer { sink };
        // Whoever sends them knows each layer's digest, so that one without an end marker is whole.
        count += entries(&mut frames, &mut layer)?.0;
        std::io::copy(&mut frames, &mut std::io::sink()).map_err(ArchiveError::Read)?;
        sink.next_layer();
    }
    Ok(count)
}

struct Layer<'a> {
    sink: &'a mut IngestSink,
}

/// What a name means in a layer.
enum Said<'p> {
    Entry,
    /// This path of the layers below is hidden.
    Hides(Vec<u8>),
    /// All below this directory is.
    Opaque(&'p [u8]),
    Nothing,
}

fn said(path: &[u8]) -> Said<'_> {
    let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let (dir, name) = path.split_at(at);
    let Some(hidden) = name.strip_prefix(WHITEOUT) else {
        return Said::Entry;
    };
    match name {
        OPAQUE => Said::Opaque(dir),
        _ if name.starts_with(REMAINS) || hidden.is_empty() => Said::Nothing,
        _ => Said::Hides([dir, hidden].concat()),
    }
}

impl Layer<'_> {
    /// Whether the entry is one, and no whiteout.
    fn takes(&mut self, path: &[u8]) -> Result<bool, ArchiveError> {
        match said(path) {
            Said::Entry => return Ok(true),
            Said::Hides(path) => self.sink.hide(&path)?,
            Said::Opaque(dir) => self.sink.hide_below(dir)?,
            Said::Nothing => {}
        }
        Ok(false)
    }
}

impl Sink for Layer<'_> {
    fn dir(&mut self, path: &[u8], meta: Meta) -> Result<(), ArchiveError> {
        match self.takes(path)? {
            true => self.sink.dir(path, meta),
            false => Ok(()),
        }
    }

    fn file(
        &mut self,
        path: &[u8],
        meta: Meta,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        match self.takes(path)? {
            true => self.sink.file(path, meta, size, data),
            false => Ok(()),
        }
    }

    fn symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), ArchiveError> {
        match self.takes(path)? {
            true => self.sink.symlink(path, meta, target),
            false => Ok(()),
        }
    }

    fn special(&mut self, path: &[u8], meta: Meta, kind: Kind) -> Result<(), ArchiveError> {
        match self.takes(path)? {
            true => self.sink.special(path, meta, kind),
            false => Ok(()),
        }
    }

    fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        match self.takes(path)? {
            true => self.sink.hardlink(path, target),
            false => Ok(()),
        }
    }
}
