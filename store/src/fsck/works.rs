//! Work trees: what their rows refer to, and their staged files.

use super::fault::{Fault, Repair, WorkFault};
use super::links;
use super::report::{Findings, Outcome, Places};
use super::scan::Known;
use super::walk::holds;
use crate::error::StoreError;
use crate::sealed::SealedTree;
use crate::types::{Digest, Node, ROOT};
use crate::work::{BlobUse, Delta, Works};
use std::collections::{HashMap, HashSet};

/// One tree, its base, and what the store has.
pub(super) struct WorkCheck<'a> {
    pub works: &'a Works,
    pub delta: &'a Delta,
    /// `None` where there is none or where it cannot be opened.
    pub base: Option<&'a SealedTree>,
    pub base_listed: bool,
    pub blobs: &'a mut HashMap<Digest, Known>,
    pub promised: &'a HashSet<Digest>,
    pub findings: &'a mut Findings,
}

/// The deltas of all trees.
pub(super) fn deltas(works: &Works) -> Result<Vec<Delta>, StoreError> {
    let mut deltas = Vec::new();
    for id in works.ids() {
        deltas.extend(works.delta(id)?);
    }
    Ok(deltas)
}

impl WorkCheck<'_> {
    pub fn run(mut self) -> Result<(), StoreError> {
        if let Some(base) = self.delta.base.filter(|_| !self.base_listed) {
            self.found(None, WorkFault::Base { base }, Repair::None);
        }
        for node in self.delta.damaged.clone() {
            self.found(Some(node), WorkFault::Row { node }, Repair::None);
        }
        for BlobUse { node, digest, size } in self.delta.blobs.clone() {
            if !holds(self.blobs, &digest, size) && !self.promised.contains(&digest) {
                let why = WorkFault::Blob {
                    node,
                    blob: digest,
                    size,
                };
                self.found(Some(node), why, Repair::None);
            }
        }
        for (node, says, found) in self.delta.lost() {
            let why = WorkFault::Content { node, says, found };
            self.found(Some(node), why, Repair::None);
        }
        self.names();
        self.staged()
    }

    fn found(&mut self, node: Option<Node>, why: WorkFault, repair: Repair) {
        let places = Places {
            work_trees: vec![self.delta.id],
            example: node.and_then(|node| self.path(node)),
            ..Places::default()
        };
        let tree = self.delta.id;
        let fault = Fault::Work { tree, why };
        self.findings.add_at(fault, repair, places);
    }

    /// As the delta has it: an added name, or where it stands in the base.
    fn path(&self, node: Node) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = node;
        while at != ROOT {
            if names.len() == links::DEPTH {
                return None;
            }
            match self.delta.names.get(&at) {
                Some((dir, name)) => {
                    names.push(name.clone());
                    at = *dir;
                }
                None if !self.delta.nodes.contains(&at) || self.in_base(at) => {
                    let found = self.base?.base(at).ok()?;
                    names.push(found.entry.name().to_vec());
                    at = found.parent;
                }
                None => return None,
            }
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    fn in_base(&self, node: Node) -> bool {
        self.base.is_some_and(|base| node <= base.last_number())
    }

    /// Added names lead from a node to a node.
    fn names(&mut self) {
        let last = match (self.base, self.delta.base) {
            (Some(base), _) => base.last_number(),
            // Which numbers the base has is unknown.
            (None, Some(_)) => return,
            (None, None) => ROOT,
        };
        for (dir, node) in self.delta.links.clone() {
            if !self.delta.has(dir, last) || !self.delta.has(node, last) {
                self.found(Some(dir), WorkFault::Name { dir, node }, Repair::None);
            }
        }
        self.counts(last);
    }

    /// Nodes that the base has not are reached by as many added names as they say.
    fn counts(&mut self, last: Node) {
        let mut names: HashMap<Node, u32> = HashMap::new();
        for (_, node) in &self.delta.links {
            *names.entry(*node).or_default() += 1;
        }
        let own = self.delta.says.iter().filter(|(node, _)| **node > last);
        let mut wrong: Vec<_> = own
            .map(|(node, says)| (*node, *says, names.get(node).copied().unwrap_or(0)))
            .filter(|(_, says, found)| says != found)
            .collect();
        wrong.sort();
        for (node, says, found) in wrong {
            self.found(
                Some(node),
                WorkFault::Links { node, says, found },
                Repair::None,
            );
        }
    }

    /// Files may come and go while rows are read: what looks wrong is looked at again
    /// while nothing changes the tree.
    fn staged(&mut self) -> Result<(), StoreError> {
        let (works, id) = (self.works, self.delta.id);
        let suspect = absent(works, id, &self.delta.staged).next().is_some()
            || !works.unstaged(id, &self.delta.staged)?.is_empty();
        if !suspect {
            return Ok(());
        }
        let look = || -> Result<_, StoreError> {
            let Some(delta) = works.delta_held(id)? else {
                return Ok((Vec::new(), Vec::new()));
            };
            let absent = absent(works, id, &delta.staged).collect();
            Ok((absent, works.unstaged(id, &delta.staged)?))
        };
        let Some(looked) = works.held(id, look) else {
            return Ok(());
        };
        let (absent, unstaged): (Vec<Node>, _) = looked?;
        for node in absent {
            self.found(Some(node), WorkFault::Staged { node }, Repair::None);
        }
        if !unstaged.is_empty() {
            let why = WorkFault::Unstaged {
                count: unstaged.len() as u64,
                bytes: unstaged.iter().map(|f| f.bytes).sum(),
            };
            self.found(None, why, Repair::Delete);
        }
        Ok(())
    }
}

/// Staged nodes without a file.
fn absent<'a>(
    works: &'a Works,
    id: u64,
    staged: &'a HashSet<Node>,
) -> impl Iterator<Item = Node> + 'a {
    let gone = move |node: &Node| match works.staged_path(id, *node).symlink_metadata() {
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        Ok(_) => false,
    };
    staged.iter().copied().filter(gone)
}

/// Removes the files of a tree that no node has; `None` where the tree is gone.
pub(super) fn remove_unstaged(works: &Works, id: u64) -> Result<Option<Outcome>, StoreError> {
    let remove = || -> Result<Option<Outcome>, StoreError> {
        let Some(delta) = works.delta_held(id)? else {
            return Ok(None);
        };
        if !delta.damaged.is_empty() {
            return Ok(Some(Outcome::Left("a damaged row may be of these files")));
        }
        for file in works.unstaged(id, &delta.staged)? {
            works.unlink_unstaged(id, &file.path)?;
        }
        Ok(Some(Outcome::Repaired))
    };
    works.held(id, remove).unwrap_or(Ok(None))
}

/// What is open of a work tree's base.
pub(super) fn base_tree(
    links: &links::Links<'_>,
    delta: &Delta,
    ordinal: Option<u32>,
) -> Option<SealedTree> {
    // One that cannot be opened is a finding of its own.
    links.tree(delta.base?, ordinal?).ok()
}
