//! The folder beside its place in which a store is made of a backup.
//!
//! ```text
//! PLACE.restoring/
//!   pocker-restore     says what the folder is; flock(2) held while a restore is at work
//!   store/             what is to be moved to PLACE when it is whole
//! ```
//! What a crash left in it goes when the restore is tried again.

use super::copy::make_dir;
use crate::error::StoreError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MARKER: &str = "pocker-restore";
const STORE: &str = "store";

pub(super) struct Making {
    dir: PathBuf,
    _lock: Flock<File>,
}

fn beside(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_os_string();
    name.push(".restoring");
    place.with_file_name(name)
}

impl Making {
    /// Removes what a crash left, as far as that can be done.
    pub fn clear(place: &Path) {
        if beside(place).exists() {
            drop(Making::begin(place));
        }
    }

    pub fn begin(place: &Path) -> Result<Making, StoreError> {
        let dir = beside(place);
        make_dir(&dir)?;
        let marker = dir.join(MARKER);
        let mut found = fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))?;
        if found.next().is_some() && !marker.exists() {
            return Err(StoreError::InTheWay { path: dir });
        }
        let fail = |e| StoreError::io("lock", &marker, e);
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&marker).map_err(fail)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(StoreError::Restoring { path: dir }),
            Err((_, e)) => return Err(fail(e.into())),
        };
        // One that ended in between took its marker with it, and the next made another.
        let same = |now: fs::Metadata| Ok(now.ino() == lock.metadata()?.ino());
        if !fs::metadata(&marker).and_then(same).map_err(fail)? {
            return Err(StoreError::Restoring { path: dir });
        }
        let making = Making { dir, _lock: lock };
        let store = making.store();
        match fs::remove_dir_all(&store) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &store, e))
            }
            _ => Ok(making),
        }
    }

    pub fn store(&self) -> PathBuf {
        self.dir.join(STORE)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Of no use to anybody; if this fails, the next restore does it.
        let _ = fs::remove_dir_all(self.store());
        let _ = fs::remove_file(self.dir.join(MARKER));
        let _ = fs::remove_dir(&self.dir);
    }
}
