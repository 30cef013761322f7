//! `pocker volume snapshot`, `snapshots`, `rollback`, `clone`.

use super::{absent, moment_of, named, new, refused, split, token, wanted};
use crate::cli::args::{VolumeClone, VolumeSnapshot, VolumeSnapshots};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::{open, text};
use crate::control::volumes::{NewSnapshot, RollBack, SnapshotInfo};
use std::fmt::Write as _;

pub fn snapshot(settings: &Settings, args: &VolumeSnapshot) -> Result<(), CliError> {
    named(&args.name)?;
    if let Some(name) = &args.snapshot {
        named(name)?;
    }
    let client = open::server(settings)?;
    let new = NewSnapshot {
        name: args.snapshot.clone(),
        token: token()?,
    };
    let made = client.new_snapshot(&args.name, &new).map_err(refused)?;
    text::out(&format!("{}@{}\n", made.volume, made.name))
}

pub fn list(settings: &Settings, args: &VolumeSnapshots) -> Result<(), CliError> {
    named(&args.name)?;
    let all = open::server(settings)?.snapshots(&args.name);
    let all = all.map_err(refused)?;
    text::out(&if args.json {
        text::json(&all)?
    } else {
        table(&all, crate::daemon::clock::now().secs)
    })
}

pub fn rollback(settings: &Settings, what: &str) -> Result<(), CliError> {
    let (name, snapshot) = wanted(what, "rollback")?;
    let client = open::server(settings)?;
    let call = RollBack { token: token()? };
    client
        .roll_back(name, snapshot, &call)
        .map_err(|e| absent(name, e))
}

pub fn clone(settings: &Settings, args: &VolumeClone) -> Result<(), CliError> {
    let (name, snapshot) = split(&args.what)?;
    named(&args.new)?;
    let client = open::server(settings)?;
    super::free_name(&client, &args.new)?;
    let base = moment_of(&client, name, snapshot)?;
    new(&client, &args.new, Some(base), args.shared)
}

fn table(all: &[SnapshotInfo], now: i64) -> String {
    if all.is_empty() {
        return String::new();
    }
    let whole = |s: &SnapshotInfo| format!("{}@{}", s.volume, s.name);
    let longest = all.iter().map(|s| whole(s).len()).max().unwrap_or(0);
    let width = longest.max(8);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:width$}  {:>9}  {:>9}  {:>8}",
        "SNAPSHOT", "FILES", "SIZE", "AGE"
    );
    for s in all {
        let _ = writeln!(
            out,
            "{:width$}  {:>9}  {:>9}  {:>8}",
            whole(s),
            s.files,
            text::bytes(s.bytes),
            text::age(now - s.created),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_a_table() {
        let snapshot = |name: &str, created| SnapshotInfo {
            volume: "data".into(),
            name: name.into(),
            snapshot: "0".repeat(64),
            created,
            files: 12,
            bytes: 3_400_000,
            id: "0".into(),
        };
        let all = [snapshot("before", 1000), snapshot("20261127-041233", 8000)];
        insta::assert_snapshot!(table(&all, 1000 + 7200), @r"
        SNAPSHOT                  FILES       SIZE       AGE
        data@before                  12     3.4 MB       2 h
        data@20261127-041233         12     3.4 MB     3 min
        ");
        assert_eq!(table(&[], 0), "");
    }
}
