//! Tar archives in and out of trees. Reading makes store objects, never host
//! paths, so nothing in an archive can reach the host.

pub mod entry;
pub mod out;
mod pax;
pub mod work;

use entry::{Kind, TarEntry};
use pocker_store::object::Meta;
use std::io::Read;

/// Most entries an archive may hold: a large distribution has a tenth.
pub const ENTRIES_MAX: u64 = 10_000_000;
/// Longest path in an archive (PATH_MAX).
pub const PATH_MAX: usize = 4096;

/// Why an archive was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the archive cannot be read")]
    Read(#[source] std::io::Error),
    #[error("entry {path}: {why}")]
    Entry { path: String, why: String },
    #[error("the archive holds more than {ENTRIES_MAX} entries")]
    TooMany,
    #[error("the archive cannot be stored: {path}")]
    Store {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where an archive's entries go. Paths are relative, without "." and "..".
pub trait Sink {
    fn dir(&mut self, path: &[u8], meta: Meta) -> Result<(), ArchiveError>;
    fn file(
        &mut self,
        path: &[u8],
        meta: Meta,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), ArchiveError>;
    fn symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), ArchiveError>;
    fn special(&mut self, path: &[u8], meta: Meta, kind: Kind) -> Result<(), ArchiveError>;
    fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError>;
}

/// Reads a whole tar stream into `sink`, to the stream's very end; gzip is told by its first
/// bytes. How many entries there were.
pub fn read(stream: &mut dyn Read, sink: &mut dyn Sink) -> Result<u64, ArchiveError> {
    let mut head = [0; 2];
    let got = fill(stream, &mut head).map_err(ArchiveError::Read)?;
    if got == 0 {
        // What comes out of a pipe whose writer failed; an empty archive has an end marker.
        return Err(ArchiveError::Read(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let joined = std::io::Read::chain(&head[..got], &mut *stream);
    let entries = if head == [0x1f, 0x8b] {
        let mut plain = flate2::read::MultiGzDecoder::new(joined);
        let entries = entries(&mut plain, sink)?;
        std::io::copy(&mut plain, &mut std::io::sink()).map_err(ArchiveError::Read)?;
        entries
    } else {
        let mut plain = joined;
        let entries = entries(&mut plain, sink)?;
        std::io::copy(&mut plain, &mut std::io::sink()).map_err(ArchiveError::Read)?;
        entries
    };
    // What follows the end marker belongs to the archive as well.
    std::io::copy(stream, &mut std::io::sink()).map_err(ArchiveError::Read)?;
    Ok(entries)
}

fn entries(stream: &mut dyn Read, sink: &mut dyn Sink) -> Result<u64, ArchiveError> {
    let (lifting, lifted) = pax::Lifting::new(stream);
    let mut archive = tar::Archive::new(lifting);
    let mut count = 0;
    for entry in archive.entries().map_err(ArchiveError::Read)? {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        count += 1;
        if count > ENTRIES_MAX {
            return Err(ArchiveError::TooMany);
        }
        let lifted = std::mem::take(&mut *lifted.borrow_mut());
        let Some(found) = entry::parse(&mut entry, &lifted)? else {
            continue;
        };
        let TarEntry { path, meta, kind } = found;
        match kind {
            Kind::Dir => sink.dir(&path, meta)?,
            Kind::File => {
                let size = entry.size();
                sink.file(&path, meta, size, &mut entry)?;
            }
            Kind::Symlink(target) => sink.symlink(&path, meta, &target)?,
            Kind::HardLink(target) => sink.hardlink(&path, &target)?,
            special => sink.special(&path, meta, special)?,
        }
    }
    Ok(count)
}

fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match from.read(&mut buffer[got..])? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}
