//! `pocker rename`, `inspect` and `prune`.

use super::{each, ps};
use crate::cli::args::{Inspect, Prune, Rename};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::transfer::{find_step, split_step};
use crate::cli::{open, text};
use crate::control::api::{PockerInfo, RunConfig, StepInfo};
use crate::control::looking::{PockerUse, StepUse};
use crate::life::{LifeError, Run};
use serde::Serialize;

pub fn rename(settings: &Settings, args: &Rename) -> Result<(), CliError> {
    let runs = super::runs(settings)?;
    let before = runs.find(&args.of.run)?.record;
    let renamed = runs.rename(&before.id, &args.name)?.record;
    if renamed.boot {
        let client = open::server(settings)?;
        client.put_service(&renamed.name, &renamed)?;
        if before.name != renamed.name {
            client.remove_service(&before.name)?;
        }
    }
    Ok(())
}

/// All that is known; what its words hold may be secret, and who asks is root.
#[derive(Serialize)]
struct Known<'a> {
    #[serde(flatten)]
    listed: ps::Listed<'a>,
    boot: bool,
    words: &'a crate::life::Words,
    dir: &'a std::path::Path,
    files: &'a std::path::Path,
    details: &'a crate::life::State,
}

pub fn inspect(settings: &Settings, args: &Inspect) -> Result<(), CliError> {
    if args.what.contains('@') {
        return sealed(settings, args);
    }
    let runs = super::runs(settings)?;
    match runs.find(&args.what) {
        Ok(run) => text::out(&text::json(&known(&run))?),
        Err(LifeError::Unknown(_)) => sealed(settings, args),
        Err(error) => Err(error.into()),
    }
}

/// A step, with the pocker that it is of.
#[derive(Serialize)]
struct Step<'a> {
    pocker: &'a str,
    /// Counted from 1.
    number: usize,
    /// `run` and `debug` start its tree, with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a RunConfig>,
    pinned: bool,
    #[serde(flatten)]
    step: &'a StepInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<StepUse>,
}

#[derive(Serialize)]
struct Pocker<'a> {
    #[serde(flatten)]
    pocker: &'a PockerInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<PockerUse>,
}

/// A pocker or one of its steps.
fn sealed(settings: &Settings, args: &Inspect) -> Result<(), CliError> {
    let (name, step) = split_step(&args.what);
    let client = open::server(settings)?;
    let pocker = match crate::build::check_name(name) {
        Ok(()) => client.pocker(name)?,
        Err(_) => None,
    };
    let pocker = pocker.ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        CliError::new(format!("there is no run and no pocker named {shown}"))
            .hint("`pocker ps -a` and `pocker ls` list them")
    })?;
    let disk = match args.size {
        true => {
            let all = client.disk_use()?.pockers;
            all.into_iter().find(|used| used.name == name)
        }
        false => None,
    };
    let Some(step) = step else {
        let pocker = &pocker;
        return text::out(&text::json(&Pocker { pocker, disk })?);
    };
    let found = find_step(&pocker, Some(step))?;
    let at = pocker.steps.iter().position(|step| step == found);
    let at = at.unwrap_or_default();
    text::out(&text::json(&Step {
        pocker: &pocker.name,
        number: at + 1,
        config: (at + 1 == pocker.steps.len()).then_some(&pocker.config),
        pinned: pocker.pinned.contains(&found.key),
        step: found,
        disk: disk.and_then(|used| used.steps.into_iter().nth(at)),
    })?)
}

fn known(run: &Run) -> Known<'_> {
    Known {
        listed: ps::Listed::of(run),
        boot: run.record.boot,
        words: &run.record.words,
        dir: &run.record.dir,
        files: run.dir(),
        details: &run.state,
    }
}

pub fn prune(settings: &Settings, args: &Prune) -> Result<(), CliError> {
    let runs = super::runs(settings)?;
    let names = match args.runs.is_empty() {
        false => args.runs.clone(),
        true => {
            let ended = runs.all()?.into_iter().filter(|run| !run.live());
            ended.map(|run| run.record.id).collect()
        }
    };
    each(&names, |name| {
        let run = {
            let _one = runs.lock()?;
            let run = runs.find(name)?;
            if run.live() {
                let name = &run.record.name;
                return Err(CliError::new(format!("run {name} has not ended"))
                    .hint(format!("`pocker stop {name}` first")));
            }
            run.remove()?;
            run
        };
        if run.record.boot {
            open::server(settings)?.remove_service(&run.record.name)?;
        }
        if !settings.quiet {
            eprintln!("forgot run {}", run.record.name);
        }
        Ok(())
    })
}
