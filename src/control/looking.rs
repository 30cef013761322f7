//! Looking into trees: the shapes of it, and the client's calls.

use super::client::{Client, ClientError};
use serde::{Deserialize, Serialize};

/// Differences in one reply.
pub const DIFF_PAGE: usize = 20_000;

/// `GET /v1/diff/{old}/{new}?skip=N`: of two snapshots, a directory before what is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiffPage {
    /// [`DIFF_PAGE`] at most.
    pub entries: Vec<DiffEntry>,
    /// There are others after these.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffEntry {
    /// Bytes, relative to the root, whose own is empty.
    pub path: Vec<u8>,
    /// file, directory, symlink, fifo, socket, char or block.
    pub kind: String,
    pub change: Change,
    /// Of what changed: content, mode, owner, mtime, xattrs.
    pub parts: Vec<String>,
    /// Bytes of a regular file, before and after.
    pub before: u64,
    pub after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Added,
    Removed,
    Changed,
}

impl Client {
    /// How the snapshot `new` differs from `old`, told one by one.
    pub fn diff(
        &self,
        old: &str,
        new: &str,
        mut each: impl FnMut(&DiffEntry),
    ) -> Result<(), ClientError> {
        let mut skip = 0;
        loop {
            let page: DiffPage = self.get(&format!("/v1/diff/{old}/{new}?skip={skip}"))?;
            page.entries.iter().for_each(&mut each);
            skip += page.entries.len();
            if !page.more || page.entries.is_empty() {
                return Ok(());
            }
        }
    }
}
