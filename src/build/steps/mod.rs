//! The build itself: look-ups while steps are there, then claim, build, seal.

mod command;
mod judge;
mod make;

use super::copy::{self, Context, Manifest};
use super::plan::{self, Action, Base, Plan, Planned};
use super::proot::{Ports, Release};
use super::tools::{Claim, Event, Outcome, Progress, Workshop};
use super::{BuildError, BuildRequest, Built, Tools, images, key, name, sets};
use crate::control::api::{PockerInfo, RunConfig, StepInfo};
use crate::pockerfile;
use judge::{Verdict, stands_on};
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
    Ports(Ports),
    Sets(sets::Pinned),
    /// FROM another pocker: its last tree.
    Snapshot(String),
    /// FROM an image: its digest, and what is kept with the step.
    Image {
        digest: String,
        upstream: String,
    },
    Copy(Manifest),
}

impl Input {
    fn digest(&self) -> Option<String> {
        match self {
            Input::None => None,
            Input::Release(release) => Some(release.digest()),
            Input::Ports(ports) => Some(ports.digest()),
            Input::Sets(sets) => Some(sets.digest()),
            Input::Snapshot(snapshot) => Some(snapshot.clone()),
            Input::Image { digest, .. } => Some(digest.clone()),
            Input::Copy(manifest) => Some(manifest.digest()),
        }
    }
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
        let host = tools.host.model();
        let (line, base) = plan::base(&all, request.args, &host).map_err(parse_error)?;
        let parent = match &base {
            Base::Pocker(name) => Some(find_base(tools.workshop, line, name)?),
            _ => None,
        };
        let image = match &base {
            Base::Image(name) => Some(images::find(
                request,
                tools.workshop,
                tools.images,
                line,
                name,
            )?),
            _ => None,
        };
        let inherited = parent.as_ref().map(|p| &p.config);
        let inherited = inherited.or(image.as_ref().map(|image| &image.config));
        let plan = plan::plan(&all, request.args, inherited, &host).map_err(parse_error)?;
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
        builder.gather(parent.as_ref(), image)?;
        Ok(builder)
    }

    /// Inputs, and with them every key.
    fn gather(
        &mut self,
        parent: Option<&PockerInfo>,
        mut image: Option<images::Found>,
    ) -> Result<(), BuildError> {
        let mut inputs = Vec::new();
        for step in &self.plan.steps {
            let input = match &step.action {
                Action::Base(Base::Host) => Input::Release(self.tools.host.release()?),
                Action::Base(Base::Ports { release, program }) => {
                    Input::Ports(self.tools.host.ports(release, program)?)
                }
                Action::Base(Base::Sets(plan)) => {
                    Input::Sets(sets::find(self.request, step.line, plan)?)
                }
                Action::Base(Base::Pocker(_)) => {
                    let last = parent.and_then(|parent| parent.steps.last());
                    Input::Snapshot(last.map(|s| s.snapshot.clone()).unwrap_or_default())
                }
                Action::Base(Base::Image(_)) => match image.take() {
                    Some(found) => Input::Image {
                        digest: found.digest,
                        upstream: found.upstream,
                    },
                    None => Input::None,
                },
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
        cancelled(self.request)
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
}

pub(super) fn cancelled(request: &BuildRequest<'_>) -> Result<(), BuildError> {
    match request.cancelled.load(Ordering::Relaxed) {
        true => Err(BuildError::Cancelled),
        false => Ok(()),
    }
}

fn find_base(workshop: &dyn Workshop, line: u32, name: &str) -> Result<PockerInfo, BuildError> {
    let missing = || BuildError::NoBase {
        line,
        name: name.to_owned(),
    };
    name::check(name).map_err(|_| missing())?;
    let found = workshop.pocker(name)?.filter(|p| !p.steps.is_empty());
    found.ok_or_else(missing)
}
