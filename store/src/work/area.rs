//! What all staged files of a store share: their folder, a bounded cache of open
//! descriptors, and the way to base blobs.

use super::durability::{Durability, Syncs};
use super::quota::Reserve;
use super::small::Smalls;
use crate::StoreError;
use crate::failpoint;
use crate::patience::may_block;
use crate::types::{Digest, Errno, Node};
use lru::LruCache;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Descriptors kept open for staged files: well under the usual limit of 1024
/// a process, as sockets and blobs want theirs.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Names a staged file: its tree and its node.
pub(super) type Key = (u64, Node);

/// Behind the number of a tree that is gone whatever its row says.
const GONE: &str = ".gone";
/// Behind the number of a tree of which a snapshot is made.
const SHOTS: &str = ".shots";

pub(super) struct Area {
    /// `staging/` of the store.
    dir: PathBuf,
    pub(super) store: Arc<crate::Store>,
    open: Mutex<LruCache<Key, Arc<File>>>,
    /// The file system has refused once to share blocks; it would each time.
    no_reflink: AtomicBool,
    /// What is here is to survive the machine.
    disk: bool,
    /// How often a file was put in another's place.
    replaced: AtomicU64,
    syncs: Arc<Syncs>,
    pub smalls: Arc<Smalls>,
    pub reserve: Arc<Reserve>,
}

impl Area {
    pub fn new(
        dir: PathBuf,
        store: Arc<crate::Store>,
        durability: Durability,
        syncs: Arc<Syncs>,
    ) -> Area {
        Area {
            smalls: Smalls::new(dir.clone()),
            reserve: Arc::new(Reserve::new(store.dir())),
            dir,
            store,
            open: Mutex::new(LruCache::new(OPEN_FILES)),
            no_reflink: AtomicBool::new(false),
            disk: durability.is_disk(),
            replaced: AtomicU64::new(0),
            syncs,
        }
    }

    pub fn is_disk(&self) -> bool {
        self.disk
    }

    pub fn is_absent(&self, key: Key) -> bool {
        let found = self.path(key).symlink_metadata();
        found.is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    }

    /// The bytes and size of `file`, and where `name` is set its name too, are on disk when
    /// this returns. Where that fails the write verifier has moved: whatever call it was for,
    /// the kernel may have dropped what others wrote to the file, and tells of it once.
    pub fn sync(&self, key: Key, file: &File, name: bool) -> Result<(), Errno> {
        self.noted(self.sync_file(key, file, name))
    }

    /// Of a sync: where it failed the write verifier moves, so that clients send again what
    /// they have not seen committed.
    pub fn noted(&self, done: Result<(), Errno>) -> Result<(), Errno> {
        if done.is_err()
            && let Err(e) = self.store.bump_error_epoch()
        {
            tracing::error!("cannot move the write verifier after a failed sync: {e}");
        }
        done
    }

    fn sync_file(&self, key: Key, file: &File, name: bool) -> Result<(), Errno> {
        self.syncs.files.fetch_add(1, Ordering::Relaxed);
        let path = self.path(key);
        let bytes = || {
            let sync = || failpoint::hit("staged.sync.before").and_then(|()| file.sync_data());
            let done = self.syncs.sync(&path, sync);
            done.map_err(|e| failed("sync staged file", &path, &e))?;
            failpoint::pass("staged.sync.after");
            Ok(())
        };
        if !name {
            return bytes();
        }
        let dir = self.tree_dir(key.0);
        let names =
            || failpoint::hit("staged.name.before").and_then(|()| self.syncs.sync_dir(&dir));
        let (bytes, named) = self.syncs.together(bytes, names);
        failpoint::pass("staged.name.after");
        bytes.and(named.map_err(|e| failed("sync", &dir, &e)))
    }

    /// A write to a staged file.
    pub fn write_all(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        return self.syncs.probe.write(file, bytes, at);
        #[cfg(not(test))]
        std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
    }

    pub fn tree_dir(&self, tree: u64) -> PathBuf {
        self.dir.join(tree.to_string())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, key: Key) -> PathBuf {
        self.tree_dir(key.0).join(key.1.to_string())
    }

    /// A new, empty file under `key`. What an earlier use left there is unlinked, not
    /// written over: a seal may have shared it with the blob area.
    pub fn create(&self, key: Key) -> Result<Arc<File>, Errno> {
        may_block()?;
        let path = self.path(key);
        self.unlink(key);
        let make = || {
            failpoint::hit("staged.create.before")?;
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
        };
        let file = match make() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(self.tree_dir(key.0))
                    .and_then(|()| match self.disk {
                        true => self.syncs.sync_dir(&self.dir),
                        false => Ok(()),
                    })
                    .and_then(|()| make())
                    .map_err(|e| failed("create staged file", &path, &e))?
            }
            other => other.map_err(|e| failed("create staged file", &path, &e))?,
        };
        failpoint::pass("staged.create.after");
        let file = Arc::new(file);
        self.open.lock().put(key, Arc::clone(&file));
        Ok(file)
    }

    pub fn file(&self, key: Key) -> Result<Arc<File>, Errno> {
        if let Some(file) = self.open.lock().get(&key) {
            return Ok(Arc::clone(file));
        }
        may_block()?;
        loop {
            let replaced = self.replaced.load(Ordering::Acquire);
            let file = self.opened(key)?;
            let mut open = self.open.lock();
            if self.replaced.load(Ordering::Acquire) == replaced {
                open.put(key, Arc::clone(&file));
                return Ok(file);
            }
        }
    }

    fn opened(&self, key: Key) -> Result<Arc<File>, Errno> {
        let path = self.path(key);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&path);
        file.map(Arc::new).map_err(|e| match e.kind() {
            // Removed since the caller looked at its node.
            io::ErrorKind::NotFound => Errno::Stale,
            _ => failed("open staged file", &path, &e),
        })
    }

    /// Another file is under `key` now: nobody who looks from here on finds the old one.
    pub fn replaced(&self, key: Key) {
        let mut open = self.open.lock();
        self.replaced.fetch_add(1, Ordering::AcqRel);
        open.pop(&key);
    }

    /// Where a snapshot of the tree has its files while it is made.
    pub fn shots(&self, tree: u64) -> PathBuf {
        self.dir.join(format!("{tree}{SHOTS}"))
    }

    /// What snapshots left that a kill ended.
    pub fn sweep_shots(&self) -> io::Result<()> {
        for file in std::fs::read_dir(&self.dir)? {
            let file = file?;
            if file
                .file_name()
                .as_encoded_bytes()
                .ends_with(SHOTS.as_bytes())
            {
                std::fs::remove_dir_all(file.path())?;
            }
        }
        Ok(())
    }

    /// Closes the cached descriptor; reads in progress keep theirs.
    pub fn forget(&self, key: Key) {
        self.open.lock().pop(&key);
    }

    pub fn forget_tree(&self, tree: u64) {
        let mut open = self.open.lock();
        let keys: Vec<Key> = open
            .iter()
            .map(|(k, _)| *k)
            .filter(|k| k.0 == tree)
            .collect();
        for key in keys {
            open.pop(&key);
        }
    }

    /// All staged files of a tree that is dropped.
    pub fn remove_tree(&self, tree: u64) {
        let dir = self.tree_dir(tree);
        failpoint::pass("drop.files.before");
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %dir.display(), error = %e, "remove staged files of a dropped tree");
            }
            _ => {}
        }
    }

    /// Says durably that the tree is gone where its row cannot be removed, as on a full disk:
    /// its folder gets another name, which takes no room.
    pub fn bury(&self, tree: u64) -> io::Result<()> {
        let grave = self.grave(tree);
        match std::fs::rename(self.tree_dir(tree), &grave) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                File::create(&grave)?;
            }
            done => done?,
        }
        match self.disk {
            true => self.syncs.sync_dir(&self.dir),
            false => Ok(()),
        }
    }

    /// Trees that are gone whatever their rows say.
    pub fn buried(&self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for file in std::fs::read_dir(&self.dir)? {
            let name = file?.file_name();
            let tree = name.to_str().and_then(|name| name.strip_suffix(GONE));
            found.extend(tree.and_then(|tree| tree.parse::<u64>().ok()));
        }
        Ok(found)
    }

    pub fn is_buried(&self, tree: u64) -> bool {
        self.grave(tree).symlink_metadata().is_ok()
    }

    /// The files of a buried tree go; that it is gone can still be seen.
    pub fn empty_grave(&self, tree: u64) {
        for file in std::fs::read_dir(self.grave(tree))
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = std::fs::remove_file(file.path());
        }
    }

    /// No row speaks of the tree any more.
    pub fn remove_grave(&self, tree: u64) {
        let grave = self.grave(tree);
        let removed = std::fs::remove_dir(&grave).or_else(|_| std::fs::remove_file(&grave));
        if let Err(e) = removed {
            tracing::warn!(path = %grave.display(), error = %e, "remove what is left of a dropped tree");
        }
    }

    fn grave(&self, tree: u64) -> PathBuf {
        self.dir.join(format!("{tree}{GONE}"))
    }

    pub fn unlink(&self, key: Key) {
        self.forget(key);
        let path = self.path(key);
        failpoint::pass("staged.unlink.before");
        if let Err(e) = std::fs::remove_file(&path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), error = %e, "unlink staged file");
        }
        failpoint::pass("staged.unlink.after");
    }

    /// An error where the blob is not there, or where reads are checked and it has rotted.
    pub fn check_blob(&self, digest: &Digest) -> Result<(), Errno> {
        let opened = self.store.blobs().shared(digest);
        opened.map(drop).map_err(StoreError::log)
    }

    /// Makes `to` share the blob's blocks; false where that cannot be done.
    pub fn reflink(&self, digest: &Digest, to: &File) -> Result<bool, Errno> {
        if self.no_reflink.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let from = self.store.blobs().shared(digest).map_err(StoreError::log)?;
        match super::sys::reflink(&from, to) {
            Ok(()) => Ok(true),
            Err(e) => {
                tracing::debug!(error = %e, "no reflinks here; large files are copied up by block");
                self.no_reflink.store(true, Ordering::Relaxed);
                Ok(false)
            }
        }
    }

    /// Appends `count` bytes of a blob at `offset`, fewer at its end.
    pub fn read_blob(
        &self,
        digest: &Digest,
        size: u64,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.store
            .blobs()
            .read_at(digest, size, offset, count, out)
            .map_err(StoreError::log)
    }
}

/// Logs what failed, on what and why; the caller learns what a system call would say.
pub(super) fn failed(what: &str, path: &Path, e: &io::Error) -> Errno {
    let errno = match nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(0)) {
        nix::errno::Errno::ENOSPC => Errno::NoSpc,
        nix::errno::Errno::EDQUOT => Errno::DQuot,
        nix::errno::Errno::EFBIG => Errno::FBig,
        _ => Errno::Io,
    };
    tracing::error!(path = %path.display(), error = %e, "{what}");
    errno
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_says_which_limit_it_was() {
        use nix::errno::Errno as E;
        for (host, expected) in [
            (E::ENOSPC, Errno::NoSpc),
            (E::EDQUOT, Errno::DQuot),
            (E::EFBIG, Errno::FBig),
            (E::EIO, Errno::Io),
        ] {
            assert_eq!(failed("write", Path::new("f"), &host.into()), expected);
        }
    }
}
