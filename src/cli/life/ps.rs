//! `pocker ps`: runs and how they are.

use super::now;
use crate::cli::args::Ps;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::text;
use crate::life::{End, Phase, Run, State, Verdict};
use serde::Serialize;
use std::fmt::Write as _;

pub fn ps(settings: &Settings, args: &Ps) -> Result<(), CliError> {
    let runs = super::runs(settings)?.all()?;
    let shown: Vec<Run> = runs
        .into_iter()
        .filter(|run| args.all || run.live() || run.state.unknown())
        .collect();
    let shown = match args.json {
        true => text::json(&shown.iter().map(Listed::of).collect::<Vec<_>>())?,
        false => table(&shown, now()),
    };
    text::out(&shown)
}

/// One of `ps --json`, and the outside of `inspect`.
#[derive(Serialize)]
pub struct Listed<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub pocker: &'a str,
    pub state: Phase,
    pub status: String,
    pub health: Option<Verdict>,
    pub detached: bool,
    pub created: i64,
    pub started: Option<i64>,
    pub starts: u64,
    pub end: Option<&'a End>,
    /// On the host: of the supervisor, and of the command.
    pub supervisor: Option<u32>,
    pub pid: Option<u32>,
}

impl Listed<'_> {
    pub fn of(run: &Run) -> Listed<'_> {
        let Run { record, state, .. } = run;
        let live = run.live();
        Listed {
            id: &record.id,
            name: &record.name,
            pocker: &record.pocker,
            state: state.phase,
            status: status(run, now()),
            health: state.health.as_ref().map(|h| h.verdict).filter(|_| live),
            detached: record.detached,
            created: record.created,
            started: state.started,
            starts: state.starts,
            end: state.end.as_ref(),
            supervisor: live.then_some(state.supervisor.pid),
            pid: state.command.filter(|_| live).map(|c| c.pid),
        }
    }
}

/// As a person would say it.
pub fn status(run: &Run, now: i64) -> String {
    let said = match (run.damaged, run.live()) {
        (None, _) => return sound(&run.state, now),
        (Some(file), true) => format!(
            "damaged: its {file} cannot be read; process {} supervises it",
            run.state.supervisor.pid
        ),
        (Some(file), false) => format!("damaged: its {file} cannot be read"),
    };
    match run.state.phase {
        Phase::Damaged => said,
        _ => format!("{}, {said}", sound(&run.state, now)),
    }
}

fn sound(state: &State, now: i64) -> String {
    let since = |at: Option<i64>| text::age(now - at.unwrap_or(now));
    match (state.phase, &state.end) {
        (Phase::Starting, _) => "starting".to_owned(),
        (Phase::Running, _) => {
            let health = state.health.as_ref().map_or("", |h| match h.verdict {
                Verdict::Starting => " (health unknown yet)",
                Verdict::Healthy => " (healthy)",
                Verdict::Unhealthy => " (unhealthy)",
            });
            format!("running for {}{health}", since(state.started))
        }
        (Phase::Restarting, end) => {
            let wait = state.again.map_or(0, |ms| ms / 1000 - now);
            let how = end.as_ref().map_or(0, |e| e.status);
            format!("ended with {how}, starts again in {}", text::age(wait))
        }
        (Phase::Ended, Some(end)) => {
            format!("ended with {} {} ago", end.status, since(Some(end.at)))
        }
        (Phase::Ended, None) => "ended".to_owned(),
        (Phase::Damaged, _) => "damaged".to_owned(),
    }
}

fn table(runs: &[Run], now: i64) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let rows: Vec<[String; 4]> = runs
        .iter()
        .map(|run| {
            [
                run.record.name.clone(),
                run.record.pocker.clone(),
                run.record.id.clone(),
                status(run, now),
            ]
        })
        .collect();
    let head = ["NAME", "POCKER", "ID"];
    let width = |at: usize| {
        let widths = rows.iter().map(|row| row[at].len());
        widths.max().unwrap_or(0).max(head[at].len())
    };
    let (name, pocker, id) = (width(0), width(1), width(2));
    let mut out = format!(
        "{:name$}  {:pocker$}  {:id$}  STATUS\n",
        head[0], head[1], head[2]
    );
    for [a, b, c, d] in &rows {
        let _ = writeln!(out, "{a:name$}  {b:pocker$}  {c:id$}  {d}");
    }
    out
}
