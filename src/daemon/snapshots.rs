//! Snapshots of volumes: made while these are written to, kept by name, gone back to.

use super::clock;
use super::docs::{self, Doc};
use super::export::Volume;
use super::fail::{Fail, Outcome};
use super::state::{Daemon, digest, good_token};
use crate::control::volumes::{Moment, NewSnapshot, SnapshotInfo};
use crate::life::time::Stamp;
use pocker_store::StoreError;
use pocker_store::types::{Digest, Errno};
use pocker_store::work::Snapshot;
use serde::{Deserialize, Serialize};

/// Snapshots of one volume: more are a script that went wrong.
const MOST: usize = 10_000;

/// A snapshot as the store has it. It belongs to the volume of that name which a call with that
/// token made: another one of the same name has none of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapDoc {
    volume: String,
    token: String,
    name: String,
    snapshot: String,
    created: i64,
    nanos: u32,
    files: u64,
    bytes: u64,
    /// Of the call that made it.
    call: String,
}

impl Doc for SnapDoc {
    const KIND: &'static str = "volume-snapshot";
    fn key(&self) -> Vec<u8> {
        key(&self.volume, &self.token, &self.name)
    }
}

fn key(volume: &str, token: &str, name: &str) -> Vec<u8> {
    [volume, token, name].join("\0").into_bytes()
}

impl SnapDoc {
    fn is_of(&self, volume: &Volume) -> bool {
        self.volume == volume.name && self.token == volume.token
    }

    fn info(self) -> SnapshotInfo {
        SnapshotInfo {
            volume: self.volume,
            name: self.name,
            snapshot: self.snapshot,
            created: self.created,
            files: self.files,
            bytes: self.bytes,
            id: self.call,
        }
    }
}

impl Daemon {
    fn snapshot_docs(&self) -> Outcome<Vec<SnapDoc>> {
        docs::all(&self.store).map_err(|e| Fail::internal("cannot list snapshots", &e))
    }

    /// A volume's, the oldest first.
    pub(super) fn snapshots_of(&self, volume: &Volume) -> Outcome<Vec<SnapDoc>> {
        let mut all = self.snapshot_docs()?;
        all.retain(|doc| doc.is_of(volume));
        all.sort_by_key(|doc| (doc.created, doc.nanos));
        Ok(all)
    }

    pub fn snapshots(&self, volume: &str) -> Outcome<Vec<SnapshotInfo>> {
        let all = self.snapshots_of(&self.known_volume(volume)?)?;
        Ok(all.into_iter().map(SnapDoc::info).collect())
    }

    fn known_snapshot(&self, volume: &Volume, name: &str) -> Outcome<SnapDoc> {
        let mut all = self.snapshots_of(volume)?;
        let found = all.iter().position(|doc| doc.name == name);
        let shown: String = name.chars().take(80).collect();
        let volume = &volume.name;
        match found {
            Some(at) => Ok(all.swap_remove(at)),
            None => Err(
                Fail::not_found(format!("volume {volume} has no snapshot {shown}"))
                    .hint(format!("`pocker volume snapshots {volume}` lists them")),
            ),
        }
    }

    /// A volume as it is now. `change` is not held: sealing it may take long.
    fn take(&self, volume: &Volume) -> Outcome<Snapshot> {
        let name = &volume.name;
        let works = self.exports.volumes.works().ok_or(Errno::Stale);
        let made = works.and_then(|works| works.snapshot(volume.id));
        let made = made.map_err(|e| match e {
            Errno::Stale => gone(name),
            e => Fail::internal(format!("cannot make a snapshot of volume {name}"), &e),
        })?;
        tracing::info!(
            volume = name,
            files = made.sealed.files,
            bytes = made.sealed.bytes,
            "a snapshot; writers waited {:.1} ms at most",
            made.pause.as_secs_f64() * 1e3
        );
        Ok(made)
    }

    pub fn new_snapshot(&self, volume: &str, new: &NewSnapshot) -> Outcome<SnapshotInfo> {
        let known = self.known_volume(volume)?;
        if let Some(name) = &new.name {
            crate::build::check_name(name).map_err(|e| Fail::bad(e.to_string()))?;
        }
        good_token(&new.token)?;
        if let Some(done) = self.done_before(&known, new)? {
            return Ok(done.info());
        }
        let made = self.take(&known)?;
        let _one = self.change.lock();
        if self.exports.volumes.find(volume).map(|v| v.id) != Some(known.id) {
            return Err(gone(volume));
        }
        if let Some(done) = self.done_before(&known, new)? {
            return Ok(done.info());
        }
        let now = clock::now();
        let name = match &new.name {
            Some(name) => name.clone(),
            None => self.free_name(&known, now.secs)?,
        };
        let doc = SnapDoc {
            volume: known.name,
            token: known.token,
            name,
            snapshot: made.sealed.snapshot.to_string(),
            created: now.secs,
            nanos: now.nanos,
            files: made.sealed.counts.nodes,
            bytes: made.sealed.counts.bytes,
            call: new.token.clone(),
        };
        let failed = |e: &StoreError| {
            Fail::internal(format!("cannot keep a snapshot of volume {volume}"), e)
        };
        docs::save(&self.store, &doc).map_err(|e| failed(&e))?;
        // A collection that has begun has listed what was kept before this.
        let known = self.store.sealed(&made.sealed.snapshot);
        known.map_err(|e| failed(&e))?;
        Ok(doc.info())
    }

    /// What the same call made, whose answer was lost; an error where the name is taken.
    fn done_before(&self, volume: &Volume, new: &NewSnapshot) -> Outcome<Option<SnapDoc>> {
        let all = self.snapshots_of(volume)?;
        if let Some(done) = all.iter().find(|doc| doc.call == new.token) {
            return Ok(Some(done.clone()));
        }
        let volume = &volume.name;
        if all.len() >= MOST {
            let first = &all[0].name;
            return Err(
                Fail::busy(format!("volume {volume} has {MOST} snapshots already")).hint(format!(
                    "remove some first: `pocker volume rm {volume}@{first}`"
                )),
            );
        }
        match &new.name {
            Some(name) if all.iter().any(|doc| doc.name == *name) => Err(Fail::busy(format!(
                "volume {volume} has a snapshot {name} already"
            ))
            .hint(format!(
                "choose another name, or `pocker volume rm {volume}@{name}` first"
            ))),
            _ => Ok(None),
        }
    }

    /// The time, and a number where two are of one second.
    fn free_name(&self, volume: &Volume, now: i64) -> Outcome<String> {
        let stamp = Stamp {
            secs: now,
            nanos: 0,
        };
        let mut digits: String = stamp
            .rfc3339()
            .chars()
            .take("2026-01-01T00:00:00".len())
            .filter(char::is_ascii_digit)
            .collect();
        digits.insert(8, '-');
        let taken = self.snapshots_of(volume)?;
        let free = |name: &String| !taken.iter().any(|doc| doc.name == *name);
        let more = (2..=MOST + 1).map(|n| format!("{digits}-{n}"));
        let mut all = std::iter::once(digits.clone()).chain(more);
        all.find(free)
            .ok_or_else(|| Fail::busy("there is no name left for a snapshot"))
    }

    pub fn moment(&self, volume: &str) -> Outcome<Moment> {
        let made = self.take(&self.known_volume(volume)?)?;
        let snapshot = made.sealed.snapshot.to_string();
        self.hold(made.tree);
        Ok(Moment { snapshot })
    }

    /// The one that has this `id`, where one is said: another may have come by its name since.
    pub fn remove_snapshot(&self, volume: &str, name: &str, id: Option<&str>) -> Outcome<()> {
        let _one = self.change.lock();
        let doc = self.known_snapshot(&self.known_volume(volume)?, name)?;
        if id.is_some_and(|id| id != doc.call) {
            return Err(
                Fail::not_found(format!("snapshot {volume}@{name} is another one by now"))
                    .hint(format!("`pocker volume snapshots {volume}` lists them")),
            );
        }
        let removed = self.store.delete_record(SnapDoc::KIND, &doc.key());
        let what = format!("cannot remove snapshot {volume}@{name}");
        removed.map(drop).map_err(|e| Fail::internal(what, &e))
    }

    /// The volume is what the snapshot is from here on, or it is as it was. A call that comes again
    /// changes nothing of what was written since.
    pub fn roll_back(&self, volume: &str, name: &str, call: &str) -> Outcome<()> {
        let _one = self.change.lock();
        good_token(call)?;
        let known = self.known_volume(volume)?;
        if !call.is_empty() && known.rolled == call {
            return Ok(());
        }
        let doc = self.known_snapshot(&known, name)?;
        self.unused(volume)?;
        let base = digest(&doc.snapshot)?;
        let rolled = self.exports.roll_back(&known, base, call);
        let what = format!("cannot roll volume {volume} back to {name}");
        rolled.map_err(|e| Fail::internal(what, &e))
    }

    /// Trees that snapshots are. `change` is held.
    pub(super) fn snapshot_roots(&self) -> Outcome<Vec<Digest>> {
        let volumes = self.exports.volumes.list();
        let docs = self.snapshot_docs()?;
        let live = docs
            .iter()
            .filter(|doc| volumes.iter().any(|v| doc.is_of(v)));
        live.map(|doc| digest(&doc.snapshot)).collect()
    }

    /// Of volumes that are gone: a kill came between the two.
    pub(super) fn forget_lone_snapshots(&self) -> Outcome<()> {
        let _one = self.change.lock();
        let volumes = self.exports.volumes.list();
        for doc in self.snapshot_docs()? {
            if !volumes.iter().any(|v| doc.is_of(v)) {
                self.forget_snapshot(&doc)?;
            }
        }
        Ok(())
    }

    pub(super) fn forget_snapshot(&self, doc: &SnapDoc) -> Outcome<()> {
        let gone = self.store.delete_record(SnapDoc::KIND, &doc.key());
        gone.map(drop)
            .map_err(|e| Fail::internal("cannot forget a snapshot", &e))
    }

    /// Snapshots whose tree is not there, as a check tells of them.
    pub(super) fn lost_snapshots(&self) -> Outcome<Vec<(String, String)>> {
        let mut lost = Vec::new();
        for doc in self.snapshot_docs()? {
            let found = digest(&doc.snapshot)?;
            if let Err(e) = self.store.sealed(&found) {
                lost.push((
                    doc.volume.clone(),
                    format!("snapshot {}@{}: {e}", doc.volume, doc.name),
                ));
            }
        }
        Ok(lost)
    }
}

fn gone(volume: &str) -> Fail {
    Fail::busy(format!(
        "volume {volume} was removed or rolled back meanwhile"
    ))
    .hint("`pocker volume ls` says what there is")
}
