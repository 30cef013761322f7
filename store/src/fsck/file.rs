//! One large blob's file, read from end to end.

use super::fault::BlobFault;
use crate::error::StoreError;
use crate::types::Digest;
use nix::errno::Errno as Os;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Read and hashed at once.
pub(super) const BUFFER: usize = 1 << 20;

/// What a file turned out to be.
pub(super) enum Look {
    /// Its bytes have its digest.
    Good {
        size: u64,
    },
    Bad(BlobFault),
    Gone,
}

/// Hashes the file at `path`, which should hold `expected` bytes where that is known.
/// `read` is told of bytes as they are read, and may end the check.
pub(super) fn look(
    path: &Path,
    digest: &Digest,
    expected: Option<u64>,
    buffer: &mut Vec<u8>,
    read: &mut dyn FnMut(u64) -> Result<(), StoreError>,
) -> Result<Look, StoreError> {
    // Not opened before it is known to be a file: opening a FIFO may never end.
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) => return failed("stat blob", path, e),
    };
    if !meta.is_file() {
        return Ok(Look::Bad(BlobFault::NotAFile));
    }
    match File::open(path) {
        Ok(mut file) => hashed(&mut file, path, (digest, expected), buffer, read),
        Err(e) => failed("open blob", path, e),
    }
}

/// Hashes the bytes that come out of `file`.
pub(super) fn hashed(
    file: &mut dyn Read,
    path: &Path,
    (digest, expected): (&Digest, Option<u64>),
    buffer: &mut Vec<u8>,
    read: &mut dyn FnMut(u64) -> Result<(), StoreError>,
) -> Result<Look, StoreError> {
    let mut hash = Sha256::new();
    let mut size = 0;
    buffer.resize(BUFFER, 0);
    loop {
        let got = match file.read(buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return failed("read blob", path, e),
        };
        hash.update(&buffer[..got]);
        size += got as u64;
        read(got as u64)?;
    }
    let found = Digest(hash.finalize().into());
    Ok(match expected {
        _ if found == *digest => Look::Good { size },
        Some(expected) if size < expected => Look::Bad(BlobFault::Truncated {
            expected,
            found: size,
        }),
        _ => Look::Bad(BlobFault::Rotted { found }),
    })
}

/// A fault of the file, unless it is this process that lacks something.
fn failed(what: &'static str, path: &Path, e: io::Error) -> Result<Look, StoreError> {
    let Some(errno) = e.raw_os_error() else {
        return Err(StoreError::io(what, path, e));
    };
    match Os::from_raw(errno) {
        Os::ENOENT => Ok(Look::Gone),
        Os::EMFILE | Os::ENFILE | Os::ENOMEM | Os::EAGAIN => Err(StoreError::io(what, path, e)),
        _ => Ok(Look::Bad(BlobFault::Unreadable { errno })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_lacks_is_no_fault_of_the_file() {
        let look = |os: Os| {
            let e = io::Error::from_raw_os_error(os as i32);
            failed("read", Path::new("blob"), e)
        };
        assert!(matches!(
            look(Os::EIO),
            Ok(Look::Bad(BlobFault::Unreadable { .. }))
        ));
        assert!(matches!(look(Os::EACCES), Ok(Look::Bad(_))));
        assert!(matches!(look(Os::ENOENT), Ok(Look::Gone)));
        for os in [Os::EMFILE, Os::ENFILE, Os::ENOMEM] {
            assert!(look(os).is_err(), "{os}");
        }
    }
}
