//! How much a tree may hold of its own, and what no run may take from the store's disk.
//!
//! Counted is what a tree holds beyond its base: bytes of changed contents (a large file's
//! blocks on disk, so holes are free), of symlink targets and extended attributes, and names
//! that were added. Each node has a name, so that bounds the nodes too, and hard links.
//! What takes away is never refused, nor what writes again what is there.

use super::area::Area;
use super::node::{Content, Node as Inode, What};
use super::state::State;
use super::{WorkClass, WorkInfo};
use crate::types::Errno;
use crate::{FsSpace, StoreError};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of a store's file system, runs leave free the smaller of a share and a number of bytes.
const RESERVE_SHARE: u64 = 20;
const RESERVE_MOST: u64 = 1 << 30;
/// How many bytes are taken before the file system is asked again; less where there are few.
const UNASKED: u64 = 64 << 20;
/// What a name, its node and their rows take of the disk and the journal, more or less.
const ROWS: u64 = 1 << 10;
/// A file's data comes in blocks of at least this; where they are larger, more is charged
/// once it was written.
pub(super) const DISK_BLOCK: u64 = 4096;

/// What a tree may hold of its own; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub bytes: Option<u64>,
    pub names: Option<u64>,
}

impl Limits {
    pub const NONE: Limits = Limits {
        bytes: None,
        names: None,
    };
}

/// What a tree holds of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub bytes: u64,
    pub names: u64,
}

/// A tree's account.
pub(super) struct Quota {
    limits: Limits,
    held: Mutex<Held>,
    reserve: Arc<Reserve>,
}

impl Quota {
    /// None for trees that are not a run's work: nothing is asked of them.
    pub fn of(info: &WorkInfo, area: &Area) -> Option<Arc<Quota>> {
        let accounted = matches!(info.class, WorkClass::Run | WorkClass::Volume);
        (accounted || info.limits != Limits::NONE).then(|| {
            Arc::new(Quota {
                limits: info.limits,
                held: Mutex::default(),
                reserve: Arc::clone(&area.reserve),
            })
        })
    }

    pub fn held(&self) -> Held {
        *self.held.lock()
    }

    /// Counts what is there, once it is loaded.
    pub fn count(&self, st: &State) {
        *self.held.lock() = Held {
            bytes: st.nodes.iter().map(|(_, node)| charge(node)).sum(),
            names: st.names.values().map(|names| names.count()).sum(),
        };
    }

    /// Whether so much more may be held. Asked with the tree's state locked to be changed;
    /// [`Quota::change`] follows.
    pub fn admit(&self, more: Held) -> Result<(), Errno> {
        if more == Held::default() {
            return Ok(());
        }
        self.fits(&self.held.lock(), more)?;
        self.reserve.take(more.bytes + more.names * ROWS)
    }

    /// Counts bytes that are about to be written, beside what others write meanwhile: `most`,
    /// or where that is too many what `exact` says.
    pub fn hold(
        self: &Arc<Quota>,
        most: u64,
        exact: impl FnOnce() -> Result<u64, Errno>,
    ) -> Result<Writing, Errno> {
        let hold = |bytes: u64| {
            let mut held = self.held.lock();
            let more = Held { bytes, names: 0 };
            if bytes > 0 {
                self.fits(&held, more)?;
                self.reserve.take(bytes)?;
            }
            held.bytes += bytes;
            let quota = Arc::clone(self);
            Ok(Writing { quota, bytes })
        };
        hold(most).or_else(|_| hold(exact()?))
    }

    pub fn change(&self, bytes: i64, names: i64) {
        let mut held = self.held.lock();
        held.bytes = held.bytes.saturating_add_signed(bytes);
        held.names = held.names.saturating_add_signed(names);
    }

    fn fits(&self, held: &Held, more: Held) -> Result<(), Errno> {
        let over = |limit: Option<u64>, held: u64, more: u64| {
            more > 0 && limit.is_some_and(|limit| held.saturating_add(more) > limit)
        };
        let bytes = over(self.limits.bytes, held.bytes, more.bytes);
        if bytes || over(self.limits.names, held.names, more.names) {
            return Err(Errno::DQuot);
        }
        Ok(())
    }

    /// The file system's space as this tree has it.
    pub fn space(&self, of: FsSpace) -> FsSpace {
        let held = self.held();
        let left = of.avail_bytes.saturating_sub(reserve(&of));
        let mut space = FsSpace {
            free_bytes: left,
            avail_bytes: left,
            ..of
        };
        if let Some(limit) = self.limits.bytes {
            let free = limit.saturating_sub(held.bytes).min(left);
            (space.total_bytes, space.free_bytes, space.avail_bytes) = (limit, free, free);
        }
        if let Some(limit) = self.limits.names {
            let free = limit.saturating_sub(held.names);
            (space.total_files, space.free_files, space.avail_files) = (limit, free, free);
        }
        space
    }
}

/// Bytes that a write counts until it is done.
pub(super) struct Writing {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Writing {
    /// So much more is there now, or less.
    pub fn done(mut self, grew: i64) {
        let held = std::mem::take(&mut self.bytes);
        self.quota.change(grew - held as i64, 0);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.quota.change(-(self.bytes as i64), 0);
    }
}

/// What a node of a delta holds of its own.
pub(super) fn charge(node: &Inode) -> u64 {
    let xattrs: usize = node.xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
    content(node) + xattrs as u64
}

/// The same without its extended attributes.
pub(super) fn content(node: &Inode) -> u64 {
    match &node.what {
        What::File(Content::Inline(small)) => small.len(),
        What::File(Content::Staged(staged)) => staged.state().disk,
        What::Symlink(target) => target.len() as u64,
        _ => 0,
    }
}

fn reserve(of: &FsSpace) -> u64 {
    (of.total_bytes / RESERVE_SHARE).min(RESERVE_MOST)
}

/// The store's disk, less what runs leave of it.
pub(super) struct Reserve {
    dir: PathBuf,
    /// Bytes that may be taken unasked.
    unasked: Mutex<u64>,
    /// As if the file system had no more than so many bytes for runs.
    #[cfg(test)]
    pub room: Mutex<Option<u64>>,
}

impl Reserve {
    pub fn new(dir: &Path) -> Reserve {
        Reserve {
            dir: dir.to_owned(),
            unasked: Mutex::default(),
            #[cfg(test)]
            room: Mutex::default(),
        }
    }

    fn take(&self, bytes: u64) -> Result<(), Errno> {
        let mut unasked = self.unasked.lock();
        if *unasked < bytes {
            *unasked = 0;
            let room = self.room()?;
            if room < bytes {
                return Err(Errno::NoSpc);
            }
            *unasked = (room / 4).min(UNASKED).max(bytes);
        }
        *unasked -= bytes;
        Ok(())
    }

    /// Hardly anything is left to take.
    pub fn is_short(&self) -> bool {
        self.room().is_ok_and(|room| room < UNASKED)
    }

    fn room(&self) -> Result<u64, Errno> {
        #[cfg(test)]
        if let Some(room) = *self.room.lock() {
            return Ok(room);
        }
        let space = crate::sys::space(&self.dir)
            .map_err(|e| StoreError::log(StoreError::io("statvfs", &self.dir, e)))?;
        // Where files are counted, the last of them are the store's own too.
        if space.total_files > 0 && space.free_files < space.total_files / RESERVE_SHARE {
            return Ok(0);
        }
        Ok(space.avail_bytes.saturating_sub(reserve(&space)))
    }
}
