//! A work tree as it is now: the base and, over it, what changed. Everything
//! here is in memory; `work.db` holds the same as rows.

use super::entries::Names;
use super::node::{Content, DIR_SIZE, Node as Inode, What};
use super::nodes::Nodes;
use super::quota::Quota;
use super::replies::Replies;
use crate::sealed::{BaseChild, BaseNode, SealedTree};
use crate::types::{Attr, Digest, Errno, Kind, Node, ROOT, Time};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Cookies of added names begin here; base entry i has i + 3.
pub(super) const ADDED: u64 = 1 << 40;
pub(super) const FIRST_BASE: u64 = 3;

pub(super) struct State {
    pub base: Option<Arc<SealedTree>>,
    /// Numbers above are this tree's own.
    pub last_base: Node,
    pub created: Time,
    pub nodes: Nodes,
    /// Nodes of the base that have no name any more.
    pub gone: HashSet<Node>,
    pub names: HashMap<Node, Box<Names>>,
    pub next: Node,
    /// Numbers below are reserved in `work.db`, used or not: never given twice, even
    /// where a kill takes back the transaction that used one.
    pub reserved: Node,
    pub replies: Replies,
    /// None where the tree may hold what it likes.
    pub quota: Option<Arc<Quota>>,
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
            nodes: Nodes::default(),
            gone: HashSet::new(),
            names: HashMap::new(),
            next: last_base + 1,
            reserved: 0,
            replies: Replies::default(),
            quota: None,
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
        (n == ROOT && self.base.is_none())
            .then(|| Inode::new((0o755, 0, 0), 2, [self.created; 3], What::dir(ROOT, 0)))
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
            Some(What::Dir(dir)) => Ok(dir.parent),
            Some(_) => Err(Errno::NotDir),
            None => super::base::parent(self.base_for(dir)?, dir),
        }
    }

    /// What a directory's changed names say of a name, if anything.
    fn changed(&self, dir: Node, name: &[u8]) -> Option<Option<Target>> {
        let names = self.names.get(&dir)?;
        if let Some((seq, node)) = names.find(name) {
            let at = At::Added(seq);
            return Some(Some(Target { node, at }));
        }
        names.whiteouts.contains(name).then_some(None)
    }

    /// A node's attributes and, where nothing of it was touched, its place in the base: for
    /// LOOKUP, which finds a directory once for its attributes and for its names.
    pub fn attr_and_base(&self, n: Node) -> Result<(Attr, Option<BaseNode>), Errno> {
        if self.nodes.contains_key(&n) || !self.in_base(n) {
            return Ok((self.attr(n)?, None));
        }
        let base = self.base_for(n)?;
        let found = base.base(n)?;
        let attr = base.attr_of(n, &found.entry.view()?)?;
        // See `attr`.
        if attr.node != n {
            return Err(Errno::Stale);
        }
        Ok((attr, Some(found)))
    }

    /// Attributes of what `name` is in `dir`, of which [`State::attr_and_base`] told.
    pub fn child(
        &self,
        dir: Node,
        base: Option<&BaseNode>,
        name: &[u8],
    ) -> Result<Option<Attr>, Errno> {
        if let Some(base) = base {
            debug_assert!(!self.names.contains_key(&dir), "who changes names touches");
            let child = self.base_for(dir)?.child_of(dir, base, name)?;
            return child.map(|child| self.child_attr(&child)).transpose();
        }
        let found = self.find(dir, name)?;
        found.map(|target| self.attr(target.node)).transpose()
    }

    /// `dir` must be a live directory.
    pub fn find(&self, dir: Node, name: &[u8]) -> Result<Option<Target>, Errno> {
        if let Some(known) = self.changed(dir, name) {
            return Ok(known);
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
            What::Dir(dir) => Ok(dir.entries),
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
            What::Dir(_) => Err(Errno::IsDir),
            _ => Err(Errno::Inval),
        }
    }

    /// The base has the node with this content.
    pub fn is_of_base(&self, n: Node, blob: &Digest) -> bool {
        let Some(base) = self.base.as_deref().filter(|_| self.in_base(n)) else {
            return false;
        };
        let same = |content: &Content| matches!(content, Content::Blob(own) if own.digest == *blob);
        let found = super::base::load(base, n).map(|node| node.what);
        matches!(found, Ok(What::File(content)) if same(&content))
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
