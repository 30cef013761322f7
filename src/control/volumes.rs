//! Volumes' snapshots: the shapes, and the client's calls.

use super::api::*;
use super::client::{Client, ClientError};
use hyper::Method;
use serde::{Deserialize, Serialize};

/// `POST /v1/volumes/{name}/snapshots`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewSnapshot {
    /// None: the server gives it the time for a name.
    pub name: Option<String>,
    /// Names the call: sent again, it finds what it made.
    pub token: String,
}

/// A snapshot of a volume: `GET /v1/volumes/{name}/snapshots`, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    pub volume: String,
    pub name: String,
    /// Its tree's digest.
    pub snapshot: String,
    pub created: i64,
    /// Files, directories and all else in it, by name, and bytes of its files.
    pub files: u64,
    pub bytes: u64,
    /// It alone has it, whatever others are called.
    #[serde(default)]
    pub id: String,
}

/// `POST /v1/volumes/{name}/snapshots/{snapshot}/rollback`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RollBack {
    /// Names the call: sent again, it does nothing more.
    pub token: String,
}

/// `POST /v1/volumes/{name}/moment`: a volume as it is now, under no name. It stays for a while, for who
/// is about to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub snapshot: String,
}

impl Client {
    pub fn volumes(&self) -> Result<Vec<VolumeInfo>, ClientError> {
        self.get("/v1/volumes")
    }

    pub fn new_volume(&self, name: &str, new: &NewVolume) -> Result<VolumeInfo, ClientError> {
        self.call(Method::PUT, &format!("/v1/volumes/{name}"), Some(new))
    }

    /// With its snapshots, or only where it has none.
    pub fn remove_volume(&self, name: &str, snapshots: bool) -> Result<(), ClientError> {
        self.remove(&format!("/v1/volumes/{name}?snapshots={snapshots}"))
    }

    /// Where a volume can be mounted, where nobody else has it.
    pub fn mount_volume(&self, name: &str, how: &MountVolume) -> Result<Export, ClientError> {
        self.hold()?;
        let path = format!("/v1/volumes/{name}/mount");
        self.call(Method::POST, &path, Some(how))
    }

    pub fn snapshots(&self, volume: &str) -> Result<Vec<SnapshotInfo>, ClientError> {
        self.get(&format!("/v1/volumes/{volume}/snapshots"))
    }

    pub fn new_snapshot(
        &self,
        volume: &str,
        new: &NewSnapshot,
    ) -> Result<SnapshotInfo, ClientError> {
        let path = format!("/v1/volumes/{volume}/snapshots");
        self.call(Method::POST, &path, Some(new))
    }

    pub fn remove_snapshot(&self, volume: &str, snapshot: &str) -> Result<(), ClientError> {
        let all = self.snapshots(volume)?;
        let known = all.into_iter().find(|known| known.name == snapshot);
        // Sent again it must not remove one that somebody made by this name meanwhile.
        let plain = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
        let id = match known.filter(|known| plain(&known.id)) {
            Some(known) => format!("?id={}", known.id),
            None => String::new(),
        };
        self.remove(&format!("/v1/volumes/{volume}/snapshots/{snapshot}{id}"))
    }

    /// The volume is what the snapshot is from now on.
    pub fn roll_back(
        &self,
        volume: &str,
        snapshot: &str,
        call: &RollBack,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/volumes/{volume}/snapshots/{snapshot}/rollback");
        self.call(Method::POST, &path, Some(call))
    }

    pub fn moment(&self, volume: &str) -> Result<Moment, ClientError> {
        self.call(
            Method::POST,
            &format!("/v1/volumes/{volume}/moment"),
            Some(&()),
        )
    }
}
