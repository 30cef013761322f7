//! `pocker rename`, `inspect` and `prune`.

use super::{each, ps};
use crate::cli::args::{Inspect, Prune, Rename};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::{open, text};
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
    let runs = super::runs(settings)?;
    match runs.find(&args.what) {
        Ok(run) => text::out(&text::json(&known(&run))?),
        Err(unknown @ LifeError::Unknown(_)) => {
            let is_name = crate::build::check_name(&args.what).is_ok();
            let client = open::server(settings)?;
            let pocker = match is_name {
                true => client.pocker(&args.what)?,
                false => None,
            };
            let pocker = pocker.ok_or_else(|| CliError {
                message: format!("there is no run and no pocker named {}", args.what),
                ..CliError::from(unknown).hint("`pocker ps -a` and `pocker ls` list them")
            })?;
            text::out(&text::json(&pocker)?)
        }
        Err(error) => Err(error.into()),
    }
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
