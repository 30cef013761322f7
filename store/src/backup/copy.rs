//! Copies of files, databases and blobs.

use crate::error::StoreError;
use crate::sys::{next_data, next_hole};
use crate::types::Digest;
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Read and written at once.
const BUFFER: usize = 1 << 20;

/// `blobs/aa/aabb…`, below a store.
pub(super) fn blob_name(digest: &Digest) -> PathBuf {
    let hex = digest.to_string();
    ["blobs", &hex[..2], &hex].iter().collect()
}

/// One that is there already is fine.
pub(crate) fn make_dir(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::io("create", path, e))
        }
        _ => Ok(()),
    }
}

fn new_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| StoreError::io("create", path, e))
}

fn open(path: &Path) -> Result<File, StoreError> {
    File::open(path).map_err(|e| StoreError::io("open", path, e))
}

/// A new file with the same bytes: blocks shared where the file system can, holes left out.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let (source, target) = (open(from)?, new_file(to)?);
    if crate::work::reflink(&source, &target).is_ok() {
        return Ok(());
    }
    let run = || -> io::Result<()> {
        let size = source.metadata()?.len();
        let mut buffer = vec![0; BUFFER];
        let mut at = 0;
        while at < size {
            at = next_data(&source, at).min(size);
            let end = next_hole(&source, at).min(size);
            while at < end {
                let want = (end - at).min(BUFFER as u64) as usize;
                let got = source.read_at(&mut buffer[..want], at)?;
                if got == 0 {
                    // Truncated meanwhile: it is copied once more.
                    break;
                }
                target.write_all_at(&buffer[..got], at)?;
                at += got as u64;
            }
            if at < end {
                break;
            }
        }
        target.set_len(size)
    };
    run().map_err(|e| StoreError::io("copy to", to, e))
}

/// As [`copy_file`], of a blob: how many bytes it has, and whether they have its digest.
pub(super) fn copy_checked(
    from: &Path,
    to: &Path,
    digest: &Digest,
) -> Result<(u64, bool), StoreError> {
    let (source, target) = (open(from)?, new_file(to)?);
    let run = || -> io::Result<(u64, bool)> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        let mut at = 0;
        loop {
            let got = match source.read_at(&mut buffer, at) {
                Ok(0) => break,
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            hash.update(&buffer[..got]);
            crate::blob::write_sparse(&target, &buffer[..got], at)?;
            at += got as u64;
        }
        target.set_len(at)?;
        crate::sys::begin_writing(&target);
        Ok((at, Digest(hash.finalize().into()) == *digest))
    };
    run().map_err(|e| StoreError::io("copy to", to, e))
}

/// The same of a blob whose bytes come out of `from`. Where that gives no more, as a frame that
/// rotted, the copy is what it gave, and bad.
pub(super) fn write_checked(
    from: &mut dyn io::Read,
    to: &Path,
    digest: &Digest,
) -> Result<(u64, bool), StoreError> {
    let target = new_file(to)?;
    let fail = |e| StoreError::io("unpack to", to, e);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let (mut at, mut whole) = (0, true);
    loop {
        let got = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                tracing::error!("unpack blob {digest}: {e}");
                whole = false;
                break;
            }
        };
        hash.update(&buffer[..got]);
        crate::blob::write_sparse(&target, &buffer[..got], at).map_err(fail)?;
        at += got as u64;
    }
    target.set_len(at).map_err(fail)?;
    crate::sys::begin_writing(&target);
    Ok((at, whole && Digest(hash.finalize().into()) == *digest))
}

/// The empty file that [`copy_database`] fills: ours, so that its mode is.
pub(crate) fn new_database(to: &Path) -> Result<(), StoreError> {
    new_file(to).map(drop)
}

/// Fills `to`, which is empty, with what `conn` sees in one read transaction, free pages left out.
pub(crate) fn copy_database(conn: &Connection, to: &Path) -> rusqlite::Result<()> {
    let Some(name) = to.to_str() else {
        // SQLite takes names as text.
        return Err(rusqlite::Error::InvalidPath(to.to_path_buf()));
    };
    conn.execute("VACUUM INTO ?1", [name]).map(drop)
}

/// Another store than the one it is a copy of: handles of that one mean nothing here.
pub(super) fn renew(index: &Connection) -> rusqlite::Result<()> {
    let random =
        |e: getrandom::Error| rusqlite::Error::ToSqlConversionFailure(e.to_string().into());
    let (mut id, mut secret) = ([0; 16], [0; 32]);
    getrandom::fill(&mut id).map_err(random)?;
    getrandom::fill(&mut secret).map_err(random)?;
    let put = "UPDATE meta SET value = ?2 WHERE key = ?1";
    index.execute(put, ("store_id", &id[..]))?;
    index.execute(put, ("secret", &secret[..])).map(drop)
}
