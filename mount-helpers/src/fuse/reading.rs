//! Directories as they are being read: stretches of entries, ahead of the kernel.

use parking_lot::Mutex;
use pocker_nfs::client::DirEntry;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The handle of every directory that the kernel opens itself.
const UNOPENED: u64 = 0;

/// Directories read without having been opened that are remembered: walkers, each with some
/// directories above the one it is in and some ahead, of 64 KiB of entries at most.
const UNOPENED_MAX: usize = 64;

/// One reader's place, or that of all who read a directory without opening it.
pub(crate) type Shared = Arc<tokio::sync::Mutex<Reading>>;

/// Directories that are being read.
#[derive(Default)]
pub(crate) struct Readings {
    next: AtomicU64,
    /// By the handle the kernel has.
    open: Mutex<HashMap<u64, Shared>>,
    /// By node, with when they were last asked for.
    unopened: Mutex<HashMap<u64, (u64, Shared)>>,
}

impl Readings {
    pub(crate) fn open(&self) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.lock().insert(handle, Arc::default());
        handle
    }

    pub(crate) fn close(&self, handle: u64) {
        self.open.lock().remove(&handle);
    }

    /// Of a directory's node, as it was opened.
    pub(crate) fn get(&self, ino: u64, handle: u64) -> Shared {
        if handle == UNOPENED {
            return self.unopened(ino);
        }
        let open = self.open.lock();
        open.get(&handle).cloned().unwrap_or_default()
    }

    /// Of a directory that the kernel reads, or may read soon, without opening it.
    pub(crate) fn unopened(&self, ino: u64) -> Shared {
        let now = self.next.fetch_add(1, Ordering::Relaxed);
        let mut all = self.unopened.lock();
        if all.len() >= UNOPENED_MAX
            && !all.contains_key(&ino)
            && let Some(oldest) = all.iter().min_by_key(|(_, (at, _))| *at).map(|(i, _)| *i)
        {
            all.remove(&oldest);
        }
        let (at, reading) = all.entry(ino).or_default();
        *at = now;
        reading.clone()
    }

    /// Somebody read it to its end; the kernel keeps what it got.
    pub(crate) fn ended(&self, ino: u64, handle: u64) {
        if handle == UNOPENED {
            self.unopened.lock().remove(&ino);
        }
    }
}

/// A stretch of a directory, read ahead of the kernel.
#[derive(Default)]
pub(crate) struct Reading {
    pub entries: Vec<DirEntry>,
    /// Cookie before the first of `entries`.
    pub start: u64,
    /// No entries follow.
    pub eof: bool,
    pub verifier: [u8; 8],
    /// What [`super::table::Table::losses`] said when they were asked for: once a name
    /// is gone, none of them may be given to the kernel as a node.
    pub losses: u64,
    /// The table's clock then.
    pub sent: u64,
    /// Where the last reader stopped.
    pub next: usize,
    pub filled: bool,
}

impl Reading {
    /// Whether what follows index `at` is known here.
    pub(crate) fn goes_on(&self, at: usize) -> bool {
        at < self.entries.len() || self.eof
    }

    /// The index of the entry after `cookie`, if it is here.
    pub(crate) fn after(&self, cookie: u64) -> Option<usize> {
        if !self.filled {
            return None;
        }
        if cookie == self.start {
            return Some(0);
        }
        let here = |i: usize| i > 0 && self.entries.get(i - 1).is_some_and(|e| e.cookie == cookie);
        if here(self.next) {
            return Some(self.next);
        }
        (1..=self.entries.len()).find(|&i| here(i))
    }
}
