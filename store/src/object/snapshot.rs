//! The snapshot object: a root directory, the root's own attributes, and which
//! numbers are one file.
//!
//! After the prefix: the root's mode u16, uid u32, gid u32, mtime seconds i64 and nanoseconds u32;
//! the root directory's digest; its counts (4 × u64); the root's xattrs as in a record; the
//! number of hard-link groups u32, and per group its length u32 and its node numbers
//! u64, ascending. Groups ascend by their first number, which is the canonical one.

use super::record::{self, check_meta, put_counts, put_meta_head, put_xattrs};
use super::wire::{self, Cursor, Malformed};
use super::{Counts, Meta, limits};
use crate::types::{Digest, Node, ROOT};

const OBJECT: &str = "snapshot";

/// Hard-link groups of a tree: lists of node numbers that are one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// All groups' numbers, group after group.
    nodes: Vec<Node>,
    /// Where each group starts in `nodes`.
    starts: Vec<u32>,
    /// (number, group), sorted.
    by_node: Vec<(Node, u32)>,
}

impl Groups {
    /// From lists in any order; each needs at least two different numbers that are in no
    /// other list and not the root's. `last` is the tree's highest number.
    pub fn new(mut lists: Vec<Vec<Node>>, last: Node) -> Result<Groups, Malformed> {
        for list in &mut lists {
            list.sort_unstable();
        }
        lists.sort_unstable();
        let mut groups = Groups::default();
        for list in &lists {
            groups
                .push(list, last)
                .map_err(|why| Malformed::new(OBJECT, 0, why))?;
        }
        groups
            .seal()
            .map_err(|why| Malformed::new(OBJECT, 0, why))?;
        Ok(groups)
    }

    fn push(&mut self, list: &[Node], last: Node) -> Result<(), &'static str> {
        if list.len() < 2 {
            return Err("a hard-link group of fewer than two");
        }
        if list[0] <= ROOT || list[list.len() - 1] > last {
            return Err("a hard link to a number outside the tree");
        }
        if list.windows(2).any(|w| w[0] >= w[1]) {
            return Err("a hard-link group not ascending");
        }
        if self
            .starts
            .last()
            .is_some_and(|s| self.nodes[*s as usize] >= list[0])
        {
            return Err("hard-link groups not ascending");
        }
        let group = self.starts.len() as u32;
        self.starts
            .push(u32::try_from(self.nodes.len()).map_err(|_| "too many hard links")?);
        self.nodes.extend_from_slice(list);
        self.by_node.extend(list.iter().map(|n| (*n, group)));
        Ok(())
    }

    fn seal(&mut self) -> Result<(), &'static str> {
        self.by_node.sort_unstable();
        if self.by_node.windows(2).any(|w| w[0].0 == w[1].0) {
            return Err("a number in two hard-link groups");
        }
        Ok(())
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The numbers of group `at`, ascending; the first is canonical.
    pub fn group(&self, at: usize) -> &[Node] {
        let end = self
            .starts
            .get(at + 1)
            .map_or(self.nodes.len(), |e| *e as usize);
        match self.starts.get(at) {
            Some(start) => &self.nodes[*start as usize..end],
            None => &[],
        }
    }

    /// All groups, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &[Node]> {
        (0..self.len()).map(|at| self.group(at))
    }

    /// The group that `node` is in, its canonical number first.
    pub fn of(&self, node: Node) -> Option<&[Node]> {
        let at = self.by_node.binary_search_by_key(&node, |(n, _)| *n).ok()?;
        Some(self.group(self.by_node[at].1 as usize))
    }

    /// The lowest number of `node`'s group; `node` itself where it is in none.
    pub fn canonical(&self, node: Node) -> Node {
        self.of(node)
            .and_then(|g| g.first().copied())
            .unwrap_or(node)
    }
}

/// What a snapshot object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotData {
    pub root_meta: Meta,
    pub root_dir: Digest,
    /// Of the root directory.
    pub counts: Counts,
    pub groups: Groups,
}

impl SnapshotData {
    /// The highest number of the tree.
    pub fn last_number(&self) -> Node {
        ROOT + self.counts.nodes
    }

    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        check_meta(&self.root_meta)?;
        let mut out = Vec::with_capacity(128 + 8 * self.groups.nodes.len());
        wire::prefix(&mut out, wire::SNAPSHOT);
        put_meta_head(&mut out, &self.root_meta);
        out.extend_from_slice(&self.root_dir.0);
        put_counts(&mut out, &self.counts);
        put_xattrs(&mut out, &self.root_meta.xattrs);
        out.extend_from_slice(&(self.groups.len() as u32).to_le_bytes());
        for group in self.groups.iter() {
            out.extend_from_slice(&(group.len() as u32).to_le_bytes());
            for node in group {
                out.extend_from_slice(&node.to_le_bytes());
            }
        }
        SnapshotData::parse(&out)?;
        Ok(out)
    }

    pub fn parse(bytes: &[u8]) -> Result<SnapshotData, Malformed> {
        if wire::kind_of(bytes)? != wire::SNAPSHOT {
            return Err(Malformed::new(OBJECT, 5, "kind is not snapshot"));
        }
        if bytes.len() > limits::SNAPSHOT_BYTES {
            return Err(Malformed::new(
                OBJECT,
                bytes.len(),
                "larger than a snapshot may be",
            ));
        }
        let mut c = Cursor::new(OBJECT, bytes, wire::PREFIX);
        let mode = u32::from(c.u16()?);
        if mode > 0o7777 {
            return c.fail("mode has more than 12 bits");
        }
        let (uid, gid) = (c.u32()?, c.u32()?);
        let (secs, nanos) = (c.i64()?, c.u32()?);
        let mtime = record::time(secs, nanos, &c)?;
        let root_dir = c.digest()?;
        let counts = record::counts(&mut c)?;
        let xattrs = record::xattrs_owned(&mut c)?;
        let groups = groups(&mut c, ROOT + counts.nodes)?;
        c.end()?;
        let root_meta = Meta {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        };
        Ok(SnapshotData {
            root_meta,
            root_dir,
            counts,
            groups,
        })
    }
}

fn groups(c: &mut Cursor<'_>, last: Node) -> Result<Groups, Malformed> {
    let mut groups = Groups::default();
    for _ in 0..c.u32()? {
        let len = c.u32()? as usize;
        // Bounded by the bytes that are there before anything is allocated.
        let Some(size) = len.checked_mul(8) else {
            return c.fail("hard-link group too long");
        };
        let list: Vec<Node> = c
            .take(size)?
            .chunks_exact(8)
            .map(|n| wire::u64_at(n, 0))
            .collect();
        if let Err(why) = groups.push(&list, last) {
            return c.fail(why);
        }
    }
    match groups.seal() {
        Ok(()) => Ok(groups),
        Err(why) => c.fail(why),
    }
}
