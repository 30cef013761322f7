//! `pocker import`: a pocker from an archive or image.

use super::args::{self, Import};
use super::config::Settings;
use super::error::CliError;
use super::{open, text};
use crate::control::api::{ArchiveDone, PutPocker, PutStep, RunConfig, SealRequest};
use crate::control::{Client, ClientError};
use crate::image::source::{self, Opened};
use crate::image::{ImageError, command};
use sha2::{Digest, Sha256};

pub fn import(settings: &Settings, args: &Import) -> Result<(), CliError> {
    crate::build::validate_name(&args.name, &args::command_names())?;
    let what = match args.archive.as_os_str() == "-" {
        true => "standard input".to_owned(),
        false => args.archive.display().to_string(),
    };
    let opened =
        source::open(&args.archive, args.tag.as_deref()).map_err(|e| unreadable(&what, e))?;
    let client = open::server(settings)?;
    free_name(&client, &args.name, args.force)?;
    let (done, config) = match opened {
        Opened::Tree(mut tar) => {
            let config = RunConfig {
                command: command::SHELL.to_owned(),
                ..RunConfig::default()
            };
            (client.ingest_outside(&mut *tar, args.trusted), config)
        }
        Opened::Image(image) => {
            let done = client.ingest_layers(&mut image.framing(), None, args.trusted);
            (done, command::to_run(&image.config.config))
        }
    };
    let done = done.map_err(|e| untaken(&what, e))?;
    let config = match &args.run {
        Some(run) => RunConfig {
            command: run.clone(),
            argv: Vec::new(),
            ..config
        },
        None => config,
    };
    let snapshot = done.snapshot.clone().unwrap_or_default();
    let base = Base {
        // The base's key is the tree itself: the same archive makes the same step.
        key: hex::encode(Sha256::digest(format!("IMPORT {snapshot}").as_bytes())),
        instruction: format!("IMPORT {snapshot}"),
        upstream: None,
    };
    install(&client, &args.name, args.force, &snapshot, base, config)?;
    say(settings, &args.name, &done);
    Ok(())
}

pub fn say(settings: &Settings, name: &str, done: &ArchiveDone) {
    if !settings.quiet {
        eprintln!(
            "{name}: {} entries, {}",
            done.entries,
            text::bytes(done.bytes)
        );
    }
}

/// Reading failed before the server was asked.
pub fn unreadable(what: &str, error: std::io::Error) -> CliError {
    match ImageError::inside(&error) {
        Some(image) => CliError::new(format!("cannot take {what}: {image}")).hint(&image.hint),
        None => CliError::from_error(format!("cannot read {what}"), &error),
    }
}

/// The server took none of it: for what it says itself, or as reading failed on the way.
pub fn untaken(what: &str, error: ClientError) -> CliError {
    match error {
        ClientError::Archive(e) => unreadable(what, e),
        other => other.into(),
    }
}

pub fn free_name(client: &Client, name: &str, force: bool) -> Result<(), CliError> {
    match force || client.pocker(name)?.is_none() {
        true => Ok(()),
        false => Err(
            CliError::new(format!("there is a pocker named {name}")).hint(format!(
                "`pocker rm {name}` first, or replace it with --force"
            )),
        ),
    }
}

/// The step that a tree from elsewhere becomes.
pub struct Base {
    pub key: String,
    pub instruction: String,
    pub upstream: Option<String>,
}

/// A pocker of that tree, and what starts it.
pub fn install(
    client: &Client,
    name: &str,
    force: bool,
    snapshot: &str,
    base: Base,
    config: RunConfig,
) -> Result<(), CliError> {
    let run = format!("RUN {}", config.command);
    let run_key = hex::encode(Sha256::digest(format!("{}\0{run}", base.key).as_bytes()));
    let put = |key: &str, parent: Option<&str>, instruction: &str, upstream: Option<String>| {
        let seal = SealRequest {
            key: key.to_string(),
            claim: None,
            parent: parent.map(str::to_string),
            instruction: instruction.to_string(),
            upstream,
            source_date_epoch: None,
        };
        let step = PutStep {
            snapshot: snapshot.to_string(),
            seal,
        };
        client.put_step(key, &step)
    };
    // Reading it may have taken long.
    free_name(client, name, force)?;
    put(&base.key, None, &base.instruction, base.upstream)?;
    put(&run_key, Some(&base.key), &run, None)?;
    let steps = vec![base.key, run_key];
    client.put_pocker(name, &PutPocker { steps, config })?;
    Ok(())
}
