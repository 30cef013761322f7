//! Files that are the same, and whose names are not those of one file any more, or are only now: a layer has
//! them again. They are known by their numbers: a tree may have any number of names at any depth, and
//! all their paths would not fit into memory.

use super::super::out::store_error;
use super::super::{ArchiveError, PATH_MAX};
use pocker_store::SealedTree;
use pocker_store::tree::Tree;
use pocker_store::types::{Attr, Creds, Errno, Kind, Node, ROOT};
use std::collections::HashSet;

/// Most of such files, and of directories that lead to them: what an archive may have of entries.
const HELD_MAX: usize = 8_000_000;

#[derive(Default)]
pub struct Relinked {
    /// The files, each by the number that all its names share.
    pub again: HashSet<Node>,
    /// The directories that lead to them.
    pub above: HashSet<Node>,
}

impl Relinked {
    /// The files of `new` that have other names for the same file than `old` has.
    pub fn find(new: &SealedTree, old: &SealedTree) -> Result<Relinked, ArchiveError> {
        let mut found = Relinked::default();
        // Files of `old` whose names are of more than one of `new`.
        let mut split = HashSet::new();
        for group in old.groups().iter() {
            let mut now: Option<Node> = None;
            for place in group {
                if let Some(file) = there(old, *place, new)?
                    && *now.get_or_insert(file.node) != file.node
                {
                    split.insert(group[0]);
                    break;
                }
            }
        }
        for group in new.groups().iter() {
            if changed(new, group, old, &split)? {
                found.add(new, group[0], group, HELD_MAX)?;
            }
        }
        for group in old.groups().iter().filter(|g| split.contains(&g[0])) {
            for place in group {
                // Those of several names are there already, as their other names are not that file's.
                if let Some(file) = there(old, *place, new)? {
                    found.add(new, file.node, &[file.node], HELD_MAX)?;
                }
            }
        }
        Ok(found)
    }

    pub(super) fn add(
        &mut self,
        tree: &SealedTree,
        file: Node,
        places: &[Node],
        most: usize,
    ) -> Result<(), ArchiveError> {
        if !self.again.insert(file) {
            return Ok(());
        }
        for place in places {
            let mut at = *place;
            while at != ROOT {
                at = tree.parent_of(at).map_err(|e| store_error(b".", e))?;
                // And all that leads there.
                if !self.above.insert(at) {
                    break;
                }
                if self.again.len() + self.above.len() > most {
                    return Err(ArchiveError::Refused(format!(
                        "more than {most} files and directories have to do with hard links that changed"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Whether a file of several names was not just that in `old`.
fn changed(
    new: &SealedTree,
    group: &[Node],
    old: &SealedTree,
    split: &HashSet<Node>,
) -> Result<bool, ArchiveError> {
    let mut from: Option<Node> = None;
    for place in group {
        let Some(was) = there(new, *place, old)?.filter(|was| old.groups().of(was.node).is_some())
        else {
            return Ok(true);
        };
        let beside = new.beside(group[0], old, was.node);
        let beside = beside.map_err(|e| store_error(b".", e))?;
        if split.contains(&was.node)
            || *from.get_or_insert(was.node) != was.node
            || beside.is_none_or(|differs| differs.own)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What `other` has where `tree` has this place, if it is no directory.
fn there(tree: &SealedTree, place: Node, other: &SealedTree) -> Result<Option<Attr>, ArchiveError> {
    let path = tree.path_within(place, PATH_MAX);
    let (path, whole) = path.map_err(|e| store_error(b".", e))?;
    if !whole {
        return Err(ArchiveError::long(&path));
    }
    let found = find(other, &path).map_err(|e| store_error(&path, e))?;
    Ok(found.filter(|attr| attr.kind != Kind::Dir))
}

fn find(tree: &SealedTree, path: &[u8]) -> Result<Option<Attr>, Errno> {
    let mut at = tree.getattr(ROOT)?;
    for name in path.split(|b| *b == b'/') {
        at = match tree.lookup(&Creds::ROOT, at.node, name) {
            Ok(found) => found.node,
            Err(Errno::NoEnt | Errno::NotDir) => return Ok(None),
            Err(e) => return Err(e),
        };
    }
    Ok(Some(at))
}
