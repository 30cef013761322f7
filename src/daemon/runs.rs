//! Runs: a fresh work tree from the step that `run` points at, and an export for each graft.

use super::docs::{self, Asker, Owner, RunDoc, TreeDoc};
use super::fail::{Fail, Outcome};
use super::state::{Daemon, good_token};
use super::{bounds, grafts};
use crate::control::api::{Export, NewRun, PockerInfo, Purpose, RunInfo, TreeInfo, VolumeUse};
use crate::control::hosts::Id;
use pocker_store::work::Limits;

impl Daemon {
    /// Starts a run of NAME: drops what its ended runs left, then clones.
    pub fn start_run(&self, new: &NewRun, owner: Owner) -> Outcome<RunInfo> {
        let _one = self.change.lock();
        good_token(&new.token)?;
        bounds::run(new)?;
        if let Some(made) = self.made_before(new, owner)? {
            return Ok(made);
        }
        let pocker = self.known_pocker(&new.name)?;
        let Some(step) = pocker.steps.last().cloned() else {
            return Err(Fail::internal(
                format!("pocker {} has no steps", new.name),
                &std::fmt::Error,
            ));
        };
        if owner.lease.is_some() && !new.grafts.is_empty() {
            return Err(Fail::bad(
                "a host directory is its host's own: this server has none of another host's",
            )
            .hint("have the same version on all hosts: `pocker version`"));
        }
        for graft in &new.grafts {
            grafts::check(self, &graft.host)?;
        }
        // What the last run left stays where this one cannot begin.
        for mount in &new.volumes {
            self.volume_for(&mount.name, mount.read_only, None)?;
        }
        if let Some(kept) = &new.kept {
            self.volume_for(kept, false, None)?;
        }
        let goes = |run: &RunDoc| run.name == new.name && !run.live();
        let goes = |run: &RunDoc| run.owner.host() == owner.host() && goes(run);
        let stay = self.runs()?.into_iter().filter(|run| !goes(run));
        bounds::room(
            "runs",
            owner.host(),
            stay.map(|run| run.owner.host()),
            bounds::RUNS,
            "`pocker stop` ends some, and `pocker reset NAME` drops what ended ones left",
        )?;
        self.drop_ended_of(&new.name, owner.host())?;
        for mount in &new.volumes {
            self.volume_for(&mount.name, mount.read_only, Some(&owner))?;
            if !mount.read_only {
                self.host_writes(&mount.name, owner.host());
            }
        }
        self.works.make_room();
        let tree = self.tree_of(new, &step.snapshot, &owner)?;
        if let Some(kept) = &new.kept {
            self.host_writes(kept, owner.host());
        }
        let kept = new.kept.iter().map(|name| VolumeUse {
            name: name.clone(),
            read_only: false,
        });
        let volumes = new.volumes.iter().map(|mount| VolumeUse {
            name: mount.name.clone(),
            read_only: mount.read_only,
        });
        let mut doc = RunDoc {
            id: tree,
            name: new.name.clone(),
            key: step.key.clone(),
            owner,
            grafts: Vec::new(),
            volumes: volumes.chain(kept).collect(),
            ended: false,
            call: new.token.clone(),
        };
        for graft in &new.grafts {
            match grafts::open(self, graft) {
                Ok(opened) => doc.grafts.push(opened),
                Err(e) => {
                    self.release_run(&doc);
                    let _ = self.works.drop_tree(tree);
                    return Err(e);
                }
            }
        }
        if new.kept.is_none() {
            self.exports.lease(tree, owner.host());
        }
        docs::save(&self.store, &doc).map_err(|e| Fail::internal("cannot record the run", &e))?;
        self.run_info(new, &doc, pocker)
    }

    /// What the same call made, whose answer was lost on the way.
    fn made_before(&self, new: &NewRun, owner: Owner) -> Outcome<Option<RunInfo>> {
        if new.token.is_empty() {
            return Ok(None);
        }
        let same = |run: &RunDoc| run.call == new.token && run.owner == owner && !run.ended;
        let Some(run) = self.runs()?.into_iter().find(same) else {
            return Ok(None);
        };
        let pocker = self.known_pocker(&run.name)?;
        if run.name == new.name && pocker.steps.last().is_some_and(|step| step.key == run.key) {
            return self.run_info(new, &run, pocker).map(Some);
        }
        // Built anew in between: a tree and the settings of one build go together.
        self.drop_runs(|other| other.id == run.id)?;
        Ok(None)
    }

    /// The answer to the call that made a run.
    fn run_info(&self, new: &NewRun, run: &RunDoc, pocker: PockerInfo) -> Outcome<RunInfo> {
        let volume = |name: &str, read_only| -> Outcome<Export> {
            Ok(self.volume_export(&self.known_volume(name)?, read_only))
        };
        let export = match &new.kept {
            Some(kept) => volume(kept, false)?,
            None => Export {
                path: self.exports.tree_path("run", run.id),
                read_only: false,
            },
        };
        let grafts = run.grafts.iter().map(|graft| Export {
            path: self.exports.graft_path(graft.id),
            read_only: graft.read_only,
        });
        let volumes = new.volumes.iter();
        let volumes = volumes.map(|mount| volume(&mount.name, mount.read_only));
        Ok(RunInfo {
            id: run.id,
            name: run.name.clone(),
            key: run.key.clone(),
            tree: TreeInfo { id: run.id, export },
            grafts: grafts.collect(),
            volumes: volumes.collect::<Outcome<_>>()?,
            base: pocker
                .steps
                .first()
                .map(|s| s.instruction.clone())
                .unwrap_or_default(),
            config: pocker.config,
        })
    }

    /// The run's number, which is that of its tree: of a fresh one, or none where a volume is kept for it.
    fn tree_of(&self, new: &NewRun, snapshot: &str, owner: &Owner) -> Outcome<u64> {
        let Some(volume) = &new.kept else {
            let limits = Limits {
                bytes: new.quota.bytes,
                names: new.quota.names,
            };
            return self.clone_within(Some(snapshot), Purpose::Run, &new.name, limits);
        };
        self.volume_for(volume, false, Some(owner))?;
        let id = self.store.next_id();
        id.map_err(|e| Fail::internal("cannot number the run", &e))
    }

    /// The run ended: its grafts go, its tree stays until the next start.
    pub fn end_run(&self, id: u64) -> Outcome<()> {
        let _one = self.change.lock();
        let doc = docs::get::<RunDoc>(&self.store, &id.to_be_bytes())
            .map_err(|e| Fail::internal("cannot read the run", &e))?
            .ok_or_else(|| Fail::not_found(format!("there is no run {id}")))?;
        self.run_ended(doc)
    }

    fn run_ended(&self, doc: RunDoc) -> Outcome<()> {
        self.release_run(&doc);
        let ended = RunDoc {
            ended: true,
            grafts: Vec::new(),
            volumes: Vec::new(),
            ..doc
        };
        docs::save(&self.store, &ended).map_err(|e| Fail::internal("cannot record the end", &e))
    }

    fn release_run(&self, doc: &RunDoc) {
        let grafts: Vec<u64> = doc.grafts.iter().map(|graft| graft.id).collect();
        self.exports.remove_grafts(&grafts);
    }

    pub fn runs(&self) -> Outcome<Vec<RunDoc>> {
        docs::all(&self.store).map_err(|e| Fail::internal("cannot list runs", &e))
    }

    /// Drops the trees of NAME's ended runs that are the asker's to drop; a run whose process is gone
    /// has ended.
    pub fn drop_ended_runs(&self, name: &str, asker: Asker) -> Outcome<u64> {
        self.drop_runs(|run| run.name == name && !run.live() && asker.may(run.owner.host()))
    }

    /// The same for those of one host: each keeps its last one.
    fn drop_ended_of(&self, name: &str, host: Option<Id>) -> Outcome<u64> {
        self.drop_runs(|run| run.name == name && !run.live() && run.owner.host() == host)
    }

    fn drop_runs(&self, which: impl Fn(&RunDoc) -> bool) -> Outcome<u64> {
        let mut dropped = 0;
        for run in self.runs()?.into_iter().filter(which) {
            self.release_run(&run);
            self.forget_tree(run.id);
            docs::delete(&self.store, &run)
                .map_err(|e| Fail::internal("cannot forget a run", &e))?;
            dropped += 1;
        }
        Ok(dropped)
    }

    /// `pocker reset`: what the asker's runs and failed builds of NAME left.
    pub fn reset(&self, name: &str, asker: Asker) -> Outcome<u64> {
        let _one = self.change.lock();
        let mut dropped = self.drop_kept(name, asker)?;
        dropped += self.drop_ended_runs(name, asker)?;
        if dropped == 0 {
            self.known_pocker(name)?;
        }
        Ok(dropped)
    }

    /// The trees that failed builds of NAME left, one of a host.
    pub fn kept_trees(&self, name: &str, asker: Asker) -> Outcome<Vec<TreeDoc>> {
        let mut all: Vec<TreeDoc> =
            docs::all(&self.store).map_err(|e| Fail::internal("cannot list trees", &e))?;
        all.retain(|doc| doc.kept_for.as_deref() == Some(name) && asker.may(doc.owner.host()));
        Ok(all)
    }

    pub fn drop_kept(&self, name: &str, asker: Asker) -> Outcome<u64> {
        let kept = self.kept_trees(name, asker)?;
        kept.iter().for_each(|doc| self.forget_tree(doc.id));
        Ok(kept.len() as u64)
    }

    /// What `pocker debug NAME` enters: the failed build's tree, else the last ended run's. Its own
    /// host's go before others', where the asker may have these.
    pub fn debug_tree(&self, name: &str, asker: Asker) -> Outcome<TreeInfo> {
        let there = |id: u64| self.works.get(id).is_ok();
        let kept = self.kept_trees(name, asker)?.into_iter();
        let kept = kept.map(|doc| (doc.owner.host() == asker.host, doc.id));
        let ended = self.runs()?.into_iter();
        let ended = ended.filter(|r| r.name == name && !r.live() && asker.may(r.owner.host()));
        let ended = ended.map(|r| (r.owner.host() == asker.host, r.id));
        let kept = kept.filter(|(_, id)| there(*id)).max();
        let found = kept.map(|of| ("build", of));
        let found = found.or_else(|| {
            let last = ended.filter(|(_, id)| there(*id)).max();
            last.map(|of| ("run", of))
        });
        let Some((kind, (own, id))) = found else {
            return Err(Fail::not_found(format!("nothing is kept of {name}"))
                .hint("a failed build's tree is, and that of a host's last run until the next"));
        };
        if !own {
            // It has ended there.
            self.exports.lease(id, None);
        }
        Ok(TreeInfo {
            id,
            export: Export {
                path: self.exports.tree_path(kind, id),
                read_only: false,
            },
        })
    }

    /// Marks runs whose process is gone as ended: their grafts go, their trees stay. `change` is held.
    pub fn reap_runs(&self) {
        for run in self.runs().unwrap_or_default() {
            self.reap_run(&run);
        }
    }

    /// The same of one that was listed, as it is by now. `change` is held.
    pub fn reap_run(&self, listed: &RunDoc) {
        let gone = |run: &RunDoc| !run.ended && !run.owner.lives();
        if !gone(listed) {
            return;
        }
        let now = docs::get::<RunDoc>(&self.store, &listed.id.to_be_bytes());
        let now = now.ok().flatten().filter(gone);
        if let Some(run) = now {
            if let Some(lease) = run.owner.lease {
                tracing::info!(
                    run = run.id,
                    name = run.name,
                    host = lease.host.short(),
                    "its host's lease is over: dropped"
                );
                self.release_run(&run);
                self.forget_tree(run.id);
                let _ = docs::delete(&self.store, &run);
            } else {
                tracing::info!(run = run.id, name = run.name, "the run's process is gone");
                let _ = self.run_ended(run);
            }
        }
    }
}
