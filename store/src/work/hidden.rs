//! What FUSE helpers that died left of files that were open when they lost their name.

use super::tree::WorkTree;
use super::{HIDDEN, names};
use crate::tree::Tree;
use crate::types::{Creds, Errno, Kind, Node, OpCx, ROOT, Time};

/// Names removed before the folder is read again.
const BATCH: usize = 256;

impl WorkTree {
    /// Removes it all, and says how much that was. For a volume that nobody has mounted to
    /// write to it: other trees go with what they hide.
    pub fn sweep_hidden(&self, now: Time) -> Result<u64, Errno> {
        let dir = match self.lookup(&Creds::ROOT, ROOT, HIDDEN) {
            Ok(found) if found.node.kind == Kind::Dir => found.node.node,
            Ok(_) | Err(Errno::NoEnt) => return Ok(0),
            Err(e) => return Err(e),
        };
        let cx = OpCx {
            creds: &Creds::ROOT,
            now,
            once: None,
        };
        let mut swept = 0;
        loop {
            let names = self.some_names(dir)?;
            if names.is_empty() {
                return Ok(swept);
            }
            for (name, kind) in names {
                // A helper hides files only.
                match kind {
                    Kind::Dir => self.rmdir(&cx, dir, &name)?,
                    _ => self.remove(&cx, dir, &name)?,
                };
                swept += 1;
            }
        }
    }

    fn some_names(&self, dir: Node) -> Result<Vec<(Vec<u8>, Kind)>, Errno> {
        let mut names = Vec::with_capacity(BATCH);
        self.readdir(&Creds::ROOT, dir, 0, true, &mut |entry| {
            if names::check_name(entry.name).is_ok()
                && let Some(attr) = entry.attr
            {
                names.push((entry.name.to_vec(), attr.kind));
            }
            names.len() < BATCH
        })?;
        Ok(names)
    }
}
