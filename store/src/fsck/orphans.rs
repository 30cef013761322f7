//! What nothing refers to: rows, and files without a row.
//!
//! Rows are only removed under the lock of the pins, and none that is pinned: what a batch in
//! progress put or found stays, and so does all that one put since the check began.

use super::fault::{BlobFault, Fault, Repair, Waste};
use super::repair::failed;
use super::report::{Finding, Findings, Outcome, Places};
use super::scan::Known;
use crate::error::StoreError;
use crate::index::{Doomed, Table};
use crate::store::Store;
use crate::types::Digest;
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStringExt;

/// Rows of one transaction: batches wait for the pins' lock no longer than this takes.
const CHUNK: usize = 64;

/// What of a table goes.
#[derive(Default)]
struct Sum {
    count: u64,
    bytes: u64,
    /// The last removal that failed.
    failed: Option<Outcome>,
}

pub(super) struct Orphans<'a> {
    pub store: &'a Store,
    pub objects: &'a HashSet<Digest>,
    pub blobs: &'a HashMap<Digest, Known>,
    pub repair: bool,
}

impl Orphans<'_> {
    /// Rows that nothing refers to; removed where that was asked for.
    pub fn rows(&self, findings: &mut Findings) -> Result<(), StoreError> {
        for (table, what) in [
            (Table::Object, Waste::Objects),
            (Table::SmallBlob, Waste::SmallBlobs),
            (Table::LargeBlob, Waste::LargeBlobs),
        ] {
            let mut sum = Sum::default();
            let mut after = None;
            loop {
                let rows = self.store.index.rows_after(table, after, CHUNK)?;
                let Some(last) = rows.last() else {
                    break;
                };
                after = Some(last.digest);
                self.some(table, rows, &mut sum)?;
            }
            self.add(what, sum, findings);
        }
        Ok(())
    }

    fn some(&self, table: Table, rows: Vec<Doomed>, sum: &mut Sum) -> Result<(), StoreError> {
        let unmarked: Vec<Doomed> = rows
            .into_iter()
            .filter(|row| !self.marked(table, &row.digest))
            .collect();
        if unmarked.is_empty() {
            return Ok(());
        }
        let pins = self.store.pins.lock();
        let go: Vec<Doomed> = unmarked
            .into_iter()
            .filter(|row| !pins.pinned(&row.digest))
            .collect();
        if self.repair
            && let Err(e) = self.store.remove(table, &go)
        {
            sum.failed = Some(failed(&e));
        }
        drop(pins);
        sum.count += go.len() as u64;
        sum.bytes += go.iter().map(|row| row.bytes).sum::<u64>();
        Ok(())
    }

    fn marked(&self, table: Table, digest: &Digest) -> bool {
        match table {
            Table::Object | Table::Snapshot => self.objects.contains(digest),
            Table::SmallBlob | Table::LargeBlob => {
                self.blobs.get(digest).is_some_and(|known| known.used)
            }
        }
    }

    /// Files that have no row and that no tree needs.
    pub fn files(&self, findings: &mut Findings) -> Result<(), StoreError> {
        let mut sum = Sum::default();
        for (digest, _) in self.blobs.iter().filter(|(_, b)| !b.listed && !b.used) {
            let pins = self.store.pins.lock();
            // In use or listed since it was seen: a batch renames files before its rows are there.
            if pins.pinned(digest) || self.store.index.large(digest)?.is_some() {
                continue;
            }
            let area = &self.store.blobs.area;
            let file = area.path(digest).symlink_metadata().map(|meta| meta.len());
            let size = match (file, self.store.blobs.packed_size(digest)) {
                (Ok(size), packed) => size + packed.unwrap_or(0),
                (Err(_), Some(packed)) => packed,
                (Err(_), None) => continue,
            };
            if self.repair
                && let Err(e) = self.store.remove_file(digest)
            {
                sum.failed = Some(failed(&e));
            }
            drop(pins);
            sum.count += 1;
            sum.bytes += size;
        }
        self.add(Waste::Files, sum, findings);
        Ok(())
    }

    fn add(&self, what: Waste, sum: Sum, findings: &mut Findings) {
        let Sum { count, bytes, .. } = sum;
        if count == 0 {
            return;
        }
        let fault = Fault::Unreferenced { what, count, bytes };
        let outcome = match (self.repair, sum.failed) {
            (_, Some(failed)) => failed,
            (true, None) => Outcome::Repaired,
            (false, None) => Outcome::Found,
        };
        // Past the bound of the list: these are four at most.
        findings.list.push(Finding {
            severity: fault.severity(false),
            fault,
            places: Places::default(),
            repair: Repair::Delete,
            outcome,
        });
    }
}

/// The digests of files in the blob area, packed ones too; what is no blob there is a finding.
pub(super) fn list(store: &Store, findings: &mut Findings) -> Result<Vec<Digest>, StoreError> {
    let mut digests = Vec::new();
    for first in 0..=u8::MAX {
        let dir = store.blobs.area.blobs().join(hex::encode([first]));
        let files = std::fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))?;
        for file in files {
            let path = file.map_err(|e| StoreError::io("list", &dir, e))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            match name.and_then(|name| name.parse::<Digest>().ok()) {
                Some(digest) if digest.0[0] == first => digests.push(digest),
                _ => {
                    let path = path.strip_prefix(store.dir()).unwrap_or(&path);
                    let path = path.as_os_str().to_os_string().into_vec();
                    // Not ours: whoever put it there may want it.
                    findings.add(Fault::Stray { path }, Repair::None);
                }
            }
        }
    }
    // Packed ones are nowhere else.
    let packed = store.blobs.packed().into_iter().map(|(digest, _)| digest);
    digests.extend(packed);
    digests.sort_unstable();
    digests.dedup();
    Ok(digests)
}

/// Files without a row that trees need.
pub(super) fn needed(
    store: &Store,
    loose: &[Digest],
    blobs: &HashMap<Digest, Known>,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    for digest in loose {
        let good = blobs.get(digest).is_some_and(|known| known.good);
        let pinned = store.pins.lock().pinned(digest);
        if good && !pinned && store.index.large(digest)?.is_none() {
            let fault = Fault::Blob {
                digest: *digest,
                why: BlobFault::NoRow,
            };
            findings.add(fault, Repair::RestoreRow);
        }
    }
    Ok(())
}
