//! Which directories a seal rewrites, and which of their entries.

use crate::types::{Errno, Node, ROOT};
use crate::work::HIDDEN;
use crate::work::node::What;
use crate::work::read::hidden;
use crate::work::state::State;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a kernel's NFS client calls a file that it has open but removed: ".nfs", then digits.
const SILLY: &[u8] = b".nfs";
/// Fewer digits than any client writes (OpenBSD: "A", 4 or 5 digits, "4.4").
const SILLY_DIGITS: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::work) enum Touch {
    Gone,
    /// A node under a name that its directory in the base does not have, or has for another.
    Added(Node),
    /// A node that changed under its name in the base.
    Changed(Node),
}

/// The directories to rewrite, and their touched entries. One that is not below the
/// root (the helper's hidden one) is there, but never reached.
#[derive(Default)]
pub(in crate::work) struct Plan {
    pub dirs: HashMap<Node, BTreeMap<Vec<u8>, Touch>>,
    marked: HashSet<Node>,
}

impl Plan {
    pub fn of(st: &State) -> Result<Plan, Errno> {
        let mut plan = Plan::default();
        if st.base.is_none() {
            plan.mark(st, ROOT)?;
        }
        for (dir, names) in &st.names {
            plan.mark(st, *dir)?;
            let touched = plan.dirs.entry(*dir).or_default();
            for name in &names.whiteouts {
                touched.insert(name.to_vec(), Touch::Gone);
            }
            for (_, name, node) in names.from(0) {
                if !hidden(*dir, name) && !silly(name) {
                    touched.insert(name.to_vec(), Touch::Added(node));
                }
            }
        }
        for (n, node) in st.nodes.iter() {
            match node.what {
                _ if n == ROOT => {}
                What::Dir(_) if !st.in_base(n) => plan.mark(st, n)?,
                _ => plan.changed(st, n)?,
            }
        }
        if let Some(root) = plan.dirs.get_mut(&ROOT) {
            root.insert(HIDDEN.to_vec(), Touch::Gone);
        }
        Ok(plan)
    }

    /// `dir` and all above it.
    fn mark(&mut self, st: &State, dir: Node) -> Result<(), Errno> {
        let mut at = dir;
        while self.marked.insert(at) {
            self.dirs.entry(at).or_default();
            if at == ROOT {
                break;
            }
            for (parent, name) in standing(st, at)? {
                let touched = self.dirs.entry(parent).or_default();
                touched.insert(name, Touch::Changed(at));
            }
            at = st.parent(at)?;
        }
        Ok(())
    }

    /// A node of the base, wherever it still has its names there.
    fn changed(&mut self, st: &State, n: Node) -> Result<(), Errno> {
        for (dir, name) in standing(st, n)? {
            self.mark(st, dir)?;
            let touched = self.dirs.entry(dir).or_default();
            touched.insert(name, Touch::Changed(n));
        }
        Ok(())
    }
}

/// The names that a node has in the base and still has.
fn standing(st: &State, n: Node) -> Result<Vec<(Node, Vec<u8>)>, Errno> {
    let Some(base) = st.base.as_ref().filter(|_| st.in_base(n)) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for place in base.members(n) {
        let found = base.base(place)?;
        let (dir, name) = (found.parent, found.entry.name());
        if !st.gone.contains(&dir) && !st.whited_out(dir, name) {
            names.push((dir, name.to_vec()));
        }
    }
    Ok(names)
}

/// A name that only a client's own bookkeeping made.
pub(in crate::work) fn silly(name: &[u8]) -> bool {
    name.strip_prefix(SILLY).is_some_and(|rest| {
        rest.len() >= SILLY_DIGITS && rest.iter().all(|b| b.is_ascii_hexdigit() || *b == b'.')
    })
}
