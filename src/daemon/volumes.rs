//! Volumes: made, listed, removed, and who has them.

use super::clock;
use super::docs::{self, Owner};
use super::export::Volume;
use super::fail::{Fail, Outcome};
use super::state::{Daemon, digest, good_token};
use crate::control::api::*;

/// A run or mount that has a volume.
struct User {
    who: String,
    read_only: bool,
    /// What ends it.
    end: String,
}

impl Daemon {
    pub(super) fn known_volume(&self, name: &str) -> Outcome<Volume> {
        self.exports.volumes.find(name).ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            Fail::not_found(format!("there is no volume named {shown}")).hint(format!(
                "`pocker volume ls` lists them; `pocker volume create {shown}` makes one"
            ))
        })
    }

    /// Live runs and mounts that have the volume, the first one first.
    fn users_of(&self, name: &str) -> Outcome<Vec<User>> {
        let mut users = Vec::new();
        for run in self.runs()?.into_iter().filter(docs::RunDoc::live) {
            let uses = run.volumes.iter().filter(|used| used.name == name);
            let called = self.run_called(run.owner.pid);
            if let Some(host) = run.owner.host() {
                let host = self.host_name(host);
                users.extend(uses.map(|used| User {
                    who: format!("run {} of {} on host {host}", run.id, run.name),
                    read_only: used.read_only,
                    end: format!("stop it first on host {host}"),
                }));
                continue;
            }
            users.extend(uses.map(|used| User {
                who: format!(
                    "run {} of {} (process {})",
                    called.clone().unwrap_or_else(|| run.id.to_string()),
                    run.name,
                    run.owner.pid
                ),
                read_only: used.read_only,
                end: match &called {
                    Some(called) => format!("stop it first: `pocker stop {called}`"),
                    None => format!("stop it first: kill {}", run.owner.pid),
                },
            }));
        }
        let mounts: Vec<docs::MountDoc> =
            docs::all(&self.store).map_err(|e| Fail::internal("cannot list mounts", &e))?;
        for docs::MountDoc { record, maker } in mounts {
            let host = maker.and_then(|maker| maker.host());
            let at = host.map_or_else(String::new, |host| {
                format!(" of host {}", self.host_name(host))
            });
            let mount = record;
            let Some(used) = mount.volume.filter(|used| used.name == name) else {
                continue;
            };
            users.push(User {
                who: format!("the mount on {}{at}", mount.target),
                read_only: used.read_only,
                end: match host {
                    None => format!("`pocker umount {}` first", mount.target),
                    Some(_) => format!("`pocker umount {}` there first", mount.target),
                },
            });
        }
        Ok(users)
    }

    /// The export for a run or mount of `owner`: of those that may write there is one at a time; none
    /// looks only whether it could be had. `change` is held.
    pub fn volume_for(
        &self,
        name: &str,
        read_only: bool,
        owner: Option<&Owner>,
    ) -> Outcome<Export> {
        let volume = self.known_volume(name)?;
        self.reap_mounts();
        if !read_only {
            self.reap_runs();
            let writer = self
                .users_of(name)?
                .into_iter()
                .find(|user| !user.read_only);
            match writer {
                // What is open there is hidden, and no crash left it.
                Some(_) if volume.shared => return Ok(self.volume_export(&volume, read_only)),
                Some(user) => {
                    return Err(
                        Fail::busy(format!("volume {name} is in use by {}", user.who)).hint(
                            format!("{}, or take it read-only, with `:ro` at the end", user.end),
                        ),
                    );
                }
                None => {}
            }
            if let Some(owner) = owner.filter(|_| !volume.shared) {
                let lease = owner.lease.map(|lease| lease.id);
                let given = self.exports.give_volume(volume.id, lease);
                let what = format!("cannot note who has volume {name}");
                given.map_err(|e| Fail::internal(what, &e))?;
            }
            let tree = self.exports.volumes.tree(volume.id);
            match tree.and_then(|tree| tree.sweep_hidden(clock::now())) {
                Ok(0) => {}
                Ok(n) => {
                    tracing::info!(volume = name, "removed {n} files that were open at a crash")
                }
                Err(e) => {
                    return Err(Fail::internal(format!("cannot open volume {name}"), &e));
                }
            }
        }
        Ok(self.volume_export(&volume, read_only))
    }

    pub(super) fn volume_export(&self, volume: &Volume, read_only: bool) -> Export {
        Export {
            path: self.exports.volume_path(volume, read_only),
            read_only,
        }
    }

    /// Nobody has the volume. `change` is held.
    pub(super) fn unused(&self, name: &str) -> Outcome<()> {
        self.reap_mounts();
        self.reap_runs();
        match self.users_of(name)?.first() {
            Some(user) => Err(
                Fail::busy(format!("volume {name} is in use by {}", user.who))
                    .hint(user.end.clone()),
            ),
            None => Ok(()),
        }
    }

    pub fn create_volume(&self, name: &str, new: &NewVolume) -> Outcome<VolumeInfo> {
        let _one = self.change.lock();
        crate::build::check_name(name).map_err(|e| Fail::bad(e.to_string()))?;
        good_token(&new.token)?;
        match self.exports.volumes.find(name) {
            // Its answer was lost.
            Some(volume) if volume.token == new.token => return self.volume_info(&volume),
            Some(_) => {
                return Err(
                    Fail::busy(format!("there is a volume named {name} already")).hint(format!(
                        "choose another name, or `pocker volume rm {name}` first"
                    )),
                );
            }
            None => {}
        }
        let base = new.base.as_deref().map(digest).transpose()?;
        self.exports
            .volumes
            .create(name, &new.token, new.shared, base, clock::now())
            .map_err(|e| Fail::internal(format!("cannot make volume {name}"), &e))?;
        self.volume_info(&self.known_volume(name)?)
    }

    /// With its `snapshots`, or only where it has none.
    pub fn remove_volume(&self, name: &str, snapshots: bool) -> Outcome<()> {
        let _one = self.change.lock();
        let volume = self.known_volume(name)?;
        let made = self.snapshots_of(&volume)?;
        if !made.is_empty() && !snapshots {
            let n = made.len();
            let s = if n == 1 { "" } else { "s" };
            return Err(
                Fail::busy(format!("volume {name} has {n} snapshot{s}")).hint(format!(
                    "remove it and them: `pocker volume rm --snapshots {name}`"
                )),
            );
        }
        self.unused(name)?;
        let gone = self.exports.remove_volume(volume.id);
        gone.map_err(|e| Fail::internal(format!("cannot remove volume {name}"), &e))?;
        // Where this fails the next collection does it.
        made.iter().try_for_each(|doc| self.forget_snapshot(doc))
    }

    pub fn volumes(&self) -> Outcome<Vec<VolumeInfo>> {
        // A list waits for nobody.
        if let Some(_one) = self.change.try_lock() {
            self.reap_mounts();
        }
        let mut all = self.exports.volumes.list();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.iter().map(|volume| self.volume_info(volume)).collect()
    }

    fn volume_info(&self, volume: &Volume) -> Outcome<VolumeInfo> {
        let own = self.exports.volumes.tree(volume.id).and_then(|t| t.own());
        let (files, bytes) =
            own.map_err(|e| Fail::internal(format!("cannot read volume {}", volume.name), &e))?;
        let users = self.users_of(&volume.name)?;
        Ok(VolumeInfo {
            name: volume.name.clone(),
            created: volume.created.secs,
            base: volume.base.map(|base| base.to_string()),
            files,
            bytes,
            used_by: users.into_iter().map(|user| user.who).collect(),
            shared: volume.shared,
            snapshots: self.snapshots_of(volume)?.len() as u64,
        })
    }

    /// The export. Where a target is given its maker has the volume at once, so that of two
    /// who ask one is told of the other.
    pub fn mount_volume(&self, name: &str, how: &MountVolume, maker: Owner) -> Outcome<Export> {
        let _one = self.change.lock();
        if let Some(target) = &how.target {
            self.retry_mount(target, maker)?;
        }
        let maker_of = how.target.as_ref().map(|_| &maker);
        let export = self.volume_for(name, how.read_only, maker_of)?;
        if !how.read_only && how.target.is_some() {
            self.host_writes(name, maker.host());
        }
        if let Some(target) = &how.target {
            let record = MountRecord {
                target: target.clone(),
                what: format!("volume {name}"),
                tree: None,
                volume: Some(VolumeUse {
                    name: name.to_string(),
                    read_only: how.read_only,
                }),
            };
            self.begin_mount(record, maker)?;
        }
        Ok(export)
    }
}
