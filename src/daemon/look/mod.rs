//! Looking into trees by path: links are followed inside a tree only.

mod list;
mod one;
mod sizes;

pub use one::Looked;

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
    Ok(Walk::of(tree, path, true)?.map(|walk| walk.at))
}

/// Where a path leads.
struct Walk {
    at: Attr,
    /// Names from the root, without links.
    names: Vec<Vec<u8>>,
}

impl Walk {
    /// None where nothing is; `follow`: where the last name is a link's, what it leads to.
    fn of(tree: &dyn Tree, path: &[u8], follow: bool) -> Outcome<Option<Walk>> {
        let fail = |e: Errno| Fail::internal("cannot look into the tree", &e);
        let split = |path: &[u8]| -> Vec<Vec<u8>> {
            let names = path.split(|b| *b == b'/').rev();
            let names = names.filter(|n| !n.is_empty() && *n != b".");
            names.map(<[u8]>::to_vec).collect()
        };
        let root = tree.getattr(ROOT).map_err(fail)?;
        let mut todo = split(path);
        let mut walk = Walk {
            at: root,
            names: Vec::new(),
        };
        // As system calls have it: what ends in a slash is a directory.
        let dir = path.ends_with(b"/") || path.ends_with(b"/.");
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if walk.at.kind != Kind::Dir {
                return Ok(None);
            }
            let found = match tree.lookup(&Creds::ROOT, walk.at.node, &name) {
                Ok(found) => found.node,
                Err(Errno::NoEnt | Errno::NotDir | Errno::NameTooLong | Errno::Stale) => {
                    return Ok(None);
                }
                Err(e) => return Err(fail(e)),
            };
            if name == b".." {
                walk.names.pop();
                walk.at = found;
                continue;
            }
            if found.kind != Kind::Symlink || (todo.is_empty() && !follow && !dir) {
                walk.names.push(name);
                walk.at = found;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Ok(None);
            }
            let (target, _) = tree.readlink(found.node).map_err(fail)?;
            if target.starts_with(b"/") {
                (walk.at, walk.names) = (root, Vec::new());
            }
            todo.extend(split(&target));
        }
        Ok((!dir || walk.at.kind == Kind::Dir).then_some(walk))
    }
}
