//! `pocker rm` and `reset`.

use super::args::{Name, Rm};
use super::config::Settings;
use super::error::CliError;
use super::{ls, open};
use crate::control::ClientError;

pub fn rm(settings: &Settings, args: &Rm) -> Result<(), CliError> {
    let client = open::server(settings)?;
    if args.force {
        super::life::stop_waiting(settings, Some(&args.name))?;
    }
    match client.remove_pocker(&args.name, args.force) {
        Err(ClientError::NotFound(_)) => Err(ls::unknown(&args.name)),
        other => Ok(other?),
    }
}

pub fn reset(settings: &Settings, args: &Name) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let dropped = match client.reset(&args.name) {
        Err(ClientError::NotFound(_)) => return Err(ls::unknown(&args.name)),
        other => other?,
    };
    if !settings.quiet {
        match dropped {
            0 => eprintln!("{}: nothing to reset", args.name),
            1 => eprintln!("{}: dropped 1 tree", args.name),
            n => eprintln!("{}: dropped {n} trees", args.name),
        }
    }
    Ok(())
}
