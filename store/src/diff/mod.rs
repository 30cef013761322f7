//! What differs between two sealed trees. What they share has the same digest, and is not
//! looked at: the cost is that of the directories above what differs.

mod node;
mod walk;

use crate::error::StoreError;
use crate::object::{BodyRef, EntryRef};
use crate::store::Store;
use crate::types::{Digest, Kind};
pub use node::NodeDiffers;
pub(crate) use walk::Walk;

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Added,
    Removed,
    /// Of one kind in both trees. What is another kind now was removed, and added.
    Changed(Parts),
}

/// What of a path is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parts {
    /// Bytes of a file, target of a link, number of a device.
    pub content: bool,
    pub mode: bool,
    pub owner: bool,
    pub mtime: bool,
    pub xattrs: bool,
}

/// One path that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// Relative to the root, whose own is empty.
    pub path: &'a [u8],
    pub kind: Kind,
    pub change: Change,
    /// Bytes of a regular file before and after; 0 where there is none.
    pub sizes: (u64, u64),
}

impl Store {
    /// Tells `emit` how `new` differs from `old`, a directory before what is in it, names in
    /// order, until it answers false. All below a directory that was added or removed is told.
    pub fn diff(
        &self,
        old: &Digest,
        new: &Digest,
        emit: &mut dyn FnMut(Difference<'_>) -> bool,
    ) -> Result<(), StoreError> {
        if old == new {
            return Ok(());
        }
        let (old, new) = (self.sealed(old)?, self.sealed(new)?);
        Walk::new(&self.objects, emit).trees(&old, &new)
    }
}

impl Parts {
    /// Of two entries of one kind.
    pub(crate) fn of(old: &EntryRef<'_>, new: &EntryRef<'_>) -> Parts {
        Parts {
            content: content_differs(&old.body, &new.body),
            mode: old.mode != new.mode,
            owner: (old.uid, old.gid) != (new.uid, new.gid),
            mtime: old.mtime != new.mtime,
            xattrs: !old.xattrs().eq(new.xattrs()),
        }
    }

    pub fn any(&self) -> bool {
        *self != Parts::default()
    }
}

/// What a directory holds is told by what is in it.
fn content_differs(old: &BodyRef<'_>, new: &BodyRef<'_>) -> bool {
    match (old, new) {
        (BodyRef::Dir { .. }, BodyRef::Dir { .. }) => false,
        _ => old != new,
    }
}
