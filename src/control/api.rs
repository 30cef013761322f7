//! What goes over the control socket: JSON shapes of `/v1`. Both the daemon
//! and its clients use these types, so the wire has one definition.
//!
//! Digests are 64 lower-case hexadecimal digits. Times are seconds since the
//! epoch. Paths on this host are UTF-8 here: `pocker` refuses others on its command line.

pub use super::collect::{GcDone, GcRequest, GcStep};
use super::hosts::RpcTls;
pub use super::stats::{
    CacheStats, JournalStats, Leases, ProcedureStats, Stats, StoreStats, VerifyStats, VolumeStats,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub store: String,
    /// Started by another command; leaves when idle.
    pub auto: bool,
    /// The unix socket that speaks NFS to local helpers.
    pub nfs_socket: String,
    /// The TCP address other hosts' clients use, when asked for.
    pub listen: Option<String>,
    /// What of TLS there is for NFS there; none where nobody listens or no certificate is there.
    pub rpc_tls: RpcTls,
    /// Where local kernel clients reach the server: a pinned network
    /// namespace and the address inside it (Linux).
    pub kernel: Option<KernelListener>,
    pub trees: u64,
    #[serde(default)]
    pub volumes: u64,
    pub runs: u64,
    pub mounts: u64,
    /// The server sees what the caller mounts: both are in one mount namespace.
    pub sees_mounts: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountedBy {
    /// An address, or `local`.
    pub client: String,
    /// The export, without its secret.
    pub path: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KernelListener {
    pub netns: Option<String>,
    pub addr: String,
}

/// An export and how to mount it. `path` holds the export's secret where it is
/// writable, so it belongs in no log.
#[derive(Clone, Serialize, Deserialize)]
pub struct Export {
    pub path: String,
    pub read_only: bool,
}

/// A finished step.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct StepInfo {
    pub key: String,
    pub snapshot: String,
    pub parent: Option<String>,
    /// The instruction in canonical form, for `history` and `--explain`.
    pub instruction: String,
    pub created: i64,
    /// Nodes and bytes of the whole tree, by name.
    pub nodes: u64,
    pub bytes: u64,
    /// What identifies outside inputs that may age, e.g. the mirror's release
    /// file digests of PROOT and PKG: `--pull` compares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// `POST /v1/steps/{key}/claim`: the right to build a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClaimRequest {
    pub pid: u32,
    /// Ignore a finished step of this key (`--no-cache`).
    #[serde(default)]
    pub rebuild: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimReply {
    /// Somebody finished it: here it is.
    Done(StepInfo),
    /// Build it; release by sealing, or by `DELETE /v1/claims/{id}`.
    Yours { claim: u64 },
    /// Another process builds it; ask again (the reply took up to a second).
    Busy { pid: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    Build,
    Run,
    /// `pocker mount --rw`, `pocker debug`.
    Mount,
}

/// `POST /v1/trees`: a writable clone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewTree {
    /// A snapshot's digest; none = an empty tree.
    pub base: Option<String>,
    pub purpose: Purpose,
    /// Shown by `ls` and in errors: "nginx step 2".
    pub label: String,
    /// The process that holds the tree; when it is gone, the tree may be dropped.
    pub pid: u32,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct TreeInfo {
    pub id: u64,
    pub export: Export,
}

/// `POST /v1/trees/{id}/seal`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SealRequest {
    pub key: String,
    pub claim: Option<u64>,
    pub parent: Option<String>,
    pub instruction: String,
    #[serde(default)]
    pub upstream: Option<String>,
    /// Clamp every mtime to at most this (`--source-date-epoch`).
    #[serde(default)]
    pub source_date_epoch: Option<i64>,
}

/// `PUT /v1/steps/{key}`: a step whose tree is known (RUN, FROM another pocker).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PutStep {
    pub snapshot: String,
    #[serde(flatten)]
    pub seal: SealRequest,
}

/// `PUT /v1/archive` (body: a tar stream): a new snapshot from an archive, and
/// `PUT /v1/trees/{id}/archive?dest=PATH` (the same onto a work tree).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArchiveDone {
    /// The sealed tree; none for an archive applied to a work tree.
    pub snapshot: Option<String>,
    pub entries: u64,
    pub bytes: u64,
    /// SHA-256 of the stream as received.
    pub sha256: String,
}

/// How a pocker starts and what its tree wants: from RUN, ENV, USER, WORKDIR, VOLUME.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// RUN's text, given to `/bin/sh -c`.
    pub command: String,
    /// What is executed in its place, without a shell: the words of an image's Entrypoint and Cmd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// In order; later entries win.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub workdir: Option<String>,
    #[serde(default)]
    pub volumes: Vec<String>,
    /// What an image says beside that.
    #[serde(default, skip_serializing_if = "ImageNotes::is_empty")]
    pub image: ImageNotes,
    /// The release of OpenBSD's sets that it was begun with, in whichever pocker before it: its programs are that release's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openbsd: Option<String>,
}

/// What an image says that nothing here acts on: it is shown, and goes out with the image again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageNotes {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// As 80/tcp.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// As the image has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
}

impl ImageNotes {
    pub fn is_empty(&self) -> bool {
        *self == ImageNotes::default()
    }
}

/// A named pocker: its steps in order, the last one RUN's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PockerInfo {
    pub name: String,
    pub steps: Vec<StepInfo>,
    pub config: RunConfig,
    pub created: i64,
    /// Ids of its live runs.
    #[serde(default)]
    pub running: Vec<u64>,
    /// Keys of those of its steps that are pinned.
    #[serde(default)]
    pub pinned: Vec<String>,
}

/// `PUT /v1/pockers/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PutPocker {
    pub steps: Vec<String>,
    pub config: RunConfig,
}

/// One `-d HOSTDIR:PATH[:ro,dev,suid]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graft {
    pub host: String,
    pub target: String,
    pub read_only: bool,
    /// Setuid files in it are in force. Matters to the mount, not to the server.
    #[serde(default)]
    pub suid: bool,
    /// So are device nodes.
    #[serde(default)]
    pub dev: bool,
}

/// One `-v NAME:PATH[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    pub name: String,
    pub target: String,
    pub read_only: bool,
}

/// `PUT /v1/volumes/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewVolume {
    /// A snapshot's digest, whose tree it begins as; none = an empty one.
    pub base: Option<String>,
    /// Names the call: sent again, it finds what it made.
    pub token: String,
    /// Many may write to it at once.
    #[serde(default)]
    pub shared: bool,
}

/// `GET /v1/volumes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    pub name: String,
    pub created: i64,
    /// The snapshot it began as.
    pub base: Option<String>,
    /// Files and bytes that it holds beside those of its base.
    pub files: u64,
    pub bytes: u64,
    /// Who has it, as a person would say it.
    pub used_by: Vec<String>,
    #[serde(default)]
    pub shared: bool,
    #[serde(default)]
    pub snapshots: u64,
}

/// `POST /v1/volumes/{name}/mount`: where to mount it. Where a `target` is given, process
/// `pid` has the volume from here on: it mounts it there and says so ([`MountRecord`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountVolume {
    pub target: Option<String>,
    pub pid: u32,
    pub read_only: bool,
}

/// `POST /v1/runs`: a fresh work tree from NAME's run step and an export for each graft
/// and volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NewRun {
    pub name: String,
    pub pid: u32,
    pub grafts: Vec<Graft>,
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
    #[serde(default)]
    pub quota: Quota,
    /// The volume that is its tree, in place of a fresh one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Names the call: sent again, it finds the run that it made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
}

/// What a run's tree may hold beside its base; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub bytes: Option<u64>,
    /// Files, directories and links that it adds.
    pub names: Option<u64>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct RunInfo {
    pub id: u64,
    pub name: String,
    pub key: String,
    pub tree: TreeInfo,
    /// In the order of the request.
    pub grafts: Vec<Export>,
    #[serde(default)]
    pub volumes: Vec<Export>,
    pub config: RunConfig,
    /// The instruction of its first step.
    #[serde(default)]
    pub base: String,
}

/// Every error of the API: what was tried, on what, why, and what to do.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// That of the reply.
    #[serde(skip)]
    pub status: u16,
}

/// A mount that a command left in place: `POST /v1/mounts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    pub target: String,
    /// What is mounted, as a person would name it: "nginx@run", "browse view".
    pub what: String,
    /// The work tree to drop when it is unmounted (`--rw`).
    #[serde(default)]
    pub tree: Option<u64>,
    /// The volume that is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeUse>,
}

/// A run that is started with the machine: `GET /v1/services`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    /// What the host that runs it wrote down of it.
    pub record: serde_json::Value,
}

/// A volume that a run or a mount has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUse {
    pub name: String,
    pub read_only: bool,
}

/// `POST /v1/pins`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewPin {
    /// A step's key, or its beginning.
    pub step: String,
    /// What it was called when it was pinned: "box@step2".
    pub label: String,
}

/// `GET /v1/pins`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PinInfo {
    pub key: String,
    pub label: String,
    pub since: i64,
    /// None where it cannot be read: `pocker fsck` says why.
    pub step: Option<StepInfo>,
}

/// `POST /v1/store/backup` (body: the folder).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BackupDone {
    /// The store that the backup is.
    pub path: String,
    pub volumes: u64,
    /// Large blobs, and of these the copies that were made.
    pub blobs: u64,
    pub copied: u64,
    pub copied_bytes: u64,
    /// Blobs whose copies are not what was put, and those that were not there.
    pub rotted: Vec<String>,
    pub missing: Vec<String>,
    /// Blobs that the backup leaves with the upstream.
    #[serde(default)]
    pub promised: u64,
}

/// `POST /v1/fsck`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FsckDone {
    /// Nothing is wrong that was not repaired; there may be waste.
    pub sound: bool,
    /// Something could not be read, so nothing was taken for unreferenced.
    pub incomplete: bool,
    pub findings: Vec<FsckFinding>,
    /// Findings that are not listed.
    pub more: u64,
    pub snapshots: u64,
    #[serde(default)]
    pub work_trees: u64,
    #[serde(default)]
    pub volumes: u64,
    #[serde(default)]
    pub pins: u64,
    pub objects: u64,
    pub blobs: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FsckFinding {
    /// `note`, `warning` or `damage`.
    pub severity: String,
    pub what: String,
    pub outcome: String,
    /// Where it is, 4096 of each at most.
    pub snapshots: Vec<String>,
    /// Those that are not listed.
    #[serde(default)]
    pub more_snapshots: u64,
    pub steps: Vec<String>,
    /// Of builds, runs and mounts.
    pub work_trees: Vec<u64>,
    /// By name.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// One path of it, for people: bytes that are not UTF-8 are replaced.
    pub example: Option<String>,
}

/// `POST /v1/stop`: what it ended before it left.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stopped {
    pub pid: u32,
    /// The server's store, which is closed when the server is gone.
    pub store: String,
    /// As people say it: "run web of nginx", "a run of nginx".
    pub runs: Vec<String>,
    pub mounts: Vec<String>,
    /// Mounts that would not go, with the reason.
    pub left: Vec<String>,
}

/// `MountRecord::what` of the browse view, which alone keeps no server alive.
pub const BROWSE_VIEW: &str = "browse view";
