//! What a check of the store wants to know of the work trees.
//!
//! Rows are read in one transaction of a connection of its own, so they are of one moment
//! and no writer waits. Files are not: what looks wrong with them is looked at again under
//! [`Works::held`].

use super::codec::{self, ContentRow};
use super::durability::Durability;
use super::node::What;
use super::works::Works;
use crate::StoreError;
use crate::types::{Digest, Node, ROOT};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Only the checkpoint of the one writer can make a reader wait.
const BUSY: Duration = Duration::from_secs(30);

/// A file's use of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobUse {
    pub node: Node,
    pub digest: Digest,
    pub size: u64,
}

/// A tree's rows, as far as they refer to something.
#[derive(Default)]
pub(crate) struct Delta {
    pub id: u64,
    pub base: Option<Digest>,
    pub blobs: Vec<BlobUse>,
    pub staged: HashSet<Node>,
    /// Files whose content is a row, and how long that is to be, where they say so.
    pub inline: HashMap<Node, u64>,
    /// Rows of contents, and how long they are.
    pub contents: HashMap<Node, u64>,
    /// Nodes that the delta has, and those of the base that it has not any more.
    pub nodes: HashSet<Node>,
    pub gone: HashSet<Node>,
    /// Names that nodes say they have; of directories one, whatever their link counts are.
    pub says: HashMap<Node, u32>,
    /// Rows that do not decode.
    pub damaged: Vec<Node>,
    /// Directory and name of added names, by node; the last one of each.
    pub names: HashMap<Node, (Node, Vec<u8>)>,
    /// Directory and node of every added name.
    pub links: Vec<(Node, Node)>,
}

/// A file in a tree's folder that no node has.
pub(crate) struct Unstaged {
    pub path: PathBuf,
    pub bytes: u64,
}

impl Works {
    /// The store in `dir` may have trees of this durability.
    pub(crate) fn any(dir: &Path, durability: Durability) -> bool {
        let path = dir.join(durability.database());
        path.symlink_metadata().is_ok()
    }

    /// Everything is in the database.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.writer.settle().expect("work.db");
    }

    pub(crate) fn are_volumes(&self) -> bool {
        self.durability.is_disk()
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.slot(id).is_some()
    }

    /// Ids of all trees.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.list().into_iter().map(|info| info.id).collect()
    }

    /// `None` where the tree is gone.
    pub(crate) fn delta(&self, id: u64) -> Result<Option<Delta>, StoreError> {
        if self.durability.is_disk() {
            // What a crash of the machine took from files that were not stable is made good.
            let _ = self.get(id);
        }
        self.delta_held(id)
    }

    /// The same under [`Works::held`], where no tree can be loaded.
    pub(crate) fn delta_held(&self, id: u64) -> Result<Option<Delta>, StoreError> {
        let path = self.store.dir().join(self.durability.database());
        let read = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let conn = Connection::open_with_flags(&path, flags)?;
            conn.busy_timeout(BUSY)?;
            let tx = conn.unchecked_transaction()?;
            delta(&tx, id)
        };
        let settled = self.writer.settle();
        settled
            .and_then(|()| read())
            .map_err(|e| StoreError::db("check a work tree", &path, e))
    }

    /// Runs `f` while nothing changes the tree; `None` where it is gone.
    pub(crate) fn held<T>(&self, id: u64, f: impl FnOnce() -> T) -> Option<T> {
        let slot = self.slot(id)?;
        // Held, nobody loads the tree; and one that is not loaded is not changed.
        let slot = slot.lock();
        let _frozen = slot.as_ref().map(|tree| tree.freeze.write());
        // Dropped or sealed meanwhile: its files are the sweeper's.
        self.slot(id)?;
        Some(f())
    }

    pub(crate) fn staged_path(&self, id: u64, node: Node) -> PathBuf {
        self.area.path((id, node))
    }

    /// Files in the tree's folder but those of `staged` nodes.
    pub(crate) fn unstaged(
        &self,
        id: u64,
        staged: &HashSet<Node>,
    ) -> Result<Vec<Unstaged>, StoreError> {
        let dir = self.area.tree_dir(id);
        let fail = |e| StoreError::io("list", &dir, e);
        let files = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(fail)?,
        };
        let mut found = Vec::new();
        for file in files {
            let path = file.map_err(fail)?.path();
            if !number(&path).is_some_and(|n| staged.contains(&n)) {
                // Gone already: then it has no bytes.
                let bytes = path.symlink_metadata().map_or(0, |m| m.len());
                found.push(Unstaged { path, bytes });
            }
        }
        Ok(found)
    }

    /// Removes a file that [`Works::unstaged`] found, under [`Works::held`].
    pub(crate) fn unlink_unstaged(&self, id: u64, path: &Path) -> Result<(), StoreError> {
        if let Some(node) = number(path) {
            self.area.forget((id, node));
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove staged file", path, e))
            }
            _ => Ok(()),
        }
    }
}

fn number(path: &Path) -> Option<Node> {
    path.file_name()?.to_str()?.parse().ok()
}

impl Delta {
    /// Files whose content is not as long as they say: node, what it says, what there is.
    pub fn lost(&self) -> Vec<(Node, u64, u64)> {
        let found = |node| self.contents.get(node).copied().unwrap_or(0);
        let all = self
            .inline
            .iter()
            .map(|(node, says)| (*node, *says, found(node)));
        let mut lost: Vec<_> = all.filter(|(_, says, found)| says != found).collect();
        lost.sort_unstable();
        lost
    }

    /// The tree has this node, if `last` is the highest number of its base.
    pub fn has(&self, node: Node, last: Node) -> bool {
        self.nodes.contains(&node)
            || node == ROOT
            || (node <= last && node > 0 && !self.gone.contains(&node))
    }
}

fn delta(conn: &Connection, id: u64) -> rusqlite::Result<Option<Delta>> {
    let tree = id as i64;
    let base = conn
        .query_row("SELECT base FROM tree WHERE id = ?1", [tree], |r| {
            r.get::<_, Option<[u8; 32]>>(0)
        })
        .optional()?;
    let Some(base) = base else {
        return Ok(None);
    };
    let mut delta = Delta {
        id,
        base: base.map(Digest),
        ..Delta::default()
    };
    let mut all = conn.prepare("SELECT node, data FROM node WHERE tree = ?1")?;
    let mut rows = all.query([tree])?;
    while let Some(row) = rows.next()? {
        delta.node(row.get::<_, i64>(0)? as u64, row.get_ref(1)?.as_blob().ok());
    }
    let mut all = conn.prepare("SELECT node, length(data) FROM content WHERE tree = ?1")?;
    let mut rows = all.query([tree])?;
    while let Some(row) = rows.next()? {
        let (node, len) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)?);
        delta.contents.insert(node, len as u64);
    }
    let mut all = conn.prepare("SELECT dir, name, node FROM added WHERE tree = ?1")?;
    let mut rows = all.query([tree])?;
    while let Some(row) = rows.next()? {
        let (dir, node) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(2)? as u64);
        delta.names.insert(node, (dir, row.get(1)?));
        delta.links.push((dir, node));
    }
    Ok(Some(delta))
}

impl Delta {
    fn node(&mut self, node: Node, data: Option<&[u8]>) {
        if data.is_some_and(<[u8]>::is_empty) {
            self.gone.insert(node);
            return;
        }
        self.nodes.insert(node);
        let decoded = data.map(codec::decode_node);
        if let Some(Ok((inode, _))) = &decoded {
            let is_dir = matches!(inode.what, What::Dir(_));
            self.says.insert(node, if is_dir { 1 } else { inode.nlink });
        }
        match decoded {
            Some(Ok((_, Some(ContentRow::Blob { digest, size })))) => {
                self.blobs.push(BlobUse { node, digest, size });
            }
            Some(Ok((_, Some(ContentRow::Staged { base, .. })))) => {
                self.staged.insert(node);
                self.blobs.extend(base.map(|(base, _)| BlobUse {
                    node,
                    digest: base.digest,
                    size: base.size,
                }));
            }
            Some(Ok((_, Some(ContentRow::Inline { size: Some(size) })))) => {
                self.inline.insert(node, size);
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => self.damaged.push(node),
        }
    }
}
