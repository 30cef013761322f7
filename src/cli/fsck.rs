//! `pocker fsck`.

use super::args::Fsck;
use super::config::Settings;
use super::error::CliError;
use super::{open, text};
use crate::control::api::{FsckDone, PockerInfo};

/// Exit status where something is wrong and was not repaired, as fsck(8) has it.
const UNCORRECTED: i32 = 4;

pub fn run(settings: &Settings, args: &Fsck) -> Result<i32, CliError> {
    let client = open::server(settings)?;
    let done = client.fsck(args.repair)?;
    if args.json {
        text::out(&text::json(&done)?)?;
    } else {
        text::out(&told(&done, &client.pockers()?))?;
    }
    Ok(if done.sound { 0 } else { UNCORRECTED })
}

fn told(done: &FsckDone, pockers: &[PockerInfo]) -> String {
    let mut out = String::new();
    let mut line = |text: String| out.push_str(&format!("{text}\n"));
    for finding in &done.findings {
        line(format!("{}: {}", finding.severity, finding.what));
        if let Some(example) = &finding.example {
            line(format!("  at {example}"));
        }
        let named: Vec<&str> = pockers
            .iter()
            .filter(|p| p.steps.iter().any(|s| finding.steps.contains(&s.key)))
            .map(|p| p.name.as_str())
            .collect();
        if !named.is_empty() {
            line(format!("  in {}", named.join(", ")));
        }
        if !finding.work_trees.is_empty() {
            line(format!("  in {} work trees", finding.work_trees.len()));
        }
        line(format!("  {}", finding.outcome));
    }
    if done.more > 0 {
        line(format!("{} more; run it again", done.more));
    }
    line(format!(
        "checked {} trees, {} directories, {} blobs, {}: {}",
        done.snapshots,
        done.objects,
        done.blobs,
        text::bytes(done.bytes),
        if done.sound { "sound" } else { "NOT SOUND" }
    ));
    let damaged = done.findings.iter().any(|f| f.severity == "damage");
    if damaged {
        line("hint: `pocker fsck --repair` sets aside what rotted; then build the pockers named above again with `pocker create --no-cache`".to_string());
    }
    out
}
