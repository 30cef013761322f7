//! The supervisor of a run: starts it, keeps its log, asks for its health, starts it again.

use super::health::Check;
use super::start::recorded;
use super::{OWN_FAILURE, now};
use crate::cli::args::Run as Args;
use crate::cli::bounds::Bounded;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::run::{self, Asked};
use crate::cli::{open, sys};
use crate::control::Client;
use crate::control::api::NewVolume;
use crate::life::log::Writer;
use crate::life::time::Stamp;
use crate::life::{End, Phase, Policy, Record, Restarts, Run, Runs, State};
use crate::sandbox::{Sandbox, Source, Stdio, Watch};
use crate::sys::os::cgroups_of;
use crate::sys::process::Started;
use nix::sys::signal::Signal;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Foreground,
    Detached,
}

/// `pocker supervise ID`: a run that another command began.
pub fn supervise(settings: &Settings, id: &str) -> Result<i32, CliError> {
    let _ = nix::unistd::setsid();
    let runs = Runs::of(&settings.socket_dir);
    let mut begun = runs.find(id)?;
    begun.take_over(&runs)?;
    // What it names may be relative to where it was asked for; nothing else shall hold that place.
    let there = std::env::set_current_dir(&begun.record.dir);
    let prepared = recorded(&begun.record.words).and_then(|args| {
        let asked = run::check(&args)?;
        Ok((args, asked))
    });
    let _ = std::env::set_current_dir("/");
    let (args, asked) = match (prepared, there) {
        (Ok(prepared), _) => prepared,
        (Err(error), _) => {
            begun.give_up(End {
                status: OWN_FAILURE,
                at: now(),
                error: Some(error.line()),
            })?;
            return Err(error);
        }
    };
    run(settings, &runs, &mut begun, &args, &asked, How::Detached)
}

/// How one start went.
struct Outcome {
    status: i32,
    /// Somebody asked for the end.
    told: bool,
    error: Option<CliError>,
}

struct Supervisor<'a> {
    settings: &'a Settings,
    runs: &'a Runs,
    run: &'a mut Run,
    args: &'a Args,
    asked: &'a Asked,
    how: How,
    /// Somebody asked for the end while no command ran.
    told: Option<&'static AtomicBool>,
    /// Who started it knows that it runs.
    announced: bool,
}

/// Until the run has ended for good; its status.
pub fn run(
    settings: &Settings,
    runs: &Runs,
    run: &mut Run,
    args: &Args,
    asked: &Asked,
    how: How,
) -> Result<i32, CliError> {
    // Without it a signal between two starts would leave nobody to say how it ended.
    let lives_on = how == How::Detached || args.life.restart != Policy::No;
    let mut supervisor = Supervisor {
        settings,
        runs,
        run,
        args,
        asked,
        how,
        told: lives_on.then(sys::note_interrupts),
        announced: false,
    };
    supervisor.all_starts()
}

impl Supervisor<'_> {
    fn all_starts(&mut self) -> Result<i32, CliError> {
        let mut restarts = Restarts::new(self.args.life.restart);
        loop {
            let began = Instant::now();
            let first = !self.announced;
            let Outcome {
                status,
                told,
                error,
            } = self.once();
            if let Some(error) = error {
                let end = self.end(status, Some(&error));
                if first {
                    self.run.give_up(end)?;
                    return Err(error);
                }
                if told || error.gone {
                    self.run.finish(end)?;
                    return Ok(status);
                }
                self.run.state.end = Some(end);
            } else {
                self.run.state.end = Some(self.end(status, None));
            }
            if self.take_wanted() {
                restarts = Restarts::new(self.args.life.restart);
                continue;
            }
            let over = told || self.run.wanted_end();
            let wait = restarts.next(status, began.elapsed()).filter(|_| !over);
            if !wait.is_some_and(|wait| self.waits(wait)) {
                if self.take_wanted() {
                    restarts = Restarts::new(self.args.life.restart);
                    continue;
                }
                let end = self.run.state.end.clone();
                self.run
                    .finish(end.unwrap_or_else(|| self.end(status, None)))?;
                return Ok(status);
            }
        }
    }

    /// Another start was asked for: the signal that came with it is no more than that.
    fn take_wanted(&mut self) -> bool {
        let wanted = self.run.take_wanted();
        if wanted && let Some(told) = self.told {
            told.store(false, Ordering::SeqCst);
        }
        wanted
    }

    fn end(&self, status: i32, error: Option<&CliError>) -> End {
        End {
            status,
            at: now(),
            error: error.map(CliError::line),
        }
    }

    fn is_told(&self) -> bool {
        self.told.is_some_and(|told| told.load(Ordering::SeqCst))
    }

    /// Before the next start; false where somebody asked for the end meanwhile.
    fn waits(&mut self, wait: Duration) -> bool {
        let ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        self.run.state = State {
            phase: Phase::Restarting,
            again: Some(now().saturating_mul(1000).saturating_add(ms)),
            stage: None,
            init: None,
            command: None,
            run: None,
            cgroups: Vec::new(),
            health: None,
            ..self.run.state.clone()
        };
        let _ = self.run.save_state();
        let until = Instant::now() + wait;
        // A signal ends a sleep of the system's, and not one of the library's.
        let over = || self.is_told() || self.run.wanted_end();
        while !over() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        !over()
    }

    /// One start, from a fresh tree to its command's end.
    fn once(&mut self) -> Outcome {
        let failed = |error: CliError, told: bool| Outcome {
            status: error.own_status(),
            told,
            error: Some(error),
        };
        let mut bounded = match Bounded::prepare(self.settings, self.args) {
            Ok(bounded) => bounded,
            Err(error) => return failed(error, self.is_told()),
        };
        let client = match open::server(self.settings) {
            Ok(client) => client,
            Err(error) => return failed(error, self.is_told()),
        };
        let kept = self.kept(&client);
        let prepared =
            kept.and_then(|kept| run::prepare(&client, self.args, self.asked, &bounded, kept));
        let (info, mut spec) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return failed(error, self.is_told()),
        };
        if self.how == How::Detached {
            spec.stdio = Stdio::Apart;
        }
        self.run.state.run = Some(info.id);
        self.run.state.config = Some(info.config.clone());
        self.run.state.env = self.asked.options.env.clone();
        let outcome = match self.is_told() {
            true => Err(CliError::new("it was asked to end before the command ran")),
            false => run::spawn(self.settings, &client, &spec),
        };
        bounded.started();
        let outcome = match outcome {
            Ok((mut sandbox, beside)) => {
                let ended = self.attend(&client, &mut sandbox);
                drop(beside);
                ended
            }
            Err(error) => {
                let told = self.is_told() || error.interrupted();
                failed(error, told)
            }
        };
        self.tell(&bounded.ended(&self.args.name));
        match client.end_run(info.id) {
            Err(error) if outcome.error.is_none() => Outcome {
                error: Some(error.into()),
                status: OWN_FAILURE,
                ..outcome
            },
            _ => outcome,
        }
    }

    /// Where its command's errors go.
    fn tell(&self, lines: &[String]) {
        let mut log = (self.how == How::Detached && !lines.is_empty())
            .then(|| Writer::open(self.run.dir(), self.args.life.log_size));
        for line in lines {
            match &mut log {
                Some(log) => log.say(Source::Errors, format!("{line}\n").as_bytes(), stamp()),
                None => eprintln!("{line}"),
            }
        }
    }

    /// While the command runs.
    fn attend(&mut self, client: &Client, sandbox: &mut Sandbox) -> Outcome {
        let (init, command) = sandbox.inside();
        self.run.state = State {
            phase: Phase::Running,
            stage: Some(Started::of(sandbox.pid())),
            init,
            command,
            started: Some(now()),
            starts: self.run.state.starts + 1,
            again: None,
            health: None,
            cgroups: command.and_then(|c| cgroups_of(c.pid)).unwrap_or_default(),
            ..self.run.state.clone()
        };
        let mut eyes = Eyes {
            log: (self.how == How::Detached)
                .then(|| Writer::open(self.run.dir(), self.args.life.log_size)),
            health: Check::new(&self.args.life, self.settings, &self.run.record.id),
            told: self.told,
            run: &mut *self.run,
        };
        eyes.note_health();
        let recorded = eyes.run.save_state();
        let recorded = recorded.map_err(CliError::from);
        let recorded = recorded.and_then(|()| match self.announced {
            false => {
                self.runs.replace_by(eyes.run)?;
                announce(client, eyes.run, self.how)
            }
            true => Ok(()),
        });
        if let Err(error) = recorded {
            let _ = sandbox.signal(Signal::SIGKILL);
            sandbox.wait();
            return Outcome {
                status: error.own_status(),
                told: true,
                error: Some(error),
            };
        }
        self.announced = true;
        let status = sandbox.wait_watched(&mut eyes).status();
        Outcome {
            status,
            told: sandbox.interrupted().is_some() || self.is_told(),
            error: None,
        }
    }

    /// The volume that is this run's tree.
    fn kept(&self, client: &Client) -> Result<Option<String>, CliError> {
        if !self.args.life.keep {
            return Ok(None);
        }
        let record = self.runs.find(&self.run.record.id)?.record;
        let name = record.kept.clone();
        let name = name.unwrap_or_else(|| Record::kept_of(&record.name));
        if client.volumes()?.iter().any(|v| v.name == name) {
            return Ok(Some(name));
        }
        let pocker = client.pocker(&self.args.name)?;
        let pocker = pocker.ok_or_else(|| crate::cli::ls::unknown(&self.args.name))?;
        let new = NewVolume {
            base: pocker.steps.last().map(|step| step.snapshot.clone()),
            token: record.id,
            shared: false,
        };
        client.new_volume(&name, &new)?;
        Ok(Some(name))
    }
}

/// The command runs: who waits is told, and what outlives the machine is written down.
fn announce(client: &Client, run: &Run, how: How) -> Result<(), CliError> {
    if how == How::Foreground {
        return Ok(());
    }
    match run.record.boot {
        true => client.put_service(&run.record.name, &run.record)?,
        false => client.remove_service(&run.record.name)?,
    }
    let mut stdout = std::io::stdout().lock();
    // Who waited may be gone: the run is there all the same.
    let _ = writeln!(stdout, "ready").and_then(|()| stdout.flush());
    sys::leave_terminal();
    Ok(())
}

fn stamp() -> Stamp {
    let now = crate::daemon::clock::now();
    Stamp {
        secs: now.secs,
        nanos: now.nanos,
    }
}

struct Eyes<'a> {
    log: Option<Writer>,
    health: Option<Check>,
    told: Option<&'static AtomicBool>,
    run: &'a mut Run,
}

impl Eyes<'_> {
    fn note_health(&mut self) {
        self.run.state.health = self.health.as_ref().map(|check| check.health.clone());
    }
}

impl Watch for Eyes<'_> {
    fn said(&mut self, from: Source, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.say(from, bytes, stamp());
        }
    }

    fn turn(&mut self) -> Option<Duration> {
        // It came in the moment before the command ran: now there is one to hand it to.
        if self
            .told
            .is_some_and(|told| told.swap(false, Ordering::SeqCst))
        {
            let _ = nix::sys::signal::raise(Signal::SIGTERM);
        }
        let check = self.health.as_mut()?;
        let (next, news) = check.turn();
        if news {
            self.note_health();
            let _ = self.run.save_state();
        }
        Some(next)
    }
}
