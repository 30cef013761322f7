//! One operation on known nodes: what a step of the language became.

use crate::model::{Id, Model};
use pocker_store::types::{Creds, Errno, Kind, Time};

#[derive(Clone, Debug)]
pub enum What {
    Make {
        kind: Kind,
        dir: Id,
        name: Vec<u8>,
        mode: u32,
        /// A regular file: an existing one is an error.
        guarded: bool,
    },
    Link {
        file: Id,
        dir: Id,
        name: Vec<u8>,
    },
    Remove {
        dir: Id,
        name: Vec<u8>,
    },
    Rmdir {
        dir: Id,
        name: Vec<u8>,
    },
    Rename {
        from: Id,
        name: Vec<u8>,
        to: Id,
        new: Vec<u8>,
    },
    Write {
        file: Id,
        offset: u64,
        len: usize,
        seed: u8,
    },
    Truncate {
        file: Id,
        size: u64,
    },
    Chmod {
        node: Id,
        mode: u32,
    },
    Chown {
        node: Id,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Utimes {
        node: Id,
        at: Option<Time>,
    },
    SetXattr {
        node: Id,
        name: &'static [u8],
        value: Vec<u8>,
    },
    RemoveXattr {
        node: Id,
        name: &'static [u8],
    },
}

#[derive(Clone, Debug)]
pub struct Call {
    pub who: Creds,
    pub what: What,
}

/// What a link made here points to.
pub const TARGET: &[u8] = b"some/where";

impl Call {
    pub fn root(what: What) -> Call {
        Call {
            who: Creds::ROOT,
            what,
        }
    }

    /// Every node it names.
    pub fn nodes(&self) -> Vec<Id> {
        match &self.what {
            What::Make { dir, .. } | What::Remove { dir, .. } | What::Rmdir { dir, .. } => {
                vec![*dir]
            }
            What::Link { file, dir, .. } => vec![*file, *dir],
            What::Rename { from, to, .. } => vec![*from, *to],
            What::Write { file, .. } | What::Truncate { file, .. } => vec![*file],
            What::Chmod { node, .. }
            | What::Chown { node, .. }
            | What::Utimes { node, .. }
            | What::SetXattr { node, .. }
            | What::RemoveXattr { node, .. } => vec![*node],
        }
    }
}

/// The bytes of a write.
pub fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| seed.wrapping_add((i / 7) as u8)).collect()
}

impl Model {
    /// The node made, linked, removed, renamed, written or set.
    pub fn apply(&mut self, call: &Call) -> Result<Id, Errno> {
        let c = &call.who;
        match &call.what {
            What::Make {
                kind,
                dir,
                name,
                mode,
                guarded,
            } => self.make(c, *dir, name, *kind, *mode, *guarded),
            What::Link { file, dir, name } => self.link(c, *file, *dir, name),
            What::Remove { dir, name } => self.unlink(c, *dir, name, false),
            What::Rmdir { dir, name } => self.unlink(c, *dir, name, true),
            What::Rename {
                from,
                name,
                to,
                new,
            } => self.rename(c, *from, name, *to, new),
            What::Write {
                file,
                offset,
                len,
                seed,
            } => self.write(c, *file, *offset, &pattern(*seed, *len)),
            What::Truncate { file, size } => self.truncate(c, *file, *size),
            What::Chmod { node, mode } => self.chmod(c, *node, *mode),
            What::Chown { node, uid, gid } => self.chown(c, *node, *uid, *gid),
            What::Utimes { node, at } => self.utimes(c, *node, *at),
            What::SetXattr { node, name, value } => self.setxattr(c, *node, name, Some(value)),
            What::RemoveXattr { node, name } => self.setxattr(c, *node, name, None),
        }
    }
}
