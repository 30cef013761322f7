//! Where a name stands, or would.

use super::{BaseChild, SealedTree};
use crate::object::DirObject;
use crate::types::{Errno, Node};

/// A name's place among a directory's entries.
pub(crate) struct Spot {
    /// The number of the first entry that is not before the name; one past the directory's
    /// last node where all are.
    pub place: Node,
    /// The entry, where it is this name's.
    pub found: Option<BaseChild>,
}

impl SealedTree {
    pub(crate) fn seek(&self, dir: Node, name: &[u8]) -> Result<Spot, Errno> {
        let base = self.base(dir)?;
        let object = self.object(&base.entry)?;
        let page = match &object {
            DirObject::Page(_) => 0,
            DirObject::Index(index) => index.page_of_name(name),
        };
        let span = self.span(&object, &base.entry, page)?;
        let (slot, found) = match span.page.find(name) {
            Ok(slot) => (slot, Some(self.child_at(dir, &span, slot))),
            Err(slot) => (slot, None),
        };
        Ok(Spot {
            place: dir + 1 + span.nodes_before + span.page.nodes_before(slot),
            found,
        })
    }
}
