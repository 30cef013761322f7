//! A pocker's earlier builds: their steps may be kept by collection (`gc --keep`).

use super::docs::{self, Doc};
use super::fail::{Fail, Outcome};
use super::state::Daemon;
use pocker_store::types::Digest;
use pocker_store::{Pocker, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Earlier builds remembered of one pocker: past these the oldest is forgotten, and its steps
/// are garbage whatever `--keep` says.
const BUILDS_MAX: usize = 64;

/// What a pocker was before it was built anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BuildDoc {
    pub name: String,
    /// A number of the store's: later builds have larger ones.
    pub number: u64,
    /// Keys.
    pub steps: Vec<String>,
    /// When it was built, in seconds since 1970.
    pub created: i64,
}

impl Doc for BuildDoc {
    const KIND: &'static str = "build";
    fn key(&self) -> Vec<u8> {
        [self.name.as_bytes(), &[0], &self.number.to_be_bytes()].concat()
    }
}

impl BuildDoc {
    pub fn keys(&self) -> Vec<Digest> {
        self.steps
            .iter()
            .filter_map(|key| key.parse().ok())
            .collect()
    }

    fn is(&self, pocker: &Pocker) -> bool {
        self.keys() == pocker.steps
    }
}

impl Daemon {
    fn builds(&self) -> Outcome<Vec<BuildDoc>> {
        docs::all(&self.store).map_err(|e| Fail::internal("cannot list earlier builds", &e))
    }

    /// The earlier builds of one pocker, the newest first.
    fn builds_of(&self, name: &str) -> Outcome<Vec<BuildDoc>> {
        let mut builds = self.builds()?;
        builds.retain(|build| build.name == name);
        builds.sort_by_key(|build| std::cmp::Reverse(build.number));
        Ok(builds)
    }

    /// `new` is about to take the place of what has its name. `change` is held.
    pub fn remember_build(&self, name: &str, new: &Pocker) -> Outcome<()> {
        let failed = |e: StoreError| Fail::internal("cannot note the earlier build", &e);
        let Some(old) = self.store.pocker(name.as_bytes()).map_err(failed)? else {
            return Ok(());
        };
        if old.steps == new.steps {
            return Ok(());
        }
        let builds = self.builds_of(name)?;
        let build = BuildDoc {
            name: name.to_string(),
            number: self.store.next_id().map_err(failed)?,
            steps: old.steps.iter().map(Digest::to_string).collect(),
            created: old.created,
        };
        docs::save(&self.store, &build).map_err(failed)?;
        // A build that is the present one again, and one that is noted twice, count once.
        let again = |build: &&BuildDoc| build.is(new) || build.is(&old);
        let many = builds.iter().skip(BUILDS_MAX - 1);
        for build in builds.iter().filter(again).chain(many) {
            docs::delete(&self.store, build).map_err(failed)?;
        }
        Ok(())
    }

    /// The pocker is gone, and its builds with it.
    pub fn forget_builds(&self, name: &str) -> Outcome<()> {
        for build in self.builds_of(name)? {
            docs::delete(&self.store, &build)
                .map_err(|e| Fail::internal("cannot forget an earlier build", &e))?;
        }
        Ok(())
    }

    /// Steps of each pocker's `keep` newest builds, the present one among them, and which
    /// pockers each step of an earlier build was of. `change` is held.
    pub fn kept_builds(&self, keep: usize) -> Outcome<(HashSet<Digest>, Vec<BuildDoc>)> {
        let pockers = self
            .store
            .pockers()
            .map_err(|e| Fail::internal("cannot list pockers", &e))?;
        let mut kept = HashSet::new();
        let mut all = Vec::new();
        for pocker in &pockers {
            kept.extend(pocker.steps.iter().copied());
            let name = String::from_utf8_lossy(&pocker.name);
            let mut builds = self.builds_of(&name)?;
            // What a killed server noted and did not come to replace.
            builds.retain(|build| !build.is(pocker));
            let earlier = builds.iter().take(keep.saturating_sub(1));
            kept.extend(earlier.flat_map(BuildDoc::keys));
            all.extend(builds);
        }
        Ok((kept, all))
    }

    /// After a collection: builds of which a step is gone are none any more.
    pub fn forget_broken_builds(&self) -> Outcome<()> {
        let _one = self.change.lock();
        let failed = |e: StoreError| Fail::internal("cannot forget an earlier build", &e);
        let steps = self.store.steps().map_err(failed)?;
        let there: HashSet<Digest> = steps.into_iter().map(|step| step.key).collect();
        for build in self.builds()? {
            if !build.keys().iter().all(|key| there.contains(key)) {
                docs::delete(&self.store, &build).map_err(failed)?;
            }
        }
        Ok(())
    }
}
