//! The commands for runs: started, listed, spoken to, stopped, forgotten.

mod boot;
mod exec;
mod health;
mod logs;
mod manage;
mod ps;
mod start;
mod stats;
mod stop;
mod supervise;
mod wait;

pub use boot::boot;
pub use exec::exec;
pub use logs::logs;
pub use manage::{inspect, prune, rename};
pub use ps::ps;
pub use start::run;
pub use stats::{stats, top};
pub use stop::{kill, restart, stop, stop_waiting};
pub use supervise::supervise;
pub use wait::wait;

use super::config::Settings;
use super::error::CliError;
use super::{bounds, open};
use crate::life::{Found, LifeError, Phase, Run, Runs};

use super::error::OWN_FAILURE;

impl From<LifeError> for CliError {
    fn from(error: LifeError) -> CliError {
        let (hint, usage) = match &error {
            LifeError::InUse { name, .. } => (
                Some(format!(
                    "choose another with --name, or `pocker stop {name}` first"
                )),
                false,
            ),
            LifeError::Kept { name, .. } => (
                Some(format!(
                    "choose another with --name, or `pocker prune {name}` once it has ended"
                )),
                false,
            ),
            LifeError::Unknown(_) => (Some("`pocker ps -a` lists them".to_owned()), false),
            LifeError::Ambiguous(_) => (Some("write more of it".to_owned()), false),
            LifeError::Damaged { id, .. } => (
                Some(format!(
                    "`pocker stop {id}` ends it, `pocker prune {id}` forgets it"
                )),
                false,
            ),
            LifeError::Taken(_) => (Some("`pocker ps -a` says what it is now".to_owned()), false),
            LifeError::Name(_) => (
                Some("a name looks like web, or web-2.test".to_owned()),
                true,
            ),
            LifeError::Io { .. } => (None, false),
        };
        let mut out = CliError::from_error("", &error);
        out.message = out.causes.remove(0);
        out.hint = hint;
        if usage {
            out.status = super::error::USAGE;
        }
        out
    }
}

/// Seconds since the epoch.
fn now() -> i64 {
    crate::daemon::clock::now().secs
}

/// This host's runs, once what dead supervisors left is seen to.
fn runs(settings: &Settings) -> Result<Runs, CliError> {
    open::must_be_root()?;
    crate::cli::bounds::sweep(settings);
    let runs = Runs::of(&settings.socket_dir);
    let Found { runs: dead, .. } = runs.sweep(now())?;
    // Those that a supervisor made and had no time to write into its run's state, too.
    bounds::sweep(settings);
    if !settings.quiet {
        for name in dead {
            eprintln!("run {name} had lost its supervisor: it has ended");
        }
    }
    Ok(runs)
}

/// One that is live.
fn live(runs: &Runs, text: &str, to: &str) -> Result<Run, CliError> {
    let run = runs.find(text)?;
    match run.live() {
        true => Ok(run),
        false => Err(ended(&run, to)),
    }
}

/// The same, where its processes have to be known.
fn known(runs: &Runs, text: &str, to: &str) -> Result<Run, CliError> {
    let run = live(runs, text, to)?;
    if run.state.phase == Phase::Damaged {
        let name = &run.record.name;
        return Err(CliError::new(format!(
            "run {name} is damaged: its state.json cannot be read, so nobody knows its processes"
        ))
        .hint(format!(
            "`pocker restart {name}` makes it anew, `pocker stop {name}` ends it"
        )));
    }
    Ok(run)
}

fn ended(run: &Run, to: &str) -> CliError {
    let name = &run.record.name;
    if run.state.unknown() {
        return CliError::new(format!(
            "run {name} is damaged: neither how it is nor who supervises it can be read"
        ))
        .hint(format!(
            "`pocker prune {name}` forgets it; what still runs of it is in `ps` of the host"
        ));
    }
    CliError::new(format!("run {name} has ended: there is nothing to {to}"))
        .hint(format!("`pocker restart {name}` starts it again"))
}

/// Each of them, though one fails; the first failure is returned and the others are printed.
fn each(
    names: &[String],
    mut one: impl FnMut(&str) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut first = None;
    for name in names {
        if let Err(error) = one(name) {
            match first {
                None => first = Some(error),
                Some(_) => eprint!("{}", error.render()),
            }
        }
    }
    first.map_or(Ok(()), Err)
}
