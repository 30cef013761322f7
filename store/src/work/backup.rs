//! A copy of all trees as they are at one moment, made while they are written to.
//!
//! Staged files are copied while everything goes on, and which change meanwhile is known by their
//! counts of changes. Then all trees are frozen: what changed since is copied once more, and the
//! journal is carried over into the database. That is the moment; from then on the trees go on,
//! and only their database waits, with its changes in the journal, until it is copied.

use super::staged::Staged;
use super::tree::WorkTree;
use super::works::Works;
use crate::StoreError;
use crate::backup::copy_file;
use crate::types::Node;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Times the files are copied before the trees are frozen: the second one has only what changed
/// during the first.
const BEFOREHAND: usize = 2;

/// A file that was copied: what it was a copy of, where it belongs to a tree that is loaded.
type Copied = HashMap<(u64, Node), Option<(Arc<Staged>, u64)>>;

/// A tree's files, where it is loaded with what it knows of each.
type Files = Vec<(Node, Option<Arc<Staged>>)>;

impl Works {
    /// Copies database and staged files into the folder `to`, which is another store's in the
    /// making. How many trees there are.
    pub(crate) fn backup(&self, to: &Path) -> Result<u64, StoreError> {
        let files = to.join(self.durability.staging());
        crate::backup::make_dir(&files)?;
        crate::backup::new_database(&to.join(self.durability.database()))?;
        let mut copied = Copied::new();
        for info in self.list() {
            // Loaded, a tree counts what changes; one that cannot be loaded does not change.
            let _ = self.get(info.id);
        }
        for _ in 0..BEFOREHAND {
            for info in self.list() {
                let tree = self.slot(info.id).and_then(|slot| slot.lock().clone());
                self.copy_staged(info.id, tree.as_deref(), &files, &mut copied)?;
            }
        }
        self.as_of_now(to, &files, &mut copied)
    }

    fn as_of_now(&self, to: &Path, files: &Path, copied: &mut Copied) -> Result<u64, StoreError> {
        let making = self.making.lock();
        let ids: Vec<u64> = self.list().into_iter().map(|info| info.id).collect();
        let slots: Vec<_> = ids
            .iter()
            .filter_map(|id| Some((*id, self.slot(*id)?)))
            .collect();
        let held: Vec<_> = slots.iter().map(|(id, slot)| (*id, slot.lock())).collect();
        let loaded: Vec<_> = held
            .iter()
            .filter_map(|(_, tree)| (**tree).clone())
            .collect();
        let frozen: Vec<_> = loaded.iter().map(|tree| tree.freeze.write()).collect();
        for (id, tree) in &held {
            self.copy_staged(*id, tree.as_deref(), files, copied)?;
        }
        let database = self.store.dir().join(self.durability.database());
        let copy = to.join(self.durability.database());
        let fail = |e| StoreError::db("copy", &database, e);
        let known: HashSet<u64> = held.iter().map(|(id, _)| *id).collect();
        let buried = self.area.buried();
        let buried = buried.map_err(|e| StoreError::io("list", self.area.dir(), e))?;
        let done = self.writer.with_all(|conn| {
            // What says that these are gone does not come with the copy.
            for id in &buried {
                conn.execute("DELETE FROM tree WHERE id = ?1", [*id as i64])?;
            }
            let ids = conn
                .prepare("SELECT id FROM tree")?
                .query_map([], |r| Ok(r.get::<_, i64>(0)? as u64))?
                .collect::<Result<HashSet<u64>, _>>()?;
            // The moment is over: what changes from here on is in the journal alone.
            drop(frozen);
            drop(held);
            drop(making);
            Ok((ids, crate::backup::copy_database(conn, &copy)))
        });
        let (ids, copied) = done.flatten().map_err(fail)?;
        copied.map_err(|e| StoreError::db_copy(&database, &copy, e))?;
        for gone in known.difference(&ids) {
            let dir = files.join(gone.to_string());
            match std::fs::remove_dir_all(&dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &dir, e));
                }
                _ => {}
            }
        }
        Ok(ids.len() as u64)
    }

    /// Brings the copies of a tree's files up to date.
    fn copy_staged(
        &self,
        id: u64,
        tree: Option<&WorkTree>,
        files: &Path,
        copied: &mut Copied,
    ) -> Result<(), StoreError> {
        let dir = files.join(id.to_string());
        let staged = match tree {
            Some(tree) => staged_of(tree),
            None => self.listed(id)?,
        };
        if !staged.is_empty() {
            crate::backup::make_dir(&dir)?;
        }
        let now: HashSet<Node> = staged.iter().map(|(node, _)| *node).collect();
        let gone = copied.extract_if(|(tree, node), _| *tree == id && !now.contains(node));
        for ((_, node), _) in gone.collect::<Vec<_>>() {
            remove(&dir.join(node.to_string()))?;
        }
        for (node, staged) in staged {
            let (key, to) = ((id, node), dir.join(node.to_string()));
            let changes = staged.map(|staged| {
                let changes = staged.changes();
                (staged, changes)
            });
            let same = match (copied.get(&key), &changes) {
                (Some(Some((old, then))), Some((new, now))) => Arc::ptr_eq(old, new) && then == now,
                _ => false,
            };
            if same {
                continue;
            }
            remove(&to)?;
            match copy_file(&self.area.path(key), &to) {
                // Removed since it was listed, or never there: then the check says so.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => {
                    done?;
                    copied.insert(key, changes);
                }
            }
        }
        Ok(())
    }

    /// The files of a tree that is not loaded.
    fn listed(&self, id: u64) -> Result<Files, StoreError> {
        let files = self.unstaged(id, &HashSet::new())?;
        let number = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
        let nodes = files.into_iter().filter_map(|file| number(file.path));
        Ok(nodes.map(|node| (node, None)).collect())
    }
}

fn staged_of(tree: &WorkTree) -> Files {
    // One that cannot be viewed is dropped.
    let Ok(st) = tree.view() else {
        return Vec::new();
    };
    let of =
        |(number, node): (Node, &super::node::Node)| Some((number, Some(node.staged()?.clone())));
    st.nodes
        .iter()
        .filter_map(|(n, node)| of((n, node)))
        .collect()
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path, e)),
        _ => Ok(()),
    }
}
