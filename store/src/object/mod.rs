//! Directory entries and counts: the parts that directory objects, snapshots
//! and work trees share; and, in the folder, how they become canonical bytes.
//!
//! An object is named by the SHA-256 of its bytes. All integers are little-endian. The
//! first eight bytes are the magic `PKRD`, the version (1), the kind (1 page, 2 index,
//! 3 snapshot) and two zero bytes. The same content always has the same bytes:
//! * entries are sorted by name, xattrs by name, both unique;
//! * up to [`limits::PAGE_ENTRIES`] entries that fit [`limits::PAGE_BYTES`] are one page;
//! * more are cut into pages where the names say so ([`build`]), whatever the
//!   directory's history was, and an index names the pages.

mod build;
mod dirindex;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
pub mod limits;
mod page;
mod record;
mod snapshot;
mod wire;

pub(crate) use build::synthetic_page;
pub use build::{ObjectSink, edit_dir, put_dir};
pub use dirindex::{DirIndex, PageRef};
pub use page::Page;
pub use record::{BodyRef, EntryRef, name_ok};
pub use snapshot::{Groups, SnapshotData};
pub use wire::Malformed;

use crate::types::{Digest, Kind, Rdev, Time};
use sha2::Digest as _;

/// SHA-256 of `bytes`.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

/// Bytes that say that they are a snapshot's.
pub(crate) fn is_snapshot(bytes: &[u8]) -> bool {
    wire::kind_of(bytes) == Ok(wire::SNAPSHOT)
}

/// Says what is wrong with bytes that are no object of any kind.
pub(crate) fn validate(bytes: &[u8]) -> Result<(), Malformed> {
    match wire::kind_of(bytes)? {
        wire::SNAPSHOT => SnapshotData::parse(bytes).map(drop),
        _ => DirObject::parse(bytes.to_vec()).map(drop),
    }
}

/// An object that lists entries: a whole directory or a page of one, or the index over pages.
#[derive(Clone, Debug)]
pub enum DirObject {
    Page(std::sync::Arc<Page>),
    Index(std::sync::Arc<DirIndex>),
}

impl DirObject {
    /// Validates everything; says what is wrong with bytes that are no directory.
    pub fn parse(bytes: Vec<u8>) -> Result<DirObject, Malformed> {
        match wire::kind_of(&bytes)? {
            wire::PAGE => Ok(DirObject::Page(Page::parse(bytes)?.into())),
            wire::INDEX => Ok(DirObject::Index(DirIndex::parse(bytes)?.into())),
            _ => Err(Malformed::new(
                "directory",
                5,
                "kind is neither page nor index",
            )),
        }
    }

    pub fn counts(&self) -> Counts {
        match self {
            DirObject::Page(p) => p.counts(),
            DirObject::Index(i) => i.counts(),
        }
    }

    /// Bytes in memory, for the caches.
    pub fn weight(&self) -> usize {
        match self {
            DirObject::Page(p) => p.size(),
            DirObject::Index(i) => i.size(),
        }
    }
}

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
