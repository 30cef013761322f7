//! `pocker stop`, `kill` and `restart`.

use super::{each, ended, known, live, start};
use crate::cli::args::{Kill, Restart, Stop};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::life::{LifeError, Phase, Run, Runs};
use crate::sys::process::Started;
use crate::sys::signals::{END, FORWARDED};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// How long the end of a run may take that was killed: its mounts go, the server is told.
const CLEAN_UP: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(10);

pub fn stop(settings: &Settings, args: &Stop) -> Result<(), CliError> {
    let runs = super::runs(settings)?;
    let names = match args.all {
        false => args.runs.clone(),
        true => {
            let live = runs.all()?.into_iter().filter(Run::live);
            live.map(|run| run.record.id).collect()
        }
    };
    stop_all(&runs, &names, Duration::from_secs(args.time))
}

pub fn stop_all(runs: &Runs, names: &[String], within: Duration) -> Result<(), CliError> {
    // All are told before the first is waited for.
    let told: Vec<Result<Run, CliError>> = names
        .iter()
        .map(|name| live(runs, name, "stop").inspect(tell))
        .collect();
    let mut told = told.into_iter();
    let deadline = Instant::now() + within;
    each(names, |_| match told.next() {
        Some(Ok(run)) => {
            let left = deadline.saturating_duration_since(Instant::now());
            await_end(runs, &run, left)
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    })
}

/// TERM, for its supervisor to pass on.
fn tell(run: &Run) {
    if let Some(handle) = run.state.supervisor.handle() {
        // Gone is as well as told.
        let _ = handle.signal(Signal::SIGTERM as i32);
    }
}

/// None of `pocker`'s runs, or of all, starts again; those that wait for it end: the server
/// knows nothing of them.
pub fn stop_waiting(settings: &Settings, pocker: Option<&str>) -> Result<(), CliError> {
    let runs = Runs::of(&settings.socket_dir);
    crate::cli::bounds::sweep(settings);
    let of = |run: &Run| pocker.is_none_or(|name| run.record.pocker == name);
    for run in runs.all()?.iter().filter(|run| of(run) && run.live()) {
        run.want_end()?;
        if run.state.phase == Phase::Restarting {
            end(&runs, run, CLEAN_UP)?;
        }
    }
    Ok(())
}

/// TERM, then KILL.
fn end(runs: &Runs, run: &Run, within: Duration) -> Result<(), CliError> {
    tell(run);
    await_end(runs, run, within)
}

/// Of a run that was told: KILL after some time. Its supervisor goes last.
fn await_end(runs: &Runs, run: &Run, within: Duration) -> Result<(), CliError> {
    let name = &run.record.name;
    let Some(handle) = run.state.supervisor.handle() else {
        return settled(runs);
    };
    if handle.ends_within(within) {
        return settled(runs);
    }
    // Of one that is damaged nobody knows what to kill; it all goes with its supervisor.
    let deadline = match run.state.phase {
        Phase::Damaged => Instant::now(),
        _ => Instant::now() + CLEAN_UP,
    };
    while Instant::now() < deadline {
        kill_all(run);
        if handle.ends_within(Duration::from_millis(200)) {
            return settled(runs);
        }
    }
    let _ = handle.signal(Signal::SIGKILL as i32);
    match handle.ends_within(CLEAN_UP) {
        true => settled(runs),
        false => Err(
            CliError::new(format!("run {name} does not end")).hint(format!(
                "see what process {} waits for",
                run.state.supervisor.pid
            )),
        ),
    }
}

/// Where its supervisor had no time to.
fn settled(runs: &Runs) -> Result<(), CliError> {
    runs.sweep(super::now())?;
    Ok(())
}

/// The whole sandbox, at once; its supervisor sees to the rest.
fn kill_all(run: &Run) -> bool {
    let stage = run.again().and_then(|run| run.state.stage);
    let handle = stage.as_ref().and_then(Started::handle);
    handle.is_some_and(|stage| stage.signal(END as i32).is_ok())
}

pub fn kill(settings: &Settings, args: &Kill) -> Result<(), CliError> {
    let number = number(&args.signal)?;
    let runs = super::runs(settings)?;
    each(&args.runs, |name| {
        let to = "send a signal to";
        let run = match number {
            libc::SIGKILL => live(&runs, name, to)?,
            _ => known(&runs, name, to)?,
        };
        if number == libc::SIGKILL {
            run.want_end()?;
            if !kill_all(&run) {
                return end(&runs, &run, Duration::ZERO);
            }
            let supervisor = run.state.supervisor.handle();
            return match supervisor.is_some_and(|s| !s.ends_within(CLEAN_UP)) {
                // No command ran, or it runs again by now.
                true => end(&runs, &run, Duration::ZERO),
                false => settled(&runs),
            };
        }
        let runs = run.state.phase == Phase::Running;
        let handle = |of: Option<Started>| of.filter(|_| runs).as_ref().and_then(Started::handle);
        // Where a script started a service and ended, the sandbox passes on what it takes.
        let passed = || {
            let signal = Signal::try_from(number).ok();
            signal.filter(|signal| FORWARDED.contains(signal))?;
            handle(run.state.stage)
        };
        let handle = handle(run.state.command).or_else(passed);
        let handle = handle.ok_or_else(|| {
            CliError::new(format!("no command of run {name} runs just now"))
                .hint(format!("`pocker stop {name}` ends it for good"))
        })?;
        handle.signal(number).map_err(|e| {
            CliError::from_error(format!("cannot send {} to run {name}", args.signal), &e)
        })
    })
}

/// TERM, SIGTERM, term and 15 are one.
fn number(text: &str) -> Result<i32, CliError> {
    let wrong = || {
        CliError::usage(format!("--signal {text}: there is no such signal"))
            .hint("a name such as TERM, HUP or USR1, or a number")
    };
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64)
            .contains(&number)
            .then_some(number)
            .ok_or_else(wrong);
    }
    let upper = text.to_ascii_uppercase();
    let name = match upper.starts_with("SIG") {
        true => upper,
        false => format!("SIG{upper}"),
    };
    let signal: Signal = name.parse().map_err(|_| wrong())?;
    Ok(signal as i32)
}

pub fn restart(settings: &Settings, args: &Restart) -> Result<(), CliError> {
    let runs = super::runs(settings)?;
    let within = Duration::from_secs(args.time);
    each(&args.runs, |name| {
        let run = runs.find(name)?;
        if run.state.unknown() {
            return Err(ended(&run, "start again"));
        }
        match run.live() && again(&runs, &run, within)? {
            true => Ok(()),
            false => anew(settings, &runs, run),
        }
    })
}

/// Has a live run start again; false where it has ended for good.
fn again(runs: &Runs, run: &Run, within: Duration) -> Result<bool, CliError> {
    run.want_again()?;
    let Some(handle) = run.state.supervisor.handle() else {
        return Ok(false);
    };
    let _ = handle.signal(Signal::SIGTERM as i32);
    let told = Instant::now();
    let mut killed = told;
    loop {
        if handle.ends_within(LOOK) {
            runs.sweep(super::now())?;
            return Ok(false);
        }
        let Some(now) = run.again() else {
            return Ok(false);
        };
        if now.state.starts > run.state.starts && now.state.phase == Phase::Running {
            return Ok(true);
        }
        // It failed to start, and will be tried again.
        if !now.wanted_again()
            && now.state.phase == Phase::Restarting
            && let Some(why) = now.state.end.as_ref().and_then(|end| end.error.as_ref())
        {
            return Err(CliError::new(format!(
                "cannot start {} again: {why}",
                now.record.name
            )));
        }
        if now.wanted_again() && told.elapsed() >= within && killed.elapsed() > 20 * LOOK {
            kill_all(&now);
            killed = Instant::now();
        }
        if told.elapsed() >= within + CLEAN_UP + CLEAN_UP {
            return Err(CliError::new(format!(
                "run {} does not end",
                now.record.name
            )));
        }
    }
}

/// An ended run, in the background and as it was asked for.
fn anew(settings: &Settings, runs: &Runs, run: Run) -> Result<(), CliError> {
    let Some(mut run) = run.again() else {
        return Err(LifeError::Unknown(run.record.name).into());
    };
    run.begin_again(runs)?;
    match start::detached(settings, runs, &run)? {
        0 => Ok(()),
        status => Err(CliError::said(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_or_a_number() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(number(text).ok(), Some(15), "{text}");
        }
        for text in ["", "0", "65", "-9", "SIG", "TERMINATE", "SIGSIGTERM"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
