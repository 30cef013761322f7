//! How each kind of step is made: the tree, its contents, the seal.

use super::{Builder, Input, Work};
use crate::build::BuildError;
use crate::build::archive::Archive;
use crate::build::copy::{self, Owner, Placement};
use crate::build::images;
use crate::build::plan::{Action, Base, CopyPlan, Planned};
use crate::build::proot::Bootstrap;
use crate::build::sets;
use crate::build::tools::{Event, Phase};
use crate::control::api::{SealRequest, StepInfo};
use std::sync::atomic::Ordering;

impl<'a> Builder<'a> {
    /// Builds and seals a step that is claimed.
    pub(super) fn make(
        &mut self,
        at: usize,
        step: &Planned,
        parent: Option<&StepInfo>,
        mut work: Work<'a>,
    ) -> Result<StepInfo, BuildError> {
        let workshop = self.tools.workshop;
        let key = self.keys[at].clone();
        let base = parent.map(|parent| parent.snapshot.as_str());
        let label = format!("{} step {}", self.request.name, at + 1);
        let mut seal = SealRequest {
            key: key.clone(),
            claim: work.claim,
            parent: base.map(str::to_owned),
            instruction: step.canonical.clone(),
            upstream: None,
            source_date_epoch: self.request.source_date_epoch,
        };
        let sealed = match &step.action {
            Action::Base(Base::Host) => {
                let (snapshot, upstream) = self.proot(at)?;
                seal.upstream = upstream;
                self.sealing();
                workshop.put_step(&key, &snapshot, seal)?
            }
            Action::Base(Base::Ports { .. }) => {
                let snapshot = self.ports(at)?;
                self.sealing();
                workshop.put_step(&key, &snapshot, seal)?
            }
            Action::Base(Base::Sets(_)) => {
                let snapshot = self.sets(at, step.line)?;
                self.sealing();
                workshop.put_step(&key, &snapshot, seal)?
            }
            Action::Base(Base::Archive { path, sha256 }) => {
                let snapshot = self.archive(path, sha256)?;
                self.sealing();
                workshop.put_step(&key, &snapshot, seal)?
            }
            Action::Base(Base::Image(name)) => {
                let (snapshot, upstream) = self.image(at, step.line, name)?;
                seal.upstream = Some(upstream);
                self.sealing();
                workshop.put_step(&key, &snapshot, seal)?
            }
            Action::Base(Base::Pocker(_)) => {
                let snapshot = self.inputs[at].digest().unwrap_or_default();
                workshop.put_step(&key, &snapshot, seal)?
            }
            Action::Run(_) => workshop.put_step(&key, base.unwrap_or_default(), seal)?,
            Action::Base(Base::Scratch) => {
                work.tree = Some(workshop.new_tree(None, &label)?.id);
                self.seal(&mut work, seal)?
            }
            Action::Pkg(names) => {
                seal.upstream = self.pkg("install", step, names, base, &label, &mut work)?;
                self.seal(&mut work, seal)?
            }
            Action::Exec(exec) => {
                self.exec(step, exec, base, &label, &mut work)?;
                self.seal(&mut work, seal)?
            }
            Action::Copy(copy) => {
                self.copy(at, step, copy, base, &label, &mut work)?;
                self.seal(&mut work, seal)?
            }
        };
        // The seal or put ended the claim.
        work.claim = None;
        Ok(sealed)
    }

    pub(super) fn sealing(&mut self) {
        self.progress.event(Event::Bytes {
            phase: Phase::Seal,
            done: 0,
            total: None,
        });
    }

    pub(super) fn seal(
        &mut self,
        work: &mut Work<'_>,
        seal: SealRequest,
    ) -> Result<StepInfo, BuildError> {
        self.check_cancelled()?;
        self.sealing();
        let tree = work.tree.unwrap_or_default();
        let info = self.tools.workshop.seal(tree, seal)?;
        work.tree = None;
        Ok(info)
    }

    /// The snapshot and what the mirrors held when it was made. They are asked before: if they change meanwhile,
    /// the next `--pull` builds once too often, never once too seldom.
    pub(super) fn proot(&mut self, at: usize) -> Result<(String, Option<String>), BuildError> {
        let Input::Release(release) = &self.inputs[at] else {
            return Err(no_snapshot());
        };
        let upstream = self.tools.host.upstream(release).ok();
        let (request, options) = (self.request, self.bootstrap());
        let workshop = self.tools.workshop;
        let done = self.tools.host.bootstrap(
            release,
            &options,
            &mut *self.progress,
            request.cancelled,
            &mut |tar| workshop.ingest(tar, request.source_date_epoch),
        )?;
        Ok((done.snapshot.ok_or_else(no_snapshot)?, upstream))
    }

    fn bootstrap(&self) -> Bootstrap<'a> {
        Bootstrap {
            ca: self.request.ca,
            source_date_epoch: self.request.source_date_epoch,
            proxies: self.request.proxies,
            work_dir: self.request.cache_dir,
        }
    }

    /// Its nodes are ours, by the numbers of the host's own MAKEDEV: such a tree may have them.
    fn ports(&mut self, at: usize) -> Result<String, BuildError> {
        let Input::Ports(ports) = &self.inputs[at] else {
            return Err(no_snapshot());
        };
        let (request, options) = (self.request, self.bootstrap());
        let workshop = self.tools.workshop;
        let done = self.tools.host.populate(
            ports,
            &options,
            &mut *self.progress,
            request.cancelled,
            &mut |layers| workshop.ingest_layers(layers, request.source_date_epoch, true),
        )?;
        done.snapshot.ok_or_else(no_snapshot)
    }

    fn sets(&mut self, at: usize, line: u32) -> Result<String, BuildError> {
        let Input::Sets(pinned) = &self.inputs[at] else {
            return Err(no_snapshot());
        };
        let (workshop, progress) = (self.tools.workshop, &mut *self.progress);
        let snapshot = sets::build(self.request, workshop, progress, line, pinned)?;
        snapshot.ok_or_else(no_snapshot)
    }

    fn image(&mut self, at: usize, line: u32, name: &str) -> Result<(String, String), BuildError> {
        let Input::Image { digest, upstream } = &self.inputs[at] else {
            return Err(no_snapshot());
        };
        let (workshop, images) = (self.tools.workshop, self.tools.images);
        let step = (line, name, digest.as_str());
        let snapshot = images::fetch(self.request, workshop, images, &mut *self.progress, step)?;
        Ok((snapshot.ok_or_else(no_snapshot)?, upstream.clone()))
    }

    pub(super) fn archive(&mut self, path: &str, sha256: &str) -> Result<String, BuildError> {
        let request = self.request;
        let path = request.context.join(path);
        let mut tar = Archive::open(&path, sha256, &mut *self.progress, request.cancelled)?;
        let done = self
            .tools
            .workshop
            .ingest(&mut tar, request.source_date_epoch)
            .map_err(|e| tar.failure(e))?;
        tar.verify()?;
        done.snapshot.ok_or_else(no_snapshot)
    }

    pub(super) fn copy(
        &mut self,
        at: usize,
        step: &Planned,
        plan: &CopyPlan,
        base: Option<&str>,
        label: &str,
        work: &mut Work<'_>,
    ) -> Result<(), BuildError> {
        let workshop = self.tools.workshop;
        let (Some(context), Input::Copy(manifest)) = (&self.context, &self.inputs[at]) else {
            return Ok(());
        };
        let snapshot = base.unwrap_or_default();
        let owner = match &plan.chown {
            None => Owner::ROOT,
            Some(text) => {
                let passwd = workshop.file(snapshot, "/etc/passwd")?;
                let group = workshop.file(snapshot, "/etc/group")?;
                let owner = copy::resolve_owner(text, passwd.as_deref(), group.as_deref());
                owner.map_err(|why| BuildError::Copy {
                    line: step.line,
                    what: format!("--chown={text}"),
                    why,
                    hint: Some("numbers work in any tree"),
                })?
            }
        };
        let bare = plan.target.trim_end_matches('/');
        let exists = bare.is_empty() || workshop.is_dir(snapshot, bare)?;
        let placement = Placement::new(&plan.target, manifest, exists);
        let tree = workshop.new_tree(base, label)?.id;
        work.tree = Some(tree);
        let (progress, cancelled) = (&mut *self.progress, self.request.cancelled);
        let mut done = 0;
        let mut failure = None;
        let mut on_bytes = |count: u64| {
            done += count;
            progress.event(Event::Bytes {
                phase: Phase::Copy,
                done,
                total: Some(manifest.bytes),
            });
            match cancelled.load(Ordering::Relaxed) {
                true => Err(std::io::Error::other("interrupted")),
                false => Ok(()),
            }
        };
        let broken = |e: &std::io::Error| BuildError::Copy {
            line: step.line,
            what: plan.sources.join(" "),
            why: e.to_string(),
            hint: None,
        };
        let mut stream = copy::stream(context, manifest, &placement, owner, &mut on_bytes);
        let mut kept = Kept {
            inner: &mut stream,
            failed: &mut |e| failure = Some(broken(e)),
        };
        let applied = workshop.apply_archive(tree, &placement.dest, &mut kept);
        self.check_cancelled()?;
        applied.map(|_| ()).map_err(|e| failure.unwrap_or(e))
    }
}

fn no_snapshot() -> BuildError {
    BuildError::Server {
        message: "the server took an archive but named no tree for it".to_owned(),
        hint: None,
    }
}

/// A reader that tells why it failed, as the reader of the other side may hide it.
struct Kept<'a> {
    inner: &'a mut dyn std::io::Read,
    failed: &'a mut dyn FnMut(&std::io::Error),
}

impl std::io::Read for Kept<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(out).inspect_err(|e| (self.failed)(e))
    }
}
