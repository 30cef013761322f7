//! `pocker run`: in the foreground this process is the supervisor, in the background another
//! one is started and waited for until its command runs.

use super::supervise::{self, How};
use super::{OWN_FAILURE, now};
use crate::cli::args::Run as Args;
use crate::cli::config::Settings;
use crate::cli::error::{CliError, USAGE};
use crate::cli::{confine, open, run, text};
use crate::life::{Asked, End, Phase, Policy, Run, Runs, Words};
use crate::sys::process::Started;
use std::ffi::OsString;
use std::io::Read;
use std::process::{Command, Stdio};

/// Longest word of a supervisor to who waits for it.
const SAID_MAX: u64 = 64;

pub fn run(settings: &Settings, args: &Args, words: &[OsString]) -> Result<i32, CliError> {
    open::must_be_root()?;
    check(args)?;
    confine::warn_of_plain(&args.confine);
    let asked = run::check(args)?;
    let runs = super::runs(settings)?;
    let life = &args.life;
    let mut begun = runs.begin(Asked {
        pocker: &args.name,
        name: life.called.as_deref(),
        detached: life.detach,
        remove: life.rm || !life.detach,
        boot: life.detach && life.restart == Policy::Always,
        keep: life.keep,
        words: Words::of(words),
        dir: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        now: now(),
    })?;
    if !life.detach {
        return supervise::run(settings, &runs, &mut begun, args, &asked, How::Foreground);
    }
    match detached(settings, &runs, &begun)? {
        0 => {}
        status => return Ok(status),
    }
    text::out(&format!("{}\n", begun.record.name))?;
    Ok(0)
}

fn check(args: &Args) -> Result<(), CliError> {
    let life = &args.life;
    if life.rm && life.restart != Policy::No {
        return Err(CliError::usage("--rm and --restart exclude each other")
            .hint("a run that is forgotten when it ends is not started again"));
    }
    if life.keep && (args.limits.disk.is_some() || args.limits.inodes.is_some()) {
        return Err(
            CliError::usage("--keep: a volume has no --disk and no --inodes")
                .hint("leave them out; `pocker volume ls` says what the volume holds"),
        );
    }
    Ok(())
}

/// Starts a supervisor for a run that this process began, and waits until its command runs.
/// The supervisor itself says what is wrong; its status is returned.
pub fn detached(settings: &Settings, runs: &Runs, begun: &Run) -> Result<i32, CliError> {
    let spawned = supervisor(settings, begun);
    let mut child = spawned.map_err(|e| {
        let error = CliError::from_error("cannot start the run's supervisor", &e);
        let _ = begun.clone().give_up(end(&error));
        error
    })?;
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = out.take(SAID_MAX).read_to_string(&mut said);
    }
    if said.starts_with("ready") {
        return Ok(0);
    }
    let status = child.wait().ok().and_then(|status| status.code());
    let killed = CliError {
        status: OWN_FAILURE,
        ..CliError::new("the run's supervisor was killed before the command ran")
    };
    // It took back what it could; killed, it could not.
    let _one = runs.lock()?;
    if let Some(mut left) = begun.again()
        && left.state.phase != Phase::Ended
        && (!left.live() || left.state.supervisor == Started::me())
    {
        left.give_up(end(&killed))?;
    }
    match status {
        Some(status) if status != 0 => Ok(status),
        _ => Err(killed),
    }
}

fn end(error: &CliError) -> End {
    End {
        status: OWN_FAILURE,
        at: now(),
        error: Some(error.line()),
    }
}

fn supervisor(settings: &Settings, begun: &Run) -> std::io::Result<std::process::Child> {
    let exe = crate::sys::os::program()?;
    let mut command = Command::new(exe);
    command
        .args(settings.as_flags())
        .arg("supervise")
        .arg(&begun.record.id)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command.spawn()
}

/// What a recorded `pocker run` was.
pub fn recorded(words: &Words) -> Result<Args, CliError> {
    use crate::cli::args::{Cli, Command};
    use clap::Parser;
    let odd = |why: String| CliError {
        status: USAGE,
        causes: vec![why],
        ..CliError::new("the run's record cannot be read")
            .hint("start it anew with `pocker run`; `pocker inspect` shows its words")
    };
    match Cli::try_parse_from(words.get()) {
        Ok(Cli {
            command: Command::Run(args),
            ..
        }) => Ok(*args),
        Ok(_) => Err(odd("it is no `pocker run`".to_owned())),
        Err(e) => Err(odd(e
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned())),
    }
}
