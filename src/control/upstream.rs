//! What a server's upstream gave it.

use serde::{Deserialize, Serialize};

/// Since the server started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UpstreamStats {
    pub url: String,
    pub fetched: u64,
    pub fetched_bytes: u64,
    /// Reads that failed as it did not answer, or gave other bytes.
    pub failed: u64,
    pub evicted: u64,
    /// Bytes that may go again, and the most that are kept of them.
    pub held: u64,
    pub held_max: u64,
}
