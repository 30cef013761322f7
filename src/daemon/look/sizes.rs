//! What pockers take on disk.

use crate::control::looking::{DiskUse, PockerUse, StepUse};
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::state::Daemon;
use pocker_store::StoreError;
use pocker_store::work::WorkClass;

impl Daemon {
    pub fn disk_use(&self) -> Outcome<DiskUse> {
        let failed = |e: StoreError| Fail::internal("cannot say what is on disk", &e);
        let pockers = self.pockers()?;
        let mut holders = Vec::new();
        for pocker in &pockers {
            let snapshots = pocker.steps.iter().filter_map(|s| s.snapshot.parse().ok());
            holders.push(snapshots.collect());
        }
        let mut pinned = Vec::new();
        for pin in self.store.pinned_steps().map_err(failed)? {
            let step = self.store.step(&pin.key).map_err(failed)?;
            pinned.extend(step.map(|step| step.snapshot));
        }
        holders.push(pinned);
        let sizes = self.store.sizes(&holders).map_err(failed)?;
        let mut out = DiskUse {
            stored: sizes.stored,
            pinned: sizes.held.last().map_or(0, |held| held.stored),
            ..DiskUse::default()
        };
        for (pocker, held) in pockers.into_iter().zip(sizes.held) {
            let steps = pocker.steps.iter().zip(&held.added);
            out.pockers.push(PockerUse {
                apparent: pocker.steps.last().map_or(0, |step| step.bytes),
                stored: held.stored,
                own: held.own,
                shared: held.stored - held.own,
                steps: steps
                    .map(|(step, added)| StepUse {
                        key: step.key.clone(),
                        instruction: step.instruction.clone(),
                        apparent: step.bytes,
                        added: *added,
                    })
                    .collect(),
                name: pocker.name,
            });
        }
        let runs = self.works.list();
        for run in runs.iter().filter(|work| work.class == WorkClass::Run) {
            // One that is dropped meanwhile holds nothing.
            let own = self.works.get(run.id).and_then(|tree| tree.own());
            out.runs += own.map_or(0, |(_, bytes)| bytes);
        }
        Ok(out)
    }
}
