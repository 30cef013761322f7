//! Looking into a sealed tree by path: links are followed inside it only.

use super::fail::{Fail, Outcome};
use super::state::{Daemon, digest};
use pocker_store::SealedTree;
use pocker_store::tree::Tree;
use pocker_store::types::{Attr, Creds, Errno, Kind, ROOT};
use std::sync::Arc;

/// Largest file that is read whole: passwd and group files are far smaller.
const FILE_MAX: u32 = 1 << 20;
/// Symlinks followed in one path before it counts as a loop (as Linux has it).
const LINKS_MAX: usize = 40;

impl Daemon {
    fn snapshot(&self, snapshot: &str) -> Outcome<Arc<SealedTree>> {
        let tree = self.store.sealed(&digest(snapshot)?);
        tree.map_err(|e| Fail::internal("cannot open the tree", &e))
    }

    /// Reads one small file; none where there is no such file.
    pub fn file_of(&self, snapshot: &str, path: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let tree = self.snapshot(snapshot)?;
        let Some(attr) = find(&*tree, path)?.filter(|attr| attr.kind == Kind::File) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        tree.read(&Creds::ROOT, attr.node, 0, FILE_MAX, &mut bytes)
            .map_err(|e| Fail::internal("cannot read a file of the tree", &e))?;
        Ok(Some(bytes))
    }

    pub fn is_dir(&self, snapshot: &str, path: &[u8]) -> Outcome<bool> {
        let tree = self.snapshot(snapshot)?;
        Ok(find(&*tree, path)?.is_some_and(|attr| attr.kind == Kind::Dir))
    }
}

fn find(tree: &dyn Tree, path: &[u8]) -> Outcome<Option<Attr>> {
    let fail = |e: Errno| Fail::internal("cannot look into the tree", &e);
    let split = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|b| *b == b'/')
            .rev()
            .filter(|n| !n.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    };
    let mut todo = split(path);
    let mut at = tree.getattr(ROOT).map_err(fail)?;
    let mut links = 0;
    while let Some(name) = todo.pop() {
        let found = match tree.lookup(&Creds::ROOT, at.node, &name) {
            Ok(found) => found.node,
            Err(Errno::NoEnt | Errno::NotDir) => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        if found.kind != Kind::Symlink {
            at = found;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Ok(None);
        }
        let (target, _) = tree.readlink(found.node).map_err(fail)?;
        if target.starts_with(b"/") {
            at = tree.getattr(ROOT).map_err(fail)?;
        }
        todo.extend(split(&target));
    }
    Ok(Some(at))
}
