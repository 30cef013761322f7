//! `pocker du`: what pockers take on disk.

use crate::cli::args::Du;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::{ls, open, text};
use crate::control::looking::{DiskUse, PockerUse};
use std::fmt::Write as _;

/// Columns of an instruction before it is cut.
const SHOWN: usize = 50;

pub fn du(settings: &Settings, args: &Du) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let mut all = client.disk_use()?;
    for name in &args.names {
        if !all.pockers.iter().any(|p| p.name == *name) {
            return Err(ls::unknown(name));
        }
    }
    if !args.names.is_empty() {
        all.pockers.retain(|p| args.names.contains(&p.name));
    }
    text::out(&match args.json {
        true => text::json(&all)?,
        false => table(&all, !args.names.is_empty()),
    })
}

fn table(all: &DiskUse, steps: bool) -> String {
    let names = all.pockers.iter().map(|p| p.name.len());
    let width = names.max().unwrap_or(0).max("total".len());
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:width$}  {:>9}  {:>9}  {:>9}  {:>9}",
        "NAME", "SIZE", "STORED", "OWN", "SHARED"
    );
    for p in &all.pockers {
        let sizes = [p.apparent, p.stored, p.own, p.shared].map(text::bytes);
        let [size, stored, own, shared] = &sizes;
        let _ = writeln!(
            out,
            "{:width$}  {size:>9}  {stored:>9}  {own:>9}  {shared:>9}",
            p.name
        );
        if steps {
            by_step(&mut out, p);
        }
    }
    if steps {
        return out;
    }
    let size = text::bytes(all.pockers.iter().map(|p| p.apparent).sum());
    let stored = text::bytes(all.stored);
    let _ = writeln!(out, "{:width$}  {size:>9}  {stored:>9}", "total");
    for (what, bytes) in [("pins", all.pinned), ("runs", all.runs)] {
        if bytes > 0 {
            let bytes = text::bytes(bytes);
            let _ = writeln!(out, "{what:width$}  {:>9}  {bytes:>9}", "");
        }
    }
    out
}

fn by_step(out: &mut String, p: &PockerUse) {
    let last = p.steps.len();
    for (i, step) in p.steps.iter().enumerate() {
        let label = match i + 1 == last {
            true => "run".to_owned(),
            false => format!("step{}", i + 1),
        };
        let line = step.instruction.replace('\n', "\\n");
        let shown: String = match line.chars().count() <= SHOWN {
            true => line,
            false => line.chars().take(SHOWN - 1).chain(['…']).collect(),
        };
        let key = step.key.get(..12).unwrap_or(&step.key);
        let added = format!("+{}", text::bytes(step.added));
        let _ = writeln!(out, "  {label:6}  {key}  {added:>10}  {shown}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::looking::StepUse;

    #[test]
    fn a_row_a_pocker_and_a_total() {
        let step = |key: &str, instruction: &str, added| StepUse {
            key: key.repeat(64),
            instruction: instruction.to_owned(),
            apparent: 217_000_000,
            added,
        };
        let pocker = |name: &str, own| PockerUse {
            name: name.to_owned(),
            apparent: 217_000_000,
            stored: 98_000_000,
            own,
            shared: 98_000_000 - own,
            steps: vec![
                step("a", "PROOT", 95_000_000),
                step("b", &format!("EXEC <<E\n{}", "x".repeat(60)), 3_000_000),
                step("c", "RUN nginx", 0),
            ],
        };
        let all = DiskUse {
            pockers: vec![pocker("nginx", 3_000_000), pocker("x", 0)],
            pinned: 0,
            stored: 98_000_000,
            runs: 4096,
        };
        insta::assert_snapshot!(table(&all, false), @r"
        NAME        SIZE     STORED        OWN     SHARED
        nginx   217.0 MB    98.0 MB     3.0 MB    95.0 MB
        x       217.0 MB    98.0 MB        0 B    98.0 MB
        total   434.0 MB    98.0 MB
        runs                 4.1 kB
        ");
        let one = DiskUse {
            pockers: vec![pocker("nginx", 3_000_000)],
            ..all
        };
        insta::assert_snapshot!(table(&one, true), @r"
        NAME        SIZE     STORED        OWN     SHARED
        nginx   217.0 MB    98.0 MB     3.0 MB    95.0 MB
          step1   aaaaaaaaaaaa    +95.0 MB  PROOT
          step2   bbbbbbbbbbbb     +3.0 MB  EXEC <<E\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
          run     cccccccccccc        +0 B  RUN nginx
        ");
    }
}
