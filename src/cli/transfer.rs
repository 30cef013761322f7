//! `pocker export` and `import`: a tree as a tar archive.

use super::args::{Export, Import};
use super::config::Settings;
use super::error::CliError;
use super::{ls, open, text};
use crate::control::Client;
use crate::control::api::{PockerInfo, PutPocker, PutStep, RunConfig, SealRequest, StepInfo};
use sha2::{Digest, Sha256};
use std::io::{IsTerminal, Write};
use std::path::Path;

/// NAME, NAME@2, NAME@step2, NAME@run or NAME@<key or its beginning>.
pub fn find_step<'a>(pocker: &'a PockerInfo, step: Option<&str>) -> Result<&'a StepInfo, CliError> {
    let last = pocker.steps.last();
    let found = match step {
        None | Some("run") => last,
        Some(text) => {
            let number = text
                .strip_prefix("step")
                .unwrap_or(text)
                .parse::<usize>()
                .ok();
            let by_number = number
                .filter(|_| text.len() < 8)
                .and_then(|n| pocker.steps.get(n.checked_sub(1)?));
            by_number.or_else(|| {
                let key = text.rsplit('-').next().unwrap_or(text);
                let mut matching = pocker.steps.iter().filter(|s| s.key.starts_with(key));
                match (key.len() >= 6, matching.next(), matching.next()) {
                    (true, found, None) => found,
                    _ => None,
                }
            })
        }
    };
    found.ok_or_else(|| {
        CliError::new(format!(
            "{} has no step {}",
            pocker.name,
            step.unwrap_or("run")
        ))
        .hint(format!("`pocker ls {}` lists its steps", pocker.name))
    })
}

/// Splits NAME[@STEP].
pub fn split_step(what: &str) -> (&str, Option<&str>) {
    match what.split_once('@') {
        Some((name, step)) => (name, Some(step)),
        None => (what, None),
    }
}

pub fn export(settings: &Settings, args: &Export) -> Result<(), CliError> {
    let (name, step) = split_step(&args.what);
    let client = open::server(settings)?;
    let pocker = client.pocker(name)?.ok_or_else(|| ls::unknown(name))?;
    let step = find_step(&pocker, step)?;
    let Some(path) = &args.output else {
        let mut out = std::io::stdout().lock();
        if out.is_terminal() {
            return Err(CliError::usage("an archive would garble the terminal")
                .hint("name a file with -o, or redirect the output"));
        }
        client.export_tar(&step.snapshot, &mut out)?;
        return out
            .flush()
            .map_err(|e| CliError::from_error("cannot write the archive", &e));
    };
    let written = to_file(path, |out| Ok(client.export_tar(&step.snapshot, out)?))?;
    if !settings.quiet {
        eprintln!("{}: {} written", path.display(), text::bytes(written));
    }
    Ok(())
}

/// The file appears whole or not at all.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<u64, CliError>,
) -> Result<u64, CliError> {
    let fail = |e: &dyn std::error::Error| {
        CliError::from_error(format!("cannot write {}", path.display()), e)
    };
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if path.is_dir() {
        let why = format!("cannot write {}: it is a directory", path.display());
        return Err(CliError::new(why).hint("name the archive's file"));
    }
    if !dir.exists() {
        let (path, dir) = (path.display(), dir.display());
        let why = format!("cannot write {path}: there is no directory {dir}");
        return Err(CliError::new(why).hint(format!("make it first: mkdir -p {dir}")));
    }
    // Its own text names a file that nobody asked for.
    let mut file =
        tempfile::NamedTempFile::new_in(dir).map_err(|e| fail(&std::io::Error::from(e.kind())))?;
    let written = write(&mut file)?;
    file.as_file().sync_all().map_err(|e| fail(&e))?;
    file.persist(path).map_err(|e| fail(&e.error))?;
    Ok(written)
}

fn free_name(client: &Client, args: &Import) -> Result<(), CliError> {
    let name = &args.name;
    match args.force || client.pocker(name)?.is_none() {
        true => Ok(()),
        false => Err(
            CliError::new(format!("there is a pocker named {name}")).hint(format!(
                "`pocker rm {name}` first, or replace it with --force"
            )),
        ),
    }
}

pub fn import(settings: &Settings, args: &Import) -> Result<(), CliError> {
    crate::build::validate_name(&args.name, &super::args::command_names())?;
    let fail = |e: &dyn std::error::Error| {
        CliError::from_error(format!("cannot read {}", args.archive.display()), e)
    };
    let mut input: Box<dyn std::io::Read> = if args.archive.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(&args.archive).map_err(|e| fail(&e))?)
    };
    let client = open::server(settings)?;
    free_name(&client, args)?;
    let done = client.ingest(&mut *input, None)?;
    let snapshot = done.snapshot.clone().unwrap_or_default();
    // The base's key is the tree itself: the same archive makes the same step.
    let base_text = format!("IMPORT {snapshot}");
    let run_text = format!("RUN {}", args.run);
    let base_key = hex::encode(Sha256::digest(base_text.as_bytes()));
    let run_key = hex::encode(Sha256::digest(format!("{base_key}\0{run_text}").as_bytes()));
    let put = |key: &str, parent: Option<&str>, instruction: &str| {
        let seal = SealRequest {
            key: key.to_string(),
            claim: None,
            parent: parent.map(str::to_string),
            instruction: instruction.to_string(),
            upstream: None,
            source_date_epoch: None,
        };
        client.put_step(
            key,
            &PutStep {
                snapshot: snapshot.clone(),
                seal,
            },
        )
    };
    // Reading the archive may have taken long.
    free_name(&client, args)?;
    put(&base_key, None, &base_text)?;
    put(&run_key, Some(&base_key), &run_text)?;
    let config = RunConfig {
        command: args.run.clone(),
        ..RunConfig::default()
    };
    client.put_pocker(
        &args.name,
        &PutPocker {
            steps: vec![base_key, run_key],
            config,
        },
    )?;
    if !settings.quiet {
        eprintln!(
            "{}: {} entries, {}",
            args.name,
            done.entries,
            text::bytes(done.bytes)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_cannot_be_written_is_named_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let said = |path: &Path| {
            let error = to_file(path, |_| panic!("written")).unwrap_err().render();
            assert!(
                error.contains(&format!("cannot write {}: ", path.display())),
                "{error}"
            );
            assert!(error.contains("\nhint: "), "{error}");
            error
        };
        assert!(said(dir.path()).contains("it is a directory"));
        assert!(said(&dir.path().join("no/x.tar")).contains("mkdir -p"));
    }
}
