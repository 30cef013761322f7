//! What everything else is reached from, listed in an order in which nothing that is
//! right looks wrong: see the module above.

use super::fault::{Fault, Repair};
use super::locate::Root;
use super::report::{Checked, Findings};
use super::works;
use crate::error::StoreError;
use crate::index::{Large, Pinned, Pocker, SnapshotRow, Step};
use crate::object::SnapshotData;
use crate::store::Store;
use crate::types::Digest;
use crate::work::{Delta, Works};
use std::collections::{HashMap, HashSet};

pub(super) struct Roots {
    pub deltas: Vec<Delta>,
    /// How many of these are of volumes.
    volumes: u64,
    pockers: Vec<Pocker>,
    torn: Vec<(Vec<u8>, bool)>,
    pinned: Vec<Pinned>,
    steps: Vec<Step>,
    rows: HashMap<Digest, SnapshotRow>,
    /// By ordinal, then those that have none.
    order: Vec<Digest>,
    /// Keys by snapshot.
    steps_of: HashMap<Digest, Vec<Digest>>,
    works_of: HashMap<Digest, Vec<u64>>,
}

impl Roots {
    /// `listed` is told of each list that is made.
    pub fn list(store: &Store, works: &[&Works], listed: &dyn Fn()) -> Result<Roots, StoreError> {
        let mut deltas = Vec::new();
        let mut volumes = 0;
        for works in works {
            let own = works::deltas(works)?;
            if works.are_volumes() {
                volumes += own.len() as u64;
            }
            deltas.extend(own);
        }
        listed();
        let pockers = store.index.pockers()?;
        let torn = store.index.torn_pockers()?;
        let pinned = store.index.pinned_steps()?;
        listed();
        let steps = store.index.steps()?;
        listed();
        let rows = store.index.snapshot_rows()?;
        listed();
        let mut order: Vec<Digest> = rows.iter().map(|row| row.digest).collect();
        let mut known: HashSet<Digest> = order.iter().copied().collect();
        let named = steps.iter().map(|step| step.snapshot);
        for snapshot in named.chain(deltas.iter().filter_map(|d| d.base)) {
            if known.insert(snapshot) {
                order.push(snapshot);
            }
        }
        let mut steps_of: HashMap<_, Vec<_>> = HashMap::new();
        for step in &steps {
            steps_of.entry(step.snapshot).or_default().push(step.key);
        }
        let mut works_of: HashMap<_, Vec<_>> = HashMap::new();
        for delta in &deltas {
            if let Some(base) = delta.base {
                works_of.entry(base).or_default().push(delta.id);
            }
        }
        Ok(Roots {
            deltas,
            volumes,
            pockers,
            torn,
            pinned,
            steps,
            rows: rows.into_iter().map(|row| (row.digest, row)).collect(),
            order,
            steps_of,
            works_of,
        })
    }

    /// Listed or not.
    pub fn snapshots(&self) -> &[Digest] {
        &self.order
    }

    pub fn ordinal(&self, snapshot: &Digest) -> Option<u32> {
        self.rows.get(snapshot).map(|row| row.ordinal)
    }

    pub fn place(&self, snapshot: Digest, data: Option<&SnapshotData>) -> Root {
        Root {
            snapshot,
            dir: data.map(|data| data.root_dir),
            steps: self.steps_of.get(&snapshot).cloned().unwrap_or_default(),
            work_trees: self.works_of.get(&snapshot).cloned().unwrap_or_default(),
        }
    }

    /// The row of a snapshot that can be read.
    pub fn compare(&self, snapshot: Digest, data: &SnapshotData, findings: &mut Findings) {
        match self.rows.get(&snapshot) {
            None => findings.add(Fault::SnapshotRow { snapshot }, Repair::RestoreRow),
            Some(row) => {
                let (nodes, bytes) = (row.nodes, row.bytes);
                if (nodes, bytes) != (data.counts.nodes, data.counts.bytes) {
                    let fault = Fault::SnapshotSums {
                        snapshot,
                        nodes,
                        bytes,
                    };
                    findings.add(fault, Repair::MendRow);
                }
            }
        }
    }

    /// Steps that lead to a snapshot that cannot be read.
    pub fn unopenable(&self, snapshot: Digest, findings: &mut Findings) {
        for key in self.steps_of.get(&snapshot).into_iter().flatten() {
            let fault = Fault::Step {
                key: *key,
                snapshot,
            };
            findings.add(fault, Repair::DropStep);
        }
    }

    /// Pockers and pins whose steps are not there, or not all listed, and steps of pockers that
    /// are not.
    pub fn pockers(&self, findings: &mut Findings) {
        for (name, listed) in &self.torn {
            let why = match listed {
                true => "not all of its steps are listed",
                false => "its steps are listed, and it is not",
            };
            let name = name.clone();
            findings.add(Fault::PockerRow { name, why }, Repair::None);
        }
        let keys: HashSet<Digest> = self.steps.iter().map(|step| step.key).collect();
        for pocker in &self.pockers {
            for key in pocker.steps.iter().filter(|key| !keys.contains(key)) {
                let fault = Fault::Pocker {
                    name: pocker.name.clone(),
                    key: *key,
                };
                findings.add(fault, Repair::None);
            }
        }
        for pin in self.pinned.iter().filter(|pin| !keys.contains(&pin.key)) {
            let fault = Fault::Pin {
                key: pin.key,
                label: pin.label.clone(),
            };
            findings.add(fault, Repair::None);
        }
    }

    pub fn checked(&self) -> Checked {
        Checked {
            snapshots: self.order.len() as u64,
            steps: self.steps.len() as u64,
            pockers: self.pockers.len() as u64,
            pins: self.pinned.len() as u64,
            work_trees: self.deltas.len() as u64 - self.volumes,
            volumes: self.volumes,
            ..Checked::default()
        }
    }
}

/// The large blobs to read: those with a row, and the files without one.
pub(super) fn files(
    store: &Store,
    files: Vec<Digest>,
) -> Result<Vec<(Digest, Option<Large>)>, StoreError> {
    let rows = store.index.larges()?;
    let listed: HashSet<Digest> = rows.iter().map(|(digest, _)| *digest).collect();
    let loose = files.into_iter().filter(|digest| !listed.contains(digest));
    let loose: Vec<_> = loose.map(|digest| (digest, None)).collect();
    let rows = rows
        .into_iter()
        .map(|(digest, large)| (digest, Some(large)));
    Ok(rows.chain(loose).collect())
}
