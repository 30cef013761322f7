//! The one writer of `work.db`, with group commit and no timer: whoever waits for the
//! connection finds its rows committed by the one who had it.

use super::rows::Row;
use crate::types::Errno;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What the writer and a tree share: a failed commit moves the epoch, and the tree
/// loads itself again from what was committed.
#[derive(Default)]
pub(super) struct Link {
    pub epoch: AtomicU64,
}

/// A transaction waiting its turn. As many as there are threads in a mutation: each waits for its own.
pub(super) struct Job {
    link: Arc<Link>,
    epoch: u64,
    rows: Vec<Row>,
    fate: Arc<Fate>,
}

#[derive(Default)]
pub(super) struct Fate(AtomicU8);

const WAITING: u8 = 0;
const DONE: u8 = 1;
const FULL: u8 = 2;
const FAILED: u8 = 3;

impl Fate {
    fn settled(&self) -> Option<Result<(), Errno>> {
        match self.0.load(Ordering::Acquire) {
            WAITING => None,
            DONE => Some(Ok(())),
            FULL => Some(Err(Errno::NoSpc)),
            _ => Some(Err(Errno::Io)),
        }
    }

    fn settle(&self, to: u8) {
        self.0.store(to, Ordering::Release);
    }
}

pub(super) struct Writer {
    conn: Mutex<Connection>,
    queue: Mutex<Vec<Job>>,
}

impl Writer {
    pub fn new(conn: Connection) -> Writer {
        Writer {
            conn: Mutex::new(conn),
            queue: Mutex::new(Vec::new()),
        }
    }

    /// Takes a place in the order of commits; called under the tree's lock, so
    /// that a tree's rows are committed in the order of its changes.
    pub fn enqueue(&self, link: &Arc<Link>, epoch: u64, rows: Vec<Row>) -> Arc<Fate> {
        let fate = Arc::new(Fate::default());
        self.queue.lock().push(Job {
            link: Arc::clone(link),
            epoch,
            rows,
            fate: Arc::clone(&fate),
        });
        fate
    }

    /// Until the rows are committed, or are known not to be. No tree's lock is held.
    pub fn wait(&self, fate: &Fate) -> Result<(), Errno> {
        if let Some(settled) = fate.settled() {
            return settled;
        }
        let mut conn = self.conn.lock();
        if let Some(settled) = fate.settled() {
            return settled;
        }
        let jobs = std::mem::take(&mut *self.queue.lock());
        run(&mut conn, &jobs);
        fate.settled().unwrap_or(Err(Errno::Io))
    }

    /// Everything queued is settled, then `f` has the connection.
    pub fn with<T>(&self, f: impl FnOnce(&mut Connection) -> T) -> T {
        let mut conn = self.conn.lock();
        let jobs = std::mem::take(&mut *self.queue.lock());
        run(&mut conn, &jobs);
        f(&mut conn)
    }
}

fn run(conn: &mut Connection, jobs: &[Job]) {
    let live: Vec<&Job> = jobs
        .iter()
        .filter(|job| {
            // Made on a state that an earlier failure took back.
            let current = job.link.epoch.load(Ordering::Acquire) == job.epoch;
            if !current {
                job.fate.settle(FAILED);
            }
            current
        })
        .collect();
    if live.is_empty() {
        return;
    }
    let fate = match commit(conn, &live) {
        Ok(()) => DONE,
        Err(e) => {
            tracing::error!(error = %e, transactions = live.len(), "commit to work.db");
            for job in &live {
                // Once a batch, however many of its jobs the tree has.
                let _ = job.link.epoch.compare_exchange(
                    job.epoch,
                    job.epoch + 1,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
            }
            match e.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => FULL,
                _ => FAILED,
            }
        }
    };
    for job in live {
        job.fate.settle(fate);
    }
}

fn commit(conn: &mut Connection, jobs: &[&Job]) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // A directory's row is in each transaction that changes its names: the last one holds.
    let mut last = HashMap::new();
    if jobs.len() > 1 {
        let rows = jobs.iter().flat_map(|job| &job.rows);
        last.extend(
            rows.enumerate()
                .filter_map(|(i, row)| Some((row.node_key()?, i))),
        );
    }
    for (i, row) in jobs.iter().flat_map(|job| &job.rows).enumerate() {
        let superseded = row
            .node_key()
            .and_then(|key| last.get(&key))
            .is_some_and(|at| *at > i);
        if !superseded {
            row.write(&tx)?;
        }
    }
    tx.commit()
}
