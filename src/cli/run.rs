//! What `pocker run` starts, and `pocker debug`. `life` sees to a run from there on.

use super::args::{Debug, Run};
use super::bounds::{self, Bounded};
use super::config::Settings;
use super::error::CliError;
use super::shell::Mounter;
use super::{confine, ls, mounting, open, volume};
use crate::build::sets;
use crate::control::api::{Graft, NewRun, RunConfig, RunInfo, VolumeMount};
use crate::control::{Client, ClientError, Keeper};
use crate::run::{self, GraftError, Options, graft};
use crate::sandbox::{self, Sandbox, Spec};
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

/// A `pocker run`, as far as it can be judged before a server is asked.
pub struct Asked {
    grafts: Vec<Graft>,
    volumes: Vec<VolumeMount>,
    pub options: Options,
}

pub fn check(args: &Run) -> Result<Asked, CliError> {
    if let Some(dir) = args
        .inside
        .workdir
        .as_deref()
        .filter(|dir| !dir.starts_with('/'))
    {
        return Err(
            CliError::usage(format!("--workdir {dir:?}: a path in the tree is absolute"))
                .hint(format!("start with a slash: /{dir}")),
        );
    }
    let grafts = run::parse_all(&args.grafts)?;
    graft::check_hosts(&grafts)?;
    let volumes = run::parse_volumes(&args.volumes, &grafts)?;
    let mut env = confine::env_files(&args.confine)?;
    for text in &args.inside.env {
        env.extend(variable(text)?);
    }
    Ok(Asked {
        options: options(args, env, &grafts, &volumes)?,
        grafts,
        volumes,
    })
}

/// What the command line says of the command and what it may do.
pub fn options(
    args: &Run,
    env: Vec<(String, String)>,
    grafts: &[Graft],
    volumes: &[VolumeMount],
) -> Result<Options, CliError> {
    Ok(Options {
        command: args.command.clone(),
        env,
        user: args.inside.user.clone(),
        workdir: args.inside.workdir.clone(),
        terminal: terminal(),
        confine: confine::confinement(&args.confine, grafts, volumes)?,
        resolv_conf: resolv_conf(),
        bind_grafts: false,
        etc: Vec::new(),
    })
}

/// Asks the server for all that the run needs; `kept` is the volume that is its tree.
pub fn prepare(
    client: &Client,
    args: &Run,
    asked: &Asked,
    bounded: &Bounded,
    kept: Option<String>,
) -> Result<(RunInfo, Spec), CliError> {
    // Another host's server has no directories of this one.
    let bind_grafts = client.endpoint().remote.is_some();
    if bind_grafts {
        grafts_apart(&asked.grafts, &client.endpoint().store)?;
    }
    let new = NewRun {
        name: args.name.clone(),
        pid: std::process::id(),
        grafts: match bind_grafts {
            true => Vec::new(),
            false => asked.grafts.clone(),
        },
        volumes: asked.volumes.clone(),
        quota: bounds::quota(&args.limits),
        kept,
        token: volume::token()?,
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
    if let Err((why, hint)) = sets::runs(info.config.openbsd.as_deref(), &info.base) {
        client.end_run(info.id)?;
        return Err(CliError::new(format!("{}: {why}", args.name)).hint(hint));
    }
    let options = Options {
        resolv_conf: bounded.resolv_conf(asked.options.resolv_conf.clone()),
        etc: bounded.etc(),
        bind_grafts,
        ..asked.options.clone()
    };
    let spec = run::run(&info, &asked.grafts, &asked.volumes, &options).map_err(CliError::from);
    match spec.and_then(|spec| bounded.around(spec, &args.limits)) {
        Ok(spec) => Ok((info, spec)),
        Err(e) => {
            client.end_run(info.id)?;
            Err(e)
        }
    }
}

/// This host may have a store of its own, whose server is not asked: that is no run's to rewrite.
fn grafts_apart(grafts: &[Graft], store: &std::path::Path) -> Result<(), CliError> {
    let real = |path: &std::path::Path| std::fs::canonicalize(path).ok();
    let Some(store) = real(store) else {
        return Ok(());
    };
    let holds = |graft: &&Graft| {
        let dir = real(std::path::Path::new(&graft.host));
        dir.is_some_and(|dir| dir.starts_with(&store) || store.starts_with(&dir))
    };
    match grafts.iter().find(holds) {
        None => Ok(()),
        Some(graft) => Err(CliError::usage(format!(
            "graft {}: it holds this host's own store ({})",
            graft.host,
            store.display()
        ))),
    }
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
        confine: run::Confinement::default(),
        resolv_conf: resolv_conf(),
        bind_grafts: false,
        etc: hosts(),
    };
    start(
        settings,
        &client,
        &run::debug(&args.name, &tree, &config, &options),
    )
}

fn start(settings: &Settings, client: &Client, spec: &Spec) -> Result<i32, CliError> {
    let (mut sandbox, _beside) = spawn(settings, client, spec)?;
    Ok(sandbox.wait().status())
}

/// What a sandbox needs beside it for as long as it runs: its mounts' session, without which a mount
/// helper waits for a server that is away no longer than for one whose users are dead, and who
/// brings the server back.
pub struct Beside {
    _mounter: Mounter,
    _keeper: Option<Keeper>,
}

pub fn spawn(
    settings: &Settings,
    client: &Client,
    spec: &Spec,
) -> Result<(Sandbox, Beside), CliError> {
    let mounting = mounting::session(settings, client)?;
    let mut mounter = Mounter(mounting.session);
    let sandbox = sandbox::spawn(spec, &mut mounter)?;
    mounter.0.quiet();
    // The FUSE helper brings a dead server back itself; for the kernel's client we do.
    let watch = mounting.auto && !mounting.restarts;
    let keeper = watch.then(|| Keeper::watch(client.endpoint().clone(), true, None));
    let beside = Beside {
        _mounter: mounter,
        _keeper: keeper,
    };
    Ok((sandbox, beside))
}

/// TERM, where this process has a terminal to give.
pub fn terminal() -> Option<OsString> {
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

/// A shell in a kept tree has the host's network and the host's names, as a build has.
fn hosts() -> Vec<(&'static str, PathBuf)> {
    let path = PathBuf::from("/etc/hosts");
    path.is_file()
        .then_some(("hosts", path))
        .into_iter()
        .collect()
}

/// NAME=VALUE; a name alone takes the caller's value, and is left out where there is none.
pub fn variable(text: &str) -> Result<Option<(String, String)>, CliError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    // What the system's own lookup takes for no name.
    if name.is_empty() || name.contains('\0') {
        return Err(CliError::usage(format!(
            "--env {text:?}: not of the form NAME=VALUE or NAME"
        ))
        .hint("for example -e LANG=C.UTF-8"));
    }
    let value = value.or_else(|| std::env::var(name).ok());
    Ok(value.map(|value| (name.to_owned(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_takes_the_callers_value() {
        let said = |text: &str| variable(text).map_err(|e| e.message);
        let pair = |n: &str, v: &str| Ok(Some((n.to_owned(), v.to_owned())));
        assert_eq!(said("A=b=c"), pair("A", "b=c"));
        assert_eq!(said("A="), pair("A", ""));
        // What cargo sets for each test.
        let own = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        assert_eq!(said("CARGO_MANIFEST_DIR"), pair("CARGO_MANIFEST_DIR", &own));
        assert_eq!(said("POCKER_NOT_SET_ANYWHERE"), Ok(None));
        assert!(said("=x").is_err() && said("").is_err());
    }
}
