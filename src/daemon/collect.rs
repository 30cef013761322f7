//! `pocker gc`: what the store collects, and what the server has a use for.

use super::fail::{Fail, Outcome};
use super::history::BuildDoc;
use super::state::Daemon;
use super::sys::humbly;
use super::{clock, docs};
use crate::control::api::{GcDone, GcRequest, GcStep};
use crate::control::looking::Packed;
use parking_lot::Mutex;
use pocker_store::types::Digest;
use pocker_store::work::WorkClass;
use pocker_store::{GcOptions, GcRoots, Step, StoreError};
use std::collections::HashMap;

/// How long a tree that was just taken in waits for its step.
pub(super) const HOLD_SECS: i64 = 600;

/// What is asked once the collection has begun.
#[derive(Default)]
struct Asked {
    builds: Vec<BuildDoc>,
    uses: HashMap<Digest, i64>,
    failed: Option<Fail>,
}

impl Daemon {
    /// Drops what no pocker, pin, work tree, volume or build refers to. All else goes on.
    pub fn gc(&self, request: &GcRequest) -> Outcome<GcDone> {
        if !request.dry_run {
            // A builder that just died holds nothing, even before the next round.
            self.reap();
        }
        let now = clock::now().secs;
        self.held
            .lock()
            .retain(|(_, since)| now - since < HOLD_SECS);
        let asked = Mutex::new(Asked::default());
        let report = humbly(|| {
            self.store.gc_with(|| {
                let asked = &mut *asked.lock();
                self.roots(request, now, asked).map_err(|fail| {
                    asked.failed = Some(fail);
                    StoreError::Stopped
                })
            })
        });
        let asked = asked.into_inner();
        if let Some(fail) = asked.failed {
            return Err(fail);
        }
        let report = report.map_err(|e| Fail::caring("cannot collect garbage", e))?;
        if !request.dry_run {
            self.forget_broken_builds()?;
            self.forget_lone_snapshots()?;
        }
        let packed = match request.pack.filter(|_| !request.dry_run) {
            Some(unused) => Some(self.pack(now.saturating_sub_unsigned(unused))?),
            None => None,
        };
        Ok(GcDone {
            steps: report.steps,
            objects: report.objects,
            blobs: report.blobs,
            bytes: report.bytes,
            removed: report.removed.iter().map(|s| asked.told(s)).collect(),
            packed,
        })
    }

    /// Packs what no step used since, and nothing that runs, builds or is mounted was cloned from, or
    /// that a volume has.
    fn pack(&self, since: i64) -> Outcome<Packed> {
        let runs = self.runs()?;
        let live = |id: u64| runs.iter().any(|run| run.id == id && run.live());
        let works = self.works.list();
        let used = works
            .iter()
            .filter(|t| t.class != WorkClass::Run || live(t.id));
        let mut in_use: Vec<_> = used.filter_map(|t| t.base).collect();
        in_use.extend(self.exports.volumes.list().iter().filter_map(|v| v.base));
        let blobs = self.exports.volumes.blobs();
        let blobs = blobs.map_err(|e| Fail::internal("cannot read the volumes", &e))?;
        let report = humbly(|| self.store.pack_cold(since, &in_use, blobs));
        let report = report.map_err(|e| Fail::caring("cannot pack what is cold", e))?;
        Ok(Packed {
            blobs: report.blobs,
            before: report.before,
            after: report.after,
        })
    }

    fn roots(
        &self,
        request: &GcRequest,
        now: i64,
        asked: &mut Asked,
    ) -> Outcome<(GcOptions, GcRoots)> {
        let _one = self.change.lock();
        let mut snapshots: Vec<_> = self.works.list().iter().filter_map(|t| t.base).collect();
        snapshots.extend(self.exports.volumes.list().iter().filter_map(|v| v.base));
        snapshots.extend(self.snapshot_roots()?);
        let blobs = self.exports.volumes.blobs();
        let blobs = blobs.map_err(|e| Fail::internal("cannot read the volumes", &e))?;
        let keep = usize::try_from(request.keep.unwrap_or(1)).unwrap_or(usize::MAX);
        let (steps, builds) = self.kept_builds(keep)?;
        let lives = docs::Owner::lives;
        let building = self.claims.building_since(lives);
        let older = request.older.map(|secs| now.saturating_sub_unsigned(secs));
        asked.builds = builds;
        asked.uses = self
            .store
            .uses()
            .map_err(|e| Fail::internal("cannot read what was used when", &e))?;
        let options = GcOptions {
            dry_run: request.dry_run,
            keep_steps_since: building.into_iter().chain(older).min(),
        };
        let roots = GcRoots {
            snapshots,
            steps,
            blobs,
        };
        Ok((options, roots))
    }
}

impl Asked {
    fn told(&self, step: &Step) -> GcStep {
        let key = step.key.to_string();
        let mut of: Vec<String> = self
            .builds
            .iter()
            .filter(|build| build.steps.contains(&key))
            .map(|build| build.name.clone())
            .collect();
        of.sort();
        of.dedup();
        let used = self.uses.get(&step.key).copied();
        GcStep {
            key,
            instruction: String::from_utf8_lossy(&step.instruction).into_owned(),
            of,
            created: step.created,
            last_used: used.map_or(step.created, |used| used.max(step.created)),
        }
    }
}
