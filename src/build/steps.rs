//! The build itself: look-ups while steps are there, then claim, build, seal.

use super::archive::Archive;
use super::copy::{self, Context, Manifest, Owner, Placement, TarStream};
use super::exec::{self, Surroundings};
use super::plan::{self, Action, Base, CopyPlan, ExecPlan, Plan, Planned};
use super::proot::{Bootstrap, Release};
use super::tail::Tail;
use super::tools::{Claim, Event, Outcome, Phase, Progress, Workshop};
use super::{BuildError, BuildRequest, Built, Tools, key, name, pkg};
use crate::control::api::{PockerInfo, RunConfig, SealRequest, StepInfo};
use crate::pockerfile;
use crate::sandbox::{Exit, Spec};
use std::sync::atomic::Ordering;

pub(super) struct Builder<'a> {
    request: &'a BuildRequest<'a>,
    tools: &'a Tools<'a>,
    progress: &'a mut dyn Progress,
    plan: Plan,
    /// What each step takes from outside the Pockerfile, in the plan's order.
    inputs: Vec<Input>,
    keys: Vec<String>,
    context: Option<Context>,
    /// NAME as it is now: what `--explain` compares with.
    previous: Option<PockerInfo>,
}

enum Input {
    None,
    Release(Release),
    /// FROM another pocker: its last tree.
    Snapshot(String),
    Copy(Manifest),
}

impl Input {
    fn digest(&self) -> Option<String> {
        match self {
            Input::None => None,
            Input::Release(release) => Some(release.digest()),
            Input::Snapshot(snapshot) => Some(snapshot.clone()),
            Input::Copy(manifest) => Some(manifest.digest()),
        }
    }
}

/// What a look-up says of a step.
enum Verdict {
    Hit(StepInfo),
    /// `rebuild`: a step of this key is there, but must not be used.
    Miss {
        rebuild: bool,
        why: String,
    },
}

/// A tree and a claim that are given back unless the step gets that far.
struct Work<'a> {
    workshop: &'a dyn Workshop,
    tree: Option<u64>,
    claim: Option<u64>,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if let Some(tree) = self.tree {
            self.workshop.drop_tree(tree);
        }
        if let Some(claim) = self.claim {
            self.workshop.release(claim);
        }
    }
}

impl<'a> Builder<'a> {
    pub fn new(
        request: &'a BuildRequest<'a>,
        tools: &'a Tools<'a>,
        progress: &'a mut dyn Progress,
    ) -> Result<Builder<'a>, BuildError> {
        name::validate(request.name, request.reserved)?;
        let parse_error = |error| BuildError::Parse {
            file: request.file_path.to_owned(),
            error,
        };
        let all = pockerfile::parse(request.file).map_err(parse_error)?;
        if let Some(name) = plan::undeclared(&all, request.args) {
            return Err(BuildError::UndeclaredArg(name.to_owned()));
        }
        let (line, base) = plan::base(&all, request.args).map_err(parse_error)?;
        let parent = match &base {
            Base::Pocker(name) => Some(find_base(tools.workshop, line, name)?),
            _ => None,
        };
        let inherited = parent.as_ref().map(|p| &p.config);
        let plan = plan::plan(&all, request.args, inherited).map_err(parse_error)?;
        let mut builder = Builder {
            request,
            tools,
            progress,
            plan,
            inputs: Vec::new(),
            keys: Vec::new(),
            context: None,
            previous: tools.workshop.pocker(request.name)?,
        };
        builder.gather(parent.as_ref())?;
        Ok(builder)
    }

    /// Inputs, and with them every key.
    fn gather(&mut self, parent: Option<&PockerInfo>) -> Result<(), BuildError> {
        let mut inputs = Vec::new();
        for step in &self.plan.steps {
            let input = match &step.action {
                Action::Base(Base::Host) => Input::Release(self.tools.host.release()?),
                Action::Base(Base::Pocker(_)) => {
                    let last = parent.and_then(|parent| parent.steps.last());
                    Input::Snapshot(last.map(|s| s.snapshot.clone()).unwrap_or_default())
                }
                Action::Copy(copy) => {
                    if self.context.is_none() {
                        let opened = Context::open(self.request.context);
                        let fail = |e| BuildError::io("read the context", self.request.context, e);
                        self.context = Some(opened.map_err(fail)?);
                    }
                    match &self.context {
                        Some(context) => Input::Copy(copy::collect(
                            context,
                            step.line,
                            copy,
                            self.request.cancelled,
                        )?),
                        None => Input::None,
                    }
                }
                _ => Input::None,
            };
            let parent_key = self.keys.last().map(String::as_str);
            let digest = input.digest();
            let epoch = self.request.source_date_epoch;
            self.keys
                .push(key::step_key(parent_key, step, digest.as_deref(), epoch));
            inputs.push(input);
        }
        self.inputs = inputs;
        Ok(())
    }

    pub fn build(mut self) -> Result<Built, BuildError> {
        let plan = std::mem::replace(
            &mut self.plan,
            Plan {
                steps: Vec::new(),
                config: RunConfig::default(),
            },
        );
        let of = plan.steps.len();
        let mut done: Vec<(StepInfo, Outcome)> = Vec::new();
        for (at, step) in plan.steps.iter().enumerate() {
            self.check_cancelled()?;
            let number = at + 1;
            self.progress.event(Event::Step { number, of, step });
            let parent = done.last().map(|(info, _)| info.clone());
            let (info, outcome) = self.step(at, step, parent.as_ref())?;
            self.progress.event(Event::Done {
                number,
                info: &info,
                outcome,
            });
            done.push((info, outcome));
        }
        let changed = self.point(&done, &plan.config)?;
        Ok(Built {
            name: self.request.name.to_owned(),
            steps: done,
            config: plan.config,
            changed,
        })
    }

    /// Points NAME at the steps, unless it points there already.
    fn point(&self, done: &[(StepInfo, Outcome)], config: &RunConfig) -> Result<bool, BuildError> {
        let same = self.previous.as_ref().is_some_and(|old| {
            old.config == *config
                && old.steps.len() == done.len()
                && old
                    .steps
                    .iter()
                    .zip(done)
                    .all(|(old, (new, _))| old.key == new.key && old.snapshot == new.snapshot)
        });
        if !same {
            let workshop = self.tools.workshop;
            workshop.put_pocker(self.request.name, &self.keys, config)?;
        }
        Ok(!same)
    }

    fn check_cancelled(&self) -> Result<(), BuildError> {
        match self.request.cancelled.load(Ordering::Relaxed) {
            true => Err(BuildError::Cancelled),
            false => Ok(()),
        }
    }

    fn step(
        &mut self,
        at: usize,
        step: &Planned,
        parent: Option<&StepInfo>,
    ) -> Result<(StepInfo, Outcome), BuildError> {
        let (rebuild, why) = match self.judge(at, step, parent)? {
            Verdict::Hit(info) => {
                self.explain(at, "its key is in the store");
                return Ok((info, Outcome::Cached));
            }
            Verdict::Miss { rebuild, why } => (rebuild, why),
        };
        self.explain(at, &why);
        let workshop = self.tools.workshop;
        let mut claim = workshop.claim(&self.keys[at], rebuild)?;
        if let Claim::Done(info) = &claim {
            if stands_on(info, parent) {
                return Ok((info.clone(), Outcome::Shared));
            }
            claim = workshop.claim(&self.keys[at], true)?;
        }
        match claim {
            Claim::Done(info) => Ok((info, Outcome::Shared)),
            Claim::Yours(claim) => {
                let work = Work {
                    workshop,
                    tree: None,
                    claim: Some(claim),
                };
                let info = self.make(at, step, parent, work)?;
                Ok((info, Outcome::Built))
            }
        }
    }

    fn explain(&mut self, at: usize, why: &str) {
        if self.request.explain {
            let number = at + 1;
            self.progress.event(Event::Why { number, why });
        }
    }

    fn judge(
        &mut self,
        at: usize,
        step: &Planned,
        parent: Option<&StepInfo>,
    ) -> Result<Verdict, BuildError> {
        let rebuild = |why: &str| {
            Ok(Verdict::Miss {
                rebuild: true,
                why: why.to_owned(),
            })
        };
        if self.request.no_cache {
            return rebuild("--no-cache builds every step");
        }
        let Some(info) = self.tools.workshop.step(&self.keys[at])? else {
            let why = self.why_missed(at, step);
            return Ok(Verdict::Miss {
                rebuild: false,
                why,
            });
        };
        if !stands_on(&info, parent) {
            return rebuild("the step before it was built anew");
        }
        if self.request.pull && self.is_outdated(at, step, &info, parent)? {
            return rebuild("--pull found something newer on the mirror");
        }
        Ok(Verdict::Hit(info))
    }

    /// Compares with what NAME was built from last, as far as that tells.
    fn why_missed(&self, at: usize, step: &Planned) -> String {
        let Some(old) = &self.previous else {
            return "nothing has this key yet".to_owned();
        };
        let Some(was) = old.steps.get(at) else {
            return format!("{} had no such step before", self.request.name);
        };
        if was.key == self.keys[at] {
            return "its step is no longer in the store".to_owned();
        }
        if was.instruction != step.canonical {
            return format!(
                "the instruction changed; it was `{}`",
                first_line(&was.instruction)
            );
        }
        if at > 0 && old.steps[at - 1].key != self.keys[at - 1] {
            return "the step before it changed".to_owned();
        }
        match &step.action {
            Action::Base(Base::Host) => {
                "this host's release, its mirrors or --source-date-epoch changed"
            }
            Action::Base(Base::Pocker(_)) => "the pocker it starts from changed",
            Action::Base(_) => "--source-date-epoch changed",
            Action::Copy(_) => "the copied files changed",
            Action::Pkg(_) => "ENV changed",
            Action::Exec(_) => "ENV, ARG, USER or WORKDIR changed",
            Action::Run(_) => "ENV, USER, WORKDIR or VOLUME changed",
        }
        .to_owned()
    }

    /// `--pull`: whether the mirror has something else than when the step was built.
    fn is_outdated(
        &mut self,
        at: usize,
        step: &Planned,
        info: &StepInfo,
        parent: Option<&StepInfo>,
    ) -> Result<bool, BuildError> {
        let now = match (&step.action, &self.inputs[at], parent) {
            (Action::Base(Base::Host), Input::Release(release), _) => {
                Some(self.tools.host.upstream(release)?)
            }
            (Action::Pkg(names), _, Some(parent)) => self.probe(step, names, parent)?,
            _ => return Ok(false),
        };
        Ok(now.is_some() && now != info.upstream)
    }

    /// The digest of the package index that a tree's package manager sees now, found in a throw-away tree.
    fn probe(
        &mut self,
        step: &Planned,
        names: &[String],
        parent: &StepInfo,
    ) -> Result<Option<String>, BuildError> {
        let mut work = Work {
            workshop: self.tools.workshop,
            tree: None,
            claim: None,
        };
        let label = format!("{} index of line {}", self.request.name, step.line);
        self.pkg(
            "probe",
            step,
            names,
            Some(&parent.snapshot),
            &label,
            &mut work,
        )
    }

    /// Builds and seals a step that is claimed.
    fn make(
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
            Action::Base(Base::Archive { path, sha256 }) => {
                let snapshot = self.archive(path, sha256)?;
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

    fn sealing(&mut self) {
        self.progress.event(Event::Bytes {
            phase: Phase::Seal,
            done: 0,
            total: None,
        });
    }

    fn seal(&mut self, work: &mut Work<'_>, seal: SealRequest) -> Result<StepInfo, BuildError> {
        self.check_cancelled()?;
        self.sealing();
        let tree = work.tree.unwrap_or_default();
        let info = self.tools.workshop.seal(tree, seal)?;
        work.tree = None;
        Ok(info)
    }

    /// The snapshot and what the mirrors held when it was made. They are asked before: if they change meanwhile,
    /// the next `--pull` builds once too often, never once too seldom.
    fn proot(&mut self, at: usize) -> Result<(String, Option<String>), BuildError> {
        let Input::Release(release) = &self.inputs[at] else {
            return Err(no_snapshot());
        };
        let upstream = self.tools.host.upstream(release).ok();
        let request = self.request;
        let options = Bootstrap {
            ca: request.ca,
            source_date_epoch: request.source_date_epoch,
            proxies: request.proxies,
            work_dir: request.cache_dir,
        };
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

    fn archive(&mut self, path: &str, sha256: &str) -> Result<String, BuildError> {
        let request = self.request;
        let path = request.context.join(path);
        let mut tar = Archive::open(&path, sha256, &mut *self.progress, request.cancelled)?;
        let done = self
            .tools
            .workshop
            .ingest(&mut tar, request.source_date_epoch)
            .map_err(|e| tar.failure(e))?;
        done.snapshot.ok_or_else(no_snapshot)
    }

    fn copy(
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
        let stream = TarStream::new(context, manifest, &placement, owner, &mut on_bytes);
        let mut stream = stream.map_err(|e| broken(&e))?;
        let mut kept = Kept {
            inner: &mut stream,
            failed: &mut |e| failure = Some(broken(e)),
        };
        let applied = workshop.apply_archive(tree, &placement.dest, &mut kept);
        self.check_cancelled()?;
        applied.map(|_| ()).map_err(|e| failure.unwrap_or(e))
    }

    /// Updates, and with mode `install` installs; gives the digest of the index.
    fn pkg(
        &mut self,
        mode: &str,
        step: &Planned,
        names: &[String],
        base: Option<&str>,
        label: &str,
        work: &mut Work<'_>,
    ) -> Result<Option<String>, BuildError> {
        let request = self.request;
        std::fs::create_dir_all(request.cache_dir)
            .map_err(|e| BuildError::io("make", request.cache_dir, e))?;
        let scratch = tempfile::Builder::new()
            .prefix("pkg-")
            // apt downloads as a user of its own, who must get in.
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(request.cache_dir)
            .map_err(|e| BuildError::io("make a directory in", request.cache_dir, e))?;
        let tree = self.tools.workshop.new_tree(base, label)?;
        work.tree = Some(tree.id);
        let around = self.surroundings();
        let spec = exec::pkg(mode, names, &step.state, &around, &tree, scratch.path());
        let (index, status, tail) = self.run(spec)?;
        match status {
            0 => Ok(index),
            status => {
                let why = pkg::meaning(status).map_or_else(|| exited(status), str::to_owned);
                Err(self.failed(step, status, why, tail, work))
            }
        }
    }

    fn exec(
        &mut self,
        step: &Planned,
        plan: &ExecPlan,
        base: Option<&str>,
        label: &str,
        work: &mut Work<'_>,
    ) -> Result<(), BuildError> {
        let workshop = self.tools.workshop;
        let passwd = match (&step.state.user, base) {
            (Some(_), Some(base)) => workshop.file(base, "/etc/passwd")?,
            _ => None,
        };
        let tree = workshop.new_tree(base, label)?;
        work.tree = Some(tree.id);
        let around = self.surroundings();
        let spec = exec::exec(
            step.line,
            plan,
            &step.state,
            &around,
            &tree,
            passwd.as_deref(),
        )?;
        match self.run(spec)? {
            (_, 0, _) => Ok(()),
            (_, status, tail) => Err(self.failed(step, status, exited(status), tail, work)),
        }
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            ca: self.request.ca,
            proxies: self.request.proxies,
            secrets: self.request.secrets,
            cache_dir: self.request.cache_dir,
            base_key: self.keys.first().map(String::as_str).unwrap_or_default(),
            etc: self.request.etc,
        }
    }

    /// Runs a command; its output is progress, but for the index's digest. Gives that, the status and the last lines.
    fn run(&mut self, spec: Spec) -> Result<(Option<String>, i32, Vec<String>), BuildError> {
        let mut tail = Tail::default();
        let mut index = None;
        let progress = &mut *self.progress;
        let mut each = |line: &str| progress.event(Event::Output(line));
        let mut marks = Marks::default();
        let result = self.tools.shell.exec(spec, &mut |bytes| {
            let rest = marks.filter(bytes, &mut index);
            tail.feed(&rest, &mut each);
        });
        tail.feed(&marks.rest(), &mut each);
        tail.finish(&mut each);
        self.check_cancelled()?;
        let status = match result? {
            Exit::Code(code) => code,
            signal @ Exit::Signal(_) => signal.status(),
        };
        Ok((index, status, tail.lines()))
    }

    /// The error of a failed step, its tree kept.
    fn failed(
        &self,
        step: &Planned,
        status: i32,
        why: String,
        tail: Vec<String>,
        work: &mut Work<'_>,
    ) -> BuildError {
        let name = self.request.name;
        let kept = work
            .tree
            .filter(|tree| self.tools.workshop.keep_tree(*tree, name).is_ok());
        if kept.is_some() {
            work.tree = None;
        }
        BuildError::StepFailed {
            line: step.line,
            instruction: step.text.clone(),
            why,
            status,
            tail,
            tree: kept,
            name: name.to_owned(),
        }
    }
}

fn find_base(workshop: &dyn Workshop, line: u32, name: &str) -> Result<PockerInfo, BuildError> {
    let missing = || BuildError::NoBase {
        line,
        name: name.to_owned(),
    };
    name::validate(name, &[]).map_err(|_| missing())?;
    let found = workshop.pocker(name)?.filter(|p| !p.steps.is_empty());
    found.ok_or_else(missing)
}

/// A step counts only on the tree it was built on: its parent may have been built anew under the same key.
fn stands_on(info: &StepInfo, parent: Option<&StepInfo>) -> bool {
    info.parent.as_deref() == parent.map(|parent| parent.snapshot.as_str())
}

fn no_snapshot() -> BuildError {
    BuildError::Server {
        message: "the server took an archive but named no tree for it".to_owned(),
        hint: None,
    }
}

fn exited(status: i32) -> String {
    match status {
        126 => "the command cannot be executed (exit status 126)".to_owned(),
        127 => "the command was not found (exit status 127)".to_owned(),
        129..=192 => format!("killed by signal {}", status - 128),
        _ => format!("exit status {status}"),
    }
}

fn first_line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    match text.lines().nth(1) {
        Some(_) => format!("{first} …"),
        None => first.to_owned(),
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

/// Takes the lines that tell an index's digest out of a command's output.
#[derive(Default)]
struct Marks {
    /// The start of a line that may become a mark.
    held: Vec<u8>,
    /// Inside a line that is none.
    plain: bool,
}

impl Marks {
    /// Longer than any mark.
    const MAX: usize = 256;

    fn filter(&mut self, bytes: &[u8], index: &mut Option<String>) -> Vec<u8> {
        let mark = pkg::INDEX_MARK.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.plain {
                out.push(byte);
                self.plain = byte != b'\n';
                continue;
            }
            self.held.push(byte);
            let known = self.held.len().min(mark.len());
            if self.held[..known] != mark[..known] || self.held.len() > Marks::MAX {
                out.append(&mut self.held);
                self.plain = byte != b'\n';
            } else if byte == b'\n' {
                let text = String::from_utf8_lossy(&self.held[mark.len()..])
                    .trim()
                    .to_owned();
                self.held.clear();
                *index = (!text.is_empty()).then_some(text);
            }
        }
        out
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}
