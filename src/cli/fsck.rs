//! `pocker fsck`.

use super::args::Fsck;
use super::config::Settings;
use super::error::CliError;
use super::{open, text};
use crate::control::api::{FsckDone, FsckFinding, PinInfo, PockerInfo};

/// Exit status where something is wrong and was not repaired, as fsck(8) has it.
const UNCORRECTED: i32 = 4;

pub fn run(settings: &Settings, args: &Fsck) -> Result<i32, CliError> {
    let client = open::server(settings)?;
    let done = client.fsck(args.repair)?;
    if args.json {
        text::out(&text::json(&done)?)?;
    } else {
        text::out(&told(&done, &client.pockers()?, &client.pins()?))?;
    }
    Ok(if done.sound { 0 } else { UNCORRECTED })
}

fn told(done: &FsckDone, pockers: &[PockerInfo], pins: &[PinInfo]) -> String {
    let mut out = String::new();
    let mut line = |text: String| out.push_str(&format!("{text}\n"));
    for finding in &done.findings {
        line(format!("{}: {}", finding.severity, finding.what));
        if let Some(example) = &finding.example {
            line(format!("  at {example}"));
        }
        places(finding, pockers, pins, &mut line);
        line(format!("  {}", finding.outcome));
    }
    if done.more > 0 {
        line(format!("{} more; run it again", done.more));
    }
    line(format!(
        "checked {} trees, {} work trees, {} volumes, {} directories, {} blobs, {}: {}",
        done.snapshots,
        done.work_trees,
        done.volumes,
        done.objects,
        done.blobs,
        text::bytes(done.bytes),
        if done.sound { "sound" } else { "NOT SOUND" }
    ));
    let damaged = done.findings.iter().any(|f| f.severity == "damage");
    if damaged {
        line("hint: `pocker fsck --repair` sets aside what rotted; then build the pockers named above again with `pocker create`, which makes the steps anew that lack something".to_string());
    }
    out
}

/// Every tree that has it: pockers with their steps, pins, volumes, and how many that have no name.
fn places(
    finding: &FsckFinding,
    pockers: &[PockerInfo],
    pins: &[PinInfo],
    line: &mut impl FnMut(String),
) {
    let mut named = 0;
    for pocker in pockers {
        let last = pocker.steps.len();
        let hit = |s: &&(usize, &str)| finding.steps.iter().any(|key| key == s.1);
        let keys = pocker.steps.iter().map(|step| step.key.as_str());
        let numbered: Vec<(usize, &str)> = (1..).zip(keys).collect();
        let steps: Vec<String> = numbered
            .iter()
            .filter(hit)
            .map(|(n, _)| match *n == last {
                true => "run".to_string(),
                false => format!("step{n}"),
            })
            .collect();
        if !steps.is_empty() {
            named += 1;
            line(format!("  in {} ({})", pocker.name, steps.join(", ")));
        }
    }
    for pin in pins.iter().filter(|pin| finding.steps.contains(&pin.key)) {
        named += 1;
        line(format!("  in the step pinned as {}", pin.label));
    }
    for volume in &finding.volumes {
        line(format!("  in volume {volume}"));
    }
    let of_pockers = |key: &&String| {
        let has = |p: &PockerInfo| p.steps.iter().any(|step| step.key == **key);
        !pockers.iter().any(has) && !pins.iter().any(|pin| pin.key == **key)
    };
    let loose = finding.steps.iter().filter(of_pockers).count();
    if loose > 0 {
        line(format!("  in {loose} steps that no pocker has"));
    }
    if !finding.work_trees.is_empty() {
        line(format!(
            "  in {} trees of builds, runs and mounts",
            finding.work_trees.len()
        ));
    }
    if named == 0 && loose == 0 && !finding.snapshots.is_empty() {
        line(format!(
            "  in {} trees that no step has",
            finding.snapshots.len()
        ));
    }
    if finding.more_snapshots > 0 {
        line(format!("  and in {} trees more", finding.more_snapshots));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{RunConfig, StepInfo};

    fn step(key: &str) -> StepInfo {
        StepInfo {
            key: key.repeat(64),
            snapshot: "0".repeat(64),
            parent: None,
            instruction: "EXEC true".into(),
            created: 1000,
            nodes: 9,
            bytes: 9,
            upstream: None,
        }
    }

    #[test]
    fn what_rotted_is_named_with_every_tree_it_is_in() {
        let pocker = |name: &str, keys: &[&str]| PockerInfo {
            name: name.into(),
            steps: keys.iter().map(|key| step(key)).collect(),
            config: RunConfig::default(),
            created: 1000,
            running: Vec::new(),
            pinned: Vec::new(),
        };
        let pockers = [pocker("box", &["a", "b", "c"]), pocker("web", &["a", "f"])];
        let pins = [PinInfo {
            key: "d".repeat(64),
            label: "old@run".into(),
            since: 1000,
            step: None,
        }];
        let done = FsckDone {
            findings: vec![FsckFinding {
                severity: "damage".into(),
                what: "blob ab12: its bytes are those of cd34".into(),
                outcome: "can be repaired".into(),
                steps: ["b", "c", "d", "e", "f"].map(|key| key.repeat(64)).into(),
                snapshots: vec!["0".repeat(64)],
                more_snapshots: 3,
                work_trees: vec![7, 8],
                volumes: vec!["data".into()],
                example: Some("/bin/sh".into()),
            }],
            snapshots: 9,
            work_trees: 2,
            volumes: 1,
            ..FsckDone::default()
        };
        insta::assert_snapshot!(told(&done, &pockers, &pins), @r"
        damage: blob ab12: its bytes are those of cd34
          at /bin/sh
          in box (step2, run)
          in web (run)
          in the step pinned as old@run
          in volume data
          in 1 steps that no pocker has
          in 2 trees of builds, runs and mounts
          and in 3 trees more
          can be repaired
        checked 9 trees, 2 work trees, 1 volumes, 0 directories, 0 blobs, 0 B: NOT SOUND
        hint: `pocker fsck --repair` sets aside what rotted; then build the pockers named above again with `pocker create`, which makes the steps anew that lack something
        ");
    }
}
