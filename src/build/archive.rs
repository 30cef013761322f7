//! FROM archive: a tar file of this host, compression undone, its digest verified while it streams.

use super::BuildError;
use super::tools::{Event, Phase, Progress};
use crate::image::ImageError;
use crate::image::plain::plain;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What can stand behind FROM.
const TAKEN: &str = "FROM takes tar archives, plain or compressed with gzip, zstd or xz";

/// The file as it is on disk: counted, hashed, interruptible.
struct Raw<'a> {
    file: File,
    /// Of what was read, which the archive looks at when all was.
    hash: Rc<RefCell<Sha256>>,
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
        let count = self.file.read(out)?;
        self.hash.borrow_mut().update(&out[..count]);
        self.done += count as u64;
        self.progress.event(Event::Bytes {
            phase: Phase::Ingest,
            done: self.done,
            total: Some(self.total),
        });
        Ok(count)
    }
}

/// The tar stream inside an archive; it ends well only if the archive is the pinned one.
pub struct Archive<'a> {
    path: PathBuf,
    pinned: String,
    stream: Box<dyn Read + 'a>,
    hash: Rc<RefCell<Sha256>>,
    cancelled: &'a AtomicBool,
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
        let file = File::open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        let refuse = |why: String, hint: String| BuildError::Archive {
            path: path.to_owned(),
            why,
            hint,
        };
        if !meta.is_file() {
            let hint = "FROM takes an archive, not what is in one".to_owned();
            return Err(refuse("it is not a regular file".to_owned(), hint));
        }
        let hash = Rc::new(RefCell::new(Sha256::new()));
        let raw = Raw {
            file,
            hash: hash.clone(),
            done: 0,
            total: meta.len(),
            progress,
            cancelled,
        };
        let stream = plain(raw).map_err(|e| match ImageError::inside(&e) {
            Some(image) => refuse(image.message.clone(), image.hint.clone()),
            // Its first bytes are read here already.
            None if cancelled.load(Ordering::Relaxed) => BuildError::Cancelled,
            None => fail(e),
        })?;
        Ok(Archive {
            path: path.to_owned(),
            pinned: pinned.to_owned(),
            stream,
            hash,
            cancelled,
            checked: false,
            failure: None,
        })
    }

    /// The reason this stream broke, where it did; else `other`, which its reader gave.
    pub fn failure(&mut self, other: BuildError) -> BuildError {
        if self.cancelled.load(Ordering::Relaxed) {
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
        let hash = std::mem::take(&mut *self.hash.borrow_mut());
        let found = hex::encode(hash.finalize());
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
        match self.stream.read(out) {
            Ok(0) => self.check().map(|()| 0),
            Ok(count) => Ok(count),
            Err(e) => {
                if self.failure.is_none() {
                    let image = ImageError::inside(&e).cloned();
                    let image = image.unwrap_or_else(|| ImageError::new(e.to_string(), TAKEN));
                    self.failure = Some(BuildError::Archive {
                        path: self.path.clone(),
                        why: image.message,
                        hint: image.hint,
                    });
                }
                Err(e)
            }
        }
    }
}
