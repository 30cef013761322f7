//! Directory entries and counts: the parts that directory objects, snapshots
//! and work trees share.

use crate::types::{Digest, Kind, Rdev, Time};

/// Extended attributes, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a node is, besides its name. `mode` is 12 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: Xattrs,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    File { blob: Digest, size: u64 },
    Dir { digest: Digest, counts: Counts },
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    Char(Rdev),
    Block(Rdev),
}

impl Body {
    pub fn kind(&self) -> Kind {
        match self {
            Body::File { .. } => Kind::File,
            Body::Dir { .. } => Kind::Dir,
            Body::Symlink(_) => Kind::Symlink,
            Body::Fifo => Kind::Fifo,
            Body::Socket => Kind::Socket,
            Body::Char(_) => Kind::Char,
            Body::Block(_) => Kind::Block,
        }
    }

    /// Nodes this entry stands for: 1, or 1 + all below.
    pub fn nodes(&self) -> u64 {
        match self {
            Body::Dir { counts, .. } => 1 + counts.nodes,
            _ => 1,
        }
    }
}

/// One entry of a directory object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub meta: Meta,
    pub body: Body,
}

/// What a directory knows of everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes below, the directory itself left out; by name (a hard link counts each time).
    pub nodes: u64,
    /// Bytes of regular files below, by name.
    pub bytes: u64,
    /// Direct entries.
    pub entries: u64,
    /// Direct entries that are directories: nlink = 2 + subdirs.
    pub subdirs: u64,
}
