//! Mounts that commands made: recorded, and forgotten when they are gone.

use super::docs::{self, MountDoc, Owner};
use super::fail::{Fail, Outcome};
use super::state::Daemon;
use super::sys;
use crate::control::api::MountRecord;

impl Daemon {
    /// It is mounted.
    pub fn add_mount(&self, mount: &MountRecord) -> Outcome<()> {
        let _one = self.change.lock();
        docs::save(&self.store, mount).map_err(|e| Fail::internal("cannot record the mount", &e))
    }

    /// Process `pid` is about to mount it. Refused where something is mounted already, or is
    /// about to be. `change` is held, and mounts were reaped since.
    pub fn begin_mount(&self, record: MountRecord, pid: u32) -> Outcome<()> {
        if self.mount_on(&record.target)?.is_some() {
            return Err(
                Fail::busy(format!("something is mounted on {} already", record.target))
                    .hint(format!("pocker umount {}", record.target)),
            );
        }
        let maker = Some(Owner::of(pid));
        docs::save(&self.store, &MountDoc { record, maker })
            .map_err(|e| Fail::internal("cannot record the mount", &e))
    }

    /// What `pid` was about to mount on `target` and asks for once more: the answer was
    /// lost. `change` is held.
    pub fn retry_mount(&self, target: &str, pid: u32) -> Outcome<()> {
        let found = self.mount_on(target)?;
        if found.is_some_and(|mount| mount.maker == Some(Owner::of(pid))) {
            self.forget_mount(target)?;
        }
        Ok(())
    }

    fn mount_on(&self, target: &str) -> Outcome<Option<MountDoc>> {
        docs::get(&self.store, target.as_bytes())
            .map_err(|e| Fail::internal("cannot read what is mounted", &e))
    }

    /// A mount is gone: forgets it, and drops the clone it showed.
    pub fn remove_mount(&self, target: &str) -> Outcome<()> {
        let _one = self.change.lock();
        self.forget_mount(target)
    }

    fn forget_mount(&self, target: &str) -> Outcome<()> {
        let Some(MountDoc { record, .. }) = self.mount_on(target)? else {
            return Ok(());
        };
        if let Some(tree) = record.tree {
            self.forget_tree(tree);
        }
        docs::delete(&self.store, &record)
            .map_err(|e| Fail::internal("cannot forget the mount", &e))
    }

    /// Forgets mounts that somebody unmounted, and those that will never be. `change` is
    /// held, so that none is recorded in the place of one that is looked at.
    pub fn reap_mounts(&self) {
        let mut mounts = docs::all::<MountDoc>(&self.store).unwrap_or_default();
        // In this order: who is gone by now has mounted what is looked for next, or never will.
        mounts.retain(|mount| !mount.maker.is_some_and(|maker| maker.lives()));
        let Ok(mounted) = sys::mounted() else { return };
        for MountDoc { record, .. } in mounts {
            if !mounted.iter().any(|m| m == record.target.as_bytes()) {
                let _ = self.forget_mount(&record.target);
            }
        }
    }
}
