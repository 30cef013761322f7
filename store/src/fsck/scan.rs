//! Everything with a digest is read and hashed, by a thread for each processor.
//!
//! Workers take files, largest first, then spans of rows, so that the last of them end
//! at about the same time. They send what they find over a bounded channel to the caller's
//! thread, which alone keeps it and reports progress.

use super::fault::{BlobFault, ObjectFault};
use super::file::{self, Look};
use super::{FsckOptions, FsckPhase, FsckProgress};
use crate::error::StoreError;
use crate::index::{Large, Table};
use crate::object::{self, digest_of};
use crate::store::Store;
use crate::types::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Rows read in one go: a reader holds its transaction for a few milliseconds.
const SPAN: usize = 128;
/// Messages on their way to the caller.
const QUEUE: usize = 256;

/// A blob that has a row, or for large ones perhaps only a file.
pub(super) struct Known {
    pub size: u64,
    pub small: bool,
    pub listed: bool,
    pub good: bool,
    /// Some tree refers to it.
    pub used: bool,
}

/// All that was read.
#[derive(Default)]
pub(super) struct Scanned {
    pub blobs: HashMap<Digest, Known>,
    pub bad_blobs: Vec<(Digest, BlobFault)>,
    pub bad_objects: HashMap<Digest, ObjectFault>,
    pub objects: u64,
    pub bytes: u64,
}

/// A large blob to be read: its row, if it has one.
type File = (Digest, Option<Large>);

type Blob = (Digest, Known, Option<BlobFault>);

enum Told {
    Read(u64),
    Blobs(Vec<Blob>),
    /// How many there were, and those that are bad.
    Objects(u64, Vec<(Digest, ObjectFault)>),
    Failed(StoreError),
}

struct Work<'a> {
    store: &'a Store,
    files: &'a [File],
    next: AtomicUsize,
    rows: [Rows; 2],
    stop: AtomicBool,
    cancel: Option<&'a AtomicBool>,
}

/// A table that is handed out in spans.
struct Rows {
    table: Table,
    last: i64,
    at: Mutex<i64>,
}

impl Rows {
    /// Rows that come while the check runs are not waited for: `last` is fixed.
    fn new(store: &Store, table: Table) -> Result<Rows, StoreError> {
        Ok(Rows {
            table,
            last: store.index.last_id(table)?,
            at: Mutex::new(0),
        })
    }

    fn take(&self, store: &Store) -> Result<Option<(i64, i64)>, StoreError> {
        let mut at = self.at.lock();
        let span = store.index.span(self.table, *at, self.last, SPAN)?;
        Ok(span.map(|to| (std::mem::replace(&mut *at, to), to)))
    }
}

/// Hashes all rows with content, and `files`.
pub(super) fn scan(
    store: &Store,
    mut files: Vec<File>,
    options: &FsckOptions<'_>,
    progress: &dyn Fn(FsckProgress),
) -> Result<Scanned, StoreError> {
    files.sort_by_key(|(_, row)| std::cmp::Reverse(row.map_or(0, |r| r.size)));
    let listed: u64 = files
        .iter()
        .filter_map(|(_, row)| Some(row.as_ref()?.size))
        .sum();
    let total = listed.saturating_add(store.index.size()?);
    let work = Work {
        store,
        files: &files,
        next: AtomicUsize::new(0),
        rows: [
            Rows::new(store, Table::SmallBlob)?,
            Rows::new(store, Table::Object)?,
        ],
        stop: AtomicBool::new(false),
        cancel: options.cancel,
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut scanned = Scanned::default();
    let mut failed = None;
    std::thread::scope(|scope| {
        let (tell, told) = sync_channel(QUEUE);
        for _ in 0..threads {
            let (work, tell) = (&work, tell.clone());
            scope.spawn(move || work.run(&tell));
        }
        drop(tell);
        for message in told {
            match message {
                Told::Failed(e) => failed = failed.take().or(Some(e)),
                message => scanned.take(message),
            }
            // All that comes into use is there to stay: nobody has to be told.
            store.pins.lock().take_fresh();
            progress(FsckProgress {
                phase: FsckPhase::Content,
                done: scanned.bytes.min(total),
                total,
            });
        }
    });
    failed.map_or(Ok(scanned), Err)
}

impl Scanned {
    fn take(&mut self, message: Told) {
        match message {
            Told::Read(bytes) => self.bytes += bytes,
            Told::Objects(count, bad) => {
                self.objects += count;
                self.bad_objects.extend(bad);
            }
            Told::Blobs(blobs) => {
                for (digest, known, fault) in blobs {
                    self.bad_blobs.extend(fault.map(|why| (digest, why)));
                    self.blobs.insert(digest, known);
                }
            }
            Told::Failed(_) => {}
        }
    }
}

impl Work<'_> {
    fn run(&self, tell: &SyncSender<Told>) {
        if let Err(e) = self.all(tell) {
            // Before the others stop, so that this is the first error told. A caller
            // that is gone panicked: nobody is left to tell.
            let _ = tell.send(Told::Failed(e));
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn all(&self, tell: &SyncSender<Told>) -> Result<(), StoreError> {
        let mut buffer = Vec::new();
        while let Some(file) = self.files.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.file(file, &mut buffer, tell)?;
        }
        for rows in &self.rows {
            while let Some((after, to)) = rows.take(self.store)? {
                self.going()?;
                match rows.table {
                    Table::Object => self.objects(after, to, tell)?,
                    _ => self.small(after, to, tell)?,
                }
            }
        }
        Ok(())
    }

    /// An error where the check is to end.
    fn going(&self) -> Result<(), StoreError> {
        let asked = self.cancel.is_some_and(|c| c.load(Ordering::Relaxed));
        if asked || self.stop.load(Ordering::Relaxed) {
            return Err(StoreError::Stopped);
        }
        Ok(())
    }

    fn file(
        &self,
        (digest, row): &File,
        buffer: &mut Vec<u8>,
        tell: &SyncSender<Told>,
    ) -> Result<(), StoreError> {
        let path = self.store.blobs.area.path(digest);
        let expected = row.map(|r| r.size);
        let look = file::look(&path, digest, expected, buffer, &mut |bytes| {
            let _ = tell.send(Told::Read(bytes));
            self.going()
        })?;
        let look = match look {
            Look::Gone => self.packed(digest, expected, buffer, tell)?,
            look => look,
        };
        let known = |size, good| Known {
            size,
            small: false,
            listed: row.is_some(),
            good,
            used: false,
        };
        let blob = match (look, row) {
            // Of a batch that was dropped meanwhile.
            (Look::Gone, None) => return Ok(()),
            (Look::Gone, Some(row)) => {
                let why = BlobFault::NoFile { size: row.size };
                (*digest, known(row.size, false), Some(why))
            }
            (Look::Bad(why), row) => {
                let size = row.map_or(0, |r| r.size);
                (*digest, known(size, false), Some(why))
            }
            (Look::Good { size }, Some(row)) if row.size != size || row.used > size => {
                let why = BlobFault::RowSize {
                    row: row.size,
                    found: size,
                };
                (*digest, known(size, true), Some(why))
            }
            (Look::Good { size }, _) => (*digest, known(size, true), None),
        };
        let _ = tell.send(Told::Blobs(vec![blob]));
        Ok(())
    }

    /// A blob whose file is not there may be packed.
    fn packed(
        &self,
        digest: &Digest,
        expected: Option<u64>,
        buffer: &mut Vec<u8>,
        tell: &SyncSender<Told>,
    ) -> Result<Look, StoreError> {
        let path = self.store.blobs.area.path(digest);
        let Some(mut bytes) = self.store.blobs.unpacked(digest)? else {
            // Somebody may have had it unpacked since.
            return file::look(&path, digest, expected, buffer, &mut |bytes| {
                let _ = tell.send(Told::Read(bytes));
                self.going()
            });
        };
        let mut read = 0;
        let of = (digest, expected);
        let look = file::hashed(&mut bytes, &path, of, buffer, &mut |bytes| {
            read += bytes;
            let _ = tell.send(Told::Read(bytes));
            self.going()
        });
        match look {
            // Bytes that are no frame any more.
            Err(StoreError::Io { .. }) => Ok(Look::Bad(BlobFault::Truncated {
                expected: expected.unwrap_or(read),
                found: read,
            })),
            look => look,
        }
    }

    fn small(&self, after: i64, to: i64, tell: &SyncSender<Told>) -> Result<(), StoreError> {
        let (mut read, mut blobs) = (0, Vec::with_capacity(SPAN));
        let index = &self.store.index;
        index.scan(Table::SmallBlob, after, to, &mut |digest, bytes| {
            let found = digest_of(bytes);
            let fault = (found != digest).then_some(BlobFault::Rotted { found });
            let known = Known {
                size: bytes.len() as u64,
                small: true,
                listed: true,
                good: fault.is_none(),
                used: false,
            };
            read += known.size;
            blobs.push((digest, known, fault));
        })?;
        let _ = tell.send(Told::Blobs(blobs));
        let _ = tell.send(Told::Read(read));
        Ok(())
    }

    fn objects(&self, after: i64, to: i64, tell: &SyncSender<Told>) -> Result<(), StoreError> {
        let (mut read, mut count, mut bad) = (0, 0, Vec::new());
        let index = &self.store.index;
        index.scan(Table::Object, after, to, &mut |digest, bytes| {
            read += bytes.len() as u64;
            count += 1;
            let found = digest_of(bytes);
            match object::validate(bytes) {
                _ if found != digest => bad.push((digest, ObjectFault::Rotted { found })),
                Err(why) => bad.push((digest, ObjectFault::Malformed(why))),
                Ok(()) => {}
            }
        })?;
        let _ = tell.send(Told::Objects(count, bad));
        let _ = tell.send(Told::Read(read));
        Ok(())
    }
}
