//! What `pocker serve --stats` and `/metrics` are made of.

use super::api::MountedBy;
use serde::{Deserialize, Serialize};

/// `GET /v1/stats`: the NFS server's counters since it started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// When the server started, in seconds since 1970.
    pub started: i64,
    pub read_only: bool,
    pub connections: u64,
    /// Records that reached no procedure.
    pub refused: u64,
    /// Bytes that calls under way hold, and the most they may.
    pub held: u64,
    pub held_max: u64,
    /// Calls that are on threads, as they may have to wait for a disk, and how many ever were.
    #[serde(default)]
    pub on_threads: u64,
    #[serde(default)]
    pub threaded: u64,
    /// Calls that wait for others to give memory back.
    #[serde(default)]
    pub waiting: u64,
    #[serde(default)]
    pub store: StoreStats,
    #[serde(default)]
    pub caches: Vec<CacheStats>,
    #[serde(default)]
    pub leases: Leases,
    /// Work trees' and volumes' way to disk.
    #[serde(default)]
    pub journals: Vec<JournalStats>,
    /// What keeping volumes on disk took.
    #[serde(default)]
    pub volumes: VolumeStats,
    /// What checking reads found; none where they are not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerifyStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<super::upstream::UpstreamStats>,
    /// The procedures that were called.
    pub procedures: Vec<ProcedureStats>,
    /// Who said MNT and not UMNT since: a hint.
    pub mounted: Vec<MountedBy>,
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct StoreStats {
    pub pockers: u64,
    pub steps: u64,
    /// Sealed trees, and the bytes of their files by name: what they would take unshared.
    pub trees: u64,
    pub logical: u64,
    /// Bytes on disk: of directories and small files, and of the large files, and how many
    /// those are.
    pub index: u64,
    pub large: u64,
    pub large_files: u64,
    /// Of the file system that the store is on.
    pub free: u64,
}

impl StoreStats {
    /// How many times what is on disk its trees would take.
    pub fn dedup(&self) -> f64 {
        self.logical as f64 / (self.index + self.large).max(1) as f64
    }
}

/// One cache since the server started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CacheStats {
    pub name: String,
    pub hits: u64,
    pub misses: u64,
    /// Bytes, or descriptors.
    pub held: u64,
    pub held_max: u64,
}

/// Who has something that is given back when they end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Leases {
    pub runs: u64,
    pub mounts: u64,
    /// Steps that somebody builds.
    pub claims: u64,
    /// Work trees of builds, of runs and of writable mounts, and volumes.
    pub build_trees: u64,
    pub run_trees: u64,
    pub mount_trees: u64,
    pub volumes: u64,
    /// Control calls under way.
    pub calls: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JournalStats {
    /// `work` or `volumes`.
    pub name: String,
    /// Changes in the journal that are on their way to the database.
    pub rows: u64,
    pub bytes: u64,
    /// Contents of small changed files: in memory, and in a file beyond that.
    pub small_memory: u64,
    pub small_file: u64,
}

/// What `serve --verify-reads` did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VerifyStats {
    pub blobs: u64,
    pub bytes: u64,
    /// Reads that were refused.
    pub refused: u64,
    /// Blobs whose bytes are not theirs, 4096 at most.
    pub bad: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct VolumeStats {
    /// Calls that were answered when what they did was on disk.
    pub calls: u64,
    /// fdatasync(2) of their journal: one serves all calls that wait.
    pub journal_syncs: u64,
    /// fdatasync(2) of large files and fsync(2) of their folders.
    pub file_syncs: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcedureStats {
    pub program: u32,
    pub procedure: u32,
    /// As its RFC calls it.
    pub name: String,
    pub calls: u64,
    /// Calls that were answered with another status than OK.
    pub errors: u64,
    /// Bytes of calls and of replies.
    pub received: u64,
    pub sent: u64,
    pub mean_us: f64,
    /// What half of the calls, and 99 of 100, took less than.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Calls that took less than 1 us, 2 us, 4 us, … and the rest.
    pub buckets: Vec<u64>,
}
