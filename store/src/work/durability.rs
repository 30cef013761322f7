//! What a set of trees survives, and what that makes of its files' names and its waiting.

use super::group::Group;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the trees of a [`super::Works`] survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A killed server; on another boot of the machine they are gone.
    Boot,
    /// A crash of the machine too: what NFS calls stable is on disk before it is answered.
    Disk,
}

impl Durability {
    /// Of the database, in the store's folder.
    pub(crate) fn database(self) -> &'static str {
        match self {
            Durability::Boot => "work.db",
            Durability::Disk => "volumes.db",
        }
    }

    /// Of the journal's two files, less their number.
    pub(super) fn journal(self) -> &'static str {
        match self {
            Durability::Boot => "work.journal.",
            Durability::Disk => "volumes.journal.",
        }
    }

    /// Of the folder of staged files.
    pub(crate) fn staging(self) -> &'static str {
        match self {
            Durability::Boot => "staging",
            Durability::Disk => "volumes",
        }
    }

    pub(super) fn is_disk(self) -> bool {
        self == Durability::Disk
    }
}

/// What keeping volumes durable has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Calls that were answered when what they did was on disk.
    pub calls: u64,
    /// fdatasync(2) of the journal: one serves all calls that wait.
    pub journal: u64,
    /// fdatasync(2) of files and fsync(2) of folders.
    pub files: u64,
}

/// What the parts of durable trees share: how calls wait for one fdatasync together, and
/// the counts of [`SyncStats`].
#[derive(Default)]
pub(super) struct Syncs {
    pub group: Group,
    pub calls: AtomicU64,
    pub journal: AtomicU64,
    pub files: AtomicU64,
    #[cfg(test)]
    pub probe: super::tests::probe::Probe,
}

impl Syncs {
    /// Every sync of what is to survive the machine: `path` is on disk when it returns.
    pub fn sync(&self, path: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        #[cfg(test)]
        return self.probe.sync(path, sync);
        #[cfg(not(test))]
        {
            let _ = path;
            sync()
        }
    }

    /// Runs both, and both at once where that can be had: a file system with a log then ends
    /// them with one write of it, where the second one alone would cost the disk a flush more.
    pub fn together<T>(
        &self,
        one: impl FnOnce() -> T,
        other: impl Fn() -> io::Result<()> + Sync,
    ) -> (T, io::Result<()>) {
        // An image is made between two syncs: they need an order that a seed repeats.
        #[cfg(test)]
        if self.probe.holds_the_carrier() {
            return (one(), other());
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("pocker-sync".into());
            let beside = thread.spawn_scoped(scope, &other);
            let done = one();
            let panicked = |_| Err(io::Error::other("the thread that synced panicked"));
            // Where there are no more threads it comes second.
            let ended = beside.map_or_else(|_| other(), |it| it.join().unwrap_or_else(panicked));
            (done, ended)
        })
    }

    /// The names in `dir` are on disk when this returns.
    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.sync(dir, || std::fs::File::open(dir)?.sync_all())
    }

    pub fn stats(&self) -> SyncStats {
        SyncStats {
            calls: self.calls.load(Ordering::Relaxed),
            journal: self.journal.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
        }
    }
}
