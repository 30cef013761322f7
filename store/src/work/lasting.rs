//! What is known of how much of a volume's file is on disk.

use super::area::Area;
use super::group::Group;
use crate::types::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Lasting {
    group: Group,
    /// Changes of the file; one before it was opened, for what is not known of it.
    changes: AtomicU64,
    /// How often a file came to stand under its name, the first one too.
    names: AtomicU64,
    /// Which of these is on disk.
    named: AtomicU64,
}

impl Lasting {
    pub fn of(area: &Area) -> Option<Box<Lasting>> {
        area.is_disk().then(|| {
            Box::new(Lasting {
                group: Group::default(),
                changes: AtomicU64::new(1),
                names: AtomicU64::new(1),
                named: AtomicU64::new(0),
            })
        })
    }

    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Another file stands under the name now.
    pub fn renamed(&self) {
        self.names.fetch_add(1, Ordering::AcqRel);
    }

    /// All changes until now are on disk when this returns. `sync` is told whether the name is to
    /// be, and opens the file itself: one that was counted by then is not missed.
    pub fn sync(&self, sync: impl FnOnce(bool) -> Result<(), Errno>) -> Result<(), Errno> {
        self.group.wait(self.changes(), || {
            let upto = self.changes();
            let names = self.names.load(Ordering::Acquire);
            sync(self.named.load(Ordering::Acquire) != names)?;
            self.named.store(names, Ordering::Release);
            Ok(upto)
        })
    }
}

/// Bytes of a file change as long as this is there. Who saw the count meanwhile has seen neither
/// what was before nor what comes, so that it moves before the first byte and after the last one,
/// also where a change failed halfway.
pub(super) struct Changing<'a>(Option<&'a Lasting>);

impl Changing<'_> {
    pub fn of(lasting: Option<&Lasting>) -> Changing<'_> {
        let changing = Changing(lasting);
        changing.count();
        changing
    }

    fn count(&self) {
        if let Some(lasting) = self.0 {
            lasting.changes.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.count();
    }
}
