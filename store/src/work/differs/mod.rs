//! How a work tree differs from the tree that it was cloned from. Its delta says where to look, so
//! the cost is that of what changed, not of the tree.
//!
//! Under the tree's lock only what the delta names is gathered ([`gather`]). Directories that are
//! as they are sealed, and bytes of large files, are looked at after that.

mod bytes;
mod gather;

use super::state::State;
use super::tree::WorkTree;
use crate::diff::{Difference, Walk};
use crate::object::BodyRef;
use crate::types::{Digest, Errno, Kind};
use crate::{StoreError, diff::Change};
use bytes::Doubt;
use gather::Gather;

/// Something that differs, or may.
enum Item {
    One {
        path: Vec<u8>,
        kind: Kind,
        change: Change,
        sizes: (u64, u64),
        /// Whether the bytes of a file of the same size differ.
        doubt: Option<Doubt>,
    },
    /// What two sealed directories have, or one of them has.
    Below {
        path: Vec<u8>,
        old: Option<Digest>,
        new: Option<Digest>,
    },
}

impl WorkTree {
    /// Tells `emit` how the tree, as it is at one moment, differs from its base, as
    /// [`crate::Store::diff`] would if it were sealed.
    pub fn diff(&self, emit: &mut dyn FnMut(Difference<'_>) -> bool) -> Result<(), Errno> {
        let items = Gather::of(&*self.view()?)?;
        let objects = &self.area.store.objects;
        for item in items {
            let go_on = match item {
                Item::One {
                    path,
                    kind,
                    change,
                    sizes,
                    doubt,
                } => match settled(change, doubt, &self.area) {
                    None => true,
                    Some(change) => emit(Difference {
                        path: &path,
                        kind,
                        change,
                        sizes,
                    }),
                },
                Item::Below { path, old, new } => Walk::new(objects, emit)
                    .below(path, old.as_ref(), new.as_ref())
                    .map_err(StoreError::log)?,
            };
            if !go_on {
                break;
            }
        }
        Ok(())
    }
}

/// What is known of a change once its bytes are compared; nothing where nothing changed.
fn settled(change: Change, doubt: Option<Doubt>, area: &super::area::Area) -> Option<Change> {
    let Change::Changed(mut parts) = change else {
        return Some(change);
    };
    if let Some(doubt) = doubt {
        parts.content = doubt.differs(area);
    }
    parts.any().then_some(Change::Changed(parts))
}

/// Bytes of a regular file.
fn size(body: &BodyRef<'_>) -> u64 {
    match body {
        BodyRef::File { size, .. } => *size,
        _ => 0,
    }
}
