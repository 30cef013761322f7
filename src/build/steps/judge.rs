//! Whether a step that the store has may be used, and why not.

use super::{Builder, Input};
use crate::build::BuildError;
use crate::build::plan::{Action, Base, Planned};
use crate::control::api::StepInfo;

/// What a look-up says of a step.
pub(super) enum Verdict {
    Hit(StepInfo),
    /// `rebuild`: a step of this key is there, but must not be used.
    Miss {
        rebuild: bool,
        why: String,
    },
}

impl Builder<'_> {
    pub(super) fn judge(
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
    pub(super) fn why_missed(&self, at: usize, step: &Planned) -> String {
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
            Action::Base(Base::Ports { .. }) => {
                "this host's release, its patches, its proot or --source-date-epoch changed"
            }
            Action::Base(Base::Sets(_)) => {
                "the release's sets, its mirror or --source-date-epoch changed"
            }
            Action::Base(Base::Image(_)) => "its name means another image now",
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
    pub(super) fn is_outdated(
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
}

/// A step counts only on the tree it was built on: its parent may have been built anew under the same key.
pub(super) fn stands_on(info: &StepInfo, parent: Option<&StepInfo>) -> bool {
    info.parent.as_deref() == parent.map(|parent| parent.snapshot.as_str())
}

fn first_line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    match text.lines().nth(1) {
        Some(_) => format!("{first} …"),
        None => first.to_owned(),
    }
}
