//! The store, and grafted host directories, as one NFS file system.
//!
//! `/chroot` is the browse view; `/run/<id>/<secret>`, `/build/<id>/<secret>`,
//! `/volume/<name>/<secret>` and `/graft/<id>/<secret>` are writable and mounted only by who
//! knows the secret. A volume has another secret for those who may only read it.

mod at;
mod browse;
pub mod convert;
mod fence;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod granted;
pub mod handle;
mod host;
pub mod read_only;
mod synthetic;
mod vfs;
mod volumes;

#[cfg(test)]
mod mount_tests;
#[cfg(test)]
mod openbsd_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod volume_tests;
#[cfg(test)]
mod wire_tests;

use crate::control::hosts::Id;
use crate::daemon::clock;
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::grafter::Grafter;
use crate::daemon::leases;
use browse::{ROOT_ID, ROW_SHIFT, Table};
use fence::Fences;
use handle::{Codec, May, Name};
pub use host::{Alone, Grafts, Mark, Root};
use parking_lot::RwLock;
use pocker_nfs::proto::nfsstat3;
use pocker_nfs::vfs::{Fh, Peer};
use pocker_store::types::{Digest, Errno, Node, ROOT};
use pocker_store::work::Works;
use pocker_store::{SealedTree, Store, StoreError};
use std::collections::HashMap;
use std::sync::Arc;
pub use volumes::Volume;
use volumes::Volumes;

/// fsid of an export: its kind above, its id below. The browse view is one export.
const FSID_BROWSE: u64 = 1 << 60;
const FSID_WORK: u64 = 2 << 60;
const FSID_READ_ONLY: u64 = 3 << 60;
/// What secrets of volumes are made for.
const VOLUME: (&str, &str) = ("volume", "volume, read-only");
/// Where in the store it is kept where grafts' files are, of a server that serves them itself.
const KEPT: &str = "grafts";
/// Where the browse view's table is kept.
const TABLE: (&str, &[u8]) = ("browse", b"table");

/// Everything that can be mounted.
pub struct Exports {
    store: Arc<Store>,
    works: Arc<Works>,
    pub volumes: Volumes,
    codec: Codec,
    browse: RwLock<Table>,
    /// Trees that are another host's, which alone may use their handles.
    leased: RwLock<HashMap<u64, Id>>,
    /// Volumes that somebody had for writing since the server started: who had them last. None among
    /// them is this host.
    writers: RwLock<HashMap<u64, Vec<Option<Id>>>>,
    fences: Fences,
    pub grafts: Grafts,
    /// Who serves grafts instead.
    pub grafter: Option<Arc<Grafter>>,
}

impl Exports {
    pub fn open(
        store: Arc<Store>,
        works: Arc<Works>,
        grafter: Option<Arc<Grafter>>,
    ) -> Result<Exports, StoreError> {
        let table = match store.record(TABLE.0, TABLE.1)? {
            Some(bytes) => Table::load(&bytes).unwrap_or_else(|e| {
                tracing::error!("the browse view's table cannot be read and is made anew: {e}");
                Table::default()
            }),
            None => Table::default(),
        };
        let codec = match &grafter {
            Some(_) => Codec::apart(store.secret()),
            None => Codec::new(store.secret()),
        };
        let grafts = Grafts::new(codec.clone(), store.dir().join(KEPT));
        let volumes = Volumes::open(store.clone())?;
        let all = volumes.list();
        let fences = Fences::open(&store, |id| all.iter().any(|volume| volume.id == id))?;
        Ok(Exports {
            store,
            works,
            volumes,
            codec,
            browse: RwLock::new(table),
            leased: RwLock::default(),
            writers: RwLock::default(),
            fences,
            grafts,
            grafter,
        })
    }

    /// Work tree `id` is of that host alone from here on; of none: of whoever has its handles.
    pub fn lease(&self, id: u64, host: Option<Id>) {
        match host {
            Some(host) => self.leased.write().insert(id, host),
            None => self.leased.write().remove(&id),
        };
    }

    /// Refuses a peer on another host than that which has the tree's lease.
    fn leased_to(&self, peer: &Peer, id: u64) -> Result<(), nfsstat3> {
        let Peer::Tcp(from) = peer else {
            return Ok(());
        };
        match self.leased.read().get(&id) {
            Some(host) if !leases::is_at(*host, from.ip()) => Err(nfsstat3::NFS3ERR_ACCES),
            _ => Ok(()),
        }
    }

    /// These hosts write to a volume from here on, and no others that are known.
    pub fn written_by(&self, volume: u64, hosts: Vec<Option<Id>>) {
        self.writers.write().insert(volume, hosts);
    }

    /// A command of that lease, or none of another host, is about to have a volume to write, alone.
    pub fn give_volume(&self, volume: u64, lease: Option<Id>) -> Result<(), StoreError> {
        self.fences.give(&self.store, volume, lease)
    }

    /// It is another tree after, with another number.
    pub fn roll_back(&self, volume: &Volume, base: Digest, call: &str) -> Result<(), Errno> {
        self.volumes.roll_back(volume, base, call)?;
        self.fences.forget(&self.store, volume.id);
        Ok(())
    }

    pub fn remove_volume(&self, volume: u64) -> Result<(), Errno> {
        self.volumes.remove(volume)?;
        self.fences.forget(&self.store, volume);
        Ok(())
    }

    /// Refuses whose lease of a volume is over, as another has it since: what it has mounted
    /// yet would write there behind that one's back.
    fn written_at(&self, peer: &Peer, volume: u64, generation: u64) -> Result<(), nfsstat3> {
        if generation != self.fences.generation(volume) {
            return Err(nfsstat3::NFS3ERR_STALE);
        }
        let Peer::Tcp(from) = peer else {
            return Ok(());
        };
        let writers = self.writers.read();
        let Some(writers) = writers.get(&volume) else {
            return Ok(());
        };
        let theirs = |host: &Option<Id>| host.is_some_and(|host| leases::is_at(host, from.ip()));
        match writers.iter().any(theirs) || !leases::is_anybody_at(from.ip()) {
            true => Ok(()),
            false => Err(nfsstat3::NFS3ERR_ACCES),
        }
    }

    /// The export path of a run's, build's or mount's work tree.
    pub fn tree_path(&self, kind: &str, tree: u64) -> String {
        format!("/{kind}/{tree}/{}", self.codec.export_secret("tree", tree))
    }

    pub fn volume_path(&self, volume: &Volume, read_only: bool) -> String {
        let secret = match read_only {
            true => self.codec.export_secret(VOLUME.1, volume.id),
            false => self.write_secret(volume.id),
        };
        format!("/volume/{}/{secret}", volume.name)
    }

    /// It goes with the generation: who had the volume before does not mount it again.
    fn write_secret(&self, volume: u64) -> String {
        match self.fences.generation(volume) {
            0 => self.codec.export_secret(VOLUME.0, volume),
            n => {
                let kind = format!("{}, generation {n}", VOLUME.0);
                self.codec.export_secret(&kind, volume)
            }
        }
    }

    /// What handles of grafts' files are made with.
    pub fn graft_key(&self) -> [u8; 16] {
        self.codec.graft_key()
    }

    pub fn graft_path(&self, graft: u64) -> String {
        format!(
            "/graft/{graft}/{}",
            self.codec.export_secret("graft", graft)
        )
    }

    /// Nobody has them any more.
    pub fn remove_grafts(&self, grafts: &[u64]) {
        match &self.grafter {
            Some(grafter) => grafter.remove(grafts),
            None => self.grafts.remove(grafts),
        }
    }

    /// It is served later, or removed; calls on it wait.
    pub fn expect_graft(&self, graft: u64) {
        match &self.grafter {
            Some(grafter) => grafter.expect(graft),
            None => self.grafts.expect(graft),
        }
    }

    /// No call on a graft is answered any more, nor waits for what never comes.
    pub fn close_grafts(&self) {
        match &self.grafter {
            Some(grafter) => grafter.close(),
            None => self.grafts.expect_none(),
        }
    }

    /// Drops what is kept for grafts that are not in use.
    pub fn sweep_grafts(&self) {
        match &self.grafter {
            Some(grafter) => grafter.sweep(),
            None => self.grafts.sweep(),
        }
    }

    /// The export path of a step in the browse view; none where the view does not show it.
    pub fn step_path(&self, name: &str, key: &str) -> Option<String> {
        let table = self.browse.read();
        let row = table
            .names
            .get(name)?
            .rows
            .iter()
            .rev()
            .find(|r| r.dir.ends_with(key))?;
        Some(format!("/chroot/{name}/{}", row.dir))
    }

    /// Shows a pocker's steps.
    pub fn browse_set(&self, name: &str, steps: &[(String, Digest)]) -> Outcome<()> {
        let mut table = self.browse.write();
        let mut next = table.clone();
        next.set(name, steps, clock::now()).map_err(|_| {
            Fail::bad("the browse view has shown 4 million steps and has no numbers left")
        })?;
        self.save(&next)?;
        *table = next;
        Ok(())
    }

    pub fn browse_remove(&self, name: &str) -> Outcome<()> {
        let mut table = self.browse.write();
        let mut next = table.clone();
        next.remove(name, clock::now());
        self.save(&next)?;
        *table = next;
        Ok(())
    }

    fn save(&self, table: &Table) -> Outcome<()> {
        let fail = |e: &(dyn std::error::Error + 'static)| {
            Fail::internal("cannot save the browse view", e)
        };
        let bytes = table.save().map_err(|e| fail(&e))?;
        self.store
            .put_record(TABLE.0, TABLE.1, &bytes)
            .map_err(|e| fail(&e))
    }

    /// A step that the view shows. One that it does not, or whose tree is gone, is stale.
    fn row_tree(&self, row: u64) -> Result<(Arc<SealedTree>, String), nfsstat3> {
        let place = self.browse.read().place(row).cloned();
        let Some(browse::Place::Step { name, snapshot }) = place else {
            return Err(nfsstat3::NFS3ERR_STALE);
        };
        match self.store.sealed(&snapshot) {
            Ok(tree) => Ok((tree, name)),
            Err(StoreError::Missing { .. }) => Err(nfsstat3::NFS3ERR_STALE),
            // Not read yet, perhaps, where nothing may wait.
            Err(e) => Err(convert::status(e.into())),
        }
    }

    fn browse_fileid(row: u64, node: Node) -> u64 {
        row << ROW_SHIFT | node
    }

    fn root_handle(&self) -> Fh {
        self.codec.encode(&Name::Synthetic { id: ROOT_ID })
    }

    /// Resolves an export path to its root handle.
    fn resolve(&self, path: &[u8]) -> Option<Fh> {
        let text = std::str::from_utf8(path).ok()?;
        let mut parts = text.trim_matches('/').split('/');
        let kind = parts.next()?;
        match kind {
            "chroot" => self.resolve_browse(&mut parts),
            "run" | "build" | "graft" => {
                let id: u64 = parts.next()?.parse().ok()?;
                let secret = parts.next()?;
                let class = if kind == "graft" { "graft" } else { "tree" };
                if parts.next().is_some() || !same(secret, &self.codec.export_secret(class, id)) {
                    return None;
                }
                if kind == "graft" {
                    return match &self.grafter {
                        Some(grafter) => grafter.root(id),
                        None => self.grafts.root(id),
                    };
                }
                self.works.get(id).ok()?;
                Some(self.codec.encode(&Name::Work {
                    tree: id,
                    node: ROOT,
                }))
            }
            "volume" => {
                let volume = self.volumes.find(parts.next()?)?;
                let secret = parts.next()?;
                let generation = self.fences.generation(volume.id);
                let writes = same(secret, &self.write_secret(volume.id));
                let reads = same(secret, &self.codec.export_secret(VOLUME.1, volume.id));
                if parts.next().is_some() || !(writes || reads) {
                    return None;
                }
                self.volumes.tree(volume.id).ok()?;
                Some(self.codec.encode(&Name::Volume {
                    tree: volume.id,
                    node: ROOT,
                    may: match reads {
                        true => May::Read,
                        false => May::Write { generation },
                    },
                }))
            }
            _ => None,
        }
    }

    fn resolve_browse(&self, parts: &mut dyn Iterator<Item = &str>) -> Option<Fh> {
        let Some(name) = parts.next() else {
            return Some(self.root_handle());
        };
        let table = self.browse.read();
        let row = table.names.get(name)?;
        let Some(step) = parts.next() else {
            return Some(self.codec.encode(&Name::Synthetic { id: row.id }));
        };
        let dir = if step == "run" { row.run() } else { step };
        let step = row.rows.iter().find(|r| r.dir == dir)?;
        if parts.next().is_some() {
            return None;
        }
        Some(self.codec.encode(&Name::Browse {
            row: step.id,
            node: ROOT,
        }))
    }
}

/// Compares secrets without telling by time how far they agree.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |acc, (x, y)| acc | (x ^ y))
            == 0
}
