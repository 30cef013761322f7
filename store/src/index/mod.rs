//! `index.db`: what is in the store. SQLite in WAL mode, synchronous=FULL.
//!
//! One writer behind a mutex; readers take a connection of their own from a small pool, so
//! they never wait for it, and hold no transaction over more than one call. Checkpoints run on
//! a thread of their own ([`checkpoint`]).

mod check;
mod checkpoint;
mod docs;
mod open;
mod pace;
mod pack;
mod pinned;
mod promised;
mod rows;
mod sweep;

pub(crate) use check::SnapshotRow;
pub use docs::{IdAndBytes, Pocker, Step};
pub(crate) use docs::{drop_step, put_step};
pub(crate) use open::{AUTO_VACUUM_INCREMENTAL, FEATURES, FORMAT, PACKED, found, readable};
pub(crate) use pack::Packed;
pub use pinned::Pinned;
pub(crate) use promised::{Fetched, forget_promises, let_go, promised_size};
pub(crate) use rows::{Large, put_large, put_objects, put_small, put_snapshot};
pub(crate) use sweep::{Doomed, Table};

use crate::error::StoreError;
use crate::failpoint;
use crate::lock::StoreLock;
use crate::patience::may_wait;
use crate::types::Digest;
use checkpoint::Checkpointer;
use pace::Pace;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Idle readers kept: more threads than this at once open a connection and close it again.
const READERS: usize = 8;
/// Pages that SQLite changes before a checkpoint is asked for, in bytes written by us.
const CHECKPOINT_BYTES: u64 = 16 << 20;
/// Compiled statements a connection keeps.
const STATEMENTS: usize = 48;

pub(crate) struct Index {
    pub(crate) path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    pace: Pace,
    /// Bytes written since a checkpoint was asked for.
    written: AtomicU64,
    /// A commit failed. Its frames may lie in the log nonetheless, and a process that dies
    /// now leaves them to be replayed; the next commit is written over them.
    doubtful: AtomicBool,
    checkpointer: Checkpointer,
    /// Behind the other connections: the last to close moves the log into the database.
    writer: Mutex<Connection>,
    /// Last, so that it goes when all connections are closed.
    _lock: StoreLock,
}

/// How durable a transaction is when its commit returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Durable, with all that was committed before.
    Full,
    /// Ordered before the next [`Sync::Full`], which makes it durable as well.
    Ordered,
}

impl Index {
    pub(crate) fn fail(&self, what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        move |e| StoreError::db(what, &self.path, e)
    }

    /// Runs `f`, a query of a few rows, on a reader. Where nothing may wait only while they come out of memory.
    pub fn read<T>(
        &self,
        what: &'static str,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let hurried = !may_wait();
        if hurried && !self.pace.is_brisk() {
            return Err(StoreError::WouldWait);
        }
        let pooled = self.readers.lock().pop();
        let conn = match pooled {
            Some(conn) => conn,
            None if hurried => return Err(StoreError::WouldWait),
            None => open::reader(&self.path)?,
        };
        let began = Instant::now();
        let result = f(&conn).map_err(self.fail(what));
        self.pace.took(began.elapsed());
        let mut pool = self.readers.lock();
        if pool.len() < READERS {
            pool.push(conn);
        }
        result
    }

    /// Runs `f` in one write transaction, committed when it succeeds.
    /// `bytes` is about how much it writes.
    pub fn write<T>(
        &self,
        what: &'static str,
        sync: Sync,
        bytes: u64,
        f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut conn: MutexGuard<'_, Connection> = self.writer.lock();
        let result = self.transact(&mut conn, sync, f).map_err(self.fail(what));
        drop(conn);
        if self.written.fetch_add(bytes, Ordering::Relaxed) + bytes >= CHECKPOINT_BYTES {
            self.written.store(0, Ordering::Relaxed);
            self.checkpointer.ask();
        }
        result
    }

    /// What has no row now has none after a crash either: to be called before a file goes for
    /// having none.
    pub fn settle(&self) -> Result<(), StoreError> {
        if !self.doubtful.load(Ordering::Acquire) {
            return Ok(());
        }
        self.write("write over a failed commit", Sync::Full, 0, |tx| {
            // Each time another value: what changes nothing writes nothing.
            let next = "SELECT 1 + coalesce(max(value), 0) FROM meta WHERE key = 'settled'";
            let next: i64 = tx.query_row(next, [], |r| r.get(0))?;
            let put = "INSERT OR REPLACE INTO meta (key, value) VALUES ('settled', ?1)";
            tx.execute(put, [next]).map(drop)
        })
    }

    fn transact<T>(
        &self,
        conn: &mut Connection,
        sync: Sync,
        f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        // FULL is the connection's rest state: a failure in between must not leave it.
        if sync == Sync::Ordered {
            conn.pragma_update(None, "synchronous", "NORMAL")?;
        }
        let result = (|| {
            let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = f(&tx)?;
            failpoint::pass("index.commit.before");
            self.doubtful.store(true, Ordering::Release);
            tx.commit()?;
            self.doubtful.store(false, Ordering::Release);
            failpoint::pass("index.commit.after");
            Ok(value)
        })();
        if sync == Sync::Ordered {
            conn.pragma_update(None, "synchronous", "FULL")?;
        }
        result
    }

    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("read meta", |c| {
            c.prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                .query_row([key], |r| r.get(0))
                .optional()
        })
    }

    /// Durable.
    pub fn put_meta(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write("write meta", Sync::Full, 0, |tx| {
            tx.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)",
                (key, value),
            )?;
            Ok(())
        })
    }

    /// Adds `by` to the counter `key` and answers its value before. Durable.
    pub fn advance(&self, key: &str, by: u64) -> Result<u64, StoreError> {
        self.write("advance a counter", Sync::Full, 0, |tx| {
            let old: Option<[u8; 8]> = tx
                .query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get(0))
                .optional()?;
            let old = old.map_or(0, u64::from_le_bytes);
            tx.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)",
                (key, (old + by).to_le_bytes()),
            )?;
            Ok(old)
        })
    }
}

/// A digest as SQL sees it.
pub(crate) fn digest_column(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Digest> {
    Ok(Digest(row.get(at)?))
}
