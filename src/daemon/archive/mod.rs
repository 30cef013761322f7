//! Tar archives in and out of trees. Reading makes store objects, never host
//! paths, so nothing in an archive can reach the host.

pub mod check;
pub mod entry;
pub mod layers;
pub mod out;
mod pax;
pub mod step;
pub mod work;

use entry::{Kind, TarEntry};
use pocker_store::object::Meta;
use std::io::Read;

/// Most entries an archive may hold: a large distribution has a tenth.
pub const ENTRIES_MAX: u64 = 10_000_000;
/// Each entry begins with a block.
const HEADER: usize = 512;
/// Longest path in an archive (PATH_MAX).
pub const PATH_MAX: usize = 4096;
/// Of a path that is too long.
const SHOWN: usize = 256;

/// Why an archive was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the archive cannot be read")]
    Read(#[source] std::io::Error),
    #[error("it is not a tar archive")]
    NotTar,
    /// An archive without an end marker was cut between two entries.
    #[error("the archive is cut short: its end marker is missing")]
    Unended,
    #[error("entry {path}: {why}")]
    Entry { path: String, why: String },
    #[error("{path}…: a path longer than {PATH_MAX} bytes, which nobody reads from an archive")]
    Long { path: String },
    #[error("it holds more than {most} {what}, which is more than an archive may have")]
    Much { what: &'static str, most: u64 },
    #[error("the archive holds more than {ENTRIES_MAX} entries")]
    TooMany,
    #[error("{0}")]
    Refused(String),
    #[error("entry {path}: device {major}:{minor}, which no root needs")]
    Device {
        path: String,
        major: u32,
        minor: u32,
    },
    #[error("the archive cannot be stored: {path}")]
    Store {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ArchiveError {
    fn long(path: &[u8]) -> ArchiveError {
        let shown = &path[..path.len().min(SHOWN)];
        ArchiveError::Long {
            path: shown.escape_ascii().to_string(),
        }
    }
}

/// An extended attribute's name, where a record of tar can have it for its key.
fn sayable<'a>(path: &[u8], name: &'a [u8]) -> Result<&'a str, ArchiveError> {
    let text = std::str::from_utf8(name).ok();
    let text = text.filter(|text| !text.contains(['=', '\n']));
    text.ok_or_else(|| {
        ArchiveError::Refused(format!(
            "{}: the name of an extended attribute is not UTF-8 or has a `=`, which tar cannot carry",
            path.escape_ascii()
        ))
    })
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

/// Reads a whole tar stream into `sink`, to the stream's very end. How many entries there were.
pub fn read(mut stream: &mut dyn Read, sink: &mut dyn Sink) -> Result<u64, ArchiveError> {
    let mut first = [0];
    if fill(stream, &mut first).map_err(ArchiveError::Read)? == 0 {
        // What comes out of a pipe whose writer failed; an empty archive has an end marker.
        return Err(ArchiveError::Read(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let (entries, ended) = entries(&mut std::io::Read::chain(&first[..], &mut stream), sink)?;
    if !ended {
        return Err(ArchiveError::Unended);
    }
    // What follows the end marker belongs to the archive as well.
    std::io::copy(stream, &mut std::io::sink()).map_err(ArchiveError::Read)?;
    Ok(entries)
}

/// How many entries there were, and whether the archive said that it ends.
fn entries(stream: &mut dyn Read, sink: &mut dyn Sink) -> Result<(u64, bool), ArchiveError> {
    let mut head = [0; HEADER];
    let got = fill(stream, &mut head).map_err(ArchiveError::Read)?;
    if got > 0 && !is_header(&head[..got]) {
        return Err(ArchiveError::NotTar);
    }
    let mut stream = std::io::Read::chain(&head[..got], stream);
    let (lifting, lifted) = pax::Lifting::new(&mut stream);
    let ended = lifting.ended();
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
    Ok((count, ended.get()))
}

/// Whether an archive may begin so: its end, or a block with the sum of its own bytes
/// (POSIX pax, "ustar Interchange Format"). The parser would quote what it cannot read.
fn is_header(block: &[u8]) -> bool {
    let Ok(block) = <&[u8; HEADER]>::try_from(block) else {
        return false;
    };
    let (before, rest) = block.split_at(148);
    let (field, after) = rest.split_at(8);
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
    let sum = sum(before) + 8 * u32::from(b' ') + sum(after);
    let said = String::from_utf8_lossy(field);
    let said = said.trim_matches(['\0', ' ']);
    u32::from_str_radix(said, 8).is_ok_and(|said| said == sum) || block.iter().all(|b| *b == 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_archive_is_not_quoted() {
        let store = |bytes: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            let options = pocker_store::OpenOptions {
                create: true,
                ..Default::default()
            };
            let store = pocker_store::Store::open(dir.path(), options).unwrap();
            let mut sink = crate::daemon::ingest::IngestSink::new(&store, true);
            read(&mut &bytes[..], &mut sink)
        };
        let passwd = b"root:x:0:0:root:/root:/bin/bash\n".repeat(40);
        for wrong in [&passwd[..], b"short", &[0xff; 2048]] {
            assert!(matches!(store(wrong), Err(ArchiveError::NotTar)));
        }
        assert_eq!(store(&[0; 1024]).unwrap(), 0);
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_path("d").unwrap();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(0);
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
        assert_eq!(store(&tar.into_inner().unwrap()).unwrap(), 1);
    }
}
