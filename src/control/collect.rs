//! The shapes of a collection.

use super::looking::Packed;
use serde::{Deserialize, Serialize};

/// `POST /v1/gc`, as its query.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct GcRequest {
    #[serde(default)]
    pub dry_run: bool,
    /// So many of each pocker's newest builds keep their steps, the present one among them.
    #[serde(default)]
    pub keep: Option<u64>,
    /// Only steps that were unused for more than so many seconds go.
    #[serde(default)]
    pub older: Option<u64>,
    /// Then large contents that were unused for more than so many seconds are packed.
    #[serde(default)]
    pub pack: Option<u64>,
}

/// What went, or would.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GcDone {
    pub steps: u64,
    pub objects: u64,
    pub blobs: u64,
    /// On disk.
    pub bytes: u64,
    #[serde(default)]
    pub removed: Vec<GcStep>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packed>,
}

/// A step that went, or would.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GcStep {
    pub key: String,
    pub instruction: String,
    /// Pockers of whose earlier builds it is.
    pub of: Vec<String>,
    pub created: i64,
    /// When it was made, found by a build, or let go of by a pocker or a pin.
    pub last_used: i64,
}
