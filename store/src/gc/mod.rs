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
mod pack;
mod sweep;

use crate::error::StoreError;
use crate::index::Step;
use crate::store::Store;
use crate::types::Digest;
use mark::Marks;
use std::collections::HashSet;

#[derive(Clone, Copy, Debug, Default)]
pub struct GcOptions {
    /// Count what would go, and leave it.
    pub dry_run: bool,
    /// Steps made or last used at or after this second stay, though no pocker refers to them:
    /// a build in progress will. `None`: none.
    pub keep_steps_since: Option<i64>,
}

/// What the caller has a use for.
#[derive(Clone, Debug, Default)]
pub struct GcRoots {
    pub snapshots: Vec<Digest>,
    /// Keys.
    pub steps: HashSet<Digest>,
    /// Of files that are no tree's, as those of volumes which a snapshot made blobs of.
    pub blobs: Vec<Digest>,
}

/// What went, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    pub steps: u64,
    pub snapshots: u64,
    /// Directories, pages, indexes and snapshots.
    pub objects: u64,
    pub blobs: u64,
    /// What those objects and blobs take on disk: of files what stat(2) says, nothing where
    /// a backup holds the same file; of rows about what they take of the index.
    pub bytes: u64,
    /// The steps themselves.
    pub removed: Vec<Step>,
}

impl Store {
    /// Removes what neither a pocker, nor a pin, nor a tree that is open, nor one of the snapshots
    /// in `extra_roots` reaches. One collection at a time.
    pub fn gc(&self, options: GcOptions, extra_roots: &[Digest]) -> Result<GcReport, StoreError> {
        self.collect(options, extra_roots, || ())
    }

    /// As [`Store::gc`]. `roots` is asked once the collection has begun: what comes into use
    /// from then on stays, whether it is among them or not.
    pub fn gc_with(
        &self,
        options: impl FnOnce() -> Result<(GcOptions, GcRoots), StoreError>,
    ) -> Result<GcReport, StoreError> {
        self.collect_with(options, || ())
    }

    /// `marked` runs between mark and sweep: where a test puts what happens meanwhile.
    pub(crate) fn collect(
        &self,
        options: GcOptions,
        extra_roots: &[Digest],
        marked: impl FnOnce(),
    ) -> Result<GcReport, StoreError> {
        let roots = GcRoots {
            snapshots: extra_roots.to_vec(),
            ..GcRoots::default()
        };
        self.collect_with(|| Ok((options, roots)), marked)
    }

    fn collect_with(
        &self,
        options: impl FnOnce() -> Result<(GcOptions, GcRoots), StoreError>,
        marked: impl FnOnce(),
    ) -> Result<GcReport, StoreError> {
        let (_guard, pinned) = self.pins.begin().ok_or(StoreError::Collecting)?;
        let (options, extra) = options()?;
        let mut roots = pinned;
        roots.extend_from_slice(&extra.snapshots);
        roots.extend(self.trees.in_use());
        let steps = self.index.steps()?;
        let keys = self.live_steps(&steps, options.keep_steps_since)?;
        let keeps = |s: &&Step| {
            keys.contains(&s.key)
                || extra.steps.contains(&s.key)
                || extra.snapshots.contains(&s.snapshot)
        };
        roots.extend(steps.iter().filter(keeps).map(|s| s.snapshot));
        let mut marks = Marks::default();
        marks.blobs(extra.blobs);
        for root in roots {
            marks.snapshot(self, root)?;
        }
        marked();
        let mut report = GcReport::default();
        let dead: Vec<&Step> = steps.iter().filter(|s| !keeps(s)).collect();
        self.sweep_steps(&dead, &mut marks, options.dry_run, &mut report)?;
        self.sweep_rows(&mut marks, options.dry_run, &mut report)?;
        if !options.dry_run {
            self.index.forget_unused()?;
            self.forget_layers()?;
            self.forget_promises(&marks)?;
            self.index.give_back()?;
        }
        Ok(report)
    }

    /// Of blobs that no tree has any more.
    fn forget_promises(&self, marks: &Marks) -> Result<(), StoreError> {
        let pins = self.pins.lock();
        let kept = |digest: &Digest| marks.has_blob(digest) || pins.pinned(digest);
        let all = self
            .index
            .all_promised()?
            .into_iter()
            .map(|(digest, _)| digest);
        let gone: Vec<Digest> = all.filter(|digest| !kept(digest)).collect();
        self.index.forget_promises(&gone)
    }

    /// Keys that pockers name, that are pinned, or that were used lately.
    fn live_steps(
        &self,
        steps: &[Step],
        since: Option<i64>,
    ) -> Result<HashSet<Digest>, StoreError> {
        let pockers = self.index.pockers()?;
        let mut keys: HashSet<Digest> = pockers.into_iter().flat_map(|p| p.steps).collect();
        keys.extend(self.index.pinned_steps()?.into_iter().map(|p| p.key));
        if let Some(since) = since {
            let uses = self.uses()?;
            let lately = |s: &&Step| {
                let used = uses.get(&s.key).copied().unwrap_or(i64::MIN);
                s.created.max(used) >= since
            };
            keys.extend(steps.iter().filter(lately).map(|s| s.key));
        }
        Ok(keys)
    }
}
