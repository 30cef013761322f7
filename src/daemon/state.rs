//! The daemon's shared state: the store, its trees and who holds them.

use super::bounds;
use super::claims::Claims;
use super::clock;
use super::docs::{self, Asker, MountDoc, Owner, RunDoc, TreeDoc};
use super::export::Exports;
use super::fail::{Fail, Outcome};
use crate::control::api::*;
use crate::control::hosts::Id;
use parking_lot::Mutex;
use pocker_store::types::{Digest, Errno};
use pocker_store::work::{Limits, SealOptions, WorkClass, Works};
use pocker_store::{Pocker, SealedTree, Step, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

pub struct Daemon {
    pub store: Arc<Store>,
    pub works: Arc<Works>,
    pub exports: Arc<Exports>,
    /// What all NFS listeners share.
    pub nfs: pocker_nfs::server::Service,
    /// When the server started, in seconds.
    pub started: i64,
    pub claims: Claims,
    pub syncs: Arc<super::sync::Sessions>,
    /// Calls of other hosts that hold a thread.
    pub crowds: super::http::Crowds,
    /// Held by calls that change which trees there are, one at a time.
    pub change: Mutex<()>,
    /// Trees taken in lately, whose step is not recorded yet.
    pub held: Mutex<Vec<(Arc<SealedTree>, i64)>>,
    pub options: super::ServeOptions,
    /// When something last happened, in seconds.
    pub active: AtomicI64,
    /// Control calls under way.
    pub calls: AtomicU64,
    /// Where kernel clients reach the server, once it listens for them.
    pub kernel: std::sync::OnceLock<KernelListener>,
    pub stop: tokio::sync::watch::Sender<bool>,
}

fn internal<E: std::error::Error + 'static>(tried: &str) -> impl Fn(E) -> Fail {
    let tried = tried.to_string();
    move |e| Fail::internal(tried.clone(), &e)
}

/// A digest from a path or body.
pub fn digest(text: &str) -> Outcome<Digest> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        Fail::bad(format!("{shown:?} is no digest: 64 hexadecimal digits are"))
    })
}

/// Names a call, so that it is known when it comes again: of its client's making.
pub fn good_token(token: &str) -> Outcome<()> {
    const TOKEN_MAX: usize = 64;
    match token.len() <= TOKEN_MAX && token.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(Fail::bad(format!(
            "what names a call is up to {TOKEN_MAX} printable characters"
        ))
        .hint("have the same version on all hosts: `pocker version`")),
    }
}

impl Daemon {
    pub fn touch(&self) {
        self.active.store(clock::now().secs, Ordering::Relaxed);
    }

    pub fn step_info(&self, step: &Step) -> Outcome<StepInfo> {
        let tree = self
            .store
            .sealed(&step.snapshot)
            .map_err(internal("cannot open a step's tree"))?;
        let counts = tree.counts();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(StepInfo {
            key: step.key.to_string(),
            snapshot: step.snapshot.to_string(),
            parent: step.parent.map(|p| p.to_string()),
            instruction: text(&step.instruction),
            created: step.created,
            nodes: counts.nodes + 1,
            bytes: counts.bytes,
            upstream: step.upstream.as_deref().map(text),
        })
    }

    /// These steps are used now: written down before this returns.
    fn used(&self, keys: &[Digest]) -> Outcome<()> {
        self.store.use_steps(keys, clock::now().secs);
        self.store
            .keep_uses()
            .map_err(internal("cannot note which steps were used"))
    }

    /// A process builds, and is about to look for steps: what it finds stays until it ends.
    pub fn builder(&self, owner: Owner) {
        self.claims.builder(owner, clock::now().secs);
    }

    /// The step of a key that a build asks for, if it is finished.
    pub fn found(&self, key: &Digest) -> Outcome<Option<Step>> {
        // Noted before it is looked for: a collection begins before, and hears of the look-up, or
        // after, and hears of the use.
        self.store.use_steps(&[*key], clock::now().secs);
        let found = self.finished(key)?;
        // One that lacks what a repair set aside is built anew.
        let lost = found.is_some() && self.is_lost(key)?;
        Ok(found.filter(|_| !lost))
    }

    fn is_lost(&self, key: &Digest) -> Outcome<bool> {
        self.store
            .is_lost(key)
            .map_err(internal("cannot read what a step lost"))
    }

    /// The step of a key, if it is finished.
    pub fn finished(&self, key: &Digest) -> Outcome<Option<Step>> {
        self.store
            .step(key)
            .map_err(internal("cannot read the step"))
    }

    pub fn step(&self, key: &str) -> Outcome<StepInfo> {
        let key = digest(key)?;
        let step = self.found(&key)?;
        let step = step.ok_or_else(|| Fail::not_found(format!("there is no step {key}")))?;
        self.step_info(&step)
    }

    pub fn put_step(&self, key: &str, put: &PutStep) -> Outcome<StepInfo> {
        let snapshot = digest(&put.snapshot)?;
        self.store
            .sealed(&snapshot)
            .map_err(internal("cannot open the snapshot"))?;
        self.keep_step(digest(key)?, snapshot, &put.seal)
    }

    fn step_of(&self, key: Digest, snapshot: Digest, seal: &SealRequest) -> Outcome<Step> {
        Ok(Step {
            key,
            snapshot,
            parent: seal.parent.as_deref().map(digest).transpose()?,
            instruction: seal.instruction.clone().into_bytes(),
            inputs: Vec::new(),
            upstream: seal.upstream.clone().map(String::into_bytes),
            created: clock::now().secs,
        })
    }

    /// Records a finished step. The first tree of a key wins, unless the builder claimed
    /// the step in order to build it again.
    fn keep_step(&self, key: Digest, snapshot: Digest, seal: &SealRequest) -> Outcome<StepInfo> {
        let step = self.step_of(key, snapshot, seal)?;
        let kept = if self.rebuilds(seal) || self.is_lost(&key)? {
            self.store.replace_step(step)
        } else {
            self.store.put_step(step)
        };
        self.kept(snapshot, &kept.map_err(internal("cannot keep the step"))?)
    }

    fn rebuilds(&self, seal: &SealRequest) -> bool {
        seal.claim
            .is_some_and(|claim| self.claims.is_rebuild(claim))
    }

    fn kept(&self, snapshot: Digest, step: &Step) -> Outcome<StepInfo> {
        self.held
            .lock()
            .retain(|(tree, _)| tree.snapshot() != snapshot);
        self.claims.finished(&step.key.to_string());
        self.step_info(step)
    }

    /// A writable clone, recorded with its owner.
    pub fn new_tree(&self, new: &NewTree, owner: Owner) -> Outcome<TreeInfo> {
        let _one = self.change.lock();
        bounds::tree(new)?;
        let all = docs::all::<TreeDoc>(&self.store).map_err(internal("cannot list trees"))?;
        let owners = all.iter().map(|tree| tree.owner.host());
        let hint =
            "`pocker reset NAME` drops what failed builds left, `pocker umount` what is mounted";
        bounds::room("work trees", owner.host(), owners, bounds::TREES, hint)?;
        let id = self.clone_tree(new.base.as_deref(), new.purpose, &new.label)?;
        let doc = TreeDoc {
            id,
            purpose: new.purpose,
            label: new.label.clone(),
            owner,
            kept_for: None,
        };
        self.exports.lease(id, owner.host());
        docs::save(&self.store, &doc).map_err(internal("cannot record the tree"))?;
        Ok(TreeInfo {
            id,
            export: Export {
                path: self.exports.tree_path("build", id),
                read_only: false,
            },
        })
    }

    pub fn clone_tree(&self, base: Option<&str>, purpose: Purpose, label: &str) -> Outcome<u64> {
        self.clone_within(base, purpose, label, Limits::NONE)
    }

    pub fn clone_within(
        &self,
        base: Option<&str>,
        purpose: Purpose,
        label: &str,
        limits: Limits,
    ) -> Outcome<u64> {
        let base = base.map(digest).transpose()?;
        let class = match purpose {
            Purpose::Build => WorkClass::Build,
            Purpose::Run => WorkClass::Run,
            Purpose::Mount => WorkClass::Mount,
        };
        let tree = self
            .works
            .create_within(base, class, label.as_bytes(), limits, clock::now())
            .map_err(internal("cannot clone the tree"))?;
        Ok(tree.id())
    }

    pub fn seal(&self, id: u64, request: &SealRequest) -> Outcome<StepInfo> {
        let key = digest(&request.key)?;
        if self.works.get(id).is_err() {
            // Sealed by a call whose answer was lost.
            if let Ok(done) = self.step(&request.key) {
                return Ok(done);
            }
            return Err(Fail::not_found(format!("work tree {id} is gone"))
                .hint("the machine restarted while it was built; build again"));
        }
        // The snapshot is put there by the commit; with the step in the same one, whoever asks
        // again finds the tree or its step.
        let options = SealOptions {
            clamp_mtime: request.source_date_epoch,
            step: Some(self.step_of(key, Digest([0; 32]), request)?),
            replace: self.rebuilds(request) || self.is_lost(&key)?,
        };
        let sealed = self
            .works
            .seal(id, &options)
            .map_err(internal("cannot seal the tree"))?;
        let step = match sealed.step {
            Some(step) => step,
            None => return self.step(&request.key),
        };
        let info = self.kept(sealed.snapshot, &step);
        self.forget_tree(id);
        info
    }

    /// Drops a work tree and what is recorded of it.
    pub fn forget_tree(&self, id: u64) {
        self.exports.lease(id, None);
        // A seal has dropped its tree already.
        if let Err(e) = self.works.drop_tree(id)
            && e != Errno::Stale
        {
            tracing::warn!(tree = id, "cannot drop a tree: {e}");
        }
        if let Err(e) = self.store.delete_record("tree", &id.to_be_bytes()) {
            tracing::warn!(tree = id, "cannot forget a tree: {e}");
        }
    }

    pub fn drop_tree(&self, id: u64) -> Outcome<()> {
        if self.works.get(id).is_err() {
            return Err(Fail::not_found(format!("there is no work tree {id}")));
        }
        self.forget_tree(id);
        Ok(())
    }

    /// Keeps a failed build's tree for `pocker debug NAME` in place of an earlier one of its host.
    pub fn keep_tree(&self, id: u64, name: &str) -> Outcome<()> {
        let _one = self.change.lock();
        crate::build::check_name(name).map_err(|e| Fail::bad(e.to_string()))?;
        let doc = docs::get::<TreeDoc>(&self.store, &id.to_be_bytes())
            .map_err(internal("cannot read the tree"))?
            .ok_or_else(|| Fail::not_found(format!("there is no work tree {id}")))?;
        let own = Asker {
            host: doc.owner.host(),
            all: false,
        };
        let old = self.kept_trees(name, own)?.into_iter();
        old.filter(|old| old.id != id)
            .for_each(|old| self.forget_tree(old.id));
        self.exports.lease(id, None);
        docs::save(
            &self.store,
            &TreeDoc {
                kept_for: Some(name.to_string()),
                ..doc
            },
        )
        .map_err(internal("cannot record the tree"))
    }

    pub fn known_pocker(&self, name: &str) -> Outcome<PockerInfo> {
        let record = self
            .store
            .pocker(name.as_bytes())
            .map_err(internal("cannot read the pocker"))?;
        let record = record.ok_or_else(|| {
            Fail::not_found(format!("there is no pocker named {name}"))
                .hint("`pocker ls` lists them; `pocker create` makes one")
        })?;
        self.pocker_info(&record)
    }

    fn pocker_info(&self, record: &Pocker) -> Outcome<PockerInfo> {
        let name = String::from_utf8_lossy(&record.name).into_owned();
        let mut steps = Vec::with_capacity(record.steps.len());
        for key in &record.steps {
            if let Some(step) = self.finished(key)? {
                steps.push(self.step_info(&step)?);
            }
        }
        let config = serde_json::from_slice(&record.config)
            .map_err(internal("cannot read how the pocker starts"))?;
        let running = self
            .runs()?
            .iter()
            .filter(|r: &&RunDoc| r.name == name && r.live())
            .map(|r| r.id)
            .collect();
        let pinned = self
            .store
            .pinned_steps()
            .map_err(internal("cannot list pins"))?;
        let pinned = pinned.iter().filter(|pin| record.steps.contains(&pin.key));
        Ok(PockerInfo {
            name,
            steps,
            config,
            created: record.created,
            running,
            pinned: pinned.map(|pin| pin.key.to_string()).collect(),
        })
    }

    pub fn pockers(&self) -> Outcome<Vec<PockerInfo>> {
        let all = self
            .store
            .pockers()
            .map_err(internal("cannot list pockers"))?;
        all.iter().map(|record| self.pocker_info(record)).collect()
    }

    /// Points NAME at these steps; what only its old ones used becomes garbage.
    pub fn put_pocker(&self, name: &str, put: &PutPocker) -> Outcome<PockerInfo> {
        let _one = self.change.lock();
        crate::build::check_name(name).map_err(|e| Fail::bad(e.to_string()))?;
        let mut steps = Vec::new();
        let mut shown = Vec::new();
        for (i, text) in put.steps.iter().enumerate() {
            let key = digest(text)?;
            let step = self.finished(&key)?;
            let step = step.ok_or_else(|| Fail::not_found(format!("there is no step {key}")))?;
            let last = i + 1 == put.steps.len();
            let dir = if last {
                format!("run-{key}")
            } else {
                format!("step{}-{key}", i + 1)
            };
            shown.push((dir, step.snapshot));
            steps.push(key);
        }
        if steps.is_empty() {
            return Err(Fail::bad("a pocker has at least one step"));
        }
        let config =
            serde_json::to_vec(&put.config).map_err(internal("cannot write the settings"))?;
        let record = Pocker {
            name: name.as_bytes().to_vec(),
            steps,
            config,
            created: clock::now().secs,
        };
        let old = self.store.pocker(name.as_bytes());
        let old = old.map_err(internal("cannot read the pocker"))?;
        self.remember_build(name, &record)?;
        self.store
            .put_pocker(&record)
            .map_err(internal("cannot keep the pocker"))?;
        // Those of before are let go of now: `gc --older` counts from here.
        let before = old.into_iter().flat_map(|old| old.steps);
        let used: Vec<Digest> = before.chain(record.steps.iter().copied()).collect();
        self.used(&used)?;
        self.exports.browse_set(name, &shown)?;
        self.known_pocker(name)
    }

    /// Where `pocker mount` has a step of NAME.
    fn mounted_of(&self, name: &str) -> Outcome<Vec<MountDoc>> {
        self.reap();
        let all: Vec<MountDoc> = docs::all(&self.store).map_err(internal("cannot list mounts"))?;
        let of = |m: &MountDoc| m.record.what.split('@').next() == Some(name);
        Ok(all.into_iter().filter(of).collect())
    }

    /// What runs on another host is that one's to end.
    fn none_afar(&self, name: &str) -> Outcome<()> {
        let runs = self.runs()?.into_iter();
        let mut afar = runs.filter(|run| run.name == name && run.live());
        match afar.find_map(|run| run.owner.host()) {
            None => Ok(()),
            Some(host) => Err(Fail::busy(format!(
                "{name} is running on host {}",
                self.host_name(host)
            ))
            .hint("stop it there first: `pocker stop`; `pocker hosts` says what runs where")),
        }
    }

    /// What a host may not take away from others, if something of it is in the way.
    fn none_of_others(&self, name: &str, mounted: &[MountDoc], asker: Asker) -> Outcome<()> {
        let whose = |host: Option<Id>| match host {
            Some(host) => format!("host {}", self.host_name(host)),
            None => "the server's own host".to_owned(),
        };
        let hint = "stop it there first, or ask with a token of role admin";
        let runs = self.runs()?.into_iter();
        let mut runs = runs.filter(|run| run.name == name && run.live());
        if let Some(run) = runs.find(|run| !asker.may(run.owner.host())) {
            let whose = whose(run.owner.host());
            return Err(Fail::busy(format!("{name} is running on {whose}")).hint(hint));
        }
        let host = |mount: &MountDoc| mount.maker.and_then(|maker| maker.host());
        match mounted.iter().find(|mount| !asker.may(host(mount))) {
            Some(mount) => Err(Fail::busy(format!(
                "{name} is mounted on {} of {}",
                mount.record.target,
                whose(host(mount))
            ))
            .hint("unmount it there first, or ask with a token of role admin")),
            None => Ok(()),
        }
    }

    pub fn remove_pocker(&self, name: &str, force: bool, asker: Asker) -> Outcome<()> {
        let pocker = self.known_pocker(name)?;
        if !pocker.running.is_empty() && !force {
            return Err(Fail::busy(format!(
                "{name} is running ({} {})",
                pocker.running.len(),
                if pocker.running.len() == 1 {
                    "run"
                } else {
                    "runs"
                }
            ))
            .hint(format!("stop it first, or `pocker rm --force {name}`")));
        }
        let mounted = self.mounted_of(name)?;
        if !mounted.is_empty() && !force {
            let at: Vec<&str> = mounted.iter().map(|m| m.record.target.as_str()).collect();
            return Err(
                Fail::busy(format!("{name} is mounted on {}", at.join(", "))).hint(format!(
                    "`pocker umount {}` first, or `pocker rm --force {name}`",
                    at.first().copied().unwrap_or_default()
                )),
            );
        }
        if force {
            self.none_of_others(name, &mounted, asker)?;
            self.none_afar(name)?;
        }
        if force && asker.may(None) {
            self.stop_runs(Some(name));
            let own = |m: &MountRecord| mounted.iter().any(|own| own.record == *m);
            self.unmount_all(own, &mut Stopped::default());
        }
        let _one = self.change.lock();
        self.drop_ended_runs(name, asker)?;
        self.drop_kept(name, asker)?;
        let keys: Vec<Digest> = pocker
            .steps
            .iter()
            .filter_map(|s| s.key.parse().ok())
            .collect();
        self.store
            .remove_pocker(name.as_bytes())
            .map_err(internal("cannot remove the pocker"))?;
        self.forget_builds(name)?;
        self.used(&keys)?;
        self.exports.browse_remove(name)
    }
}
