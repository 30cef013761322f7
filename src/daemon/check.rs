//! `pocker fsck`: the store's check, in the words of the control socket.

use super::fail::{Fail, Outcome};
use super::state::Daemon;
use super::sys::humbly;
use crate::control::api::{FsckDone, FsckFinding};
use pocker_store::FsckOptions;
use pocker_store::fsck::{Finding, Outcome as Mended, Repair, Severity};
use std::collections::HashMap;

impl Daemon {
    /// Checks the store while everything else goes on.
    pub fn fsck(&self, repair: bool) -> Outcome<FsckDone> {
        let options = FsckOptions {
            repair,
            works: Some(&self.works),
            volumes: self.exports.volumes.works().map(|works| &**works),
            cancel: None,
        };
        let report = humbly(|| self.store.fsck(&options, &|_| ()))
            .map_err(|e| Fail::caring("cannot check the store", e))?;
        let checked = report.checked;
        let volumes = self.exports.volumes.list();
        let volumes: HashMap<_, _> = volumes.into_iter().map(|v| (v.id, v.name)).collect();
        let lost = self.lost_snapshots()?;
        let mut findings: Vec<_> = report.findings.iter().map(|f| told(f, &volumes)).collect();
        let unsound = report.unrepaired().next().is_some() || !lost.is_empty();
        findings.extend(lost.into_iter().map(lost_snapshot));
        Ok(FsckDone {
            sound: report.more == 0 && !unsound,
            incomplete: report.incomplete,
            more: report.more,
            snapshots: checked.snapshots,
            work_trees: checked.work_trees,
            volumes: checked.volumes,
            pins: checked.pins,
            objects: checked.objects,
            blobs: checked.blobs,
            bytes: checked.bytes,
            findings,
        })
    }
}

fn lost_snapshot((volume, what): (String, String)) -> FsckFinding {
    FsckFinding {
        severity: "damage".to_string(),
        what,
        outcome: "no repair from what the store holds".to_string(),
        snapshots: Vec::new(),
        more_snapshots: 0,
        steps: Vec::new(),
        work_trees: Vec::new(),
        volumes: vec![volume],
        example: None,
    }
}

fn told(finding: &Finding, volumes: &HashMap<u64, String>) -> FsckFinding {
    let hex = |digests: &[pocker_store::types::Digest]| {
        digests.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let outcome = match &finding.outcome {
        Mended::Found => match finding.repair {
            Repair::None => "no repair from what the store holds".to_string(),
            _ => "can be repaired".to_string(),
        },
        Mended::Repaired => "repaired".to_string(),
        Mended::Left(why) => format!("left: {why}"),
        Mended::Failed(why) => format!("the repair failed: {why}"),
    };
    let severity = match finding.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Damage => "damage",
    };
    let trees = &finding.places.work_trees;
    let named = trees.iter().filter_map(|id| volumes.get(id).cloned());
    let named = named.collect();
    let others = trees.iter().filter(|id| !volumes.contains_key(*id));
    let others = others.copied().collect();
    let example = finding.places.example.as_deref();
    FsckFinding {
        severity: severity.to_string(),
        what: finding.fault.to_string(),
        outcome,
        snapshots: hex(&finding.places.snapshots),
        more_snapshots: finding.places.more_snapshots,
        steps: hex(&finding.places.steps),
        work_trees: others,
        volumes: named,
        example: example.map(|path| format!("/{}", String::from_utf8_lossy(path))),
    }
}
