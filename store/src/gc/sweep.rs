//! Removing what is not marked, a little at a time.

use super::GcReport;
use super::mark::Marks;
use crate::error::StoreError;
use crate::index::{Doomed, Step, Sync, Table};
use crate::pins::State;
use crate::store::Store;
use crate::types::Digest;
use parking_lot::MutexGuard;

/// Rows of one transaction: batches wait for the pins' lock no longer than this takes.
const CHUNK: usize = 256;

impl Store {
    pub(super) fn sweep_steps(
        &self,
        dead: &[&Step],
        marks: &mut Marks,
        dry_run: bool,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        for chunk in dead.chunks(CHUNK) {
            let pins = self.pins.lock();
            let (stay, go): (Vec<&Step>, Vec<&Step>) =
                chunk.iter().partition(|step| pins.pinned(&step.key));
            if !dry_run {
                self.index.write("remove steps", Sync::Full, 0, |tx| {
                    let mut remove = tx.prepare_cached("DELETE FROM step WHERE key = ?1")?;
                    go.iter()
                        .try_for_each(|step| remove.execute([&step.key.0]).map(drop))
                })?;
            }
            drop(pins);
            report.steps += go.len() as u64;
            report.removed.extend(go.into_iter().cloned());
            // A batch is about to put the same key: the first wins, so its snapshot is in use.
            for step in stay {
                marks.snapshot(self, step.snapshot)?;
            }
        }
        Ok(())
    }

    /// Snapshots first: once they are gone, no tree without marks can be opened any more.
    pub(super) fn sweep_rows(
        &self,
        marks: &mut Marks,
        dry_run: bool,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        for table in [
            Table::Snapshot,
            Table::Object,
            Table::SmallBlob,
            Table::LargeBlob,
        ] {
            let mut after = None;
            loop {
                let rows = self.index.rows_after(table, after, CHUNK)?;
                let Some(last) = rows.last() else {
                    break;
                };
                after = Some(last.digest);
                let pins = self.settled(marks)?;
                let mut go: Vec<Doomed> = rows
                    .into_iter()
                    .filter(|r| !keep(table, r, marks, &pins))
                    .collect();
                if table == Table::LargeBlob {
                    for row in &mut go {
                        row.disk = self.blobs.takes(&row.digest)?;
                    }
                }
                if !dry_run {
                    self.remove(table, &go)?;
                }
                drop(pins);
                count(table, &go, report);
            }
        }
        if !dry_run {
            self.sweep_files(marks)?;
        }
        Ok(())
    }

    /// The pins' lock, at a moment when all that came into use is marked.
    fn settled(&self, marks: &mut Marks) -> Result<MutexGuard<'_, State>, StoreError> {
        loop {
            let mut pins = self.pins.lock();
            let fresh = pins.take_fresh();
            if fresh.is_empty() {
                return Ok(pins);
            }
            drop(pins);
            for snapshot in fresh {
                marks.snapshot(self, snapshot)?;
            }
        }
    }

    /// Rows, then files, then what memory holds of them. Under the pins' lock.
    pub(crate) fn remove(&self, table: Table, go: &[Doomed]) -> Result<(), StoreError> {
        if go.is_empty() {
            return Ok(());
        }
        self.index.remove_rows(table, go)?;
        for row in go {
            match table {
                Table::Snapshot | Table::Object => self.objects.forget(&row.digest),
                Table::SmallBlob => self.blobs.forget(&row.digest),
                Table::LargeBlob => {
                    self.blobs.forget(&row.digest);
                    self.blobs.unlink(&row.digest)?;
                }
            }
        }
        Ok(())
    }

    /// The file of a large blob that has no row. Under the pins' lock.
    pub(crate) fn remove_file(&self, digest: &Digest) -> Result<(), StoreError> {
        self.index.settle()?;
        self.blobs.unlink(digest)
    }

    /// Files that have no row: a kill came between row and file. One that a tree needs has lost
    /// its row, which a check brings back.
    fn sweep_files(&self, marks: &Marks) -> Result<(), StoreError> {
        let mut one = |digest| {
            if marks.has_blob(&digest) || self.index.large(&digest)?.is_some() {
                return Ok(());
            }
            let pins = self.pins.lock();
            if !pins.pinned(&digest) && self.index.large(&digest)?.is_none() {
                self.remove_file(&digest)?;
            }
            Ok(())
        };
        self.blobs.area.each(&mut one)?;
        let mut packed = self.blobs.packed().into_iter();
        packed.try_for_each(|(digest, _)| one(digest))
    }
}

fn keep(table: Table, row: &Doomed, marks: &Marks, pins: &State) -> bool {
    let marked = match table {
        Table::Snapshot => marks.has_snapshot(&row.digest),
        Table::Object => marks.has_object(&row.digest),
        Table::SmallBlob | Table::LargeBlob => marks.has_blob(&row.digest),
    };
    marked || pins.pinned(&row.digest)
}

fn count(table: Table, go: &[Doomed], report: &mut GcReport) {
    let number = match table {
        Table::Snapshot => &mut report.snapshots,
        Table::Object => &mut report.objects,
        Table::SmallBlob | Table::LargeBlob => &mut report.blobs,
    };
    *number += go.len() as u64;
    report.bytes += go.iter().map(|r| r.disk).sum::<u64>();
}
