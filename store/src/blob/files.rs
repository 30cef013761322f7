//! Where large blobs and files in the making lie.

use crate::error::StoreError;
use crate::failpoint;
use crate::types::Digest;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// `blobs/` and `staging/` of one store.
pub(crate) struct Area {
    root: PathBuf,
    /// The store's folder, for syncfs(2).
    handle: File,
    next: AtomicU64,
}

impl Area {
    /// Makes the folders that are missing.
    pub fn open(root: &Path) -> Result<Area, StoreError> {
        let make = |path: &Path| match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(StoreError::io("create", path, e))
            }
            _ => Ok(()),
        };
        let blobs = root.join("blobs");
        make(&blobs)?;
        let list = |e| StoreError::io("list", &blobs, e);
        let mut there = HashSet::new();
        for entry in fs::read_dir(&blobs).map_err(list)? {
            there.insert(entry.map_err(list)?.file_name());
        }
        // All 256 at once: no later write waits for a new folder to be durable.
        for first in (0..=u8::MAX).map(|first| hex::encode([first])) {
            if !there.contains(OsStr::new(&first)) {
                make(&blobs.join(first))?;
            }
        }
        make(&root.join("staging"))?;
        make(&root.join("staging/in"))?;
        let handle = File::open(root).map_err(|e| StoreError::io("open", root, e))?;
        let sync = |path: &Path| File::open(path).and_then(|d| d.sync_all());
        sync(&blobs).map_err(|e| StoreError::io("sync", &blobs, e))?;
        handle
            .sync_all()
            .map_err(|e| StoreError::io("sync", root, e))?;
        Ok(Area {
            root: root.to_path_buf(),
            handle,
            next: AtomicU64::new(0),
        })
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Of blobs in the making; swept at start. Work trees have their own folders beside it.
    pub fn incoming(&self) -> PathBuf {
        self.root.join("staging/in")
    }

    /// A name in [`Area::incoming`] that nothing else uses.
    pub fn fresh(&self) -> PathBuf {
        self.incoming()
            .join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// `blobs/aa/aabb…`
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        let mut path = self.blobs();
        path.push(&hex[..2]);
        path.push(&hex);
        path
    }

    /// Makes the files' data durable, renames them to their places, and makes that durable.
    pub fn adopt(&self, files: &[(PathBuf, Digest)]) -> Result<(), StoreError> {
        if files.is_empty() {
            return Ok(());
        }
        let mut opened = files.iter().map(|(path, _)| File::open(path));
        failpoint::hit("blobs.sync.before")
            .and_then(|()| crate::sys::sync_files(&self.handle, &mut opened))
            .map_err(|e| StoreError::io("sync", &self.root, e))?;
        let mut touched = BTreeSet::new();
        for (path, digest) in files {
            let place = self.path(digest);
            failpoint::hit("blobs.rename.before")
                .and_then(|()| fs::rename(path, &place))
                .map_err(|e| StoreError::io("move a blob to", &place, e))?;
            failpoint::pass("blobs.rename.after");
            touched.insert(digest.0[0]);
        }
        let mut dirs = Vec::with_capacity(touched.len());
        for first in touched {
            let dir = self.blobs().join(hex::encode([first]));
            dirs.push(File::open(&dir).map_err(|e| StoreError::io("open", &dir, e))?);
        }
        failpoint::hit("blobs.dirs.before")
            .and_then(|()| crate::sys::sync_dirs(&self.handle, &dirs))
            .map_err(|e| StoreError::io("sync", &self.blobs(), e))
    }

    /// Bytes that go when a large blob's file is removed: none where it has another name, or where
    /// it is gone.
    pub fn takes(&self, digest: &Digest) -> Result<u64, StoreError> {
        /// st_blocks counts these (POSIX leaves the unit open; all our systems agree).
        const STAT_BLOCK: u64 = 512;
        let path = self.path(digest);
        match path.symlink_metadata() {
            Ok(meta) if meta.nlink() > 1 => Ok(0),
            Ok(meta) => Ok(meta.blocks() * STAT_BLOCK),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(StoreError::io("stat blob", &path, e)),
        }
    }

    /// Removes a large blob's file; that it is gone already is fine.
    pub fn unlink(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove blob", &path, e))
            }
            _ => Ok(()),
        }
    }

    /// Removes what a killed process left in the making.
    pub fn sweep_incoming(&self) -> Result<u64, StoreError> {
        let dir = self.incoming();
        let mut swept = 0;
        for entry in fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))? {
            let path = entry.map_err(|e| StoreError::io("list", &dir, e))?.path();
            fs::remove_file(&path).map_err(|e| StoreError::io("remove leftover", &path, e))?;
            swept += 1;
        }
        Ok(swept)
    }

    /// Calls `f` with each large blob's file; names that are no digest are left alone.
    pub fn each(
        &self,
        f: &mut dyn FnMut(Digest) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for first in 0..=u8::MAX {
            let dir = self.blobs().join(hex::encode([first]));
            for entry in fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))? {
                let name = entry
                    .map_err(|e| StoreError::io("list", &dir, e))?
                    .file_name();
                if let Some(digest) = name.to_str().and_then(|n| n.parse::<Digest>().ok()) {
                    f(digest)?;
                }
            }
        }
        Ok(())
    }
}
