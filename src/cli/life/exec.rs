//! `pocker exec`: one more command where a run's is, confined as that is.

use super::known;
use crate::cli::args::Exec;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::{run, text};
use crate::control::api::{Export, RunInfo, TreeInfo};
use crate::life::Phase;
use crate::limits::rlimits;
use crate::run::Options;
use crate::sandbox::{self, Isolation, Stdio, Target};
use std::io::IsTerminal;

pub fn exec(settings: &Settings, args: &Exec) -> Result<i32, CliError> {
    if args.inside.tty && !std::io::stdin().is_terminal() {
        return Err(CliError::usage("--tty: standard input is no terminal")
            .hint("leave it out where no terminal is"));
    }
    let runs = super::runs(settings)?;
    let found = known(&runs, &args.of.run, "enter")?;
    let name = &found.record.name;
    // What it was started with, and so what confines it.
    let asked = super::start::recorded(&found.record.words)?;
    let mut env = found.state.env.clone();
    for text in &args.inside.env {
        env.extend(run::variable(text)?);
    }
    let own = run::options(&asked, env, &[], &[])?;
    if own.confine.isolation == Isolation::Plain {
        let error = CliError::new(format!(
            "run {name} is a bare chroot: it has no namespaces that could be entered"
        ));
        let pid = found.state.command.map(|command| command.pid);
        return Err(error.hint(match pid {
            Some(pid) => format!(
                "start it without --unsafe-plain; or, as little confined as it is, `chroot /proc/{pid}/root`"
            ),
            None => "start it without --unsafe-plain".to_owned(),
        }));
    }
    let (init, command, config) = match &found.state {
        state if state.phase != Phase::Running => {
            return Err(
                CliError::new(format!("run {name} has no command running just now")).hint(format!(
                    "`pocker ps` says when it starts; `pocker logs {name}` why it ended"
                )),
            );
        }
        state => match (state.init, state.command, &state.config) {
            (Some(init), Some(command), Some(config)) => (init, command, config.clone()),
            _ => {
                return Err(CliError::new(
                    "this system has no namespaces that could be entered",
                ));
            }
        },
    };
    let target = Target::open(init, command)
        .map_err(|fault| CliError::new(format!("cannot enter run {name}: {fault}")))?;
    let options = Options {
        command: args.command.clone(),
        user: args.inside.user.clone().or(own.user.clone()),
        workdir: args.inside.workdir.clone().or(own.workdir.clone()),
        terminal: args.inside.tty.then(run::terminal).flatten(),
        resolv_conf: None,
        ..own
    };
    let info = RunInfo {
        id: found.state.run.unwrap_or(0),
        name: found.record.pocker.clone(),
        key: String::new(),
        // Nothing is mounted: it all is there.
        tree: TreeInfo {
            id: 0,
            export: Export {
                path: String::new(),
                read_only: false,
            },
        },
        grafts: Vec::new(),
        volumes: Vec::new(),
        config,
        base: String::new(),
    };
    let mut spec = crate::run::run(&info, &[], &[], &options)?;
    spec.bounds.rlimits = rlimits(&asked.limits.ulimits);
    spec.stdio = match args.inside.tty || args.inside.interactive {
        true => Stdio::Inherit,
        false => Stdio::NoInput,
    };
    let mut sandbox = sandbox::enter(&spec, target, args.inside.tty)?;
    let _ = text::out("");
    Ok(sandbox.wait().status())
}
