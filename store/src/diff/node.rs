//! One node of a tree beside one of another.

use super::Parts;
use crate::object::BodyRef;
use crate::sealed::SealedTree;
use crate::types::{Errno, Node, ROOT};

/// How two nodes of one kind differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeDiffers {
    /// What the node itself is: its bytes, attributes, owner.
    pub own: bool,
    /// Of directories: something below it.
    pub below: bool,
}

impl SealedTree {
    /// How `node` differs from the node `was` of `old`; none where they are of two kinds.
    pub fn beside(
        &self,
        node: Node,
        old: &SealedTree,
        was: Node,
    ) -> Result<Option<NodeDiffers>, Errno> {
        let (is, was) = (self.base(node)?, old.base(was)?);
        let (is, was) = (is.entry.view()?, was.entry.view()?);
        if is.body.kind() != was.body.kind() {
            return Ok(None);
        }
        let below = match (&was.body, &is.body) {
            (BodyRef::Dir { digest: was, .. }, BodyRef::Dir { digest: is, .. }) => was != is,
            _ => false,
        };
        let own = Parts::of(&was, &is).any();
        Ok(Some(NodeDiffers { own, below }))
    }

    /// The directory of one of a node's places.
    pub fn parent_of(&self, place: Node) -> Result<Node, Errno> {
        Ok(self.base(place)?.parent)
    }

    /// Where the node with this number lies; a hard link's number is that of one of its places.
    pub fn path_of(&self, place: Node) -> Result<Vec<u8>, Errno> {
        Ok(self.path_within(place, usize::MAX)?.0)
    }

    /// The same, and true; of one of more than `most` bytes its end, and false.
    pub fn path_within(&self, place: Node, most: usize) -> Result<(Vec<u8>, bool), Errno> {
        let mut names = Vec::new();
        let (mut at, mut length) = (place, 0);
        while at != ROOT && length <= most {
            let node = self.base(at)?;
            let name = node.entry.name();
            length += name.len() + usize::from(!names.is_empty());
            names.push(name.to_vec());
            at = node.parent;
        }
        names.reverse();
        Ok((names.join(&b'/'), length <= most))
    }
}
