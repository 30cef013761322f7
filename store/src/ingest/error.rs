//! Why an archive's entry is refused, and the bounds.

use crate::error::StoreError;
use std::io;

/// Components of a path in an archive, in or out: as many as a path of 4096 bytes has room for.
pub const DEPTH_MAX: usize = 2048;

/// What an archive may hold. Bounds against bombs, far above a real root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestLimits {
    /// Entries in the stream and directories made for them, replaced ones counted: each
    /// takes some hundred bytes of memory till the end.
    pub entries: u64,
    /// Bytes of file content in the stream.
    pub bytes: u64,
    /// Components of a path.
    pub depth: usize,
    /// No path but a directory's comes twice in a layer: what such an archive holds depends on
    /// who reads it.
    pub once: bool,
}

impl Default for IngestLimits {
    fn default() -> IngestLimits {
        IngestLimits {
            // A full Debian desktop has under a million.
            entries: 8_000_000,
            bytes: 1 << 40,
            depth: DEPTH_MAX,
            once: false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("{}: {why}", .path.escape_ascii())]
    Path { path: Vec<u8>, why: &'static str },
    #[error("{}: more than {limit} {what}", .path.escape_ascii())]
    Limit {
        path: Vec<u8>,
        what: &'static str,
        limit: u64,
    },
    #[error("{}: {} on the way is a symbolic link", .path.escape_ascii(), .link.escape_ascii())]
    ThroughSymlink { path: Vec<u8>, link: Vec<u8> },
    #[error("{}: {} on the way is no directory", .path.escape_ascii(), .file.escape_ascii())]
    ThroughFile { path: Vec<u8>, file: Vec<u8> },
    #[error("{}: no such entry", .path.escape_ascii())]
    Absent { path: Vec<u8> },
    #[error("{}: a hard link to the directory {}", .path.escape_ascii(), .target.escape_ascii())]
    LinkToDir { path: Vec<u8>, target: Vec<u8> },
    #[error("{}: the input ends after {got} of {size} bytes", .path.escape_ascii())]
    Short { path: Vec<u8>, size: u64, got: u64 },
    #[error("{}: read the input: {source}", .path.escape_ascii())]
    Input { path: Vec<u8>, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) fn bad(path: &[u8], why: &'static str) -> IngestError {
    IngestError::Path {
        path: path.to_vec(),
        why,
    }
}

pub(super) fn limit(path: &[u8], what: &'static str, limit: u64) -> IngestError {
    IngestError::Limit {
        path: path.to_vec(),
        what,
        limit,
    }
}
