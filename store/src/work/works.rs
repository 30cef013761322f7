//! All work trees of a store: created, found again, dropped.

use super::area::Area;
use super::durability::{Durability, SyncStats, Syncs};
use super::journal::Journal;
use super::load;
use super::quota::{Limits, Quota};
use super::rows;
use super::state::State;
use super::sweep::Sweeper;
use super::tree::WorkTree;
use super::writer::{Link, Writer};
use crate::failpoint;
use crate::patience::may_block;
use crate::types::{Digest, Errno, Time};
use crate::{Store, StoreError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What a work tree is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WorkClass {
    Build = 1,
    Run = 2,
    Mount = 3,
    Volume = 4,
}

impl WorkClass {
    fn from_row(v: i64) -> Option<WorkClass> {
        use WorkClass::*;
        [Build, Run, Mount, Volume]
            .into_iter()
            .find(|c| *c as i64 == v)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkInfo {
    pub id: u64,
    /// The snapshot it was cloned from; none: the empty tree.
    pub base: Option<Digest>,
    pub class: WorkClass,
    /// The creator's own words, not looked at here.
    pub label: Vec<u8>,
    pub created: Time,
    pub limits: Limits,
}

/// What the work trees of a store, or its volumes, take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkUse {
    /// By class, in the order of [`WorkClass`].
    pub trees: [u64; 4],
    /// In the journal, on their way to the database.
    pub queued_rows: u64,
    pub queued_bytes: u64,
    /// Bytes of small contents in memory, and in the file for what is beyond.
    pub small_memory: u64,
    pub small_file: u64,
}

/// How long a new tree waits for a dropped one's room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Loaded on first use; whoever loads it holds the lock.
pub(super) type Slot = Arc<Mutex<Option<Arc<WorkTree>>>>;

pub struct Works {
    pub(super) store: Arc<Store>,
    pub(super) durability: Durability,
    pub(super) syncs: Arc<Syncs>,
    pub(super) area: Arc<Area>,
    pub(super) writer: Arc<Writer>,
    /// Held while a tree is made: taken before all other locks, there is no row of a tree that is
    /// not listed.
    pub(super) making: Mutex<()>,
    /// Held by who makes a snapshot, for all of its time.
    pub(super) snapping: Mutex<()>,
    trees: Mutex<BTreeMap<u64, (WorkInfo, Slot)>>,
    sweeper: Sweeper,
}

impl Works {
    /// The trees that live for a boot: `work.db` and `staging/` of the store, created, or
    /// opened where they are of this boot. What a tree that is gone left behind is removed in
    /// the background.
    pub fn open_or_create(store: Arc<Store>) -> Result<Works, StoreError> {
        Works::open(store, Durability::Boot, Arc::default())
    }

    /// The volumes: `volumes.db` and `volumes/` of the store, created or opened.
    pub fn volumes(store: Arc<Store>) -> Result<Works, StoreError> {
        Works::open(store, Durability::Disk, Arc::default())
    }

    /// The store has volumes, or had some.
    pub fn has_volumes(store: &Store) -> bool {
        Works::any(store.dir(), Durability::Disk)
    }

    pub(super) fn open(
        store: Arc<Store>,
        durability: Durability,
        syncs: Arc<Syncs>,
    ) -> Result<Works, StoreError> {
        let path = store.dir().join(durability.database());
        let staging = store.dir().join(durability.staging());
        std::fs::create_dir_all(&staging).map_err(|e| StoreError::io("create", &staging, e))?;
        let conn = rows::open(&path, durability, store.boot_id())?;
        failpoint::pass("works.database");
        let area = Area::new(staging, Arc::clone(&store), durability, Arc::clone(&syncs));
        let area = Arc::new(area);
        area.sweep_shots()
            .map_err(|e| StoreError::io("clear", area.dir(), e))?;
        let buried = area
            .buried()
            .map_err(|e| StoreError::io("list", area.dir(), e))?;
        let mut trees = infos(&conn).map_err(|e| StoreError::db("list work trees", &path, e))?;
        trees.retain(|info| !buried.contains(&info.id));
        let known: HashSet<u64> = trees.iter().map(|info| info.id).collect();
        let applied = rows::applied(&conn).map_err(|e| StoreError::db("read", &path, e))?;
        let journal = Journal::open(store.dir(), durability, applied)
            .map_err(|e| StoreError::io("open the journal of", &path, e))?;
        failpoint::pass("works.journal");
        if durability.is_disk() {
            // The files' own names.
            let synced = syncs.sync_dir(store.dir());
            synced.map_err(|e| StoreError::io("sync", store.dir(), e))?;
        }
        let writer = Writer::start(durability, conn, journal, Arc::clone(&syncs))
            .map_err(|e| StoreError::io("start a thread for", &path, e))?;
        let writer = Arc::new(writer);
        let sweeper = Sweeper::start(Arc::clone(&writer), Arc::clone(&area), known)
            .map_err(|e| StoreError::io("start a thread for", &path, e))?;
        Ok(Works {
            store,
            durability,
            syncs,
            area,
            writer,
            making: Mutex::new(()),
            snapping: Mutex::new(()),
            trees: Mutex::new(
                trees
                    .into_iter()
                    .map(|i| (i.id, (i, Slot::default())))
                    .collect(),
            ),
            sweeper,
        })
    }

    pub fn usage(&self) -> WorkUse {
        let mut trees = [0; 4];
        for (info, _) in self.trees.lock().values() {
            trees[info.class as usize - 1] += 1;
        }
        let (queued_rows, queued_bytes) = self.writer.queued();
        let (small_memory, small_file) = self.area.smalls.used();
        WorkUse {
            trees,
            queued_rows,
            queued_bytes,
            small_memory,
            small_file,
        }
    }

    /// Whoever makes a tree next waits, between its row and its place in the list, until the sender goes.
    #[cfg(test)]
    pub(crate) fn stop_in_the_making(&self) -> std::sync::mpsc::Sender<()> {
        let (go_on, wait) = std::sync::mpsc::channel();
        *self.syncs.probe.made.lock() = Some(wait);
        go_on
    }

    #[cfg(test)]
    pub(crate) fn is_in_the_making(&self) -> bool {
        self.syncs.probe.made.lock().is_none()
    }

    /// What keeping these trees durable has cost since they were opened.
    pub fn sync_stats(&self) -> SyncStats {
        self.syncs.stats()
    }

    /// One row, whatever the snapshot's size. A volume's is on disk when this returns.
    pub fn create(
        &self,
        base: Option<Digest>,
        class: WorkClass,
        label: &[u8],
        now: Time,
    ) -> Result<Arc<WorkTree>, Errno> {
        self.create_within(base, class, label, Limits::NONE, now)
    }

    /// The same, with no more of its own than `limits`.
    pub fn create_within(
        &self,
        base: Option<Digest>,
        class: WorkClass,
        label: &[u8],
        limits: Limits,
        now: Time,
    ) -> Result<Arc<WorkTree>, Errno> {
        let sealed = match &base {
            Some(digest) => Some(self.store.sealed(digest).map_err(StoreError::log)?),
            None => None,
        };
        let info = WorkInfo {
            id: self.store.next_id().map_err(StoreError::log)?,
            base,
            class,
            label: label.to_vec(),
            created: now,
            limits,
        };
        let _making = self.making.lock();
        self.writer
            .with(|conn| {
                let tx = conn.transaction()?;
                rows::put_tree(&tx, &info)?;
                rows::set_limits(&tx, info.id, limits)?;
                if self.durability.is_disk() {
                    rows::set_loaded(&tx, info.id, self.store.boot_id())?;
                }
                tx.commit()
            })
            .map_err(|e| db("create work tree", &e))?;
        failpoint::pass("tree.created");
        #[cfg(test)]
        {
            let go_on = self.syncs.probe.made.lock().take();
            go_on.map(|go_on| go_on.recv());
        }
        Ok(self.made(info, State::new(sealed, now)))
    }

    /// A tree whose row is there, among the others.
    pub(super) fn made(&self, info: WorkInfo, mut state: State) -> Arc<WorkTree> {
        state.quota = Quota::of(&info, &self.area);
        let tree = self.tree(&info, Arc::default(), state);
        let slot = Arc::new(Mutex::new(Some(Arc::clone(&tree))));
        self.trees.lock().insert(info.id, (info, slot));
        tree
    }

    fn tree(&self, info: &WorkInfo, link: Arc<Link>, state: State) -> Arc<WorkTree> {
        let (area, writer) = (Arc::clone(&self.area), Arc::clone(&self.writer));
        Arc::new(WorkTree::new(info.clone(), area, writer, link, state))
    }

    /// `Stale` where there is none: dropped, sealed, or of another boot.
    pub fn get(&self, id: u64) -> Result<Arc<WorkTree>, Errno> {
        let slot = self.slot(id).ok_or(Errno::Stale)?;
        let mut slot = match slot.try_lock() {
            Some(slot) => slot,
            None => {
                may_block()?;
                slot.lock()
            }
        };
        if let Some(tree) = &*slot {
            return Ok(Arc::clone(tree));
        }
        may_block()?;
        let info = self.info(id).ok_or(Errno::Stale)?;
        let base = match &info.base {
            Some(digest) => Some(self.store.sealed(digest).map_err(StoreError::log)?),
            None => None,
        };
        let link = Arc::<Link>::default();
        let state = load::state(&info, &self.area, &self.writer, &link, base)?;
        let tree = self.tree(&info, link, state);
        *slot = Some(Arc::clone(&tree));
        Ok(tree)
    }

    /// All trees, by id. Their bases are in use.
    pub fn list(&self) -> Vec<WorkInfo> {
        self.trees
            .lock()
            .values()
            .map(|(info, _)| info.clone())
            .collect()
    }

    pub(super) fn info(&self, id: u64) -> Option<WorkInfo> {
        self.trees.lock().get(&id).map(|(info, _)| info.clone())
    }

    pub(super) fn slot(&self, id: u64) -> Option<Slot> {
        self.trees.lock().get(&id).map(|(_, slot)| Arc::clone(slot))
    }

    /// Before a tree that needs room is made: where runs have little left, waits for what was
    /// dropped to be gone.
    pub fn make_room(&self) {
        if self.area.reserve.is_short() {
            self.sweeper.wait(PATIENCE);
        }
    }

    /// One delete; the rows and files below go in the background. On an error the tree is as it
    /// was.
    pub fn drop_tree(&self, id: u64) -> Result<(), Errno> {
        let (_, slot) = self.trees.lock().get(&id).cloned().ok_or(Errno::Stale)?;
        let slot = slot.lock();
        let _frozen = slot.as_ref().map(|tree| tree.freeze.write());
        self.remove_row(id)?;
        self.forget(id, slot.as_deref());
        Ok(())
    }

    /// Frozen by the caller where it is loaded, as is [`Works::forget`].
    pub(super) fn remove_row(&self, id: u64) -> Result<(), Errno> {
        failpoint::pass("drop.row.before");
        let deleted = self.writer.remove(id, |conn| {
            let deleted = conn.execute("DELETE FROM tree WHERE id = ?1", [id as i64])?;
            // Of no use any more, and no harm: numbers are never given twice.
            let _ = rows::drop_limits(conn, id);
            Ok(deleted)
        });
        failpoint::pass("drop.row.after");
        deleted.or_else(|e| {
            let errno = db("drop work tree", &e);
            let buried = self.area.bury(id);
            buried.map_err(|e| {
                tracing::error!(tree = id, error = %e, "drop work tree");
                errno
            })
        })
    }

    /// The tree is no more for those who have it, but on disk it stays.
    pub(super) fn leave(&self, id: u64, tree: &WorkTree) {
        tree.mark_dropped();
        self.trees.lock().remove(&id);
        self.area.forget_tree(id);
    }

    /// The tree is no more for those who have it, and what it leaves behind goes.
    pub(super) fn forget(&self, id: u64, tree: Option<&WorkTree>) {
        self.writer.forget(id);
        if let Some(tree) = tree {
            tree.mark_dropped();
        }
        self.trees.lock().remove(&id);
        self.area.forget_tree(id);
        self.sweeper.remove(id);
    }
}

impl Works {
    /// Before a server leaves in order: its store takes no more space than it needs.
    pub fn close(&self) {
        self.writer.close();
    }
}

impl Drop for Works {
    /// A tree that somebody still has keeps the writer, and with it the journal and the database.
    fn drop(&mut self) {
        self.writer.stop();
    }
}

fn infos(conn: &rusqlite::Connection) -> rusqlite::Result<Vec<WorkInfo>> {
    let mut statement = conn.prepare("SELECT id, base, class, label, secs, nanos FROM tree")?;
    let rows = statement.query_map([], |r| {
        let class = r.get(2)?;
        Ok(WorkInfo {
            id: r.get::<_, i64>(0)? as u64,
            base: r.get::<_, Option<[u8; 32]>>(1)?.map(Digest),
            class: WorkClass::from_row(class)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(2, class))?,
            label: r.get(3)?,
            created: Time {
                secs: r.get(4)?,
                nanos: r.get(5)?,
            },
            limits: Limits::NONE,
        })
    })?;
    let mut infos = rows.collect::<rusqlite::Result<Vec<WorkInfo>>>()?;
    for info in &mut infos {
        info.limits = rows::limits(conn, info.id)?;
    }
    Ok(infos)
}

/// Logs what failed and why.
pub(super) fn db(what: &str, e: &rusqlite::Error) -> Errno {
    tracing::error!(error = %e, "{what}");
    if is_full(e) { Errno::NoSpc } else { Errno::Io }
}

fn is_full(e: &rusqlite::Error) -> bool {
    e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}
