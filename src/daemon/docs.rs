//! What the daemon remembers beside the trees, as JSON documents in the store.

use super::export::Mark;
use super::leases;
use crate::control::api::{MountRecord, Purpose, Service, VolumeUse};
use crate::control::hosts::{Id, Lease};
use pocker_store::{Store, StoreError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A process, named so that a pid used again is not mistaken for it; or one of another host,
/// which has a lease in place of a number here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    pub start: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

impl Owner {
    pub fn of(pid: u32) -> Owner {
        Owner {
            pid,
            start: crate::control::sys::process_start(pid),
            lease: None,
        }
    }

    pub fn afar(lease: Lease) -> Owner {
        Owner {
            pid: 0,
            start: None,
            lease: Some(lease),
        }
    }

    /// The host it is on; none is this one.
    pub fn host(&self) -> Option<Id> {
        self.lease.map(|lease| lease.host)
    }

    pub fn lives(&self) -> bool {
        if let Some(lease) = self.lease {
            return leases::lives(lease);
        }
        self.start.is_some() && crate::control::sys::process_start(self.pid) == self.start
    }
}

/// Who asks, as far as it matters whose something is.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The host it is on; none is this one.
    pub host: Option<Id>,
    /// What other hosts have is its to take as well.
    pub all: bool,
}

impl Asker {
    pub const HERE: Asker = Asker {
        host: None,
        all: true,
    };

    pub fn may(&self, host: Option<Id>) -> bool {
        self.all || host == self.host
    }
}

/// A work tree and who holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TreeDoc {
    pub id: u64,
    pub purpose: Purpose,
    pub label: String,
    pub owner: Owner,
    /// Kept for `pocker debug` of this name, whoever made it.
    pub kept_for: Option<String>,
}

/// One graft of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GraftDoc {
    pub id: u64,
    pub host: String,
    pub read_only: bool,
    /// Which directory it was; one of an older server has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Mark>,
    /// A grafter serves it, and makes its handles.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apart: bool,
}

/// A run, live or ended; an ended one keeps its tree until the next start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunDoc {
    /// Its work tree's id too.
    pub id: u64,
    pub name: String,
    pub key: String,
    pub owner: Owner,
    pub grafts: Vec<GraftDoc>,
    #[serde(default)]
    pub volumes: Vec<VolumeUse>,
    pub ended: bool,
    /// Names the call that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub call: String,
}

impl RunDoc {
    pub fn live(&self) -> bool {
        !self.ended && self.owner.lives()
    }
}

/// A [`MountRecord`], from before it is mounted on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountDoc {
    #[serde(flatten)]
    pub record: MountRecord,
    /// Who is about to mount it: what is not mounted yet counts while that one lives. What
    /// is mounted has none; on another host it is who looks after the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maker: Option<Owner>,
}

/// A kind of document: where it is kept and under which id.
pub trait Doc: Serialize + DeserializeOwned {
    const KIND: &'static str;
    fn key(&self) -> Vec<u8>;
}

impl Doc for TreeDoc {
    const KIND: &'static str = "tree";
    fn key(&self) -> Vec<u8> {
        self.id.to_be_bytes().to_vec()
    }
}

impl Doc for RunDoc {
    const KIND: &'static str = "run";
    fn key(&self) -> Vec<u8> {
        self.id.to_be_bytes().to_vec()
    }
}

impl Doc for MountRecord {
    const KIND: &'static str = "mount";
    fn key(&self) -> Vec<u8> {
        self.target.as_bytes().to_vec()
    }
}

impl Doc for Service {
    const KIND: &'static str = "service";
    fn key(&self) -> Vec<u8> {
        self.name.as_bytes().to_vec()
    }
}

/// A place is one of each host; this one's go by the path alone.
pub fn mount_key(host: Option<Id>, target: &str) -> Vec<u8> {
    match host {
        Some(host) => format!("{host}:{target}").into_bytes(),
        None => target.as_bytes().to_vec(),
    }
}

impl Doc for MountDoc {
    const KIND: &'static str = MountRecord::KIND;
    fn key(&self) -> Vec<u8> {
        mount_key(
            self.maker.and_then(|maker| maker.host()),
            &self.record.target,
        )
    }
}

pub fn save<D: Doc>(store: &Store, doc: &D) -> Result<(), StoreError> {
    // These types have nothing that JSON cannot say.
    let bytes = serde_json::to_vec(doc).unwrap_or_default();
    store.put_record(D::KIND, &doc.key(), &bytes)
}

pub fn delete<D: Doc>(store: &Store, doc: &D) -> Result<(), StoreError> {
    store.delete_record(D::KIND, &doc.key()).map(drop)
}

pub fn get<D: Doc>(store: &Store, key: &[u8]) -> Result<Option<D>, StoreError> {
    Ok(store
        .record(D::KIND, key)?
        .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Every document of a kind; one that cannot be read is left out and logged.
pub fn all<D: Doc>(store: &Store) -> Result<Vec<D>, StoreError> {
    let mut out = Vec::new();
    for (id, bytes) in store.records(D::KIND)? {
        match serde_json::from_slice(&bytes) {
            Ok(doc) => out.push(doc),
            Err(e) => tracing::error!("{} {}: {e}", D::KIND, id.escape_ascii()),
        }
    }
    Ok(out)
}
