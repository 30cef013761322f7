//! `pocker ls`: pockers and their steps.

use super::args::Ls;
use super::config::Settings;
use super::error::CliError;
use super::{open, pin, text};
use crate::control::api::PockerInfo;
use std::fmt::Write as _;

pub fn run(settings: &Settings, args: &Ls) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let pockers = match &args.name {
        None => client.pockers()?,
        Some(name) => vec![client.pocker(name)?.ok_or_else(|| unknown(name))?],
    };
    let now = crate::daemon::clock::now().secs;
    let shown = if args.json {
        text::json(&pockers)?
    } else if args.name.is_some() {
        pockers.iter().map(|p| steps(p, now)).collect()
    } else {
        let pins = pin::table(&client.pins()?, now);
        let table = table(&pockers, now);
        let between = if table.is_empty() || pins.is_empty() {
            ""
        } else {
            "\n"
        };
        [&table, between, &pins].concat()
    };
    text::out(&shown)?;
    Ok(())
}

pub fn unknown(name: &str) -> CliError {
    CliError {
        gone: true,
        ..CliError::new(format!("there is no pocker named {name}"))
            .hint("`pocker ls` lists them; `pocker create` makes one")
    }
}

fn table(pockers: &[PockerInfo], now: i64) -> String {
    if pockers.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    let width = pockers
        .iter()
        .map(|p| p.name.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let _ = writeln!(
        out,
        "{:width$}  STEPS      FILES       SIZE  BASE AGE  RUNNING",
        "NAME"
    );
    for p in pockers {
        let (nodes, bytes) = p.steps.last().map_or((0, 0), |s| (s.nodes, s.bytes));
        let base = p.steps.first().map_or(now, |s| s.created);
        let _ = writeln!(
            out,
            "{:width$}  {:>5}  {:>9}  {:>9}  {:>8}  {:>7}",
            p.name,
            p.steps.len(),
            nodes,
            text::bytes(bytes),
            text::age(now - base),
            p.running.len(),
        );
    }
    out
}

fn steps(p: &PockerInfo, now: i64) -> String {
    let mut out = String::new();
    let last = p.steps.len();
    for (i, step) in p.steps.iter().enumerate() {
        let label = if i + 1 == last {
            "run".to_string()
        } else {
            format!("step{}", i + 1)
        };
        let instruction = step.instruction.lines().next().unwrap_or_default();
        let _ = writeln!(
            out,
            "{label:6} {}  {:>9}  {:>8}  {instruction}{}",
            &step.key.get(..12).unwrap_or(&step.key),
            text::bytes(step.bytes),
            text::age(now - step.created),
            if p.pinned.contains(&step.key) {
                "  (pinned)"
            } else {
                ""
            },
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{RunConfig, StepInfo};

    fn step(key: &str, instruction: &str) -> StepInfo {
        StepInfo {
            key: key.repeat(64),
            snapshot: "0".repeat(64),
            parent: None,
            instruction: instruction.into(),
            created: 1000,
            nodes: 9000,
            bytes: 217_000_000,
            upstream: None,
        }
    }

    #[test]
    fn a_list_is_a_table_and_one_pocker_its_steps() {
        let p = PockerInfo {
            name: "nginx".into(),
            steps: vec![
                step("a", "PROOT"),
                step("b", "PKG nginx"),
                step("c", "RUN nginx"),
            ],
            config: RunConfig::default(),
            created: 1000,
            running: vec![4],
            pinned: vec!["b".repeat(64)],
        };
        insta::assert_snapshot!(table(std::slice::from_ref(&p), 1000 + 7200), @r"
        NAME   STEPS      FILES       SIZE  BASE AGE  RUNNING
        nginx      3       9000   217.0 MB       2 h        1
        ");
        insta::assert_snapshot!(steps(&p, 1090), @r"
        step1  aaaaaaaaaaaa   217.0 MB     1 min  PROOT
        step2  bbbbbbbbbbbb   217.0 MB     1 min  PKG nginx  (pinned)
        run    cccccccccccc   217.0 MB     1 min  RUN nginx
        ");
    }
}
