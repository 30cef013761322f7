//! `pocker store`: backup, restore, upgrade.

use super::args::{StoreBackup, StoreCommand, StoreRestore, StoreUpgrade};
use super::config::Settings;
use super::error::CliError;
use super::{open, text};
use crate::control::api::BackupDone;
use crate::daemon::{enter, is_given, owner, store_hint};
use pocker_store::upgrade::{self, Upgrade};
use pocker_store::{Restored, StoreError};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Exit status where what was copied has rotted, as `pocker fsck` has it.
const ROTTED: i32 = 4;

pub fn run(settings: &Settings, command: &StoreCommand) -> Result<i32, CliError> {
    match command {
        StoreCommand::Backup(args) => backup(settings, args),
        StoreCommand::Restore(args) => restore(settings, args),
        StoreCommand::Upgrade(args) => upgrade(settings, args).map(|()| 0),
    }
}

fn absolute(dir: &Path) -> Result<String, CliError> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    let text = dir.to_str().map(str::to_string);
    text.ok_or_else(|| CliError::usage(format!("{}: a path has to be UTF-8", dir.display())))
}

fn failed(tried: String, error: &StoreError) -> CliError {
    let failed = CliError::from_error(tried, error);
    match store_hint(error) {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

fn backup(settings: &Settings, args: &StoreBackup) -> Result<i32, CliError> {
    let dir = absolute(&args.dir)?;
    let done = open::server(settings)?.backup(&dir)?;
    text::out(&match args.json {
        true => text::json(&done)?,
        false => backed_up(&done),
    })?;
    Ok(match done.rotted.is_empty() && done.missing.is_empty() {
        true => 0,
        false => ROTTED,
    })
}

fn backed_up(done: &BackupDone) -> String {
    let mut out = format!(
        "{}: {} volumes, {} large blobs, of which {} were copied: {}\n",
        done.path,
        done.volumes,
        done.blobs,
        done.copied,
        text::bytes(done.copied_bytes)
    );
    if done.promised > 0 {
        let _ = writeln!(
            out,
            "left with the upstream: {} blobs, which the cache let go meanwhile",
            done.promised
        );
    }
    damaged(&mut out, &done.rotted, "rotted");
    damaged(&mut out, &done.missing, "missing");
    if !done.rotted.is_empty() || !done.missing.is_empty() {
        out.push_str("hint: `pocker fsck` says in which trees they are; mend the store, then back it up again\n");
    }
    out
}

fn damaged(out: &mut String, blobs: &[String], how: &str) {
    for blob in blobs {
        let _ = writeln!(out, "{how}: blob {blob}");
    }
}

fn restore(settings: &Settings, args: &StoreRestore) -> Result<i32, CliError> {
    open::must_be_root()?;
    let to = &settings.store;
    let done = pocker_store::restore(Path::new(&absolute(&args.dir)?), to).map_err(|e| {
        let failed = failed(format!("cannot restore {}", args.dir.display()), &e);
        match args.dir.is_dir() {
            true => failed,
            false => failed.hint("give the folder that `pocker store backup` was given"),
        }
    })?;
    text::out(&restored(&done, to))?;
    Ok(if done.rotted.is_empty() { 0 } else { ROTTED })
}

fn restored(done: &Restored, to: &Path) -> String {
    let mut out = format!(
        "{} is the store of {}: {} large blobs, {}\n",
        to.display(),
        done.from.display(),
        done.blobs,
        text::bytes(done.bytes)
    );
    let rotted: Vec<String> = done.rotted.iter().map(ToString::to_string).collect();
    damaged(&mut out, &rotted, "rotted");
    if !rotted.is_empty() {
        out.push_str("hint: `pocker fsck --repair` sets them aside\n");
    }
    out
}

fn upgrade(settings: &Settings, args: &StoreUpgrade) -> Result<(), CliError> {
    open::must_be_root()?;
    let store = &settings.store;
    let within = as_its_owner(store)?;
    let done = match args.dry_run {
        true => upgrade::plan(&within),
        false => upgrade::upgrade(&within),
    };
    let done = done.map_err(|e| match e {
        StoreError::InUse { .. } => {
            failed(format!("cannot upgrade {}", store.display()), &e).hint(
                "stop the server first: `pocker serve --stop`; `pocker store upgrade --dry-run` looks while it runs",
            )
        }
        e => failed(format!("cannot upgrade {}", store.display()), &e),
    })?;
    text::out(&upgraded(&done, args.dry_run))
}

/// A store that a server gave to a user is that user's, and nothing in it is root's to follow.
fn as_its_owner(store: &Path) -> Result<PathBuf, CliError> {
    if !is_given(store) {
        return Ok(store.to_path_buf());
    }
    let failed = |e: &(dyn std::error::Error + 'static)| {
        let tried = format!(
            "cannot become the user that {} was given to",
            store.display()
        );
        CliError::from_error(tried, e)
    };
    let user = owner(store).map_err(|e| failed(&e))?;
    enter(store, &user).map_err(|e| failed(&std::io::Error::other(e.to_string())))?;
    Ok(PathBuf::from("/"))
}

fn upgraded(done: &Upgrade, dry_run: bool) -> String {
    let mut out = format!("format {} found, {} known\n", done.found, done.known);
    if let Some((found, known)) = done.volumes {
        let _ = writeln!(out, "volumes: format {found} found, {known} known");
    }
    match done.features[..] {
        [] => out.push_str("no features are in use\n"),
        _ => {
            for feature in &done.features {
                let known = match (feature.known, feature.incompatible) {
                    (true, _) => "known",
                    (false, true) => "unknown: this program cannot open the store",
                    (false, false) => "unknown, and in nobody's way",
                };
                let _ = writeln!(out, "feature {}: {known}", feature.name);
            }
        }
    }
    let what = if dry_run { "to do" } else { "done" };
    for step in &done.steps {
        let _ = writeln!(out, "{what}: {step}");
    }
    if let Some(copy) = &done.copy {
        let _ = writeln!(
            out,
            "the index as it was is kept in {}: remove it once all is well",
            copy.display()
        );
    }
    if done.found > done.known {
        out.push_str("a newer pocker wrote it: use that one\n");
    } else if done.steps.is_empty() && done.found == done.known {
        out.push_str("nothing to do\n");
    } else if done.steps.is_empty() {
        out.push_str("this program knows no way from there\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use pocker_store::upgrade::Feature;

    #[test]
    fn an_upgrade_says_what_is_found_known_and_done() {
        let feature = |name: &str, incompatible, known| Feature {
            name: name.into(),
            incompatible,
            known,
        };
        let done = Upgrade {
            found: 1,
            known: 2,
            features: vec![
                feature("a", true, true),
                feature("b", true, false),
                feature("c", false, false),
            ],
            volumes: Some((4, 4)),
            steps: vec!["format 1 to 2: more".into()],
            copy: None,
        };
        insta::assert_snapshot!(upgraded(&done, true), @r"
        format 1 found, 2 known
        volumes: format 4 found, 4 known
        feature a: known
        feature b: unknown: this program cannot open the store
        feature c: unknown, and in nobody's way
        to do: format 1 to 2: more
        ");
        let none = Upgrade {
            found: 1,
            known: 1,
            ..Upgrade::default()
        };
        insta::assert_snapshot!(upgraded(&none, false), @r"
        format 1 found, 1 known
        no features are in use
        nothing to do
        ");
    }
}
