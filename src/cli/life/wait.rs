//! `pocker wait`: until runs have ended.

use crate::cli::args::Wait;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::text;
use crate::life::{Run, Runs};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

/// Each one's status, a line each; the last one's is returned.
pub fn wait(settings: &Settings, args: &Wait) -> Result<i32, CliError> {
    let runs = super::runs(settings)?;
    let found = args.runs.iter().map(|name| runs.find(name));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let mut last = 0;
    for run in found {
        last = ends(&runs, run)?;
        text::out(&format!("{last}\n"))?;
    }
    Ok(last)
}

fn ends(runs: &Runs, mut run: Run) -> Result<i32, CliError> {
    let exit = run.exit();
    loop {
        if let Some(handle) = run.state.supervisor.handle() {
            while !handle.ends_within(LONG) {}
        }
        if let Some(status) = exit.as_ref().ok().and_then(|exit| exit.status()) {
            return Ok(status);
        }
        runs.sweep(super::now())?;
        match run.again() {
            // Another process answers for it by now.
            Some(now) if now.live() => run = now,
            Some(now) => {
                return Ok(now
                    .state
                    .end
                    .map_or(crate::cli::error::OWN_FAILURE, |e| e.status));
            }
            None => return Err(crate::life::LifeError::Unknown(run.record.name).into()),
        }
    }
}
