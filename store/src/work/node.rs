//! One node of a delta: what a changed or new node is.

use super::staged::Staged;
use crate::object::Xattrs;
use crate::types::{Attr, Digest, Kind, Node as Number, Rdev, Time};
use std::sync::Arc;

/// What stat(2) says of a directory's size; no client uses it.
pub(super) const DIR_SIZE: u64 = 4096;

/// A changed or new node. Times of a staged file live with the file
/// ([`Staged`]), as WRITE moves them without touching the node.
#[derive(Clone)]
pub(super) struct Node {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub xattrs: Xattrs,
    /// Of the EXCLUSIVE create that made it.
    pub verifier: Option<[u8; 8]>,
    pub what: What,
}

#[derive(Clone)]
pub(super) enum What {
    Dir {
        parent: Number,
        /// The next added name's sequence number; never reused.
        next_seq: u64,
        /// Names, "." and ".." left out.
        entries: u64,
    },
    File(Content),
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    Char(Rdev),
    Block(Rdev),
}

/// Where a regular file's bytes are.
#[derive(Clone)]
pub(super) enum Content {
    /// Not changed since the last seal.
    Blob {
        digest: Digest,
        size: u64,
    },
    /// In the node's own row: at most the size of a small blob.
    Inline(Vec<u8>),
    Staged(Arc<Staged>),
}

impl What {
    pub fn kind(&self) -> Kind {
        match self {
            What::Dir { .. } => Kind::Dir,
            What::File(_) => Kind::File,
            What::Symlink(_) => Kind::Symlink,
            What::Fifo => Kind::Fifo,
            What::Socket => Kind::Socket,
            What::Char(_) => Kind::Char,
            What::Block(_) => Kind::Block,
        }
    }
}

impl Node {
    pub fn staged(&self) -> Option<&Arc<Staged>> {
        match &self.what {
            What::File(Content::Staged(s)) => Some(s),
            _ => None,
        }
    }

    /// mtime and ctime.
    pub fn times(&self) -> (Time, Time) {
        match self.staged() {
            Some(s) => {
                let st = s.state();
                (st.mtime, st.ctime)
            }
            None => (self.mtime, self.ctime),
        }
    }

    pub fn set_ctime(&mut self, t: Time) {
        match self.staged() {
            Some(s) => s.state().ctime = t,
            None => self.ctime = t,
        }
    }

    pub fn set_mtime(&mut self, t: Time) {
        match self.staged() {
            Some(s) => s.state().mtime = t,
            None => self.mtime = t,
        }
    }

    pub fn attr(&self, number: Number) -> Attr {
        let (mtime, ctime) = self.times();
        let (size, used) = match &self.what {
            What::Dir { .. } => (DIR_SIZE, DIR_SIZE),
            What::File(Content::Blob { size, .. }) => (*size, *size),
            What::File(Content::Inline(bytes)) => (bytes.len() as u64, bytes.len() as u64),
            What::File(Content::Staged(s)) => {
                let st = s.state();
                (st.size, st.used)
            }
            What::Symlink(t) => (t.len() as u64, t.len() as u64),
            _ => (0, 0),
        };
        let rdev = match self.what {
            What::Char(r) | What::Block(r) => r,
            _ => Rdev::default(),
        };
        Attr {
            node: number,
            kind: self.what.kind(),
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            size,
            used,
            rdev,
            atime: self.atime,
            mtime,
            ctime,
        }
    }
}
