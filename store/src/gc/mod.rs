//! Garbage collection: what nothing refers to goes.
//!
//! Mark from the roots, each directory once however many trees share it; then sweep steps,
//! snapshots, objects and blobs, in that order, in small transactions. It runs beside builds:
//! * what batches in progress hold is pinned and left alone ([`crate::pins`]);
//! * snapshots that come into use meanwhile are marked before the next rows go;
//! * rows go before files, both under the pins' lock, so that a batch which finds no
//!   row may write the file anew and never loses it.
//!
//! An object that can't be read stops the collection: what it refers to is unknown.

mod mark;
mod sweep;

use crate::error::StoreError;
use crate::store::Store;
use crate::types::Digest;
use mark::Marks;
use std::collections::HashSet;

#[derive(Clone, Copy, Debug, Default)]
pub struct GcOptions {
    /// Count what would go, and leave it.
    pub dry_run: bool,
    /// Steps created at or after this second stay, though no pocker refers to them:
    /// a build in progress will. `None`: none.
    pub keep_steps_since: Option<i64>,
}

/// What went, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    pub steps: u64,
    pub snapshots: u64,
    /// Directories, pages, indexes and snapshots.
    pub objects: u64,
    pub blobs: u64,
    /// Bytes of those objects and blobs, holes left out.
    pub bytes: u64,
}

impl Store {
    /// Removes what neither a pocker, nor a tree that is open, nor one of the snapshots in
    /// `extra_roots` reaches. One collection at a time.
    pub fn gc(&self, options: GcOptions, extra_roots: &[Digest]) -> Result<GcReport, StoreError> {
        self.collect(options, extra_roots, || ())
    }

    /// `marked` runs between mark and sweep: where a test puts what happens meanwhile.
    pub(crate) fn collect(
        &self,
        options: GcOptions,
        extra_roots: &[Digest],
        marked: impl FnOnce(),
    ) -> Result<GcReport, StoreError> {
        let (_guard, pinned) = self.pins.begin().ok_or(StoreError::Collecting)?;
        let mut roots = pinned;
        roots.extend_from_slice(extra_roots);
        roots.extend(self.trees.in_use());
        let keys = self.live_steps(options.keep_steps_since)?;
        let steps = self.index.steps()?;
        let keeps = |s: &&crate::Step| keys.contains(&s.key) || extra_roots.contains(&s.snapshot);
        roots.extend(steps.iter().filter(keeps).map(|s| s.snapshot));
        let mut marks = Marks::default();
        for root in roots {
            marks.snapshot(self, root)?;
        }
        marked();
        let mut report = GcReport::default();
        let dead: Vec<&crate::Step> = steps.iter().filter(|s| !keeps(s)).collect();
        self.sweep_steps(&dead, &mut marks, options.dry_run, &mut report)?;
        self.sweep_rows(&mut marks, options.dry_run, &mut report)?;
        Ok(report)
    }

    /// Keys that pockers name or that are young.
    fn live_steps(&self, since: Option<i64>) -> Result<HashSet<Digest>, StoreError> {
        let mut keys: HashSet<Digest> = self
            .index
            .pockers()?
            .into_iter()
            .flat_map(|p| p.steps)
            .collect();
        if let Some(since) = since {
            let young = self
                .index
                .steps()?
                .into_iter()
                .filter(|s| s.created >= since);
            keys.extend(young.map(|s| s.key));
        }
        Ok(keys)
    }
}
