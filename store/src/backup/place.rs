//! The folder that backups are in.

use super::sync_tree;
use crate::error::StoreError;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MARKER: &str = "pocker-backup";
const CURRENT: &str = "current";
const PARTIAL: &str = ".partial";
const WORDS: &[u8] =
    b"Backups of a pocker store: `pocker store restore` makes a store of the last one.\n";

pub(super) struct Place {
    dir: PathBuf,
    _lock: Flock<File>,
}

/// Where in the store's folder backups may be, for a server that reaches nothing else: nothing of the store is there.
pub const WITHIN: &str = "backups";

fn not(path: &Path, why: &'static str) -> StoreError {
    StoreError::NotABackup {
        path: path.to_path_buf(),
        why,
    }
}

impl Place {
    /// Makes or checks the folder, and locks it. What a crash left in the making goes.
    pub fn prepare(dir: &Path, store: &Path) -> Result<Place, StoreError> {
        let fail = |what| move |e| StoreError::io(what, dir, e);
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            done => {
                done.map_err(fail("create"))?;
                sync_dir(dir.parent().unwrap_or(dir))?;
            }
        }
        let real = fs::canonicalize(dir).map_err(fail("open"))?;
        let store = fs::canonicalize(store).map_err(|e| StoreError::io("open", store, e))?;
        let own = store.join(WITHIN);
        let in_own = real.starts_with(&own) && real != own;
        if (real.starts_with(&store) && !in_own) || store.starts_with(&real) {
            return Err(not(dir, "it and the store are one inside the other"));
        }
        let marker = real.join(MARKER);
        if !marker.exists() {
            let mut found = fs::read_dir(&real).map_err(fail("list"))?;
            if found.next().is_some() {
                return Err(not(
                    dir,
                    "it holds something else: give a new or empty folder",
                ));
            }
            let made = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&marker);
            made.and_then(|mut file| file.write_all(WORDS))
                .map_err(|e| StoreError::io("create", &marker, e))?;
        }
        let place = Place::locked(&real)?;
        place.sweep()?;
        Ok(place)
    }

    /// One that has backups.
    pub fn open(dir: &Path) -> Result<Place, StoreError> {
        let real = fs::canonicalize(dir).map_err(|e| StoreError::io("open", dir, e))?;
        if !real.join(MARKER).exists() {
            return Err(not(
                dir,
                "it holds no backups: give what `pocker store backup` was given",
            ));
        }
        Place::locked(&real)
    }

    fn locked(dir: &Path) -> Result<Place, StoreError> {
        let marker = dir.join(MARKER);
        let file = File::open(&marker).map_err(|e| StoreError::io("open", &marker, e))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Place {
                dir: dir.to_path_buf(),
                _lock: lock,
            }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(not(
                dir,
                "another backup or a restore is at work there: wait for its end",
            )),
            Err((_, e)) => Err(StoreError::io("lock", &marker, e.into())),
        }
    }

    /// The last whole backup.
    pub fn current(&self) -> Result<Option<PathBuf>, StoreError> {
        let link = self.dir.join(CURRENT);
        match fs::read_link(&link) {
            Ok(to) if number(&to).is_some() => Ok(Some(self.dir.join(to))),
            Ok(_) => Err(not(&self.dir, "its `current` leads elsewhere")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("read", &link, e)),
        }
    }

    /// A new backup's folder.
    pub fn begin(&self) -> Result<PathBuf, StoreError> {
        let last = self.current()?.as_deref().and_then(number);
        let path = self
            .dir
            .join(format!("{}{PARTIAL}", last.map_or(1, |n| n + 1)));
        super::make_dir(&path)?;
        Ok(path)
    }

    /// The backup in `partial` is the last one now, durably; the one before goes.
    pub fn finish(&self, partial: &Path) -> Result<PathBuf, StoreError> {
        sync_tree(partial)?;
        let whole = partial.with_extension("");
        fs::rename(partial, &whole).map_err(|e| StoreError::io("rename", partial, e))?;
        sync_dir(&self.dir)?;
        let link = self.dir.join(CURRENT);
        let next = self.dir.join(format!("{CURRENT}{PARTIAL}"));
        let name = whole.file_name().unwrap_or_default();
        std::os::unix::fs::symlink(name, &next)
            .and_then(|()| fs::rename(&next, &link))
            .map_err(|e| StoreError::io("move", &link, e))?;
        self.sweep()?;
        Ok(whole)
    }

    /// All but the last whole backup: others were in the making, or are older. That it is the last
    /// one is durable before.
    fn sweep(&self) -> Result<(), StoreError> {
        sync_dir(&self.dir)?;
        let current = self.current()?;
        let fail = |e| StoreError::io("list", &self.dir, e);
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            let partial = name.ends_with(PARTIAL.as_bytes());
            let ours =
                number(&path).is_some() || partial && number(&path.with_extension("")).is_some();
            if name == format!("{CURRENT}{PARTIAL}").as_bytes() {
                fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?;
            } else if ours && current.as_deref() != Some(&path) {
                fs::remove_dir_all(&path).map_err(|e| StoreError::io("remove", &path, e))?;
            }
        }
        Ok(())
    }
}

/// Of a backup's folder: digits alone.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = name.bytes().all(|b| b.is_ascii_digit());
    name.parse().ok().filter(|_| digits)
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let done = File::open(dir).and_then(|dir| dir.sync_all());
    done.map_err(|e| StoreError::io("sync", dir, e))
}
