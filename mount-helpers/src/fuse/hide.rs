//! Files that lost their last name while open.
//!
//! NFSv3 has no open: a removed file is gone for those who have it open. So the
//! name is moved into a directory of the export that the server neither lists nor
//! seals, and removed at the last close. The directory goes with the mount, unless
//! another client of the export has names in it.

use super::attr::made_by;
use super::export::Export;
use fuser::Errno;
use pocker_nfs::vfs::Fh;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// The directory at the export's root.
pub(crate) const DIR: &[u8] = b".pocker-hidden";

pub(crate) struct HiddenDir {
    root: Fh,
    /// Its handle, once there is one.
    fh: Mutex<Option<Fh>>,
    counter: AtomicU64,
}

impl HiddenDir {
    pub(crate) fn new(root: Fh) -> HiddenDir {
        HiddenDir {
            root,
            fh: Mutex::new(None),
            // Names of an earlier helper that died may still be there.
            counter: AtomicU64::new(RandomState::new().hash_one(0)),
        }
    }

    fn next_name(&self, ino: u64) -> Vec<u8> {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{ino}-{n}").into_bytes()
    }
}

impl Export {
    async fn hidden_dir(&self) -> Result<Fh, Errno> {
        let mut known = self.hidden.fh.lock().await;
        if let Some(fh) = *known {
            return Ok(fh);
        }
        let root = &self.hidden.root;
        let fh = match self.remote.lookup(root, DIR).await {
            Ok((fh, _)) => fh,
            Err(Errno::ENOENT) => {
                let made = self.remote.mkdir(root, DIR, &made_by(0o700, 0, 0)).await?;
                self.table.invalidate(super::table::ROOT);
                made.fh
            }
            Err(e) => return Err(e),
        };
        *known = Some(fh);
        Ok(fh)
    }

    /// Whether to try again in a new hidden directory: another client that unmounted may have
    /// removed it since it was looked up. `tried` is set by the first try.
    async fn hidden_gone(&self, error: Errno, tried: &mut bool) -> bool {
        if error != Errno::ESTALE || std::mem::replace(tried, true) {
            return false;
        }
        *self.hidden.fh.lock().await = None;
        true
    }

    /// The end of the mount: `names`, and the directory if nobody else uses it.
    pub(crate) async fn leave_hidden(&self, names: &[Vec<u8>]) {
        for name in names {
            self.drop_hidden(name).await;
        }
        if self.hidden.fh.lock().await.take().is_some() {
            // Not empty: another client's files are in it.
            let _ = self.remote.rmdir(&self.hidden.root, DIR).await;
        }
    }

    /// Unlink of an open file's last name: it moves to the hidden directory.
    pub(crate) async fn hide_by_rename(
        &self,
        parent: u64,
        name: &[u8],
        ino: u64,
    ) -> Result<(), Errno> {
        let (dir, sent) = (self.table.handle(parent)?, self.table.now());
        let hidden = self.hidden.next_name(ino);
        let mut tried = false;
        let moved = loop {
            let into = self.hidden_dir().await?;
            match self.remote.rename(&dir, name, &into, &hidden).await {
                Err(e) if self.hidden_gone(e, &mut tried).await => {}
                outcome => break outcome?,
            }
        };
        self.table.note_or_doubt(parent, moved.0.as_ref(), sent);
        self.table.hidden(parent, name, ino, hidden);
        self.drop_if_unused(ino).await;
        Ok(())
    }

    /// Before a rename over an open file's last name: a second name for it, so that
    /// the target's name is never missing.
    pub(crate) async fn hide_by_link(&self, ino: u64) -> Result<Vec<u8>, Errno> {
        let fh = self.table.handle(ino)?;
        let hidden = self.hidden.next_name(ino);
        let mut tried = false;
        loop {
            let into = self.hidden_dir().await?;
            match self.remote.link(&fh, &into, &hidden).await {
                Err(e) if self.hidden_gone(e, &mut tried).await => {}
                outcome => return outcome.map(|_| hidden),
            }
        }
    }

    /// Removes a hidden name. Nobody is left to hear of a failure; the server
    /// sweeps what remains.
    pub(crate) async fn drop_hidden(&self, hidden: &[u8]) {
        let outcome = match self.hidden_dir().await {
            Ok(dir) => self.remote.remove(&dir, hidden).await.map(|_| ()),
            Err(e) => Err(e),
        };
        if let Err(errno) = outcome {
            tracing::warn!(?errno, "a hidden file could not be removed");
        }
    }

    pub(crate) async fn drop_if_unused(&self, ino: u64) {
        if let Some(hidden) = self.table.hidden_unused(ino) {
            self.drop_hidden(&hidden).await;
        }
    }
}
