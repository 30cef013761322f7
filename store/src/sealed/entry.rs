//! What a sealed tree answers about its nodes.

use crate::object::{Body, Entry, EntryRef, Meta, Page};
use crate::types::{Errno, Kind, Node};
use std::sync::Arc;

/// One entry in its shared page: cheap to clone, nothing copied out.
/// The root's has a name that means nothing.
#[derive(Clone, Debug)]
pub(crate) struct BaseEntry {
    page: Arc<Page>,
    slot: u32,
}

impl BaseEntry {
    pub(super) fn new(page: Arc<Page>, slot: u32) -> BaseEntry {
        BaseEntry { page, slot }
    }

    /// Everything of the entry, borrowed. Pages are validated when they are read, so this fails
    /// only where a slot is not of its page, which would be a defect here.
    pub fn view(&self) -> Result<EntryRef<'_>, Errno> {
        self.page.entry(self.slot as usize).ok_or(Errno::Io)
    }

    pub fn name(&self) -> &[u8] {
        self.page.name(self.slot as usize)
    }

    pub fn kind(&self) -> Result<Kind, Errno> {
        Ok(self.view()?.body.kind())
    }

    pub fn meta(&self) -> Result<Meta, Errno> {
        Ok(self.view()?.to_meta())
    }

    pub fn body(&self) -> Result<Body, Errno> {
        Ok(self.view()?.body.to_body())
    }

    pub fn to_entry(&self) -> Result<Entry, Errno> {
        Ok(self.view()?.to_entry())
    }
}

/// A node by its number.
#[derive(Clone, Debug)]
pub(crate) struct BaseNode {
    pub entry: BaseEntry,
    /// The directory that holds this place; the root's is the root.
    pub parent: Node,
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub(crate) struct BaseChild {
    /// Its own position in pre-order.
    pub place: Node,
    /// The number that stands for it: the lowest of its hard-link group.
    pub node: Node,
    pub index: u64,
    pub entry: BaseEntry,
}
