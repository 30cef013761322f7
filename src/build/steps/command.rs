//! EXEC and PKG: a command in a work tree, its output, its failure.

use super::{Builder, Work};
use crate::build::exec::{self, Surroundings};
use crate::build::plan::{ExecPlan, Planned};
use crate::build::tail::Tail;
use crate::build::tools::Event;
use crate::build::{BuildError, pkg};
use crate::control::api::StepInfo;
use crate::sandbox::{Exit, Spec};

impl Builder<'_> {
    /// Updates, and with mode `install` installs; gives the digest of the index.
    pub(super) fn pkg(
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

    pub(super) fn exec(
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

    pub(super) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            ca: self.request.ca,
            proxies: self.request.proxies,
            secrets: self.request.secrets,
            cache_dir: self.request.cache_dir,
            base_key: self.keys.first().map(String::as_str).unwrap_or_default(),
            etc: self.request.etc,
            epoch: self.request.source_date_epoch,
        }
    }

    /// Runs a command; its output is progress, but for the index's digest. Gives that, the status and the last lines.
    pub(super) fn run(
        &mut self,
        spec: Spec,
    ) -> Result<(Option<String>, i32, Vec<String>), BuildError> {
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
    pub(super) fn failed(
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

    /// The digest of the package index that a tree's package manager sees now, found in a throw-away tree.
    pub(super) fn probe(
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
}

fn exited(status: i32) -> String {
    match status {
        126 => "the command cannot be executed (exit status 126)".to_owned(),
        127 => "the command was not found (exit status 127)".to_owned(),
        129..=192 => format!("killed by signal {}", status - 128),
        _ => format!("exit status {status}"),
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
