//! A tree that is looked into, whatever it is, and single nodes of it.

use super::Walk;
use crate::control::looking::{NodeInfo, TreeRef};
use crate::daemon::archive::{ArchiveError, out};
use crate::daemon::diff;
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::state::{Daemon, digest};
use pocker_store::tree::Tree;
use pocker_store::types::{Attr, Creds, Errno, Kind};
use pocker_store::work::WorkTree;
use pocker_store::{SealedTree, StoreError};
use std::io::{self, Write};
use std::sync::Arc;

/// Bytes read from a file at a time.
const CHUNK: u32 = 1 << 20;

pub enum Looked {
    Sealed(Arc<SealedTree>),
    Work(Arc<WorkTree>),
}

impl Looked {
    pub fn tree(&self) -> &dyn Tree {
        match self {
            Looked::Sealed(tree) => &**tree,
            Looked::Work(tree) => &**tree,
        }
    }

    fn walk(&self, path: &[u8], follow: bool) -> Outcome<Walk> {
        let shown = path.escape_ascii();
        Walk::of(self.tree(), path, follow)?
            .ok_or_else(|| Fail::not_found(format!("there is no {shown} in the tree")))
    }

    pub fn stat(&self, path: &[u8], follow: bool) -> Outcome<Option<NodeInfo>> {
        let Some(walk) = Walk::of(self.tree(), path, follow)? else {
            return Ok(None);
        };
        let info = node(self.tree(), walk.names.join(&b'/'), &walk.at);
        info.map(Some)
            .map_err(|e| Fail::internal("cannot look into the tree", &e))
    }

    /// A regular file that is to be read.
    pub fn file(&self, path: &[u8]) -> Outcome<Attr> {
        let walk = self.walk(path, true)?;
        let shown = path.escape_ascii();
        match walk.at.kind {
            Kind::File => Ok(walk.at),
            kind => Err(Fail::bad(format!(
                "{shown} is a {}, not a file",
                diff::kind(kind)
            ))),
        }
    }

    /// All of a file's bytes, as far as they are there when it is their turn.
    pub fn cat(&self, file: &Attr, out: &mut dyn Write) -> io::Result<()> {
        let (mut at, mut bytes) = (0, Vec::new());
        loop {
            bytes.clear();
            let done = self
                .tree()
                .read(&Creds::ROOT, file.node, at, CHUNK, &mut bytes)
                .map_err(io::Error::other)?;
            out.write_all(&bytes)?;
            at += bytes.len() as u64;
            if done.eof || bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// A node and all below it, as tar whose entries begin with `name`; a directory without one is
    /// the archive's root.
    pub fn tar(&self, top: &Attr, name: &[u8], to: &mut dyn Write) -> Result<(), ArchiveError> {
        out::write_from(self.tree(), top.node, name, to)
    }

    /// A directory that is to be listed, or the one node that is there, and its path without links.
    pub fn top(&self, path: &[u8]) -> Outcome<(Attr, Vec<u8>)> {
        let walk = self.walk(path, true)?;
        Ok((walk.at, walk.names.join(&b'/')))
    }

    /// A node that is to be copied.
    pub fn source(&self, path: &[u8], follow: bool) -> Outcome<Attr> {
        Ok(self.walk(path, follow)?.at)
    }
}

/// What is told of a node.
pub fn node(tree: &dyn Tree, path: Vec<u8>, attr: &Attr) -> Result<NodeInfo, Errno> {
    let target = match attr.kind {
        Kind::Symlink => Some(tree.readlink(attr.node)?.0),
        _ => None,
    };
    let device = matches!(attr.kind, Kind::Char | Kind::Block);
    Ok(NodeInfo {
        path,
        kind: diff::kind(attr.kind).to_owned(),
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        nlink: attr.nlink,
        size: attr.size,
        mtime: (attr.mtime.secs, attr.mtime.nanos),
        target,
        device: device.then_some((attr.rdev.major, attr.rdev.minor)),
    })
}

impl Daemon {
    pub fn looked(&self, tree: &str) -> Outcome<Looked> {
        let gone = || Fail::not_found("the tree is not there (any more)".to_owned());
        match tree.parse().map_err(|()| gone())? {
            TreeRef::Snapshot(text) => match self.store.sealed(&digest(&text)?) {
                Ok(tree) => Ok(Looked::Sealed(tree)),
                Err(StoreError::Missing { .. }) => Err(gone()),
                Err(e) => Err(Fail::internal("cannot open the tree", &e)),
            },
            TreeRef::Work(id) => Ok(Looked::Work(self.works.get(id).map_err(|_| gone())?)),
            TreeRef::Volume(name) => {
                let volume = self.exports.volumes.find(&name).ok_or_else(gone)?;
                let tree = self.exports.volumes.tree(volume.id);
                Ok(Looked::Work(tree.map_err(|_| gone())?))
            }
        }
    }
}
