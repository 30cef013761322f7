//! A work tree as it is now: the base and, over it, what changed. Everything
//! here is in memory; `work.db` holds the same as rows.

use super::node::{Content, DIR_SIZE, Node as Inode, What};
use super::replies::Replies;
use crate::sealed::{BaseChild, SealedTree};
use crate::types::{Attr, Errno, Kind, Node, ROOT, Time};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A directory's changed names.
#[derive(Default)]
pub(super) struct Names {
    /// By sequence number, which is the READDIR cookie less [`ADDED`].
    pub added: BTreeMap<u64, (Arc<[u8]>, Node)>,
    pub by_name: HashMap<Arc<[u8]>, u64>,
    /// Names of the base that are gone, or hidden by an added one.
    pub whiteouts: HashSet<Box<[u8]>>,
}

/// Cookies of added names begin here; base entry i has i + 3.
pub(super) const ADDED: u64 = 1 << 40;
pub(super) const FIRST_BASE: u64 = 3;

pub(super) struct State {
    pub base: Option<Arc<SealedTree>>,
    /// Numbers above are this tree's own.
    pub last_base: Node,
    pub created: Time,
    pub nodes: HashMap<Node, Inode>,
    /// Nodes of the base that have no name any more.
    pub gone: HashSet<Node>,
    pub names: HashMap<Node, Names>,
    pub next: Node,
    /// Numbers below are reserved in `work.db`, used or not: never given twice, even
    /// where a kill takes back the transaction that used one.
    pub reserved: Node,
    pub replies: Replies,
    /// The link's epoch when this was loaded; another one there means a commit
    /// failed and this is ahead of `work.db`.
    pub epoch: u64,
    /// Dropped or sealed away.
    pub dropped: bool,
}

/// Where a name is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Added(u64),
    Base,
}

#[derive(Clone, Copy)]
pub(super) struct Target {
    pub node: Node,
    pub at: At,
}

impl State {
    /// An unchanged clone.
    pub fn new(base: Option<Arc<SealedTree>>, created: Time) -> State {
        let last_base = base.as_ref().map_or(ROOT, |b| b.last_number());
        State {
            base,
            last_base,
            created,
            nodes: HashMap::new(),
            gone: HashSet::new(),
            names: HashMap::new(),
            next: last_base + 1,
            reserved: 0,
            replies: Replies::default(),
            epoch: 0,
            dropped: false,
        }
    }

    pub fn in_base(&self, n: Node) -> bool {
        self.base.is_some() && (ROOT..=self.last_base).contains(&n)
    }

    fn base_for(&self, n: Node) -> Result<&SealedTree, Errno> {
        if !self.in_base(n) || self.gone.contains(&n) {
            return Err(Errno::Stale);
        }
        self.base.as_deref().ok_or(Errno::Stale)
    }

    pub fn attr(&self, n: Node) -> Result<Attr, Errno> {
        if let Some(node) = self.nodes.get(&n) {
            return Ok(node.attr(n));
        }
        if let Some(root) = self.empty_root(n) {
            return Ok(root.attr(n));
        }
        let attr = self.base_for(n)?.attr(n)?;
        // Only a group's canonical number names it.
        if attr.node != n {
            Err(Errno::Stale)
        } else {
            Ok(attr)
        }
    }

    /// The root of a tree without a base, until something changes it.
    fn empty_root(&self, n: Node) -> Option<Inode> {
        (n == ROOT && self.base.is_none()).then(|| Inode {
            mode: 0o755,
            uid: 0,
            gid: 0,
            nlink: 2,
            atime: self.created,
            mtime: self.created,
            ctime: self.created,
            xattrs: Vec::new(),
            verifier: None,
            what: What::Dir {
                parent: ROOT,
                next_seq: 0,
                entries: 0,
            },
        })
    }

    /// The node as the delta would hold it.
    pub fn load(&self, n: Node) -> Result<Inode, Errno> {
        if let Some(node) = self.nodes.get(&n) {
            return Ok(node.clone());
        }
        if let Some(root) = self.empty_root(n) {
            return Ok(root);
        }
        super::base::load(self.base_for(n)?, n)
    }

    pub fn parent(&self, dir: Node) -> Result<Node, Errno> {
        if dir == ROOT {
            return Ok(ROOT);
        }
        match self.nodes.get(&dir).map(|n| &n.what) {
            Some(What::Dir { parent, .. }) => Ok(*parent),
            Some(_) => Err(Errno::NotDir),
            None => super::base::parent(self.base_for(dir)?, dir),
        }
    }

    /// `dir` must be a live directory.
    pub fn find(&self, dir: Node, name: &[u8]) -> Result<Option<Target>, Errno> {
        if let Some(names) = self.names.get(&dir) {
            if let Some(seq) = names.by_name.get(name) {
                let (_, node) = names.added.get(seq).ok_or(Errno::Io)?;
                return Ok(Some(Target {
                    node: *node,
                    at: At::Added(*seq),
                }));
            }
            if names.whiteouts.contains(name) {
                return Ok(None);
            }
        }
        if !self.in_base(dir) {
            return Ok(None);
        }
        let child = self.base_for(dir)?.child(dir, name)?;
        Ok(child.map(|c| Target {
            node: c.node,
            at: At::Base,
        }))
    }

    /// What a base entry's node is now.
    pub fn child_attr(&self, child: &BaseChild) -> Result<Attr, Errno> {
        match self.nodes.get(&child.node) {
            Some(node) => Ok(node.attr(child.node)),
            None => super::base::child_attr(self.base_for(child.node)?, child),
        }
    }

    /// Names in `dir`, "." and ".." left out.
    pub fn entries(&self, dir: Node) -> Result<u64, Errno> {
        match self.load(dir)?.what {
            What::Dir { entries, .. } => Ok(entries),
            _ => Err(Errno::NotDir),
        }
    }

    /// True where `dir` is `below` or above it: moving it there would cut it off.
    pub fn is_above(&self, dir: Node, below: Node) -> Result<bool, Errno> {
        let mut at = below;
        while at != ROOT {
            if at == dir {
                return Ok(true);
            }
            at = self.parent(at)?;
        }
        Ok(dir == ROOT)
    }

    /// The blob under a node that the delta does not hold, or holds unchanged.
    pub fn content(&self, n: Node) -> Result<Content, Errno> {
        let what = match self.nodes.get(&n) {
            Some(Inode {
                what: What::File(content),
                ..
            }) => return Ok(content.clone()),
            _ => self.load(n)?.what,
        };
        match what {
            What::File(content) => Ok(content),
            What::Dir { .. } => Err(Errno::IsDir),
            _ => Err(Errno::Inval),
        }
    }

    pub fn whited_out(&self, dir: Node, name: &[u8]) -> bool {
        self.names
            .get(&dir)
            .is_some_and(|n| n.whiteouts.contains(name))
    }

    pub fn kind(&self, n: Node) -> Result<Kind, Errno> {
        Ok(self.attr(n)?.kind)
    }
}

const _: () = assert!(DIR_SIZE > 0);
