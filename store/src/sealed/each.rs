//! All names of a tree, straight from its pages: for who wants no attributes.

use super::SealedTree;
use crate::object::EntryRef;
use crate::types::{Errno, Kind, Node, ROOT};

/// One name of a tree.
pub struct NameRef<'a> {
    pub path: &'a [u8],
    pub entry: EntryRef<'a>,
    /// What stands for the file, where it has several names.
    pub linked: Option<Node>,
}

impl SealedTree {
    /// Calls `f` with every name below the root, a directory's before those in it, until it fails.
    pub fn each_name<E: From<Errno>>(
        &self,
        mut f: impl FnMut(&NameRef<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut todo = vec![(ROOT, Vec::new())];
        while let Some((dir, path)) = todo.pop() {
            let mut failed = None;
            let (mut at, above) = (path.clone(), path.len());
            self.children_from(dir, 0, &mut |child| {
                at.truncate(above);
                if above > 0 {
                    at.push(b'/');
                }
                at.extend_from_slice(child.entry.name());
                let entry = child.entry.view()?;
                let is_dir = entry.body.kind() == Kind::Dir;
                let linked = self.groups().of(child.node).map(|_| child.node);
                let path = &at[..];
                failed = f(&NameRef {
                    path,
                    entry,
                    linked,
                })
                .err();
                if is_dir {
                    todo.push((child.place, at.clone()));
                }
                Ok(failed.is_none())
            })?;
            if let Some(e) = failed {
                return Err(e);
            }
        }
        Ok(())
    }
}
