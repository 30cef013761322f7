//! The way of rows to the disk: into the journal before anyone is told, and from there, many
//! at once, into the database (`work.db`, `volumes.db`).
//!
//! A thread carries them over when there are many, or when none has come for a moment; so do
//! those who want to read the database. What SQLite refuses (a full disk) stays in memory and
//! in the journal, and is tried again.
//!
//! Rows of volumes are told of when the journal is on disk too ([`Writer::sync`]). Their database
//! is synced before the journal's other file gets its turn, as until then the journal has it all.

use super::area::failed;
use super::durability::{Durability, Syncs};
use super::journal::{Journal, Mark};
use super::rows::{Row, RowKey};
use crate::failpoint;
use crate::patience::may_block;
use crate::types::Errno;
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, TransactionBehavior};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Carried over at once: some 20 ms of SQLite's time.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 4 << 20;
/// More than this waits for `work.db`: who would add to it helps first.
const BACKLOG_ROWS: usize = 8 * BATCH_ROWS;
const BACKLOG_BYTES: usize = 8 * BATCH_BYTES;
/// How long fewer rows wait for more.
const LINGER: Duration = Duration::from_millis(100);
/// Between attempts at what SQLite refused.
const RETRY: Duration = Duration::from_secs(1);

/// What the writer and a tree share: where rows could not be kept the epoch moves, and the
/// tree loads itself again from what was.
#[derive(Default)]
pub(super) struct Link {
    pub epoch: AtomicU64,
}

impl Link {
    /// What was made of the state of `epoch` is not kept.
    pub fn failed(&self, epoch: u64) {
        let (now, past) = (Ordering::AcqRel, Ordering::Acquire);
        // Once, however many find out.
        let _ = self.epoch.compare_exchange(epoch, epoch + 1, now, past);
    }
}

struct Queue {
    journal: Journal,
    /// A sync of the journal failed: what is on disk is unknown, so nothing more is promised.
    lost: bool,
    rows: Vec<Row>,
    bytes: usize,
}

struct Shared {
    durability: Durability,
    syncs: Arc<Syncs>,
    /// Taken before `queue`.
    conn: Mutex<Connection>,
    queue: Mutex<Queue>,
    /// Rows came, or the end.
    more: Condvar,
    stop: AtomicBool,
    #[cfg(test)]
    refuse: AtomicBool,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// `rows` were in the journal and are not in the database.
    pub fn start(
        durability: Durability,
        conn: Connection,
        (journal, rows): (Journal, Vec<Row>),
        syncs: Arc<Syncs>,
    ) -> io::Result<Writer> {
        let shared = Arc::new(Shared {
            durability,
            syncs,
            conn: Mutex::new(conn),
            queue: Mutex::new(Queue {
                journal,
                lost: false,
                rows,
                bytes: 0,
            }),
            more: Condvar::new(),
            stop: AtomicBool::new(false),
            #[cfg(test)]
            refuse: AtomicBool::new(false),
        });
        let carrier = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("pocker-work-db".into())
            .spawn(move || carrier.run())?;
        Ok(Writer {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Before a mutation: there is room for what it will write.
    pub fn admit(&self) -> Result<(), Errno> {
        let mut queue = self.shared.queue.lock();
        if queue.rows.len() >= BACKLOG_ROWS || queue.bytes >= BACKLOG_BYTES {
            drop(queue);
            may_block()?;
            let carried = self.shared.carry(&mut self.shared.conn.lock());
            carried.map_err(|e| super::works::db("write to the database", &e))?;
            queue = self.shared.queue.lock();
        }
        if queue.lost {
            return Err(Errno::Io);
        }
        queue.journal.prepare()
    }

    /// Before a removal: on a full disk what is kept free ahead of the last frame serves it, so
    /// that there is a way out. Where that is used up too, [`Writer::append`] says so.
    pub fn admit_removal(&self) -> Result<(), Errno> {
        match self.admit() {
            Err(Errno::NoSpc) => Ok(()),
            other => other,
        }
    }

    /// Rows and bytes on their way to the database.
    pub fn queued(&self) -> (u64, u64) {
        let queue = self.shared.queue.lock();
        (queue.rows.len() as u64, queue.bytes as u64)
    }

    pub fn is_disk(&self) -> bool {
        self.shared.durability.is_disk()
    }

    /// What was appended is on disk when this returns, where the trees are to survive the
    /// machine. One who waits syncs for all. Called with no tree's state locked.
    pub fn sync(&self) -> Result<(), Errno> {
        if !self.is_disk() {
            return Ok(());
        }
        let syncs = &self.shared.syncs;
        let appended = self.shared.queue.lock().journal.appended();
        syncs.group.wait(appended, || self.shared.sync_journal())?;
        syncs.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps one mutation's rows; when this returns they survive a kill. Called under
    /// the tree's lock, so that a tree's rows are in the order of its changes.
    pub fn append(&self, rows: Vec<Row>) -> Result<(), Errno> {
        let mut queue = self.shared.queue.lock();
        if queue.lost {
            return Err(Errno::Io);
        }
        queue.bytes += queue.journal.append(&rows)?;
        let first = queue.rows.is_empty();
        queue.rows.extend(rows);
        if first || queue.is_batch() {
            self.shared.more.notify_one();
        }
        Ok(())
    }

    /// `f` has the connection. The database holds everything, unless it is full.
    pub fn with<T>(&self, f: impl FnOnce(&mut Connection) -> T) -> T {
        let mut conn = self.shared.conn.lock();
        self.shared.carry_or_log(&mut conn);
        f(&mut conn)
    }

    /// As [`Writer::with`], where the database holds everything.
    pub fn with_all<T>(&self, f: impl FnOnce(&mut Connection) -> T) -> rusqlite::Result<T> {
        let mut conn = self.shared.conn.lock();
        self.shared.carry(&mut conn)?;
        Ok(f(&mut conn))
    }

    /// Everything is in the database, also for other connections.
    pub fn settle(&self) -> rusqlite::Result<()> {
        self.shared.carry(&mut self.shared.conn.lock())
    }

    /// `f` reads the database with everything in it, also where it is full.
    pub fn read<T>(&self, f: impl FnOnce(&Connection) -> T) -> rusqlite::Result<T> {
        let mut conn = self.shared.conn.lock();
        if self.shared.carry_or_log(&mut conn) {
            return Ok(f(&conn));
        }
        // In memory only, and taken back.
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write(&tx, &self.shared.queue.lock().rows)?;
        Ok(f(&tx))
    }

    /// As if the database's disk were full.
    #[cfg(test)]
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuse.store(refuse, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn turn_after(&self, bytes: u64) {
        self.shared.queue.lock().journal.turn_after(bytes);
    }

    #[cfg(test)]
    pub fn mark(&self) -> Mark {
        self.shared.queue.lock().journal.mark()
    }

    /// As if the file system had no more than so many bytes beyond what is written.
    #[cfg(test)]
    pub fn limit_journal(&self, bytes: Option<u64>) {
        self.shared.queue.lock().journal.limit(bytes);
    }

    /// `f` removes the tree. Then its rows need not be written; till then they are as they were,
    /// so that nothing of a tree is lost which is not removed after all.
    pub fn remove(
        &self,
        tree: u64,
        f: impl FnOnce(&mut Connection) -> rusqlite::Result<usize>,
    ) -> rusqlite::Result<()> {
        let mut conn = self.shared.conn.lock();
        f(&mut conn)?;
        self.forget(tree);
        Ok(())
    }

    /// The tree is gone: its rows need not be written.
    pub fn forget(&self, tree: u64) {
        let mut queue = self.shared.queue.lock();
        queue.rows.retain(|row| row.tree() != tree);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Writer {
    /// Nothing is carried over any more. What is in the journal only stays there: the next to
    /// open finds it, and would not bear a second one who writes to the database.
    pub fn stop(&self) {
        {
            let _queue = self.shared.queue.lock();
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.more.notify_all();
        }
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Writer {
    /// As [`Writer::stop`], of a server that leaves in order: the database gets everything, and the
    /// journal's files give back their space. Where that fails they keep what they have. Who has a
    /// tree still may change it: then the journal has that, as ever.
    pub fn close(&self) {
        self.stop();
        let mut conn = self.shared.conn.lock();
        if self.shared.carry_or_log(&mut conn)
            && let Err(e) = self.shared.close(&mut conn)
        {
            tracing::warn!(error = %e, "the journal keeps its size");
        }
    }
}

impl Queue {
    fn is_batch(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }
}

impl Shared {
    fn run(&self) {
        let mut pause = LINGER;
        loop {
            {
                let mut queue = self.queue.lock();
                while queue.rows.is_empty() && !self.stopped() {
                    self.more.wait(&mut queue);
                }
                if !self.stopped() && (!queue.is_batch() || pause > LINGER) {
                    self.more.wait_for(&mut queue, pause);
                }
            }
            if self.stopped() {
                return;
            }
            #[cfg(test)]
            if self.syncs.probe.holds_the_carrier() {
                continue;
            }
            let carried = self.carry_or_log(&mut self.conn.lock());
            pause = if carried { LINGER } else { RETRY };
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn carry_or_log(&self, conn: &mut Connection) -> bool {
        match self.carry(conn) {
            Ok(()) => true,
            Err(e) => {
                let database = self.durability.database();
                tracing::error!(error = %e, "cannot write to {database}; what was changed is in its journal");
                false
            }
        }
    }

    /// Writes what is queued. On failure it is queued as before.
    fn carry(&self, conn: &mut Connection) -> rusqlite::Result<()> {
        let (rows, bytes, mark, long) = {
            let mut queue = self.queue.lock();
            if queue.rows.is_empty() {
                return Ok(());
            }
            let rows = std::mem::take(&mut queue.rows);
            let bytes = std::mem::take(&mut queue.bytes);
            let journal = &queue.journal;
            (rows, bytes, journal.mark(), journal.is_long())
        };
        failpoint::pass("carry.taken");
        let done = match self.durability.is_disk() && !long {
            // Consistent, and as durable as the commit that gives the journal its turn.
            true => self.ordered(conn, |conn| self.commit(conn, &rows, mark)),
            false => self.commit(conn, &rows, mark),
        };
        let mut queue = self.queue.lock();
        if let Err(e) = done {
            let later = std::mem::replace(&mut queue.rows, rows);
            queue.rows.extend(later);
            queue.bytes += bytes;
            return Err(e);
        }
        if long {
            // Logged there; the file in use just grows on.
            let _ = queue.journal.applied(mark);
        }
        Ok(())
    }

    fn close(&self, conn: &mut Connection) -> io::Result<()> {
        let mark = {
            let mut queue = self.queue.lock();
            if queue.lost || !queue.rows.is_empty() {
                return Ok(());
            }
            let mark = queue.journal.close();
            mark.map_err(|_| io::Error::other("its other file cannot begin"))?
        };
        // Durable where the trees are to be: the files have no more than the mark from here on.
        super::rows::set_applied(conn, mark).map_err(io::Error::other)?;
        self.queue.lock().journal.shrink()
    }

    /// Runs `f` with transactions that no sync ends: a crash may take them back, the last ones first.
    fn ordered(
        &self,
        conn: &mut Connection,
        f: impl FnOnce(&mut Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        let done = f(conn);
        conn.pragma_update(None, "synchronous", super::rows::resting(self.durability))?;
        done
    }

    /// Syncs the journal; how many frames are on disk then.
    fn sync_journal(&self) -> Result<u64, Errno> {
        let (files, appended) = {
            let mut queue = self.queue.lock();
            if queue.lost {
                return Err(Errno::Io);
            }
            (queue.journal.unsynced(), queue.journal.appended())
        };
        for (file, path) in files {
            self.syncs.journal.fetch_add(1, Ordering::Relaxed);
            let sync = || failpoint::hit("journal.sync.before").and_then(|()| file.sync_data());
            self.syncs.sync(&path, sync).map_err(|e| {
                // The kernel may have dropped what it could not write: a later sync that
                // succeeds would say nothing of it.
                self.queue.lock().lost = true;
                tracing::error!(
                    "volumes take no more changes until the server is started again, \
                     as what is on the disk is unknown"
                );
                failed("sync", &path, &e)
            })?;
            failpoint::pass("journal.sync.after");
        }
        Ok(appended)
    }

    fn commit(&self, conn: &mut Connection, rows: &[Row], mark: Mark) -> rusqlite::Result<()> {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write(&tx, rows)?;
        super::rows::set_applied(&tx, mark)?;
        #[cfg(test)]
        if self.refuse.load(Ordering::Relaxed) {
            let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            return Err(rusqlite::Error::SqliteFailure(full, None));
        }
        refused(failpoint::hit("carry.commit.before"))?;
        tx.commit()?;
        #[cfg(test)]
        self.syncs.probe.committed(conn);
        failpoint::pass("carry.commit.after");
        Ok(())
    }
}

/// What a test has refused, as SQLite would say it.
fn refused(hit: io::Result<()>) -> rusqlite::Result<()> {
    hit.map_err(|e| {
        let full = e.kind() == io::ErrorKind::StorageFull;
        let code = if full {
            rusqlite::ffi::SQLITE_FULL
        } else {
            rusqlite::ffi::SQLITE_IOERR
        };
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
    })
}

/// Of several rows in one place the last one holds: most directories' rows, and all but the
/// newest replies, are never written.
fn write(conn: &Connection, rows: &[Row]) -> rusqlite::Result<()> {
    let mut last: HashMap<RowKey, usize> = HashMap::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        if let Some(key) = row.key() {
            last.insert(key, i);
        }
    }
    for (i, row) in rows.iter().enumerate() {
        let superseded = row.key().is_some_and(|key| last.get(&key) != Some(&i));
        if !superseded {
            row.write(conn)?;
        }
    }
    Ok(())
}
