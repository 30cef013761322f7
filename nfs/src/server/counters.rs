//! What was asked, how it went and how much it moved: one row a procedure, read while
//! it is written.

use super::latency::{Latency, Times};
use crate::portmap::PORTMAP_PROGRAM;
use crate::proto::{MOUNT_PROGRAM, NFS_PROGRAM, POCKER_PROGRAM};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NFS: [&str; 22] = [
    "NULL",
    "GETATTR",
    "SETATTR",
    "LOOKUP",
    "ACCESS",
    "READLINK",
    "READ",
    "WRITE",
    "CREATE",
    "MKDIR",
    "SYMLINK",
    "MKNOD",
    "REMOVE",
    "RMDIR",
    "RENAME",
    "LINK",
    "READDIR",
    "READDIRPLUS",
    "FSSTAT",
    "FSINFO",
    "PATHCONF",
    "COMMIT",
];
const MOUNT: [&str; 6] = ["NULL", "MNT", "DUMP", "UMNT", "UMNTALL", "EXPORT"];
/// What of our own program is asked for beside RPC ([`crate::descriptors`]).
pub(super) const DESCRIPTOR: u32 = 6;
const POCKER: [&str; 7] = [
    "NULL",
    "HELLO",
    "GETXATTR",
    "LISTXATTR",
    "SETXATTR",
    "REMOVEXATTR",
    "DESCRIPTOR",
];
const PORTMAP: [&str; 5] = ["NULL", "SET", "UNSET", "GETPORT", "DUMP"];
const ROWS: usize = NFS.len() + MOUNT.len() + POCKER.len() + PORTMAP.len();

#[derive(Debug, Default)]
struct Row {
    times: Latency,
    errors: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// Counts since the server started.
#[derive(Debug)]
pub struct Counters {
    rows: [Row; ROWS],
    /// Records that reached no procedure: bad headers, credentials, programs, versions.
    refused: AtomicU64,
    /// Calls that are on a thread now, and that ever were.
    threads: (AtomicU64, AtomicU64),
}

/// A call on a thread, until it is dropped.
pub(super) struct OnThread(Arc<Counters>);

impl Drop for OnThread {
    fn drop(&mut self) {
        self.0.threads.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One procedure's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub program: u32,
    pub procedure: u32,
    /// As its RFC calls it.
    pub name: &'static str,
    pub calls: u64,
    /// Calls answered with a status other than OK, or with an RPC error.
    pub errors: u64,
    /// How long the calls took, from when they were at hand until their replies were made.
    pub times: Times,
    /// Bytes of the calls' records, without their marks.
    pub received: u64,
    /// Bytes of the replies' records, with their marks.
    pub sent: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            rows: std::array::from_fn(|_| Row::default()),
            refused: AtomicU64::new(0),
            threads: Default::default(),
        }
    }
}

fn row(program: u32, procedure: u32) -> Option<usize> {
    let (before, names) = match program {
        NFS_PROGRAM => (0, NFS.len()),
        MOUNT_PROGRAM => (NFS.len(), MOUNT.len()),
        POCKER_PROGRAM => (NFS.len() + MOUNT.len(), POCKER.len()),
        PORTMAP_PROGRAM => (ROWS - PORTMAP.len(), PORTMAP.len()),
        _ => return None,
    };
    let procedure = procedure as usize;
    (procedure < names).then_some(before + procedure)
}

impl Counters {
    pub(super) fn count(
        &self,
        program: u32,
        procedure: u32,
        ok: bool,
        took: Duration,
        received: usize,
        sent: usize,
    ) {
        let Some(row) = row(program, procedure) else {
            return self.refuse();
        };
        let row = &self.rows[row];
        row.times.count(took);
        if !ok {
            row.errors.fetch_add(1, Ordering::Relaxed);
        }
        row.received.fetch_add(received as u64, Ordering::Relaxed);
        row.sent.fetch_add(sent as u64, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_thread(self: &Arc<Counters>) -> OnThread {
        self.threads.0.fetch_add(1, Ordering::Relaxed);
        self.threads.1.fetch_add(1, Ordering::Relaxed);
        OnThread(Arc::clone(self))
    }

    /// Calls that wait for a thread or run on one, as they may have to wait for a disk; and how
    /// many ever did.
    pub fn threads(&self) -> (u64, u64) {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (load(&self.threads.0), load(&self.threads.1))
    }

    /// Records that reached no procedure.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The procedures that were called.
    pub fn snapshot(&self) -> Vec<Count> {
        let names = [
            (NFS_PROGRAM, &NFS[..]),
            (MOUNT_PROGRAM, &MOUNT[..]),
            (POCKER_PROGRAM, &POCKER[..]),
            (PORTMAP_PROGRAM, &PORTMAP[..]),
        ];
        names
            .iter()
            .flat_map(|(program, names)| (0..).zip(*names).map(|(n, name)| (*program, n, *name)))
            .zip(&self.rows)
            .map(|((program, procedure, name), row)| {
                let times = row.times.read();
                Count {
                    program,
                    procedure,
                    name,
                    calls: times.calls(),
                    times,
                    errors: row.errors.load(Ordering::Relaxed),
                    received: row.received.load(Ordering::Relaxed),
                    sent: row.sent.load(Ordering::Relaxed),
                }
            })
            .filter(|count| count.calls > 0)
            .collect()
    }
}
