//! FROM archive: a tar file of this host, gzip undone, its digest verified while it streams.

use super::BuildError;
use super::tools::{Event, Phase, Progress};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const GZIP: &[u8] = &[0x1f, 0x8b];
/// Kinds that are told by name, with the command that makes a tar of them.
const OTHERS: [(&[u8], &str); 4] = [
    (
        b"\xfd7zXZ\0",
        "it is xz-compressed; `xz -dk` makes a tar of it",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "it is zstd-compressed; `zstd -dk` makes a tar of it",
    ),
    (
        b"BZh",
        "it is bzip2-compressed; `bzip2 -dk` makes a tar of it",
    ),
    (b"PK\x03\x04", "it is a zip file"),
];

/// The file as it is on disk: counted, hashed, interruptible.
struct Raw<'a> {
    file: File,
    /// The first bytes, read to tell the kind.
    head: Vec<u8>,
    hash: Sha256,
    done: u64,
    total: u64,
    progress: &'a mut dyn Progress,
    cancelled: &'a AtomicBool,
}

impl Read for Raw<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        let count = match self.head.is_empty() {
            true => self.file.read(out)?,
            false => {
                let count = out.len().min(self.head.len());
                out[..count].copy_from_slice(&self.head[..count]);
                self.head.drain(..count);
                count
            }
        };
        self.hash.update(&out[..count]);
        self.done += count as u64;
        self.progress.event(Event::Bytes {
            phase: Phase::Ingest,
            done: self.done,
            total: Some(self.total),
        });
        Ok(count)
    }
}

enum Source<'a> {
    Plain(Raw<'a>),
    Gzip(Box<MultiGzDecoder<Raw<'a>>>),
}

impl<'a> Source<'a> {
    fn raw(&mut self) -> &mut Raw<'a> {
        match self {
            Source::Plain(raw) => raw,
            Source::Gzip(decoder) => decoder.get_mut(),
        }
    }
}

/// The tar stream inside an archive; it ends well only if the archive is the pinned one.
pub struct Archive<'a> {
    path: PathBuf,
    pinned: String,
    source: Source<'a>,
    checked: bool,
    failure: Option<BuildError>,
}

impl<'a> Archive<'a> {
    pub fn open(
        path: &Path,
        pinned: &str,
        progress: &'a mut dyn Progress,
        cancelled: &'a AtomicBool,
    ) -> Result<Archive<'a>, BuildError> {
        let fail = |e| BuildError::io("read", path, e);
        let mut file = File::open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        let refuse = |why: &str| BuildError::Archive {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        if !meta.is_file() {
            return Err(refuse("it is not a regular file"));
        }
        let mut head = Vec::new();
        (&mut file).take(8).read_to_end(&mut head).map_err(fail)?;
        if let Some((_, why)) = OTHERS.iter().find(|(magic, _)| head.starts_with(magic)) {
            return Err(refuse(why));
        }
        let gzip = head.starts_with(GZIP);
        let raw = Raw {
            file,
            head,
            hash: Sha256::new(),
            done: 0,
            total: meta.len(),
            progress,
            cancelled,
        };
        Ok(Archive {
            path: path.to_owned(),
            pinned: pinned.to_owned(),
            source: match gzip {
                true => Source::Gzip(Box::new(MultiGzDecoder::new(raw))),
                false => Source::Plain(raw),
            },
            checked: false,
            failure: None,
        })
    }

    /// The reason this stream broke, where it did; else `other`, which its reader gave.
    pub fn failure(&mut self, other: BuildError) -> BuildError {
        if self.source.raw().cancelled.load(Ordering::Relaxed) {
            return BuildError::Cancelled;
        }
        self.failure.take().unwrap_or(other)
    }

    /// Reads what the stream's reader left, so that the digest is checked even if it stopped at tar's own end.
    pub fn verify(&mut self) -> Result<(), BuildError> {
        match io::copy(self, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(e) => {
                let path = self.path.clone();
                Err(self.failure(BuildError::io("read", &path, e)))
            }
        }
    }

    /// At the end of the file, all of which went into the hash.
    fn check(&mut self) -> io::Result<()> {
        let raw = self.source.raw();
        let found = hex::encode(std::mem::take(&mut raw.hash).finalize());
        if found != self.pinned {
            self.failure = Some(BuildError::Pin {
                path: self.path.clone(),
                found,
                pinned: self.pinned.clone(),
            });
            return Err(io::Error::other("the archive's digest differs"));
        }
        self.checked = true;
        Ok(())
    }
}

impl Read for Archive<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.checked {
            return Ok(0);
        }
        let read = match &mut self.source {
            Source::Plain(raw) => raw.read(out),
            Source::Gzip(decoder) => decoder.read(out),
        };
        match read {
            Ok(0) => self.check().map(|()| 0),
            Ok(count) => Ok(count),
            Err(e) => {
                if self.failure.is_none() {
                    self.failure = Some(BuildError::Archive {
                        path: self.path.clone(),
                        why: e.to_string(),
                    });
                }
                Err(e)
            }
        }
    }
}
