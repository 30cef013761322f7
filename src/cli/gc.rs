//! `pocker gc`.

use super::args::{Compress, Gc};
use super::config::Settings;
use super::error::CliError;
use super::{open, text};
use crate::control::api::{GcDone, GcRequest, GcStep};
use std::fmt::Write as _;

/// In seconds.
const COLD_AFTER: u64 = 7 * 86_400;

pub fn run(settings: &Settings, args: &Gc) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let done = client.gc(&GcRequest {
        dry_run: args.dry_run,
        keep: args.keep,
        older: args.older,
        pack: args
            .compress
            .map(|Compress::Cold| args.cold_after.unwrap_or(COLD_AFTER)),
    })?;
    if args.json {
        return text::out(&text::json(&done)?);
    }
    let now = crate::daemon::clock::now().secs;
    text::out(&told(&done, args.dry_run, now))
}

fn told(done: &GcDone, dry_run: bool, now: i64) -> String {
    let mut out = String::new();
    if dry_run {
        for step in &done.removed {
            let _ = writeln!(out, "{}", line(step, now));
        }
    }
    let _ = writeln!(
        out,
        "{} {} steps, {} objects, {} blobs: {}",
        if dry_run { "would free" } else { "freed" },
        done.steps,
        done.objects,
        done.blobs,
        text::bytes(done.bytes)
    );
    if let Some(packed) = &done.packed {
        let _ = writeln!(
            out,
            "compressed {} blobs: {} take {}",
            packed.blobs,
            text::bytes(packed.before),
            text::bytes(packed.after)
        );
    }
    out
}

fn line(step: &GcStep, now: i64) -> String {
    let of = match step.of.is_empty() {
        true => String::new(),
        false => format!("of {}, ", step.of.join(", ")),
    };
    format!(
        "step {}  {}  ({of}unused for {})",
        step.key.get(..12).unwrap_or(&step.key),
        step.instruction.lines().next().unwrap_or_default(),
        text::age(now - step.last_used),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_names_what_would_go() {
        let step = |key: &str, of: &[&str]| GcStep {
            key: key.repeat(64),
            instruction: "EXEC make\nEXEC install".into(),
            of: of.iter().map(ToString::to_string).collect(),
            created: 1000,
            last_used: 2000,
        };
        let done = GcDone {
            steps: 2,
            objects: 3,
            blobs: 4,
            bytes: 5_000_000,
            packed: None,
            removed: vec![step("a", &["box", "web"]), step("b", &[])],
        };
        insta::assert_snapshot!(told(&done, true, 2000 + 7200), @r"
        step aaaaaaaaaaaa  EXEC make  (of box, web, unused for 2 h)
        step bbbbbbbbbbbb  EXEC make  (unused for 2 h)
        would free 2 steps, 3 objects, 4 blobs: 5.0 MB
        ");
        assert_eq!(
            told(&done, false, 0),
            "freed 2 steps, 3 objects, 4 blobs: 5.0 MB\n"
        );
    }
}
