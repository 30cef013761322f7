//! [`WorkTree`]: the locks and the way a mutation takes.
//!
//! Lock order: where trees are made, then freeze, then a staged file's `io`, then the tree's state, then
//! a staged file's state or the writer's queue. The writer's connection is waited for
//! with no tree's lock held, save to load a tree.

use super::area::Area;
use super::load;
use super::node::{Content, What};
use super::quota::Held;
use super::staged::Staged;
use super::state::State;
use super::tx::{After, Tx};
use super::writer::{Link, Writer};
use super::{WorkClass, WorkInfo};
use crate::patience::{may_block, may_wait};
use crate::types::{Attr, Changed, Creds, Errno, Node, OpCx, Perm, Wcc};
use crate::{FsSpace, StoreError};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often an operation looks again when what it found has changed under it
/// before it had its locks. Each round means another caller's progress.
pub(super) const ROUNDS: usize = 64;

/// A writable clone of a snapshot, or of the empty tree.
///
/// Every mutation is one transaction, committed before it returns: a killed
/// process loses nothing that was answered. Methods block on the disk at most.
pub struct WorkTree {
    pub(super) info: WorkInfo,
    pub(super) area: Arc<Area>,
    pub(super) writer: Arc<Writer>,
    pub(super) link: Arc<Link>,
    /// Held for reading by each mutation, for writing by seal and drop.
    pub(super) freeze: RwLock<()>,
    state: RwLock<State>,
}

impl WorkTree {
    pub(super) fn new(
        info: WorkInfo,
        area: Arc<Area>,
        writer: Arc<Writer>,
        link: Arc<Link>,
        state: State,
    ) -> WorkTree {
        WorkTree {
            info,
            area,
            writer,
            link,
            freeze: RwLock::new(()),
            state: RwLock::new(state),
        }
    }

    /// Never given to another tree of this store.
    pub fn id(&self) -> u64 {
        self.info.id
    }

    pub fn class(&self) -> WorkClass {
        self.info.class
    }

    pub fn info(&self) -> &WorkInfo {
        &self.info
    }

    /// What `who` may do with a node by its mode bits, for ACCESS.
    pub fn access(&self, who: &Creds, node: Node) -> Result<(Perm, Attr), Errno> {
        let attr = self.view()?.attr(node)?;
        Ok((super::perm::allowed(who, &attr), attr))
    }

    /// It survives a crash of the machine, so what is stable must be on disk.
    pub fn is_volume(&self) -> bool {
        self.writer.is_disk()
    }

    /// How many files it holds bytes of that its base does not, and how many bytes.
    pub fn own(&self) -> Result<(u64, u64), Errno> {
        let st = self.view()?;
        let mut own = (0, 0);
        for (n, node) in st.nodes.iter() {
            let used = match &node.what {
                What::File(Content::Inline(small)) => small.len(),
                What::File(Content::Staged(staged)) => staged.state().used,
                What::File(Content::Blob(blob)) if !st.is_of_base(n, &blob.digest) => blob.size,
                _ => continue,
            };
            own = (own.0 + 1, own.1 + used);
        }
        Ok(own)
    }

    /// What it holds beyond its base, as its limits count it.
    pub fn held(&self) -> Result<Held, Errno> {
        let quota = self.view()?.quota.clone();
        Ok(quota.map(|quota| quota.held()).unwrap_or_default())
    }

    /// The space that it has: the file system's, within its limits.
    pub fn space(&self) -> Result<FsSpace, Errno> {
        let quota = self.view()?.quota.clone();
        let all = self.area.store.statfs().map_err(StoreError::log)?;
        Ok(quota.map_or(all, |quota| quota.space(all)))
    }

    /// COMMIT (RFC 1813 §3.3.21): what was written to a volume's file is on disk when this
    /// returns. For other trees there is nothing to do, as these promise nothing over a crash
    /// of the machine and a crash of the server leaves the page cache.
    pub fn commit(&self, node: Node) -> Result<Changed, Errno> {
        if self.is_volume() {
            may_block()?;
            if let Some(staged) = self.staged(node)? {
                match staged.sync(&self.area) {
                    // It is a blob since, which is on disk.
                    Err(Errno::Stale) if !self.is_still(node, &staged)? => {}
                    done => done?,
                }
            }
            self.area.noted(self.writer.sync())?;
        }
        let attr = self.view()?.attr(node)?;
        Ok(Changed {
            node: attr,
            wcc: Wcc {
                before: attr,
                after: attr,
            },
            to: None,
        })
    }

    fn staged(&self, node: Node) -> Result<Option<Arc<Staged>>, Errno> {
        let st = self.view()?;
        Ok(st.nodes.get(&node).and_then(|n| n.staged().cloned()))
    }

    /// The node's bytes are still this file's: a snapshot may have made it a blob, and a write then
    /// another file under the same name.
    pub(super) fn is_still(&self, node: Node, staged: &Arc<Staged>) -> Result<bool, Errno> {
        let now = self.staged(node)?;
        Ok(now.is_some_and(|now| Arc::ptr_eq(&now, staged)))
    }

    /// Held over a mutation; a seal waits for it, and the other way round.
    pub(super) fn running(&self) -> Result<RwLockReadGuard<'_, ()>, Errno> {
        match self.freeze.try_read() {
            Some(running) => Ok(running),
            None => {
                may_block()?;
                Ok(self.freeze.read())
            }
        }
    }

    pub(super) fn view(&self) -> Result<RwLockReadGuard<'_, State>, Errno> {
        for _ in 0..ROUNDS {
            let st = match self.hurried() {
                true => self.state.try_read().ok_or(Errno::Again)?,
                false => self.state.read(),
            };
            if st.dropped {
                return Err(Errno::Stale);
            }
            if st.epoch == self.link.epoch.load(Ordering::Acquire) {
                return Ok(st);
            }
            drop(st);
            drop(self.change()?);
        }
        Err(Errno::Io)
    }

    /// Where nothing may block, a volume's lock is not waited for: files may be synced under
    /// it. Other trees' are held for moments.
    fn hurried(&self) -> bool {
        self.is_volume() && !may_wait()
    }

    /// The state to be changed; loaded again where a commit failed meanwhile.
    pub(super) fn change(&self) -> Result<RwLockWriteGuard<'_, State>, Errno> {
        let mut st = match self.hurried() {
            true => self.state.try_write().ok_or(Errno::Again)?,
            false => self.state.write(),
        };
        if st.dropped {
            return Err(Errno::Stale);
        }
        if st.epoch != self.link.epoch.load(Ordering::Acquire) {
            may_block()?;
            *st = load::state(
                &self.info,
                &self.area,
                &self.writer,
                &self.link,
                st.base.clone(),
            )?;
        }
        Ok(st)
    }

    /// Frozen by the caller.
    pub(super) fn mark_dropped(&self) {
        let mut st = self.state.write();
        st.dropped = true;
        st.nodes.clear();
        st.names.clear();
        st.gone.clear();
        st.base = None;
        st.replies = Default::default();
    }

    /// Runs `f` as one transaction, unless its reply is known. `f` checks before it
    /// changes; where it fails after all, what it changed is taken back.
    pub(super) fn mutate(
        &self,
        cx: &OpCx,
        f: impl FnOnce(&mut Tx) -> Result<Changed, Errno>,
    ) -> Result<Changed, Errno> {
        let _running = self.running()?;
        self.mutate_running(cx, |tx| f(tx).map(Some))?
            .ok_or(Errno::Io)
    }

    /// As [`WorkTree::mutate`], for what takes names away: a full disk does not stop it.
    pub(super) fn mutate_away(
        &self,
        cx: &OpCx,
        f: impl FnOnce(&mut Tx) -> Result<Changed, Errno>,
    ) -> Result<Changed, Errno> {
        let _running = self.running()?;
        self.stable(|| {
            self.writer.admit_removal()?;
            self.transact(cx, |tx| f(tx).map(Some))
        })?
        .ok_or(Errno::Io)
    }

    /// As [`WorkTree::mutate`], with `freeze` held by the caller. `None` from `f`
    /// commits what it changed but records no reply: the caller goes on.
    pub(super) fn mutate_running(
        &self,
        cx: &OpCx,
        f: impl FnOnce(&mut Tx) -> Result<Option<Changed>, Errno>,
    ) -> Result<Option<Changed>, Errno> {
        self.stable(|| {
            self.writer.admit()?;
            self.transact(cx, f)
        })
    }

    /// As [`WorkTree::mutate_running`], for what a crash of the machine may take back.
    pub(super) fn mutate_unstable(
        &self,
        cx: &OpCx,
        f: impl FnOnce(&mut Tx) -> Result<Option<Changed>, Errno>,
    ) -> Result<Option<Changed>, Errno> {
        self.writer.admit()?;
        let (outcome, after) = self.transact(cx, f)?;
        debug_assert!(after.sync.is_empty() && after.unlink.is_empty());
        Ok(outcome)
    }

    /// Runs `f`, a mutation; a volume's is on disk when this returns.
    fn stable(
        &self,
        f: impl FnOnce() -> Result<(Option<Changed>, After), Errno>,
    ) -> Result<Option<Changed>, Errno> {
        if self.is_volume() {
            may_block()?;
        }
        let (outcome, after) = f()?;
        for staged in after.sync {
            staged.sync(&self.area)?;
        }
        // Also for a reply that is known, or a state that is found: it may not be on disk yet.
        self.area.noted(self.writer.sync())?;
        for node in after.unlink {
            self.area.unlink((self.info.id, node));
        }
        Ok(outcome)
    }

    fn transact(
        &self,
        cx: &OpCx,
        f: impl FnOnce(&mut Tx) -> Result<Option<Changed>, Errno>,
    ) -> Result<(Option<Changed>, After), Errno> {
        let mut st = self.change()?;
        if let Some(known) = cx.once.and_then(|key| st.replies.get(&key)).copied() {
            return Ok((Some(known), After::default()));
        }
        let mut tx = Tx::new(&mut st, &self.info, &self.area, &self.writer, cx.now);
        let outcome = f(&mut tx);
        if let (Ok(Some(changed)), Some(key)) = (&outcome, cx.once) {
            tx.reply(key, changed);
        }
        let (rows, after) = tx.finish();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(e) => {
                if !rows.is_empty() {
                    self.take_back(&st);
                }
                return Err(e);
            }
        };
        if !rows.is_empty() {
            self.keep(&st, rows)?;
        }
        Ok((outcome, after))
    }

    /// Keeps what a change of `st` says; where that fails the change is taken back.
    pub(super) fn keep(&self, st: &State, rows: Vec<super::rows::Row>) -> Result<(), Errno> {
        let kept = self.writer.append(rows);
        if kept.is_err() {
            self.take_back(st);
        }
        kept
    }

    /// A change that is not kept: the next operation loads the tree from what is.
    fn take_back(&self, st: &State) {
        self.link.failed(st.epoch);
    }
}
