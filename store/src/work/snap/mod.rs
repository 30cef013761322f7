//! Snapshots of a volume that is in use, and what can be made of them.
//!
//! A snapshot stops the tree's writers twice, for as long as it takes to note what there is: once
//! to copy the delta in memory and to give each large file a second name, and once, when the
//! snapshot is durable, to say that files which did not change are its blobs now. Between the two
//! they go on: who changes a block first puts aside what it was ([`shot`]). So the snapshot is of
//! the first moment, and what it costs follows what changed since the one before, whose files are
//! blobs already.
//!
//! A roll back is one transaction: another tree, cloned from the snapshot, in the place of the old
//! one. Who has handles of that finds them stale.

pub(super) mod shot;

use super::WorkInfo;
use super::node::{Content, Node as Inode, What};
use super::quota;
use super::rows::{self, Row};
use super::seal::{Plan, SealOptions, Sealed, Sealing};
use super::staged::Staged;
use super::state::State;
use super::tree::WorkTree;
use super::works::Works;
use crate::sealed::SealedTree;
use crate::types::{Digest, Errno};
use crate::{Batch, StoreError};
use shot::Shots;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Files that become blobs while writers wait once.
const AT_ONCE: usize = 256;

/// What [`Works::snapshot`] made.
pub struct Snapshot {
    pub sealed: Sealed,
    /// Safe from garbage collection while this is held.
    pub tree: Arc<SealedTree>,
    /// The longest time that writers waited for it.
    pub pause: Duration,
}

/// A tree as it was at one moment.
pub(super) struct Moment {
    pub shots: Shots,
    st: State,
}

impl Works {
    /// The tree as it is at one moment, sealed; the tree itself goes on. One at a time.
    pub fn snapshot(&self, id: u64) -> Result<Snapshot, Errno> {
        let _one = self.snapping.lock();
        let tree = self.get(id)?;
        let began = Instant::now();
        let (mut moment, batch) = self.moment(&tree)?;
        let first = began.elapsed();
        let (sealed, trees) = self.seal_moment(&tree, &mut moment, batch)?;
        let second = self.retire(&tree, &moment.shots);
        drop(moment);
        let made = trees.into_iter().next().ok_or(Errno::Io)?;
        Ok(Snapshot {
            sealed,
            tree: made,
            pause: first.max(second),
        })
    }

    /// What there is now: nobody writes meanwhile. The batch keeps its blobs from garbage
    /// collection, whatever becomes of the volume's files.
    pub(super) fn moment(&self, tree: &WorkTree) -> Result<(Moment, Batch), Errno> {
        let _frozen = tree.freeze.write();
        let mut batch = self.store.write_batch();
        let mut shots = Shots::of(&self.area, tree.id())?;
        let st = tree.view()?;
        batch.keep(st.blobs());
        let st = st.moment(|live| shots.take(&self.area, live))?;
        Ok((Moment { shots, st }, batch))
    }

    pub(super) fn seal_moment(
        &self,
        tree: &WorkTree,
        moment: &mut Moment,
        batch: Batch,
    ) -> Result<(Sealed, Vec<Arc<SealedTree>>), Errno> {
        let Moment { shots, st } = moment;
        let plan = Plan::of(st)?;
        let options = SealOptions::default();
        let sealing = Sealing::new(&tree.area, st, plan, batch, &options);
        sealing.beside(shots).run()
    }

    /// Files that are as the snapshot has them are its blobs from here on: the next one finds them
    /// done, and who writes to one copies the blocks that he touches. Where this fails they stay
    /// what they were. How long writers waited at once.
    pub(super) fn retire(&self, tree: &WorkTree, shots: &Shots) -> Duration {
        let mut longest = Duration::ZERO;
        for files in shots.unchanged().chunks(AT_ONCE) {
            let began = Instant::now();
            let frozen = tree.freeze.write();
            if let Err(e) = self.blobs_now(tree, files) {
                tracing::warn!(tree = tree.id(), error = ?e, "files stay as they were before a snapshot");
                return longest.max(began.elapsed());
            }
            drop(frozen);
            longest = longest.max(began.elapsed());
        }
        longest
    }

    fn blobs_now(
        &self,
        tree: &WorkTree,
        files: &[(Arc<Staged>, u64, Digest, u64)],
    ) -> Result<(), Errno> {
        self.writer.admit()?;
        let mut gone = Vec::new();
        {
            let mut st = tree.change()?;
            let (mut rows, mut freed) = (Vec::new(), 0);
            for (live, changes, digest, size) in files {
                let node = &live.key.1;
                let Some(inode) = st.nodes.get_mut(node) else {
                    continue;
                };
                let same = inode.staged().is_some_and(|s| Arc::ptr_eq(s, live));
                // Changed since it was listed.
                if !same || live.changes() != *changes {
                    continue;
                }
                let held = quota::content(inode);
                let (mtime, ctime) = inode.times();
                (inode.mtime, inode.ctime) = (mtime.into(), ctime.into());
                inode.what = What::File(Content::blob(*digest, *size));
                rows.push(Row::node(tree.id(), *node, inode));
                rows.push(Row::PresentGone {
                    tree: tree.id(),
                    node: *node,
                });
                gone.push(live.key);
                freed += held;
            }
            if rows.is_empty() {
                return Ok(());
            }
            tree.keep(&st, rows)?;
            if let Some(quota) = &st.quota {
                quota.change(-(freed as i64), 0);
            }
        }
        self.area.noted(self.writer.sync())?;
        // Frozen still: nobody makes a file anew under the same name.
        gone.into_iter().for_each(|key| self.area.unlink(key));
        #[cfg(test)]
        self.syncs.probe.moment();
        Ok(())
    }

    /// Puts a new clone of `base` in the place of a tree, with its label; the old one is `Stale`
    /// after. One transaction: on an error, and after a crash, either is there.
    pub fn roll_back(&self, id: u64, base: Digest) -> Result<Arc<WorkTree>, Errno> {
        self.roll_back_as(id, base, None)
    }

    /// The same; the new tree has another label where one is given.
    pub fn roll_back_as(
        &self,
        id: u64,
        base: Digest,
        label: Option<Vec<u8>>,
    ) -> Result<Arc<WorkTree>, Errno> {
        let sealed = self.store.sealed(&base).map_err(StoreError::log)?;
        let new = self.store.next_id().map_err(StoreError::log)?;
        let _making = self.making.lock();
        let slot = self.slot(id).ok_or(Errno::Stale)?;
        let slot = slot.lock();
        let old = self.info(id).ok_or(Errno::Stale)?;
        let _frozen = slot.as_ref().map(|tree| tree.freeze.write());
        let info = WorkInfo {
            id: new,
            base: Some(base),
            label: label.unwrap_or(old.label),
            ..old
        };
        let boot = self.store.boot_id();
        #[cfg(test)]
        self.syncs.probe.moment();
        let swapped = self.writer.remove(id, |conn| {
            let tx = conn.transaction()?;
            let gone = tx.execute("DELETE FROM tree WHERE id = ?1", [id as i64])?;
            rows::drop_limits(&tx, id)?;
            rows::put_tree(&tx, &info)?;
            rows::set_limits(&tx, new, info.limits)?;
            if self.durability.is_disk() {
                rows::set_loaded(&tx, new, boot)?;
            }
            tx.commit()?;
            #[cfg(test)]
            self.syncs.probe.committed(conn);
            #[cfg(test)]
            self.syncs.probe.moment();
            Ok(gone)
        });
        swapped.map_err(|e| super::works::db("roll a volume back", &e))?;
        let state = State::new(Some(sealed), info.created);
        let tree = self.made(info, state);
        self.forget(id, slot.as_deref());
        Ok(tree)
    }

    /// Blobs that the trees' own nodes have, whatever their bases have: of files that a snapshot
    /// made blobs of.
    pub fn blobs(&self) -> Result<Vec<Digest>, Errno> {
        let mut all = Vec::new();
        for info in self.list() {
            match self.get(info.id).and_then(|tree| tree.blobs(&mut all)) {
                // Dropped since it was listed.
                Err(Errno::Stale) => {}
                done => done?,
            }
        }
        Ok(all)
    }
}

impl WorkTree {
    fn blobs(&self, all: &mut Vec<Digest>) -> Result<(), Errno> {
        all.extend(self.view()?.blobs());
        Ok(())
    }
}

impl State {
    fn blobs(&self) -> Vec<Digest> {
        let blob = |node: &Inode| match &node.what {
            What::File(Content::Blob(blob)) => Some(blob.digest),
            What::File(Content::Staged(staged)) => staged.base.map(|base| base.digest),
            _ => None,
        };
        self.nodes.iter().filter_map(|(_, n)| blob(n)).collect()
    }

    /// A copy of what is in memory, with `take` said for each staged file.
    fn moment(
        &self,
        mut take: impl FnMut(&Arc<Staged>) -> Result<Arc<Staged>, Errno>,
    ) -> Result<State, Errno> {
        let mut st = State::new(self.base.clone(), self.created);
        for (number, node) in self.nodes.iter() {
            let mut node: Inode = node.clone();
            if let What::File(Content::Staged(staged)) = &mut node.what {
                *staged = take(staged)?;
            }
            st.nodes.insert(number, node);
        }
        st.gone = self.gone.clone();
        st.names = self.names.clone();
        (st.next, st.reserved) = (self.next, self.reserved);
        Ok(st)
    }
}
