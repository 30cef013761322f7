//! `pocker history`: how a pocker came to be, the newest step first.

use super::args::History;
use super::config::Settings;
use super::error::CliError;
use super::{ls, open, text};
use crate::control::api::PockerInfo;
use std::fmt::Write as _;

/// Columns of an instruction before it is cut.
const SHOWN: usize = 60;

pub fn run(settings: &Settings, args: &History) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let pocker = client.pocker(&args.name)?;
    let pocker = pocker.ok_or_else(|| ls::unknown(&args.name))?;
    let now = crate::daemon::clock::now().secs;
    text::out(&if args.json {
        text::json(&rows(&pocker))?
    } else {
        table(&rows(&pocker), now, args.no_trunc)
    })
}

#[derive(serde::Serialize)]
struct Row {
    step: String,
    key: String,
    snapshot: String,
    created: i64,
    /// More than the step before has; negative where it has less.
    nodes: i64,
    bytes: i64,
    instruction: String,
}

fn rows(pocker: &PockerInfo) -> Vec<Row> {
    let more = |is: u64, was: u64| is as i64 - was as i64;
    let mut before = (0, 0);
    let last = pocker.steps.len();
    let mut rows = Vec::new();
    for (i, step) in pocker.steps.iter().enumerate() {
        rows.push(Row {
            step: match i + 1 == last {
                true => "run".to_owned(),
                false => format!("step{}", i + 1),
            },
            key: step.key.clone(),
            snapshot: step.snapshot.clone(),
            created: step.created,
            nodes: more(step.nodes, before.0),
            bytes: more(step.bytes, before.1),
            instruction: step.instruction.clone(),
        });
        before = (step.nodes, step.bytes);
    }
    rows.reverse();
    rows
}

fn table(rows: &[Row], now: i64, whole: bool) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:6} {:12}  {:>8}  {:>8}  {:>10}  INSTRUCTION",
        "STEP", "KEY", "AGE", "FILES", "SIZE"
    );
    for row in rows {
        let sign = if row.bytes < 0 { "-" } else { "+" };
        let size = format!("{sign}{}", text::bytes(row.bytes.unsigned_abs()));
        let lines = row.instruction.replace('\n', "\\n");
        let shown: String = match whole || lines.chars().count() <= SHOWN {
            true => lines,
            false => lines.chars().take(SHOWN - 1).chain(['…']).collect(),
        };
        let _ = writeln!(
            out,
            "{:6} {:12}  {:>8}  {:>+8}  {size:>10}  {shown}",
            row.step,
            row.key.get(..12).unwrap_or(&row.key),
            text::age(now - row.created),
            row.nodes,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{RunConfig, StepInfo};

    #[test]
    fn the_newest_step_first_with_what_it_added() {
        let step = |key: &str, instruction: &str, nodes, bytes| StepInfo {
            key: key.repeat(64),
            snapshot: "0".repeat(64),
            parent: None,
            instruction: instruction.into(),
            created: 1000,
            nodes,
            bytes,
            upstream: None,
        };
        let long = format!("EXEC <<E\n{}\nE", "apt-get clean; ".repeat(6));
        let pocker = PockerInfo {
            name: "web".into(),
            steps: vec![
                step("a", "PROOT", 8742, 167_900_000),
                step("b", &long, 8740, 166_000_000),
                step("c", "RUN nginx", 8740, 166_000_000),
            ],
            config: RunConfig::default(),
            created: 1000,
            running: Vec::new(),
            pinned: Vec::new(),
        };
        insta::assert_snapshot!(table(&rows(&pocker), 4600, false), @r"
        STEP   KEY                AGE     FILES        SIZE  INSTRUCTION
        run    cccccccccccc       1 h        +0        +0 B  RUN nginx
        step2  bbbbbbbbbbbb       1 h        -2     -1.9 MB  EXEC <<E\napt-get clean; apt-get clean; apt-get clean; apt-…
        step1  aaaaaaaaaaaa       1 h     +8742   +167.9 MB  PROOT
        ");
        assert!(table(&rows(&pocker), 4600, true).contains(&long.replace('\n', "\\n")));
    }
}
