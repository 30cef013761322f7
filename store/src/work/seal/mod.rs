//! Seal: a work tree becomes a snapshot.
//!
//! Frozen, so that mutations wait. What is dirty is hashed and stored once ([`files`]); the
//! directories on the changed paths are edited, deepest first ([`dirs`]), all others
//! reused by digest. The batch's commit is the durability point. Cost follows the
//! changed files and the directories above them, and of a large directory only the pages.
//!
//! A kill at any moment leaves a tree that can be sealed again, to the same snapshot: staged
//! files are linked, not moved, into the blob area, and go with the tree's rows after the
//! commit.

mod dirs;
mod files;
mod numbers;
mod plan;

use super::area::Area;
use super::node::Node as Inode;
use super::snap::shot::Shots;
use super::state::State;
use super::works::Works;
use crate::failpoint;
use crate::object::{Body, Counts, Groups, Meta, SnapshotData};
use crate::sealed::SealedTree;
use crate::types::{Digest, Errno, Node, ROOT, Time};
use crate::{Batch, Step, StoreError};
use dirs::Done;
use numbers::Moves;
pub(super) use plan::{Plan, Touch, silly};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct SealOptions {
    /// mtimes of changed nodes are not later than this (SOURCE_DATE_EPOCH), in seconds.
    pub clamp_mtime: Option<i64>,
    /// Recorded in the same commit, with the new snapshot as its own.
    pub step: Option<Step>,
    /// In place of the one that its key has.
    pub replace: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub snapshot: Digest,
    pub ordinal: u32,
    /// Of the whole tree.
    pub counts: Counts,
    /// The step that holds now, where one was given: the first sealed snapshot of a key wins.
    pub step: Option<Step>,
    /// Changed files, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Directories rewritten.
    pub dirs: u64,
}

impl Works {
    /// Seals the tree, then drops it: it is `Stale` after. On an error it is as it was.
    pub fn seal(&self, id: u64, options: &SealOptions) -> Result<Sealed, Errno> {
        let tree = self.get(id)?;
        let _frozen = tree.freeze.write();
        let sealed = {
            let st = tree.view()?;
            let plan = Plan::of(&st)?;
            let sealing = Sealing::new(&tree.area, &st, plan, self.store.write_batch(), options);
            sealing.run()?.0
        };
        failpoint::pass("seal.committed");
        // The snapshot is there. If the rows cannot go now, the next start of the store finds
        // a tree that nothing refers to, and that is whole.
        match self.remove_row(id) {
            Ok(()) => self.forget(id, Some(&tree)),
            Err(_) => self.leave(id, &tree),
        }
        Ok(sealed)
    }
}

pub(super) struct Sealing<'a> {
    area: &'a Area,
    st: &'a State,
    plan: Plan,
    batch: Batch,
    options: &'a SealOptions,
    done: HashMap<Node, Done>,
    /// Of changed files, each stored at its first name.
    bodies: HashMap<Node, Body>,
    files: u64,
    bytes: u64,
    /// Where the staged files are those of a snapshot, which are written to meanwhile.
    shots: Option<&'a mut Shots>,
}

impl<'a> Sealing<'a> {
    pub fn new(
        area: &'a Area,
        st: &'a State,
        plan: Plan,
        batch: Batch,
        options: &'a SealOptions,
    ) -> Sealing<'a> {
        Sealing {
            area,
            st,
            plan,
            batch,
            options,
            done: HashMap::new(),
            bodies: HashMap::new(),
            files: 0,
            bytes: 0,
            shots: None,
        }
    }

    /// The tree goes on meanwhile: its staged files are those of `shots`.
    pub fn beside(mut self, shots: &'a mut Shots) -> Sealing<'a> {
        self.shots = Some(shots);
        self
    }

    /// What was made, and its tree.
    pub fn run(mut self) -> Result<(Sealed, Vec<Arc<SealedTree>>), Errno> {
        self.directories()?;
        let (root_dir, counts) = match (self.done.get(&ROOT), &self.st.base) {
            (Some(done), _) => (done.digest, done.counts),
            (None, Some(base)) => (base.root_dir(), base.counts()),
            (None, None) => return Err(Errno::Io),
        };
        let groups = Groups::new(self.groups()?, ROOT + counts.nodes)
            .map_err(|e| StoreError::from(e).log())?;
        let root = self.st.load(ROOT)?;
        let root_meta = match self.st.nodes.contains_key(&ROOT) {
            true => self.meta(&root),
            false => unclamped(&root),
        };
        let data = SnapshotData {
            root_meta,
            root_dir,
            counts,
            groups,
        };
        let snapshot = self.batch.put_snapshot(&data).map_err(StoreError::log)?;
        if let Some(step) = &self.options.step {
            let step = Step {
                snapshot,
                ..step.clone()
            };
            let put = match self.options.replace {
                true => self.batch.replace_step(step),
                false => self.batch.put_step(step),
            };
            put.map_err(StoreError::log)?;
        }
        if let Some(shots) = &mut self.shots {
            shots.close(self.area, &mut self.batch)?;
        }
        failpoint::pass("seal.commit.before");
        let mut committed = self.batch.commit().map_err(StoreError::log)?;
        let (_, ordinal) = committed.snapshots.pop().ok_or(Errno::Io)?;
        let sealed = Sealed {
            snapshot,
            ordinal,
            counts,
            step: committed.steps.pop(),
            files: self.files,
            bytes: self.bytes,
            dirs: self.done.len() as u64,
        };
        Ok((sealed, committed.trees))
    }

    /// A changed node's attributes.
    fn meta(&self, node: &Inode) -> Meta {
        let mut meta = unclamped(node);
        if let Some(secs) = self.options.clamp_mtime
            && meta.mtime.secs >= secs
        {
            meta.mtime = Time { secs, nanos: 0 };
        }
        meta
    }

    /// Hard-link groups of the new tree.
    fn groups(&self) -> Result<Vec<Vec<Node>>, Errno> {
        let (moves, mut names) = self.number();
        if let Some(base) = &self.st.base {
            for members in base.groups().iter() {
                let kept: Vec<Node> = match self.done.is_empty() {
                    true => members.to_vec(),
                    false => members.iter().filter_map(|n| moves.get(*n)).collect(),
                };
                names.entry(members[0]).or_default().extend(kept);
            }
            // A file of the base with one name there, and more added.
            for (n, numbers) in &mut names {
                if self.st.in_base(*n) && base.members(*n).len() == 1 {
                    numbers.extend(moves.get(*n));
                }
            }
        }
        Ok(names.into_values().filter(|g| g.len() > 1).collect())
    }

    /// Where the nodes of the base went, and the numbers of added names by their node.
    fn number(&self) -> (Moves, BTreeMap<Node, Vec<Node>>) {
        let mut moves = Moves::default();
        let mut names: BTreeMap<Node, Vec<Node>> = BTreeMap::new();
        let mut stack = vec![(ROOT, ROOT)];
        while let Some((dir, number)) = stack.pop() {
            for (offset, place) in self.done.get(&dir).map_or(&[][..], |d| &d.places) {
                let new = number + 1 + offset;
                match place {
                    dirs::Place::Base(old, len) => moves.add(*old, *len, new),
                    dirs::Place::File(node) => names.entry(*node).or_default().push(new),
                    dirs::Place::Dir(child) => stack.push((*child, new)),
                }
            }
        }
        (moves.finish(), names)
    }
}

fn unclamped(node: &Inode) -> Meta {
    Meta {
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.times().0,
        xattrs: node.xattrs.to_vec(),
    }
}
