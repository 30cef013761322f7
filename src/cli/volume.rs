//! `pocker volume`: trees that are kept.

use super::args::{Volume, VolumeCreate};
use super::config::Settings;
use super::error::CliError;
use super::transfer::{find_step, split_step};
use super::{ls, open, text};
use crate::control::ClientError;
use crate::control::api::{NewVolume, VolumeInfo};
use crate::run::VolumeError;
use std::fmt::Write as _;

impl From<VolumeError> for CliError {
    fn from(error: VolumeError) -> CliError {
        let hint = error.hint.clone();
        CliError::usage(error.to_string()).hint(hint)
    }
}

pub fn run(settings: &Settings, command: &Volume) -> Result<(), CliError> {
    match command {
        Volume::Create(args) => create(settings, args),
        Volume::Ls(args) => {
            let volumes = open::server(settings)?.volumes()?;
            text::out(&if args.json {
                text::json(&volumes)?
            } else {
                table(&volumes, crate::daemon::clock::now().secs)
            })
        }
        Volume::Rm(args) => match open::server(settings)?.remove_volume(&args.name) {
            Err(ClientError::NotFound(_)) => Err(unknown(&args.name)),
            other => Ok(other?),
        },
    }
}

pub fn unknown(name: &str) -> CliError {
    CliError::new(format!("there is no volume named {name}")).hint(format!(
        "`pocker volume ls` lists them; `pocker volume create {name}` makes one"
    ))
}

/// What 404 means to who names volumes: the server's words say which one it is.
pub fn refused(error: ClientError) -> CliError {
    match error {
        ClientError::NotFound(message) => CliError::new(message)
            .hint("`pocker volume ls` lists them; `pocker volume create NAME` makes one"),
        other => other.into(),
    }
}

fn create(settings: &Settings, args: &VolumeCreate) -> Result<(), CliError> {
    crate::build::validate_name(&args.name, &[])?;
    let client = open::server(settings)?;
    let base = match &args.from {
        None => None,
        Some(what) => {
            let (name, step) = split_step(what);
            let pocker = client.pocker(name)?.ok_or_else(|| ls::unknown(name))?;
            Some(find_step(&pocker, step)?.snapshot.clone())
        }
    };
    let mut token = [0; 16];
    getrandom::fill(&mut token)
        .map_err(|e| CliError::new(format!("the system gives no random bytes: {e}")))?;
    let new = NewVolume {
        base,
        token: hex::encode(token),
    };
    client.new_volume(&args.name, &new)?;
    Ok(())
}

fn table(volumes: &[VolumeInfo], now: i64) -> String {
    if volumes.is_empty() {
        return String::new();
    }
    let longest = volumes.iter().map(|v| v.name.len()).max().unwrap_or(0);
    let width = longest.max(4);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:width$}  {:>9}  {:>9}  {:>8}  USED BY",
        "NAME", "FILES", "SIZE", "AGE"
    );
    for v in volumes {
        let line = format!(
            "{:width$}  {:>9}  {:>9}  {:>8}  {}",
            v.name,
            v.files,
            text::bytes(v.bytes),
            text::age(now - v.created),
            v.used_by.join(", "),
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_a_table() {
        let volume = |name: &str, used_by: &[&str]| VolumeInfo {
            name: name.into(),
            created: 1000,
            base: None,
            files: 12,
            bytes: 3_400_000,
            used_by: used_by.iter().map(|s| (*s).to_owned()).collect(),
        };
        let all = [
            volume("db", &["run 7 of web (process 12)"]),
            volume("www", &[]),
        ];
        insta::assert_snapshot!(table(&all, 1000 + 7200), @r"
        NAME      FILES       SIZE       AGE  USED BY
        db           12     3.4 MB       2 h  run 7 of web (process 12)
        www          12     3.4 MB       2 h
        ");
        assert_eq!(table(&[], 0), "");
    }
}
