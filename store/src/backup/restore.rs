//! A store made of a backup.

use super::making::Making;
use super::place::{Place, sync_dir};
use super::{INDEX_PARTIAL, copy, sync_tree};
use crate::error::StoreError;
use crate::types::Digest;
use crate::work::Durability;
use rusqlite::Connection;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a store was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub from: PathBuf,
    pub blobs: u64,
    pub bytes: u64,
    /// Blobs whose bytes are not theirs: they rotted in the backup, or before.
    pub rotted: Vec<Digest>,
}

/// Makes a store at `to`, which is not there or an empty folder, of the last backup in `dir`.
/// It is there when it is whole and on disk.
pub fn restore(dir: &Path, to: &Path) -> Result<Restored, StoreError> {
    let place = Place::open(dir)?;
    let from = place.current()?.ok_or_else(|| StoreError::NotABackup {
        path: dir.to_path_buf(),
        why: "no backup there was finished",
    })?;
    crate::index::readable(&from.join("index.db"))?;
    let taken = || StoreError::Occupied {
        path: to.to_path_buf(),
    };
    match fs::read_dir(to) {
        Ok(mut found) => {
            if found.next().is_some() {
                // Perhaps by a restore that died when it was done.
                Making::clear(to);
                return Err(taken());
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Err(taken()),
        Err(e) => return Err(StoreError::io("open", to, e)),
    }
    crate::lock::not_on_nfs(to)?;
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(|e| StoreError::io("create", parent, e))?;
    let making = Making::begin(to)?;
    let done = fill(&from, &making.store())?;
    let moved = fs::rename(making.store(), to);
    moved.map_err(|e| StoreError::io("move the store to", to, e))?;
    if let Err(e) = sync_dir(parent) {
        // It may be gone after a crash: so it is said not to be there, and is not.
        let _ = fs::rename(to, making.store());
        return Err(e);
    }
    Ok(done)
}

/// The index comes last: without it nobody takes the folder for a store.
fn fill(from: &Path, to: &Path) -> Result<Restored, StoreError> {
    copy::make_dir(to)?;
    let mut done = Restored {
        from: from.to_path_buf(),
        ..Restored::default()
    };
    let volumes = from.join(Durability::Disk.database());
    if volumes.exists() {
        copy::copy_file(&volumes, &to.join(Durability::Disk.database()))?;
        folder(from, to, Path::new(Durability::Disk.staging()))?;
    }
    blobs(from, to, &mut done)?;
    let index = to.join(INDEX_PARTIAL);
    copy::copy_file(&from.join("index.db"), &index)?;
    let fail = |e| StoreError::db("prepare", &index, e);
    let conn = Connection::open(&index).map_err(fail)?;
    copy::renew(&conn).map_err(fail)?;
    conn.close().map_err(|(_, e)| fail(e))?;
    fs::rename(&index, to.join("index.db")).map_err(|e| StoreError::io("rename", &index, e))?;
    sync_tree(to)?;
    Ok(done)
}

/// A folder of folders of files.
fn folder(from: &Path, to: &Path, below: &Path) -> Result<(), StoreError> {
    copy::make_dir(&to.join(below))?;
    for (name, is_dir) in list(&from.join(below))? {
        let inside = below.join(name);
        match is_dir {
            true => folder(from, to, &inside)?,
            false => copy::copy_file(&from.join(&inside), &to.join(&inside))?,
        }
    }
    Ok(())
}

fn blobs(from: &Path, to: &Path, done: &mut Restored) -> Result<(), StoreError> {
    copy::make_dir(&to.join("blobs"))?;
    for (first, _) in list(&from.join("blobs"))? {
        let below = Path::new("blobs").join(first);
        copy::make_dir(&to.join(&below))?;
        for (name, _) in list(&from.join(&below))? {
            let Some(digest) = name.to_str().and_then(|name| name.parse::<Digest>().ok()) else {
                continue;
            };
            let (from, to) = (from.join(&below).join(&name), to.join(&below).join(&name));
            let (bytes, good) = copy::copy_checked(&from, &to, &digest)?;
            done.blobs += 1;
            done.bytes += bytes;
            if !good {
                done.rotted.push(digest);
            }
        }
    }
    Ok(())
}

fn list(dir: &Path) -> Result<Vec<(std::ffi::OsString, bool)>, StoreError> {
    let fail = |e| StoreError::io("list", dir, e);
    let entries = fs::read_dir(dir).map_err(fail)?;
    entries
        .map(|entry| {
            let entry = entry.map_err(fail)?;
            let is_dir = entry.file_type().map_err(fail)?.is_dir();
            Ok((entry.file_name(), is_dir))
        })
        .collect()
}
