//! What may be wrong with a store.

use crate::object::{Counts, Malformed};
use crate::types::{Digest, Node};

/// What is wrong, and with what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("blob {digest}: {why}")]
    Blob { digest: Digest, why: BlobFault },
    /// A directory, a page or index of one, or a snapshot.
    #[error("object {digest}: {why}")]
    Object { digest: Digest, why: ObjectFault },
    /// `holder` is a snapshot, a directory, or the index over its pages.
    #[error(
        "object {holder} says that directory {dir} has {} nodes, {} bytes, {} entries and {} subdirectories; it has {}, {}, {} and {}",
        says.nodes, says.bytes, says.entries, says.subdirs,
        found.nodes, found.bytes, found.entries, found.subdirs
    )]
    Counts {
        holder: Digest,
        dir: Digest,
        says: Counts,
        found: Counts,
    },
    #[error("index {index} names the page {page}, {why}")]
    Page {
        index: Digest,
        page: Digest,
        why: &'static str,
    },
    #[error("directory {dir} gives the blob {blob} {says} bytes; it has {found}")]
    Size {
        dir: Digest,
        blob: Digest,
        says: u64,
        found: u64,
    },
    /// Members of a hard-link group must be the same but for their names.
    #[error("snapshot {snapshot}: nodes {first} and {member} are one file, but {why}")]
    Links {
        snapshot: Digest,
        first: Node,
        member: Node,
        why: &'static str,
    },
    #[error("snapshot {snapshot} is referred to, but not listed")]
    SnapshotRow { snapshot: Digest },
    #[error("snapshot {snapshot} is listed with {nodes} nodes and {bytes} bytes, which it has not")]
    SnapshotSums {
        snapshot: Digest,
        nodes: u64,
        bytes: u64,
    },
    #[error("step {key} leads to the snapshot {snapshot}, which cannot be opened")]
    Step { key: Digest, snapshot: Digest },
    #[error("pocker {} names the step {key}, which is not there", name.escape_ascii())]
    Pocker { name: Vec<u8>, key: Digest },
    #[error("pocker {}: {why}", name.escape_ascii())]
    PockerRow { name: Vec<u8>, why: &'static str },
    #[error("step {key} is pinned as {}, and is not there", label.escape_ascii())]
    Pin { key: Digest, label: Vec<u8> },
    #[error("work tree {tree}: {why}")]
    Work { tree: u64, why: WorkFault },
    /// What builds that were cut short leave; garbage collection takes it as well.
    #[error("{count} {what}, {bytes} bytes, that nothing refers to")]
    Unreferenced { what: Waste, count: u64, bytes: u64 },
    /// A file among the blobs that is no blob.
    #[error("{} does not belong there", path.escape_ascii())]
    Stray { path: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobFault {
    #[error("referred to, but not there")]
    Missing,
    #[error("its file of {size} bytes is gone")]
    NoFile { size: u64 },
    #[error("its file is there, but not listed")]
    NoRow,
    #[error("cut off after {found} of {expected} bytes")]
    Truncated { expected: u64, found: u64 },
    #[error("its bytes are those of {found}")]
    Rotted { found: Digest },
    /// `errno` as the operating system numbers it.
    #[error("cannot be read: {}", std::io::Error::from_raw_os_error(*errno))]
    Unreadable { errno: i32 },
    #[error("its place is taken by what is no file")]
    NotAFile,
    #[error("listed with {row} bytes; it has {found}")]
    RowSize { row: u64, found: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectFault {
    #[error("referred to, but not there")]
    Missing,
    #[error("its bytes are those of {found}")]
    Rotted { found: Digest },
    /// The bytes are those that were put, but make no sense.
    #[error("{0}")]
    Malformed(Malformed),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkFault {
    #[error("its base {base} is not in the store")]
    Base { base: Digest },
    /// The tree cannot be loaded any more.
    #[error("the row of node {node} is damaged")]
    Row { node: Node },
    #[error("node {node} needs the blob {blob} of {size} bytes, which is not in the store")]
    Blob { node: Node, blob: Digest, size: u64 },
    #[error("the content of node {node}, of {says} bytes, is lost: there are {found}")]
    Content { node: Node, says: u64, found: u64 },
    #[error("the staged file of node {node} is gone")]
    Staged { node: Node },
    #[error("a name in directory {dir} leads to node {node}; one of them is not there")]
    Name { dir: Node, node: Node },
    #[error("node {node} says that it has {says} names; it has {found}")]
    Links { node: Node, says: u32, found: u32 },
    #[error("{count} staged files, {bytes} bytes, that no node has")]
    Unstaged { count: u64, bytes: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Waste {
    Objects,
    SmallBlobs,
    LargeBlobs,
    /// Files in the blob area without a row.
    Files,
}

impl std::fmt::Display for Waste {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Waste::Objects => "objects",
            Waste::SmallBlobs => "small blobs",
            Waste::LargeBlobs => "large blobs",
            Waste::Files => "files without a row",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Space is wasted; nothing is wrong.
    Note,
    /// Something is wrong, but all content is there.
    Warning,
    /// Content of a tree cannot be had, or is not what was put there.
    Damage,
}

/// How a fault may be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repair {
    /// Not from what the store holds. The steps concerned can be built again.
    None,
    /// The bytes are moved to `quarantine/` and the row goes, so that reads fail instead
    /// of giving what is wrong, and a build that puts the same content makes it whole again.
    Quarantine,
    /// The row is removed: it speaks of what is gone.
    DropRow,
    /// The row is made again from what it is about.
    RestoreRow,
    /// The row is corrected from what it is about.
    MendRow,
    /// The step is forgotten, so that the next build makes it anew.
    DropStep,
    /// Removed: nothing refers to it.
    Delete,
}

impl Fault {
    /// The blob or object whose trees are the trees concerned.
    pub(super) fn subject(&self) -> Option<Digest> {
        match self {
            Fault::Blob { digest, .. } | Fault::Object { digest, .. } => Some(*digest),
            Fault::Counts { holder, .. } => Some(*holder),
            Fault::Page { index, .. } => Some(*index),
            Fault::Size { dir, .. } => Some(*dir),
            Fault::SnapshotRow { snapshot }
            | Fault::SnapshotSums { snapshot, .. }
            | Fault::Step { snapshot, .. } => Some(*snapshot),
            // Links say themselves where they are.
            Fault::Links { .. }
            | Fault::Pocker { .. }
            | Fault::PockerRow { .. }
            | Fault::Pin { .. }
            | Fault::Work { .. }
            | Fault::Unreferenced { .. }
            | Fault::Stray { .. } => None,
        }
    }

    /// `used`: some tree holds what it is about.
    pub(super) fn severity(&self, used: bool) -> Severity {
        match self {
            Fault::Blob {
                why: BlobFault::NoRow | BlobFault::RowSize { .. },
                ..
            }
            | Fault::SnapshotRow { .. }
            | Fault::SnapshotSums { .. } => Severity::Warning,
            Fault::Blob { .. } | Fault::Object { .. } if !used => Severity::Warning,
            Fault::Unreferenced { .. } | Fault::Stray { .. } => Severity::Note,
            Fault::Work {
                why: WorkFault::Unstaged { .. },
                ..
            } => Severity::Note,
            _ => Severity::Damage,
        }
    }
}
