//! Runs: a fresh work tree from the step that `run` points at, and an export for each graft.

use super::docs::{self, GraftDoc, Owner, RunDoc, TreeDoc};
use super::fail::{Fail, Outcome};
use super::state::Daemon;
use crate::control::api::{Export, NewRun, Purpose, RunInfo, TreeInfo, VolumeUse};
use crate::control::hosts::Id;
use pocker_store::work::Limits;
use std::path::Path;

impl Daemon {
    /// Starts a run of NAME: drops what its ended runs left, then clones.
    pub fn start_run(&self, new: &NewRun, owner: Owner) -> Outcome<RunInfo> {
        let _one = self.change.lock();
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
            ));
        }
        for graft in &new.grafts {
            check_host_dir(self, &graft.host)?;
        }
        let mut volumes = Vec::new();
        for mount in &new.volumes {
            volumes.push(self.volume_for(&mount.name, mount.read_only)?);
            if !mount.read_only {
                self.host_writes(&mount.name, owner.host());
            }
        }
        self.drop_ended_of(&new.name, owner.host())?;
        self.works.make_room();
        let (tree, root) = self.root_of(new, &step.snapshot)?;
        if let Some(kept) = &new.kept {
            self.host_writes(kept, owner.host());
        }
        let mut doc = RunDoc {
            id: tree,
            name: new.name.clone(),
            key: step.key.clone(),
            owner,
            grafts: Vec::new(),
            volumes: new
                .volumes
                .iter()
                .map(|mount| VolumeUse {
                    name: mount.name.clone(),
                    read_only: mount.read_only,
                })
                .chain(new.kept.iter().map(|name| VolumeUse {
                    name: name.clone(),
                    read_only: false,
                }))
                .collect(),
            ended: false,
        };
        let mut exports = Vec::new();
        for graft in &new.grafts {
            let id = self
                .store
                .next_id()
                .map_err(|e| Fail::internal("cannot name a graft", &e))?;
            let opened = self
                .exports
                .grafts
                .add(id, Path::new(&graft.host), graft.read_only);
            if let Err(e) = opened {
                self.release_run(&doc);
                let _ = self.works.drop_tree(tree);
                return Err(graft_refused(&graft.host, e));
            }
            doc.grafts.push(GraftDoc {
                id,
                host: graft.host.clone(),
                read_only: graft.read_only,
            });
            exports.push(Export {
                path: self.exports.graft_path(id),
                read_only: graft.read_only,
            });
        }
        if new.kept.is_none() {
            self.exports.lease(tree, owner.host());
        }
        docs::save(&self.store, &doc).map_err(|e| Fail::internal("cannot record the run", &e))?;
        Ok(RunInfo {
            id: tree,
            name: new.name.clone(),
            key: step.key,
            tree: TreeInfo {
                id: tree,
                export: root,
            },
            grafts: exports,
            volumes,
            config: pocker.config,
            base: pocker
                .steps
                .first()
                .map(|s| s.instruction.clone())
                .unwrap_or_default(),
        })
    }

    /// The run's number and its tree: a fresh one, or the volume that is kept for it.
    fn root_of(&self, new: &NewRun, snapshot: &str) -> Outcome<(u64, Export)> {
        let Some(volume) = &new.kept else {
            let limits = Limits {
                bytes: new.quota.bytes,
                names: new.quota.names,
            };
            let id = self.clone_within(Some(snapshot), Purpose::Run, &new.name, limits)?;
            let path = self.exports.tree_path("run", id);
            let read_only = false;
            return Ok((id, Export { path, read_only }));
        };
        let export = self.volume_for(volume, false)?;
        let id = self.store.next_id();
        let id = id.map_err(|e| Fail::internal("cannot number the run", &e))?;
        Ok((id, export))
    }

    /// The run ended: its grafts go, its tree stays until the next start.
    pub fn end_run(&self, id: u64) -> Outcome<()> {
        let doc = docs::get::<RunDoc>(&self.store, &id.to_be_bytes())
            .map_err(|e| Fail::internal("cannot read the run", &e))?
            .ok_or_else(|| Fail::not_found(format!("there is no run {id}")))?;
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
        for graft in &doc.grafts {
            self.exports.grafts.remove(graft.id);
        }
    }

    pub fn runs(&self) -> Outcome<Vec<RunDoc>> {
        docs::all(&self.store).map_err(|e| Fail::internal("cannot list runs", &e))
    }

    /// Drops the trees of NAME's ended runs; a run whose process is gone has ended.
    pub fn drop_ended_runs(&self, name: &str) -> Outcome<u64> {
        self.drop_runs(|run| run.name == name && !run.live())
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

    /// `pocker reset`: what runs and failed builds of NAME left.
    pub fn reset(&self, name: &str) -> Outcome<u64> {
        let _one = self.change.lock();
        let failed = self.kept_tree(name)?;
        if failed.is_none() {
            self.known_pocker(name)?;
        }
        let mut dropped = self.drop_ended_runs(name)?;
        if let Some(doc) = failed {
            self.forget_tree(doc.id);
            dropped += 1;
        }
        Ok(dropped)
    }

    /// The tree a failed build of NAME left.
    pub fn kept_tree(&self, name: &str) -> Outcome<Option<TreeDoc>> {
        let all: Vec<TreeDoc> =
            docs::all(&self.store).map_err(|e| Fail::internal("cannot list trees", &e))?;
        Ok(all
            .into_iter()
            .find(|doc| doc.kept_for.as_deref() == Some(name)))
    }

    /// What `pocker debug NAME` enters: the failed build's tree, else the last ended run's.
    pub fn debug_tree(&self, name: &str) -> Outcome<TreeInfo> {
        let mut id = self.kept_tree(name)?.map(|doc| ("build", doc.id));
        if id.is_none() {
            let ended = self
                .runs()?
                .into_iter()
                .filter(|r| r.name == name && !r.live());
            id = ended.map(|r| ("run", r.id)).max();
        }
        match id.filter(|(_, id)| self.works.get(*id).is_ok()) {
            Some((kind, id)) => Ok(TreeInfo {
                id,
                export: Export {
                    path: self.exports.tree_path(kind, id),
                    read_only: false,
                },
            }),
            None => Err(Fail::not_found(format!("nothing is kept of {name}"))),
        }
    }

    /// Marks runs whose process is gone as ended: their grafts go, their trees stay.
    pub fn reap_runs(&self) {
        for run in self.runs().unwrap_or_default() {
            if let Some(lease) = run.owner.lease
                && !run.ended
                && !run.owner.lives()
            {
                tracing::info!(
                    run = run.id,
                    name = run.name,
                    host = lease.host.short(),
                    "its host's lease is over: dropped"
                );
                self.release_run(&run);
                self.forget_tree(run.id);
                let _ = docs::delete(&self.store, &run);
            } else if !run.ended && !run.owner.lives() {
                tracing::info!(run = run.id, name = run.name, "the run's process is gone");
                let _ = self.end_run(run.id);
            }
        }
    }
}

/// A graft must be a directory of the host's own, not one that this server serves.
fn check_host_dir(daemon: &Daemon, host: &str) -> Outcome<()> {
    let path = Path::new(host);
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(Fail::bad(format!("graft {host}: not a directory"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Fail::bad(format!(
                "graft {host}: there is no such directory on this host"
            ))
            .hint(format!("make it first: mkdir -p {host}")));
        }
        Err(e) => {
            return Err(Fail::internal(
                format!("graft {host}: cannot look at it"),
                &e,
            ));
        }
    }
    let real = std::fs::canonicalize(path)
        .map_err(|e| Fail::internal(format!("graft {host}: cannot resolve it"), &e))?;
    let store = daemon.store.dir();
    if real.starts_with(store) || store.starts_with(&real) {
        return Err(Fail::bad(format!(
            "graft {host}: it holds the store itself ({}), which would let the run rewrite every tree",
            store.display()
        )));
    }
    let served = daemon.mounts_of(None)?;
    if let Some(mount) = served.iter().find(|m| real.starts_with(&m.target)) {
        return Err(Fail::bad(format!(
            "graft {host}: it lies in {}, which this server serves itself ({})",
            mount.target, mount.what
        )));
    }
    Ok(())
}

fn graft_refused(host: &str, e: nix::errno::Errno) -> Fail {
    let fail = Fail::internal(format!("graft {host}: cannot serve it"), &e);
    match e {
        nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EOVERFLOW => fail.hint(
            "its file system gives no file handles (name_to_handle_at); use a directory on ext4, xfs, btrfs or tmpfs",
        ),
        _ => fail,
    }
}
