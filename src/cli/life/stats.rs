//! `pocker top` and `stats`: what runs take.

use super::known;
use crate::cli::args::{RunStats, Top};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::text;
use crate::life::{Phase, Run};
use crate::sys::os;
use crate::sys::usage::Usage;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Between two looks, for what of a processor is used.
const BETWEEN: Duration = Duration::from_millis(200);

fn usage(run: &Run) -> Option<Usage> {
    os::usage(run.state.init?, &run.state.cgroups)
}

fn untold(run: &Run) -> CliError {
    let name = &run.record.name;
    if let (Phase::Running, None, Some(command)) =
        (run.state.phase, run.state.init, run.state.command)
    {
        return CliError::new(format!(
            "run {name} is a bare chroot: its processes are among the host's"
        ))
        .hint(format!(
            "`ps` of the host shows them; its command is process {}",
            command.pid
        ));
    }
    CliError::new(format!("run {name} has no processes just now"))
        .hint("`pocker ps` says how it is")
}

pub fn top(settings: &Settings, args: &Top) -> Result<(), CliError> {
    let runs = super::runs(settings)?;
    let run = known(&runs, &args.of.run, "look at")?;
    let usage = usage(&run).ok_or_else(|| untold(&run))?;
    if args.json {
        return text::out(&text::json(&usage.processes)?);
    }
    let mut out = String::from("    PID  INSIDE     UID  S       TIME     MEMORY  COMMAND\n");
    for p in &usage.processes {
        let time = format!("{}.{:02} s", p.cpu_ms / 1000, p.cpu_ms % 1000 / 10);
        let memory = text::bytes(p.memory);
        let _ = writeln!(
            out,
            "{:>7}  {:>6}  {:>6}  {}  {time:>9}  {memory:>9}  {}",
            p.pid, p.inner, p.uid, p.state, p.command
        );
    }
    text::out(&out)
}

#[derive(Serialize)]
struct Taken {
    id: String,
    name: String,
    /// Hundredths of one processor.
    cpu_percent: f64,
    cpu_ms: u64,
    memory: u64,
    memory_max: Option<u64>,
    processes: usize,
    /// The kernel counted all that the run ever had; else its present processes are added up.
    cgroup: bool,
}

pub fn stats(settings: &Settings, args: &RunStats) -> Result<(), CliError> {
    let runs = super::runs(settings)?;
    let chosen: Vec<Run> = match args.runs.is_empty() {
        true => runs.all()?.into_iter().filter(Run::live).collect(),
        false => {
            let found = args.runs.iter().map(|name| known(&runs, name, "look at"));
            found.collect::<Result<_, _>>()?
        }
    };
    let began = Instant::now();
    let before: Vec<Option<Usage>> = chosen.iter().map(usage).collect();
    if before.iter().any(Option::is_some) {
        std::thread::sleep(BETWEEN);
    }
    let mut all = Vec::new();
    for (run, before) in chosen.iter().zip(before) {
        let Some((before, after)) = before.zip(usage(run)) else {
            // Asked for by name, it is missed.
            match args.runs.is_empty() {
                true => continue,
                false => return Err(untold(run)),
            }
        };
        all.push(Taken {
            id: run.record.id.clone(),
            name: run.record.name.clone(),
            cpu_percent: after.percent_since(&before, began.elapsed()),
            cpu_ms: after.cpu_ms,
            memory: after.memory,
            memory_max: after.memory_max,
            processes: after.processes.len(),
            cgroup: after.cgroup,
        });
    }
    text::out(&match args.json {
        true => text::json(&all)?,
        false => table(&all),
    })
}

fn table(all: &[Taken]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let width = all.iter().map(|t| t.name.len()).max().unwrap_or(0).max(4);
    let mut out = format!(
        "{:width$}     CPU      TIME     MEMORY      LIMIT  PROCESSES\n",
        "NAME"
    );
    for t in all {
        let time = format!("{}.{:02} s", t.cpu_ms / 1000, t.cpu_ms % 1000 / 10);
        let limit = t.memory_max.map_or("-".to_owned(), text::bytes);
        let _ = writeln!(
            out,
            "{:width$}  {:>4.0} %  {time:>8}  {:>9}  {limit:>9}  {:>9}",
            t.name,
            t.cpu_percent,
            text::bytes(t.memory),
            t.processes
        );
    }
    out
}
