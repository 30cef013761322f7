//! `pocker boot`: what has to run once the machine does. What runs already is left alone.

use super::start;
use crate::cli::args::Boot;
use crate::cli::config::Settings;
use crate::cli::error::{CliError, FAILED};
use crate::cli::{open, text};
use crate::control::api::Service;
use crate::life::{LifeError, Record, Run, Runs};
use std::time::Duration;

/// What `stop` gives unless told.
const GRACE: Duration = Duration::from_secs(10);

/// Each of them, though one fails.
pub fn boot(settings: &Settings, args: &Boot) -> Result<i32, CliError> {
    let runs = super::runs(settings)?;
    if args.stop {
        let marked = |run: &Run| run.live() && run.record.boot;
        let found = runs.all()?.into_iter().filter(marked);
        let found: Vec<String> = found.map(|run| run.record.id).collect();
        return super::stop::stop_all(&runs, &found, GRACE).map(|()| 0);
    }
    let client = open::server(settings)?;
    let mut status = 0;
    for service in client.services()? {
        let name = &service.name;
        if runs
            .all()?
            .iter()
            .any(|run| run.live() && run.record.name == *name)
        {
            continue;
        }
        if args.dry_run {
            text::out(&format!("{name}\n"))?;
            continue;
        }
        match begin(settings, &runs, &service) {
            Ok(true) => text::out(&format!("{name}\n"))?,
            // Somebody else started it meanwhile.
            Ok(false) => {}
            Err(error) => {
                eprint!("{}", error.render());
                status = FAILED;
            }
        }
    }
    Ok(status)
}

fn begin(settings: &Settings, runs: &Runs, service: &Service) -> Result<bool, CliError> {
    let name = &service.name;
    let record: Record = serde_json::from_value(service.record.clone()).map_err(|e| {
        CliError::from_error(format!("the record of {name} cannot be read"), &e).hint(format!(
            "start it anew: `pocker run --detach --restart always --name {name} …`"
        ))
    })?;
    let begun = match runs.begin_recorded(Record {
        name: name.clone(),
        ..record
    }) {
        Ok(begun) => begun,
        Err(LifeError::InUse { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match start::detached(settings, runs, &begun)? {
        0 => Ok(true),
        // The supervisor has said why.
        _ => Err(CliError::new(format!("{name} did not start")).hint(format!(
            "once it runs by hand, `pocker boot` starts it too; `pocker prune {name}` forgets it"
        ))),
    }
}
