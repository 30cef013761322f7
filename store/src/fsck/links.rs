//! Hard-link groups: numbers that are one file have the same entry but for its name.

use super::fault::{Fault, Repair};
use super::report::{Findings, Places};
use crate::error::StoreError;
use crate::object::SnapshotData;
use crate::objects::Objects;
use crate::sealed::SealedTree;
use crate::store::Store;
use crate::types::{Digest, Kind, Node, ROOT};
use std::sync::Arc;

/// Directories above a node that its path is followed through: PATH_MAX has fewer.
pub(super) const DEPTH: usize = 4096;

pub(super) struct Links<'a> {
    store: &'a Store,
    /// Not the store's own: a check would push everything else out of its caches.
    objects: Arc<Objects>,
}

impl<'a> Links<'a> {
    pub fn new(store: &'a Store) -> Links<'a> {
        Links {
            store,
            objects: Arc::new(Objects::new(store.index.clone())),
        }
    }

    /// The tree of a snapshot that has been read, whatever of it is damaged.
    pub fn tree(&self, snapshot: Digest, ordinal: u32) -> Result<SealedTree, StoreError> {
        let blobs = self.store.blobs().clone();
        SealedTree::open(snapshot, ordinal, self.objects.clone(), blobs)
    }

    pub fn check(
        &self,
        snapshot: Digest,
        ordinal: u32,
        data: &SnapshotData,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        if data.groups.is_empty() {
            return Ok(());
        }
        let tree = self.tree(snapshot, ordinal)?;
        for group in data.groups.iter() {
            for member in &group[1..] {
                let Some(why) = differ(&tree, group[0], *member) else {
                    continue;
                };
                let fault = Fault::Links {
                    snapshot,
                    first: group[0],
                    member: *member,
                    why,
                };
                let places = Places {
                    snapshots: vec![snapshot],
                    example: path(&tree, *member),
                    ..Places::default()
                };
                findings.add_at(fault, Repair::None, places);
            }
        }
        Ok(())
    }
}

/// How two members differ. Those that cannot be read lie in a damaged directory or
/// under wrong counts, which are findings of their own.
fn differ(tree: &SealedTree, first: Node, member: Node) -> Option<&'static str> {
    let (a, b) = (tree.base(first).ok()?, tree.base(member).ok()?);
    let (a, b) = (a.entry.to_entry().ok()?, b.entry.to_entry().ok()?);
    if a.body.kind() == Kind::Dir || b.body.kind() == Kind::Dir {
        return Some("one is a directory");
    }
    if a.body != b.body {
        return Some("their content differs");
    }
    (a.meta != b.meta).then_some("their attributes differ")
}

/// From the root, without a slash in front.
pub(super) fn path(tree: &SealedTree, node: Node) -> Option<Vec<u8>> {
    let mut names = Vec::new();
    let mut at = node;
    while at != ROOT {
        if names.len() == DEPTH {
            return None;
        }
        let found = tree.base(at).ok()?;
        names.push(found.entry.name().to_vec());
        at = found.parent;
    }
    names.reverse();
    Some(names.join(&b'/'))
}
