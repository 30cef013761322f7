//! A check of the whole store, and repairs.
//!
//! Every blob and object is hashed ([`scan`]); every reference is followed, from pockers to
//! steps, snapshots, directories and blobs ([`walk`], [`links`]), and from the rows of work
//! trees ([`works`]); what nothing refers to is found ([`orphans`]). Where something is
//! damaged, a second walk says in which trees ([`locate`]).
//!
//! # On a live store
//! Everything else goes on meanwhile, and nothing that is right is found to be wrong:
//! * A check counts as a collection ([`crate::pins`]), and there is one at a time. So nothing is
//!   removed while it runs, and what a batch has put or found stays pinned until its end.
//! * What refers is listed before what it refers to: work trees, pockers, steps, snapshots, then
//!   the rest. Things are put in the opposite order, so whatever a listed thing refers to was
//!   there before it was listed, and is there still.
//! * Blobs and objects never change. Rows that come after the check has begun are not looked at.
//! * What nothing refers to may be a batch's that has not committed: only what is not
//!   pinned, under the lock of the pins, counts. The batch pins before it puts, and its pins
//!   are kept, so what is not pinned was there before the check began.
//! * A file without a row may be a batch's whose rows are on their way: likewise.
//! * A work tree's rows are read in one transaction. Its staged files do come and go: where one
//!   is missing or too many, rows and files are looked at again while the tree is held still.
//!
//! # Repairs
//! Nothing good is ever removed: a row whose bytes do not have its digest is first copied to
//! `quarantine/`, durably; what nothing refers to only goes when all that could refer to it
//! has been read; a row is dropped only when what it speaks of is gone. Each repair is made under the lock of
//! the pins, and not on what a batch relies on.
//!
//! A rotted blob cannot be made whole, but once it is in quarantine reads of it fail instead of
//! giving what is wrong, and the next build that puts the same content brings it back for
//! all trees. Steps are found by their keys before they are built: so what each step lost is
//! noted ([`lost`]), and a build takes none that lacks something from the cache.

mod content;
mod fault;
mod file;
mod links;
mod locate;
mod lost;
mod orphans;
mod repair;
mod report;
mod roots;
mod scan;
mod walk;
mod works;

#[cfg(test)]
mod tests;

pub use fault::{BlobFault, Fault, ObjectFault, Repair, Severity, Waste, WorkFault};
pub use report::{Checked, Finding, FsckReport, Outcome, Places};

use crate::error::StoreError;
use crate::store::Store;
use crate::types::Digest;
use crate::work::{Durability, Works};
use links::Links;
use orphans::Orphans;
use repair::Mender;
use report::Findings;
use roots::Roots;
use scan::Scanned;
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use walk::Walk;

/// Of work trees, pockers, steps, snapshots, files and large blobs.
const LISTS: u64 = 6;

#[derive(Clone, Copy, Default)]
pub struct FsckOptions<'a> {
    /// Repair what can be repaired, not only say what is wrong.
    pub repair: bool,
    /// The store's work trees. Without them they are not checked, and where there may be
    /// some, nothing that only they could need is removed.
    pub works: Option<&'a Works>,
    /// The store's volumes; the same holds for them.
    pub volumes: Option<&'a Works>,
    /// Ends the check soon after it is set, with [`StoreError::Stopped`].
    pub cancel: Option<&'a AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FsckPhase {
    /// What there is to check is listed; in lists.
    Listing,
    /// Blobs and objects are hashed; in bytes, of which the total is an estimate.
    Content,
    /// References are followed; in snapshots.
    References,
    /// In work trees.
    WorkTrees,
    /// Damage is located, orphans looked for, repairs made; of 1.
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsckProgress {
    pub phase: FsckPhase,
    pub done: u64,
    pub total: u64,
}

impl<'a> FsckOptions<'a> {
    fn all_works(&self) -> Vec<&'a Works> {
        [self.works, self.volumes].into_iter().flatten().collect()
    }

    /// Nothing that may need something is left out.
    fn knows_all(&self, store: &Store) -> bool {
        let given = [
            (self.works, Durability::Boot),
            (self.volumes, Durability::Disk),
        ];
        let known =
            |(works, of): (Option<&Works>, _)| works.is_some() || !Works::any(store.dir(), of);
        given.into_iter().all(known)
    }
}

impl Store {
    /// Checks everything. `progress` is called on this thread, often. An error is of the
    /// check itself, a database that cannot be read say, and never of what is checked.
    pub fn fsck(
        &self,
        options: &FsckOptions<'_>,
        progress: &dyn Fn(FsckProgress),
    ) -> Result<FsckReport, StoreError> {
        let (_guard, _) = self.pins.begin().ok_or(StoreError::Collecting)?;
        let made = Cell::new(0);
        let listed = || {
            made.set(made.get() + 1);
            progress(FsckProgress {
                phase: FsckPhase::Listing,
                done: made.get(),
                total: LISTS,
            });
        };
        let roots = Roots::list(self, &options.all_works(), &listed)?;
        let mut findings = Findings::default();
        let files = orphans::list(self, &mut findings)?;
        listed();
        let files = roots::files(self, files)?;
        listed();
        let mut scanned = scan::scan(self, files, options, progress)?;
        scanned.bad_objects(&mut findings);
        let check = Check {
            store: self,
            options,
            progress,
            roots,
        };
        let walked = check.references(&mut scanned, &mut findings)?;
        check.work_trees(&mut scanned, &mut findings)?;
        check.finish(scanned, walked, findings)
    }
}

struct Check<'a> {
    store: &'a Store,
    options: &'a FsckOptions<'a>,
    progress: &'a dyn Fn(FsckProgress),
    roots: Roots,
}

/// What following the references told.
struct Walked {
    objects: HashSet<crate::types::Digest>,
    roots: Vec<locate::Root>,
    complete: bool,
}

impl Check<'_> {
    fn step(&self, phase: FsckPhase, done: usize, total: usize) -> Result<(), StoreError> {
        if self
            .options
            .cancel
            .is_some_and(|c| c.load(Ordering::Relaxed))
        {
            return Err(StoreError::Stopped);
        }
        // The list of what came into use is not needed here, and is not to grow.
        self.store.pins.lock().take_fresh();
        (self.progress)(FsckProgress {
            phase,
            done: done as u64,
            total: total as u64,
        });
        Ok(())
    }

    fn references(
        &self,
        scanned: &mut Scanned,
        findings: &mut Findings,
    ) -> Result<Walked, StoreError> {
        let links = Links::new(self.store);
        let snapshots = self.roots.snapshots();
        let mut walk = Walk::new(self.store, scanned, findings);
        walk.promised = self.promised()?;
        let mut places = Vec::with_capacity(snapshots.len());
        for (at, snapshot) in snapshots.iter().enumerate() {
            self.step(FsckPhase::References, at, snapshots.len())?;
            let data = walk.snapshot(*snapshot)?;
            places.push(self.roots.place(*snapshot, data.as_ref()));
            match data {
                Some(data) => {
                    self.roots.compare(*snapshot, &data, walk.findings);
                    // A number that tells trees apart in the cache of these, no more.
                    links.check(*snapshot, at as u32, &data, walk.findings)?;
                }
                None => self.roots.unopenable(*snapshot, walk.findings),
            }
        }
        let complete = walk.complete && self.roots.deltas.iter().all(|d| d.damaged.is_empty());
        let (loose, objects) = walk.marks();
        self.roots.pockers(findings);
        scanned.bad_blobs(self.store, findings)?;
        orphans::needed(self.store, &loose, &scanned.blobs, findings)?;
        Ok(Walked {
            objects,
            roots: places,
            complete,
        })
    }

    /// Blobs that the upstream has: not to be here is no fault of them.
    fn promised(&self) -> Result<HashSet<Digest>, StoreError> {
        let all = self.store.index.all_promised()?;
        Ok(all.into_iter().map(|(digest, _)| digest).collect())
    }

    fn work_trees(&self, scanned: &mut Scanned, findings: &mut Findings) -> Result<(), StoreError> {
        let all = self.options.all_works();
        let links = Links::new(self.store);
        let deltas = &self.roots.deltas;
        let promised = self.promised()?;
        for (at, delta) in deltas.iter().enumerate() {
            self.step(FsckPhase::WorkTrees, at, deltas.len())?;
            // Dropped since it was listed.
            let Some(works) = all.iter().find(|works| works.has(delta.id)) else {
                continue;
            };
            let ordinal = delta.base.and_then(|base| self.roots.ordinal(&base));
            let base = works::base_tree(&links, delta, ordinal);
            let check = works::WorkCheck {
                works,
                delta,
                base: base.as_ref(),
                base_listed: ordinal.is_some(),
                blobs: &mut scanned.blobs,
                promised: &promised,
                findings: &mut *findings,
            };
            check.run()?;
        }
        Ok(())
    }

    fn finish(
        self,
        scanned: Scanned,
        walked: Walked,
        mut findings: Findings,
    ) -> Result<FsckReport, StoreError> {
        self.step(FsckPhase::Finish, 0, 1)?;
        locate::locate(self.store, &walked.roots, walked.complete, &mut findings)?;
        if self.options.repair {
            let (store, works) = (self.store, &self.options.all_works());
            Mender { store, works }.all(&mut findings.list);
            lost::note(store, &findings.list)?;
        }
        let all_known = self.options.knows_all(self.store);
        let orphans = Orphans {
            store: self.store,
            objects: &walked.objects,
            blobs: &scanned.blobs,
            repair: self.options.repair && all_known,
        };
        if walked.complete {
            orphans.rows(&mut findings)?;
            orphans.files(&mut findings)?;
        }
        self.step(FsckPhase::Finish, 1, 1)?;
        let mut report = findings.into_report();
        report.incomplete = !walked.complete;
        report.checked = Checked {
            objects: scanned.objects,
            blobs: scanned.blobs.len() as u64,
            bytes: scanned.bytes,
            ..self.roots.checked()
        };
        Ok(report)
    }
}
