//! `pocker volume`: trees that are kept.

mod archive;
mod snapshots;

use super::args::{Volume, VolumeCreate, VolumeRm};
use super::config::Settings;
use super::error::CliError;
use super::transfer::{find_step, split_step};
use super::{ls, open, text};
use crate::control::api::{NewVolume, VolumeInfo};
use crate::control::{Client, ClientError};
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
        Volume::Rm(args) => rm(settings, args),
        Volume::Snapshot(args) => snapshots::snapshot(settings, args),
        Volume::Snapshots(args) => snapshots::list(settings, args),
        Volume::Rollback(args) => snapshots::rollback(settings, &args.what),
        Volume::Clone(args) => snapshots::clone(settings, args),
        Volume::Export(args) => archive::export(settings, args),
        Volume::Import(args) => archive::import(settings, args),
    }
}

fn rm(settings: &Settings, args: &VolumeRm) -> Result<(), CliError> {
    if !args.what.contains('@') {
        let removed = open::server(settings)?.remove_volume(&args.what, args.snapshots);
        return match removed {
            Err(ClientError::NotFound(_)) => Err(unknown(&args.what)),
            other => Ok(other?),
        };
    }
    let (name, snapshot) = wanted(&args.what, "rm")?;
    if args.snapshots {
        return Err(
            CliError::usage("--snapshots goes with a volume's name alone").hint(format!(
                "`pocker volume rm {}` removes that snapshot",
                args.what
            )),
        );
    }
    let removed = open::server(settings)?.remove_snapshot(name, snapshot);
    removed.map_err(|e| absent(name, e))
}

/// As [`refused`], where a snapshot of a volume was asked for.
fn absent(volume: &str, error: ClientError) -> CliError {
    match error {
        ClientError::NotFound(message) if message.contains(" has no snapshot ") => {
            CliError::new(message).hint(format!("`pocker volume snapshots {volume}` lists them"))
        }
        other => refused(other),
    }
}

/// `NAME` or `NAME@SNAPSHOT`, of which neither can be a path of the control socket's.
fn split(what: &str) -> Result<(&str, Option<&str>), CliError> {
    let (name, snapshot) = match what.split_once('@') {
        Some((name, snapshot)) => (name, Some(snapshot)),
        None => (what, None),
    };
    named(name)?;
    snapshot.map(named).transpose()?;
    Ok((name, snapshot))
}

/// `NAME@SNAPSHOT`.
fn wanted<'a>(what: &'a str, command: &str) -> Result<(&'a str, &'a str), CliError> {
    let (name, snapshot) = split(what)?;
    let missing = || {
        CliError::usage(format!("{what} names a volume, and no snapshot of it")).hint(format!(
            "`pocker volume snapshots {name}` lists them; `pocker volume {command} {name}@SNAPSHOT`"
        ))
    };
    Ok((name, snapshot.ok_or_else(missing)?))
}

fn named(name: &str) -> Result<(), CliError> {
    Ok(crate::build::validate_name(name, &[])?)
}

/// The tree of a snapshot, or of the volume as it is now.
fn moment_of(client: &Client, name: &str, snapshot: Option<&str>) -> Result<String, CliError> {
    let Some(snapshot) = snapshot else {
        return Ok(client.moment(name).map_err(refused)?.snapshot);
    };
    let all = client.snapshots(name).map_err(refused)?;
    let found = all.into_iter().find(|s| s.name == snapshot);
    found.map(|s| s.snapshot).ok_or_else(|| {
        CliError::new(format!("volume {name} has no snapshot {snapshot}"))
            .hint(format!("`pocker volume snapshots {name}` lists them"))
    })
}

fn free_name(client: &Client, name: &str) -> Result<(), CliError> {
    match client.volumes()?.iter().any(|v| v.name == name) {
        false => Ok(()),
        true => Err(
            CliError::new(format!("there is a volume named {name} already")).hint(format!(
                "choose another name, or `pocker volume rm {name}` first"
            )),
        ),
    }
}

/// Names a call.
pub(super) fn token() -> Result<String, CliError> {
    let mut token = [0; 16];
    getrandom::fill(&mut token)
        .map_err(|e| CliError::new(format!("the system gives no random bytes: {e}")))?;
    Ok(hex::encode(token))
}

fn new(client: &Client, name: &str, base: Option<String>, shared: bool) -> Result<(), CliError> {
    let new = NewVolume {
        base,
        token: token()?,
        shared,
    };
    client.new_volume(name, &new)?;
    Ok(())
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
    new(&client, &args.name, base, args.shared)
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
        "{:width$}  {:>9}  {:>9}  {:>8}  {:>9}  USED BY",
        "NAME", "FILES", "SIZE", "AGE", "SNAPSHOTS"
    );
    for v in volumes {
        let line = format!(
            "{:width$}  {:>9}  {:>9}  {:>8}  {:>9}  {}",
            v.name,
            v.files,
            text::bytes(v.bytes),
            text::age(now - v.created),
            v.snapshots,
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
            shared: false,
            snapshots: 3,
        };
        let all = [
            volume("db", &["run 7 of web (process 12)"]),
            volume("www", &[]),
        ];
        insta::assert_snapshot!(table(&all, 1000 + 7200), @r"
        NAME      FILES       SIZE       AGE  SNAPSHOTS  USED BY
        db           12     3.4 MB       2 h          3  run 7 of web (process 12)
        www          12     3.4 MB       2 h          3
        ");
        assert_eq!(table(&[], 0), "");
    }
}
