//! One node of a delta: what a changed or new node is.

use super::small::Small;
use super::staged::{Base, Staged};
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
    pub atime: Stamp,
    pub mtime: Stamp,
    pub ctime: Stamp,
    pub xattrs: Few,
    /// Of the EXCLUSIVE create that made it.
    pub verifier: Option<[u8; 8]>,
    pub what: What,
}

/// A [`Time`] without its padding: a node has three.
#[derive(Clone, Copy, Default)]
pub(super) struct Stamp([u32; 3]);

impl From<Time> for Stamp {
    fn from(t: Time) -> Stamp {
        Stamp([(t.secs >> 32) as u32, t.secs as u32, t.nanos])
    }
}

impl From<Stamp> for Time {
    fn from(Stamp([high, low, nanos]): Stamp) -> Time {
        let secs = i64::from(high as i32) << 32 | i64::from(low);
        Time { secs, nanos }
    }
}

/// Extended attributes, which few nodes have.
#[derive(Clone, Default)]
pub(super) struct Few(Option<Box<Xattrs>>);

impl From<Xattrs> for Few {
    fn from(xattrs: Xattrs) -> Few {
        Few((!xattrs.is_empty()).then(|| Box::new(xattrs)))
    }
}

impl std::ops::Deref for Few {
    type Target = [(Vec<u8>, Vec<u8>)];
    fn deref(&self) -> &Self::Target {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl Few {
    pub fn remove(&mut self, name: &[u8]) {
        if self.iter().any(|(n, _)| n == name) {
            let others = self.iter().filter(|(n, _)| n != name).cloned();
            *self = others.collect::<Xattrs>().into();
        }
    }
}

#[derive(Clone)]
pub(super) enum What {
    Dir(Box<Dir>),
    File(Content),
    Symlink(Box<[u8]>),
    Fifo,
    Socket,
    Char(Rdev),
    Block(Rdev),
}

#[derive(Clone, Copy)]
pub(super) struct Dir {
    pub parent: Number,
    /// The next added name's sequence number; never reused.
    pub next_seq: u64,
    /// Names, "." and ".." left out.
    pub entries: u64,
}

/// Where a regular file's bytes are.
#[derive(Clone)]
pub(super) enum Content {
    /// Not changed since the last seal.
    Blob(Box<Base>),
    /// In a row: at most the size of a small blob.
    Inline(Small),
    Staged(Arc<Staged>),
}

impl Content {
    pub fn blob(digest: Digest, size: u64) -> Content {
        Content::Blob(Box::new(Base { digest, size }))
    }
}

impl What {
    /// A new directory's, or one's of which nothing was added to.
    pub fn dir(parent: Number, entries: u64) -> What {
        What::Dir(Box::new(Dir {
            parent,
            next_seq: 0,
            entries,
        }))
    }

    pub fn kind(&self) -> Kind {
        match self {
            What::Dir(_) => Kind::Dir,
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
    /// Owned by `(mode, uid, gid)`, with `nlink` names; times are atime, mtime and ctime.
    pub fn new(
        (mode, uid, gid): (u32, u32, u32),
        nlink: u32,
        [atime, mtime, ctime]: [Time; 3],
        what: What,
    ) -> Node {
        Node {
            mode,
            uid,
            gid,
            nlink,
            atime: atime.into(),
            mtime: mtime.into(),
            ctime: ctime.into(),
            xattrs: Few::default(),
            verifier: None,
            what,
        }
    }

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
            None => (self.mtime.into(), self.ctime.into()),
        }
    }

    pub fn set_ctime(&mut self, t: Time) {
        match self.staged() {
            Some(s) => s.state().ctime = t,
            None => self.ctime = t.into(),
        }
    }

    pub fn set_mtime(&mut self, t: Time) {
        match self.staged() {
            Some(s) => s.state().mtime = t,
            None => self.mtime = t.into(),
        }
    }

    pub fn attr(&self, number: Number) -> Attr {
        let (mtime, ctime) = self.times();
        let (size, used) = match &self.what {
            What::Dir(_) => (DIR_SIZE, DIR_SIZE),
            What::File(Content::Blob(blob)) => (blob.size, blob.size),
            What::File(Content::Inline(small)) => (small.len(), small.len()),
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
            atime: self.atime.into(),
            mtime,
            ctime,
        }
    }
}
