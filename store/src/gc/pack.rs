//! Packing what is cold: large blobs that only trees have that nobody used for long.

use super::mark::Marks;
use crate::blob::PackReport;
use crate::error::StoreError;
use crate::index::{Doomed, Sync, Table};
use crate::store::Store;
use crate::types::Digest;

/// Rows looked at together.
const CHUNK: usize = 256;

impl Store {
    /// Packs the large blobs of which no step used at or after the second `since` has need, nor one of
    /// the snapshots `in_use`, and which are none of `blobs`. Whoever opens one, now or later, has it
    /// unpacked.
    pub fn pack_cold(
        &self,
        since: i64,
        in_use: &[Digest],
        blobs: Vec<Digest>,
    ) -> Result<PackReport, StoreError> {
        let (_guard, mut hot) = self.pins.begin().ok_or(StoreError::Collecting)?;
        hot.extend_from_slice(in_use);
        let uses = self.uses()?;
        for step in self.index.steps()? {
            let used = uses.get(&step.key).copied().unwrap_or(i64::MIN);
            if step.created.max(used) >= since {
                hot.push(step.snapshot);
            }
        }
        let mut marks = Marks::default();
        marks.blobs(blobs);
        for snapshot in hot {
            marks.snapshot(self, snapshot)?;
        }
        let mut report = PackReport::default();
        let (mut after, mut noted) = (None, false);
        loop {
            let rows = self.index.rows_after(Table::LargeBlob, after, CHUNK)?;
            let Some(last) = rows.last() else {
                return Ok(report);
            };
            after = Some(last.digest);
            let cold = |row: &&Doomed| !marks.has_blob(&row.digest);
            for row in rows.iter().filter(cold) {
                // It has a bound of its own.
                if self.blobs.is_fetched(&row.digest) {
                    continue;
                }
                if !noted {
                    // A program that does not know of `packed/` would miss them.
                    self.note_packing()?;
                    noted = true;
                }
                let digest = row.digest;
                let still = || !self.pins.lock().pinned(&digest);
                self.blobs.pack(&digest, still, &mut report)?;
                // The list of what came into use is not needed here, and is not to grow.
                self.pins.lock().take_fresh();
            }
        }
    }

    fn note_packing(&self) -> Result<(), StoreError> {
        self.index
            .write("note that blobs are packed", Sync::Full, 0, |tx| {
                let note = "INSERT OR IGNORE INTO feature (name, incompatible) VALUES (?1, 1)";
                tx.execute(note, [crate::index::PACKED]).map(drop)
            })
    }
}
