//! Mounts that commands made: recorded, and forgotten when they are gone.

use super::bounds;
use super::docs::{self, MountDoc, Owner};
use super::fail::{Fail, Outcome};
use super::state::Daemon;
use super::sys;
use crate::control::api::MountRecord;
use crate::control::hosts::Id;

impl Daemon {
    /// It is mounted; on another host `keeper` looks after it.
    pub fn add_mount(&self, mount: &MountRecord, keeper: Option<Owner>) -> Outcome<()> {
        let _one = self.change.lock();
        bounds::mount(mount)?;
        let host = keeper.and_then(|keeper| keeper.host());
        let begun = self.mount_on(host, &mount.target)?;
        if let (Some(keeper), Some(volume)) = (keeper, &mount.volume) {
            let given = begun.as_ref().is_some_and(|begun| {
                begun.maker == Some(keeper) && begun.record.volume.as_ref() == Some(volume)
            });
            if !given {
                let shown: String = volume.name.chars().take(80).collect();
                return Err(Fail::forbidden(format!(
                    "this command was not given volume {shown} for {}",
                    mount.target
                ))
                .hint("`pocker mount --volume` asks for it, and then mounts it"));
            }
        }
        if begun.is_none() {
            self.room_for_mount(host)?;
        }
        let doc = MountDoc {
            record: mount.clone(),
            maker: keeper,
        };
        docs::save(&self.store, &doc).map_err(|e| Fail::internal("cannot record the mount", &e))
    }

    fn room_for_mount(&self, host: Option<Id>) -> Outcome<()> {
        let all = docs::all::<MountDoc>(&self.store);
        let all = all.map_err(|e| Fail::internal("cannot list mounts", &e))?;
        let owners = all
            .iter()
            .map(|doc| doc.maker.and_then(|maker| maker.host()));
        let hint = "`pocker umount` what nobody needs";
        bounds::room("mounts", host, owners, bounds::MOUNTS, hint)
    }

    /// `maker` is about to mount it. Refused where something is mounted already, or is
    /// about to be. `change` is held, and mounts were reaped since.
    pub fn begin_mount(&self, record: MountRecord, maker: Owner) -> Outcome<()> {
        bounds::mount(&record)?;
        self.room_for_mount(maker.host())?;
        if self.mount_on(maker.host(), &record.target)?.is_some() {
            return Err(
                Fail::busy(format!("something is mounted on {} already", record.target))
                    .hint(format!("pocker umount {}", record.target)),
            );
        }
        let maker = Some(maker);
        docs::save(&self.store, &MountDoc { record, maker })
            .map_err(|e| Fail::internal("cannot record the mount", &e))
    }

    /// What `maker` was about to mount on `target` and asks for once more: the answer was
    /// lost. `change` is held.
    pub fn retry_mount(&self, target: &str, maker: Owner) -> Outcome<()> {
        let found = self.mount_on(maker.host(), target)?;
        if found.is_some_and(|mount| mount.maker == Some(maker)) {
            self.forget_mount(maker.host(), target)?;
        }
        Ok(())
    }

    fn mount_on(&self, host: Option<Id>, target: &str) -> Outcome<Option<MountDoc>> {
        docs::get(&self.store, &docs::mount_key(host, target))
            .map_err(|e| Fail::internal("cannot read what is mounted", &e))
    }

    /// A mount is gone: forgets it, and drops the clone it showed.
    pub fn remove_mount(&self, host: Option<Id>, target: &str) -> Outcome<()> {
        let _one = self.change.lock();
        self.forget_mount(host, target)
    }

    fn forget_mount(&self, host: Option<Id>, target: &str) -> Outcome<()> {
        let Some(doc) = self.mount_on(host, target)? else {
            return Ok(());
        };
        if let Some(tree) = doc.record.tree {
            self.forget_tree(tree);
        }
        docs::delete(&self.store, &doc).map_err(|e| Fail::internal("cannot forget the mount", &e))
    }

    /// What one host has mounted.
    pub fn mounts_of(&self, host: Option<Id>) -> Outcome<Vec<MountRecord>> {
        let all: Vec<MountDoc> =
            docs::all(&self.store).map_err(|e| Fail::internal("cannot list mounts", &e))?;
        let own = all.into_iter();
        let own = own.filter(|doc| doc.maker.and_then(|maker| maker.host()) == host);
        Ok(own.map(|doc| doc.record).collect())
    }

    /// Forgets mounts that somebody unmounted, and those that will never be. `change` is
    /// held, so that none is recorded in the place of one that is looked at.
    pub fn reap_mounts(&self) {
        let mut mounts = docs::all::<MountDoc>(&self.store).unwrap_or_default();
        // In this order: who is gone by now has mounted what is looked for next, or never will.
        mounts.retain(|mount| !mount.maker.is_some_and(|maker| maker.lives()));
        let Ok(mounted) = sys::mounted() else { return };
        for MountDoc { record, maker } in mounts {
            let host = maker.and_then(|maker| maker.host());
            if host.is_some() || !mounted.iter().any(|m| m == record.target.as_bytes()) {
                let _ = self.forget_mount(host, &record.target);
            }
        }
    }
}
