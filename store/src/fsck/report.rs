//! What a check found.

use super::fault::{Fault, Repair, Severity};
use crate::types::Digest;

/// Findings that are listed: a disk that is dying has more than anybody reads.
pub(super) const FINDINGS: usize = 10_000;
/// Trees and steps that one finding lists, and all findings together: that is some megabytes.
pub(super) const PLACES: usize = 4096;
pub(super) const ALL_PLACES: usize = 200_000;

/// Where something is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// By ordinal; at most 4096.
    pub snapshots: Vec<Digest>,
    /// Those that are not listed.
    pub more_snapshots: u64,
    /// Keys of steps that lead to one of those snapshots; at most 4096.
    pub steps: Vec<Digest>,
    pub more_steps: u64,
    /// Work trees and volumes concerned themselves or by their base; at most 4096.
    pub work_trees: Vec<u64>,
    /// From the root of the first of these trees, without a slash in front; empty for
    /// the root itself. Of what is damaged, or of the directory that holds it.
    pub example: Option<Vec<u8>>,
}

impl Places {
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.work_trees.is_empty()
    }
}

/// What became of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No repair was asked for, or there is none.
    Found,
    Repaired,
    /// Not repaired, for this reason; the next run may.
    Left(&'static str),
    /// The repair was tried and failed, with this error; nothing was lost by it.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub fault: Fault,
    pub severity: Severity,
    pub places: Places,
    pub repair: Repair,
    pub outcome: Outcome,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub snapshots: u64,
    pub steps: u64,
    pub pockers: u64,
    pub pins: u64,
    /// Of builds and runs.
    pub work_trees: u64,
    pub volumes: u64,
    /// Directories, pages, indexes and snapshots.
    pub objects: u64,
    pub blobs: u64,
    /// Of those objects and blobs.
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// At most 10 000, worst first.
    pub findings: Vec<Finding>,
    /// Found, but not listed and not repaired: run it again.
    pub more: u64,
    pub checked: Checked,
    /// A directory or snapshot could not be read, so what it refers to is unknown and
    /// nothing was taken for unreferenced.
    pub incomplete: bool,
}

impl FsckReport {
    /// `None` where nothing was found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|f| f.severity).max()
    }

    /// Nothing is wrong; there may be waste.
    pub fn is_sound(&self) -> bool {
        self.worst().is_none_or(|worst| worst == Severity::Note)
    }

    /// What is still wrong after the repairs, waste left out.
    pub fn unrepaired(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|f| f.severity > Severity::Note && f.outcome != Outcome::Repaired)
    }
}

/// Findings in the making.
#[derive(Default)]
pub(super) struct Findings {
    pub list: Vec<Finding>,
    pub more: u64,
}

impl Findings {
    pub fn add(&mut self, fault: Fault, repair: Repair) {
        self.add_at(fault, repair, Places::default());
    }

    pub fn add_at(&mut self, fault: Fault, repair: Repair, places: Places) {
        if self.list.len() == FINDINGS {
            self.more += 1;
            return;
        }
        self.list.push(Finding {
            severity: fault.severity(!places.is_empty()),
            fault,
            places,
            repair,
            outcome: Outcome::Found,
        });
    }

    pub fn into_report(mut self) -> FsckReport {
        // Stable: what was found first stays first among equals.
        self.list.sort_by_key(|f| std::cmp::Reverse(f.severity));
        FsckReport {
            findings: self.list,
            more: self.more,
            ..FsckReport::default()
        }
    }
}
