//! `pocker run` and `pocker debug`: this process is the supervisor of what it starts.

use super::args::{Debug, Run};
use super::bounds::{self, Bounded};
use super::config::Settings;
use super::error::CliError;
use super::shell::Mounter;
use super::{ls, mounting, open, volume};
use crate::control::api::{NewRun, RunConfig};
use crate::control::{Client, ClientError, Keeper};
use crate::run::{self, GraftError, Options, graft};
use crate::sandbox::{self, Spec};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

impl From<GraftError> for CliError {
    fn from(error: GraftError) -> CliError {
        CliError {
            hint: error.hint(),
            ..CliError::usage(error.to_string())
        }
    }
}

impl From<run::RunError> for CliError {
    fn from(error: run::RunError) -> CliError {
        CliError::new(error.to_string())
    }
}

pub fn run(settings: &Settings, args: &Run) -> Result<i32, CliError> {
    open::must_be_root()?;
    let grafts = run::parse_all(&args.grafts)?;
    graft::check_hosts(&grafts)?;
    let volumes = run::parse_volumes(&args.volumes, &grafts)?;
    let env = args
        .env
        .iter()
        .map(|text| variable(text))
        .collect::<Result<Vec<_>, _>>()?;
    let mut bounded = Bounded::prepare(settings, args)?;
    let client = open::server(settings)?;
    let new = NewRun {
        name: args.name.clone(),
        pid: std::process::id(),
        grafts: grafts.clone(),
        volumes: volumes.clone(),
        quota: bounds::quota(&args.limits),
    };
    let info = match client.new_run(&new) {
        Err(e @ ClientError::NotFound(_)) => {
            return Err(match client.pocker(&args.name)? {
                Some(_) => volume::refused(e),
                None => ls::unknown(&args.name),
            });
        }
        other => other?,
    };
    let options = Options {
        command: args.command.clone(),
        env,
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        terminal: terminal(),
        resolv_conf: bounded.resolv_conf(resolv_conf()),
    };
    let outcome = run::run(&info, &grafts, &volumes, &options)
        .map_err(CliError::from)
        .and_then(|mut spec| {
            spec.bounds = bounded.bounds(&args.limits)?;
            start(settings, &client, &spec)
        });
    bounded.ended(&args.name);
    let ended = client.end_run(info.id);
    let status = outcome?;
    ended?;
    Ok(status)
}

pub fn debug(settings: &Settings, args: &Debug) -> Result<i32, CliError> {
    let client = open::server(settings)?;
    let tree = client.debug_tree(&args.name)?.ok_or_else(|| {
        CliError::new(format!("nothing is kept of {}", args.name))
            .hint("a failed `pocker create` keeps its tree, and so does an ended run")
    })?;
    let config = client
        .pocker(&args.name)?
        .map_or_else(RunConfig::default, |p| p.config);
    let options = Options {
        command: args.command.clone(),
        env: Vec::new(),
        user: None,
        workdir: None,
        terminal: terminal(),
        resolv_conf: resolv_conf(),
    };
    start(
        settings,
        &client,
        &run::debug(&args.name, &tree, &config, &options),
    )
}

fn start(settings: &Settings, client: &Client, spec: &Spec) -> Result<i32, CliError> {
    let mounting = mounting::session(settings, client)?;
    let mut mounter = Mounter(mounting.session);
    let mut sandbox = sandbox::spawn(spec, &mut mounter)?;
    // The FUSE helper brings a dead server back itself; for the kernel's client we do.
    let watch = mounting.auto && !mounting.restarts;
    let _keeper = watch.then(|| Keeper::watch(client.endpoint().clone(), true, None));
    Ok(sandbox.wait().status())
}

/// TERM, where this process has a terminal to give.
fn terminal() -> Option<OsString> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    Some(std::env::var_os("TERM").unwrap_or_else(|| "dumb".into()))
}

/// A run shares the host's network, so it finds names as the host does.
fn resolv_conf() -> Option<PathBuf> {
    let path = PathBuf::from("/etc/resolv.conf");
    path.is_file().then_some(path)
}

fn variable(text: &str) -> Result<(String, String), CliError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err(CliError::usage(format!(
            "--env {text}: not of the form NAME=VALUE"
        ))),
    }
}
