//! A backup of a store that is in use, and a store made of one.
//!
//! # On disk
//! ```text
//! DIR/                 mode 0700
//!   pocker-backup      says what DIR is; flock(2) held while a backup or a restore runs
//!   current            a link to the number of the last whole backup
//!   N/                 that backup: a store, with an id and a secret of its own
//!   N.partial/         one in the making; the next backup removes what a crash left
//! ```
//! A backup begins where the one before it is: blobs that are in both are one file. So it copies
//! what is new, and `current` moves in one rename, when all of it is on disk.
//!
//! # As of when
//! The volumes are of one moment ([`crate::work`]), the index of a later one, and no collection
//! runs until the end: so all that the volumes and the index refer to is there. The trees of builds
//! and runs are not part of it, as they do not survive their machine.

mod copy;
mod making;
mod place;
mod restore;
#[cfg(test)]
mod tests;

pub(crate) use copy::{copy_database, copy_file, make_dir, new_database};
pub use place::WITHIN;
pub use restore::{Restored, restore};

use crate::error::StoreError;
use crate::store::Store;
use crate::types::Digest;
use crate::work::Works;
use place::Place;
use rusqlite::Connection;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The index in the making, in a backup and in what is restored of one.
const INDEX_PARTIAL: &str = "index.db.partial";

#[derive(Clone, Copy, Default)]
pub struct BackupOptions<'a> {
    /// The store's volumes, where it has any.
    pub volumes: Option<&'a Works>,
    /// Kinds of records that are left out: they speak of what ends with the server.
    pub leave: &'a [&'a str],
}

/// What a backup consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    /// The store that it is.
    pub path: PathBuf,
    pub volumes: u64,
    /// Large blobs, and how many of them are copies made now; the others are one file with the
    /// store's or with the last backup's.
    pub blobs: u64,
    pub copied: u64,
    pub copied_bytes: u64,
    /// Copies whose bytes are not their blob's: they rotted in the store.
    pub rotted: Vec<Digest>,
    /// Blobs whose files are not there.
    pub missing: Vec<Digest>,
    /// Blobs that are not in the backup, and that the store's upstream has: it is promised there as well.
    pub promised: u64,
}

impl Store {
    /// Makes a backup in `dir`, which is new, empty, or has backups already. Everything else goes
    /// on meanwhile, but for collections and checks.
    pub fn backup(&self, dir: &Path, options: &BackupOptions<'_>) -> Result<Backup, StoreError> {
        let place = Place::prepare(dir, self.dir())?;
        let (_guard, _) = self.pins.begin().ok_or(StoreError::Collecting)?;
        let to = place.begin()?;
        let done = self.fill(&to, place.current()?.as_deref(), options);
        let done = done.and_then(|done| {
            let path = place.finish(&to)?;
            Ok(Backup { path, ..done })
        });
        if done.is_err() {
            // Of no use, and on a full disk in the way. If this fails, the next backup does it.
            let _ = std::fs::remove_dir_all(&to);
        }
        done
    }

    /// The index gets its name last: without it nobody takes the folder for a store.
    fn fill(
        &self,
        to: &Path,
        before: Option<&Path>,
        options: &BackupOptions<'_>,
    ) -> Result<Backup, StoreError> {
        let mut done = Backup::default();
        if let Some(works) = options.volumes {
            done.volumes = works.backup(to)?;
        }
        let mut gone = Vec::new();
        self.pins.lock().take_fresh();
        let index = to.join(INDEX_PARTIAL);
        let larges = self.copy_index(&index, options.leave)?;
        let folder = to.join("blobs");
        make_dir(&folder)?;
        let mut last = None;
        for digest in &larges {
            // They are sorted. A store that is opened makes what is missing.
            if last.replace(digest.0[0]) != Some(digest.0[0]) {
                make_dir(&folder.join(hex::encode(&digest.0[..1])))?;
            }
            if !self.copy_blob(digest, to, before, &mut done)? {
                gone.push(*digest);
            }
            // The list of what came into use is not needed here, and is not to grow.
            self.pins.lock().take_fresh();
        }
        promise(&index, gone, &mut done)?;
        done.blobs = larges.len() as u64 - done.promised;
        let whole = to.join("index.db");
        std::fs::rename(&index, &whole).map_err(|e| StoreError::io("rename", &index, e))?;
        Ok(done)
    }

    /// The index of the backup; the large blobs that it lists.
    fn copy_index(&self, to: &Path, leave: &[&str]) -> Result<Vec<Digest>, StoreError> {
        new_database(to)?;
        self.index
            .read("copy the index", |conn| Ok(copy_database(conn, to)))?
            .map_err(|e| StoreError::db_copy(&self.index.path, to, e))?;
        let fail = |e| StoreError::db("prepare the copy", to, e);
        let copy = Connection::open(to).map_err(fail)?;
        for kind in leave {
            copy.execute("DELETE FROM record WHERE kind = ?1", [kind])
                .map_err(fail)?;
        }
        copy::renew(&copy).map_err(fail)?;
        let digests = copy
            .prepare("SELECT digest FROM large_blob ORDER BY digest")
            .and_then(|mut all| {
                all.query_map([], |r| crate::index::digest_column(r, 0))?
                    .collect()
            });
        let digests = digests.map_err(fail)?;
        copy.close().map_err(|(_, e)| fail(e))?;
        Ok(digests)
    }

    /// False where the store has no such file.
    fn copy_blob(
        &self,
        digest: &Digest,
        to: &Path,
        before: Option<&Path>,
        done: &mut Backup,
    ) -> Result<bool, StoreError> {
        let place = to.join(copy::blob_name(digest));
        let theirs = before.map(|before| before.join(copy::blob_name(digest)));
        let ours = self.blobs.area.path(digest);
        for from in theirs.iter().chain([&ours]) {
            // Another file system, or too many names: then it is copied.
            if std::fs::hard_link(from, &place).is_ok() {
                return Ok(true);
            }
        }
        // What is packed here is not there: a backup is read by itself.
        let copied = match (ours.exists(), self.blobs.unpacked(digest)?) {
            (false, Some(mut bytes)) => copy::write_checked(&mut bytes, &place, digest),
            _ => copy::copy_checked(&ours, &place, digest),
        };
        match copied {
            Ok((bytes, good)) => {
                done.copied += 1;
                done.copied_bytes += bytes;
                if !good {
                    tracing::error!("blob {digest} has rotted: so has the backup's copy of it");
                    done.rotted.push(*digest);
                }
                Ok(true)
            }
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }
}

/// Blobs whose files were not there: of an upstream's, which the cache let go since the index was
/// copied, the backup has the promise. The others are missing.
fn promise(index: &Path, gone: Vec<Digest>, done: &mut Backup) -> Result<(), StoreError> {
    if gone.is_empty() {
        return Ok(());
    }
    let fail = |e| StoreError::db("note what upstream has", index, e);
    let copy = Connection::open(index).map_err(fail)?;
    for digest in gone {
        match crate::index::promised_size(&copy, &digest).map_err(fail)? {
            Some(size) => {
                crate::index::let_go(&copy, [(digest, size)].iter()).map_err(fail)?;
                done.promised += 1;
            }
            None => {
                tracing::error!("blob {digest} is not in the store: nor is it in the backup");
                done.missing.push(digest);
            }
        }
    }
    copy.close().map_err(|(_, e)| fail(e))
}

/// All that is in `dir` is on disk when this returns.
fn sync_tree(dir: &Path) -> Result<(), StoreError> {
    let fail = |e| StoreError::io("sync", dir, e);
    let handle = File::open(dir).map_err(fail)?;
    let mut files = Vec::new();
    files_below(dir, &mut files).map_err(fail)?;
    let mut opened = files.iter().map(File::open);
    crate::sys::sync_files(&handle, &mut opened).map_err(fail)
}

/// Files and folders.
fn files_below(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    found.push(dir.to_path_buf());
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => files_below(&entry.path(), found)?,
            false => found.push(entry.path()),
        }
    }
    Ok(())
}
