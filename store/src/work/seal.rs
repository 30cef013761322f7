//! Seal: a work tree becomes a snapshot.
//!
//! Frozen, so that mutations wait. What is dirty is hashed and stored once; then the
//! directories on the changed paths are rewritten, deepest first, and all others are
//! reused by digest. The batch's commit is the durability point. Cost follows the
//! changed files and the directories above them.
//!
//! A kill at any moment leaves a tree that can be sealed again, to the same snapshot: staged
//! files are linked, not moved, into the blob area, and go with the tree's rows after the
//! commit.

use super::area::failed;
use super::node::{Content, Node as Inode, What};
use super::numbers::Moves;
use super::read::hidden;
use super::staged::Staged;
use super::state::State;
use super::tree::WorkTree;
use super::works::Works;
use crate::object::{Body, Counts, Entry, Meta};
use crate::store::{Batch, Step};
use crate::types::{Digest, Errno, Kind, Node, ROOT};
use crate::SMALL_BLOB;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// What a kernel's NFS client calls a file it has open but removed: ".nfs", then digits.
const SILLY: &[u8] = b".nfs";
/// Fewer digits than any client writes (OpenBSD: "A", 4 or 5 digits, "4.4").
const SILLY_DIGITS: usize = 7;

#[derive(Clone, Debug, Default)]
pub struct SealOptions {
    /// mtimes of changed nodes are not later than this (SOURCE_DATE_EPOCH).
    pub clamp_mtime: Option<i64>,
    /// Recorded in the same commit; the first sealed snapshot of a key wins.
    pub step: Option<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub snapshot: Digest,
    pub ordinal: u64,
    /// Of the whole tree.
    pub counts: Counts,
    /// Files stored, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Directories rewritten.
    pub dirs: u64,
}

impl Works {
    /// Seals the tree, then drops it: it is `Stale` after. On an error it is as it was.
    pub fn seal(&self, id: u64, options: &SealOptions) -> Result<Sealed, Errno> {
        let tree = self.get(id)?;
        let _frozen = tree.freeze.write();
        let sealed = {
            let st = tree.view()?;
            Sealing::new(&tree, &st, self.store.write_batch()?, options).run()?
        };
        self.forget(id, Some(&tree))?;
        Ok(sealed)
    }
}

/// One entry of a directory being rewritten.
struct Item {
    name: Vec<u8>,
    node: Node,
    /// The base's entry, where it still stands.
    base: Option<(Node, Entry)>,
}

/// A directory being rewritten: its entries in order, done up to `next`.
struct Frame {
    dir: Node,
    items: Vec<Item>,
    next: usize,
}

/// A rewritten directory, and where in it (counted from its first entry) nodes are.
struct Done {
    digest: Digest,
    counts: Counts,
    places: Vec<(u64, Place)>,
}

enum Place {
    /// Unchanged nodes of the base, in their order.
    Base(Node, u64),
    /// A name of a file that may have more.
    File(Node),
    Dir(Node),
}

struct Sealing<'a> {
    tree: &'a WorkTree,
    st: &'a State,
    batch: Batch<'a>,
    options: &'a SealOptions,
    rewrite: HashSet<Node>,
    done: HashMap<Node, Done>,
    bodies: HashMap<Node, Body>,
    files: u64,
    bytes: u64,
}

impl<'a> Sealing<'a> {
    fn new(tree: &'a WorkTree, st: &'a State, batch: Batch<'a>, options: &'a SealOptions) -> Sealing<'a> {
        Sealing {
            tree,
            st,
            batch,
            options,
            rewrite: HashSet::new(),
            done: HashMap::new(),
            bodies: HashMap::new(),
            files: 0,
            bytes: 0,
        }
    }

    fn run(mut self) -> Result<Sealed, Errno> {
        self.plan()?;
        self.directories()?;
        let groups = self.groups()?;
        let root = self.st.load(ROOT)?;
        let (digest, counts) = match self.done.get(&ROOT) {
            Some(done) => (done.digest, done.counts),
            None => {
                let base = self.st.base.as_ref().ok_or(Errno::Io)?;
                (base.root_dir(), base.counts())
            }
        };
        let meta = self.meta(&root, self.st.nodes.contains_key(&ROOT));
        let (snapshot, ordinal) = self.batch.put_snapshot(digest, &meta, counts, &groups)?;
        if let Some(step) = &self.options.step {
            self.batch.put_step(step, snapshot)?;
        }
        self.batch.commit()?;
        Ok(Sealed {
            snapshot,
            ordinal,
            counts,
            files: self.files,
            bytes: self.bytes,
            dirs: self.done.len() as u64,
        })
    }

    /// Marks the directories that must be rewritten.
    fn plan(&mut self) -> Result<(), Errno> {
        if self.st.base.is_none() {
            self.mark(ROOT)?;
        }
        for dir in self.st.names.keys() {
            self.mark(*dir)?;
        }
        for (n, node) in &self.st.nodes {
            match node.what {
                What::Dir { .. } if !self.st.in_base(*n) => self.mark(*n)?,
                What::Dir { .. } if *n != ROOT => self.mark(self.st.parent(*n)?)?,
                What::Dir { .. } => {}
                _ => self.mark_names(*n)?,
            }
        }
        Ok(())
    }

    /// `dir` and all above it.
    fn mark(&mut self, dir: Node) -> Result<(), Errno> {
        let mut at = dir;
        while self.rewrite.insert(at) && at != ROOT {
            at = self.st.parent(at)?;
        }
        Ok(())
    }

    /// The directories where a changed file of the base still has its names; those
    /// with added names are marked for these.
    fn mark_names(&mut self, n: Node) -> Result<(), Errno> {
        let Some(base) = self.st.base.clone().filter(|_| self.st.in_base(n)) else {
            return Ok(());
        };
        for place in base.members(n) {
            let found = base.base(place)?;
            let dir = found.parent;
            if !self.st.gone.contains(&dir) && !self.st.whited_out(dir, &found.entry.name) {
                self.mark(dir)?;
            }
        }
        Ok(())
    }

    /// Rewrites the marked directories below the root that are sealed at all. No
    /// recursion: a tree may be deeper than a stack.
    fn directories(&mut self) -> Result<(), Errno> {
        if !self.rewrite.contains(&ROOT) {
            return Ok(());
        }
        let mut stack = vec![self.frame(ROOT)?];
        while let Some(frame) = stack.last_mut() {
            let below = frame.items[frame.next..]
                .iter()
                .position(|item| self.rewrite.contains(&item.node));
            if let Some(i) = below {
                let child = frame.items[frame.next + i].node;
                frame.next += i + 1;
                stack.push(self.frame(child)?);
            } else if let Some(frame) = stack.pop() {
                let done = self.directory(&frame.items)?;
                self.done.insert(frame.dir, done);
            }
        }
        Ok(())
    }

    /// The entries of `dir` as they are now, sorted by name.
    fn frame(&self, dir: Node) -> Result<Frame, Errno> {
        let mut items = Vec::new();
        if let Some(base) = self.st.base.as_ref().filter(|_| self.st.in_base(dir)) {
            base.children_from(dir, 0, &mut |child| {
                let name = &child.entry.name;
                if !hidden(dir, name) && !self.st.whited_out(dir, name) {
                    items.push(Item {
                        name: name.clone(),
                        node: child.node,
                        base: Some((child.place, child.entry.clone())),
                    });
                }
                Ok(true)
            })?;
        }
        if let Some(names) = self.st.names.get(&dir) {
            for (name, node) in names.added.values() {
                if !hidden(dir, name) && !silly(name) {
                    items.push(Item {
                        name: name.to_vec(),
                        node: *node,
                        base: None,
                    });
                }
            }
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Frame {
            dir,
            items,
            next: 0,
        })
    }

    fn directory(&mut self, items: &[Item]) -> Result<Done, Errno> {
        let mut entries = Vec::with_capacity(items.len());
        let mut places = Vec::new();
        let mut at = 0;
        for item in items {
            let entry = self.entry(item)?;
            let nodes = entry.body.nodes();
            let place = match (&item.base, entry.body.kind()) {
                (_, Kind::Dir) if self.rewrite.contains(&item.node) => Place::Dir(item.node),
                // A directory of the base is its own place, wherever it went.
                (None, Kind::Dir) => Place::Base(item.node, nodes),
                (Some((place, _)), _) => Place::Base(*place, nodes),
                (None, _) => Place::File(item.node),
            };
            match (places.last_mut(), place) {
                (Some((_, Place::Base(first, len))), Place::Base(next, n)) if *first + *len == next => *len += n,
                (_, place) => places.push((at, place)),
            }
            at += nodes;
            entries.push(entry);
        }
        let (digest, counts) = self.batch.put_dir(&entries)?;
        Ok(Done {
            digest,
            counts,
            places,
        })
    }

    fn entry(&mut self, item: &Item) -> Result<Entry, Errno> {
        let changed = self.st.nodes.get(&item.node);
        let rewritten = self.done.get(&item.node).map(|done| Body::Dir {
            digest: done.digest,
            counts: done.counts,
        });
        let (meta, body) = match (changed, rewritten) {
            (Some(node), Some(body)) => (self.meta(node, true), body),
            (Some(node), None) => (self.meta(node, true), self.body(item.node, node)?),
            (None, rewritten) => {
                let old = self.old(item)?;
                (old.meta, rewritten.unwrap_or(old.body))
            }
        };
        Ok(Entry {
            name: item.name.clone(),
            meta,
            body,
        })
    }

    /// What the base says of an unchanged node.
    fn old(&self, item: &Item) -> Result<Entry, Errno> {
        match (&item.base, &self.st.base) {
            (Some((_, entry)), _) => Ok(entry.clone()),
            (None, Some(base)) => Ok(base.base(item.node)?.entry),
            (None, None) => Err(Errno::Io),
        }
    }

    fn meta(&self, node: &Inode, changed: bool) -> Meta {
        let mut mtime = node.times().0;
        if let Some(clamp) = self.options.clamp_mtime.filter(|c| changed && mtime.secs >= *c) {
            mtime = crate::types::Time { secs: clamp, nanos: 0 };
        }
        Meta {
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            mtime,
            xattrs: node.xattrs.clone(),
        }
    }

    /// A changed node's body; a file's bytes are stored at its first name.
    fn body(&mut self, n: Node, node: &Inode) -> Result<Body, Errno> {
        let content = match &node.what {
            What::File(content) => content,
            What::Symlink(target) => return Ok(Body::Symlink(target.clone())),
            What::Fifo => return Ok(Body::Fifo),
            What::Socket => return Ok(Body::Socket),
            What::Char(r) => return Ok(Body::Char(*r)),
            What::Block(r) => return Ok(Body::Block(*r)),
            What::Dir { .. } => {
                let base = self.st.base.as_ref().ok_or(Errno::Io)?;
                return Ok(base.base(n)?.entry.body.clone());
            }
        };
        if let Some(body) = self.bodies.get(&n) {
            return Ok(body.clone());
        }
        let (blob, size) = match content {
            Content::Blob { digest, size } => (*digest, *size),
            Content::Inline(bytes) => {
                self.files += 1;
                (self.batch.put_small_blob(bytes)?, bytes.len() as u64)
            }
            Content::Staged(staged) => {
                self.files += 1;
                self.store(staged)?
            }
        };
        self.bytes += size;
        let body = Body::File { blob, size };
        self.bodies.insert(n, body.clone());
        Ok(body)
    }

    fn store(&mut self, staged: &Arc<Staged>) -> Result<(Digest, u64), Errno> {
        let area = &self.tree.area;
        let (digest, size) = staged.complete(area)?;
        if size <= SMALL_BLOB {
            let mut bytes = Vec::with_capacity(size as usize);
            staged.read(area, 0, size as u32, &mut bytes)?;
            self.batch.put_small_blob(&bytes)?;
            return Ok((digest, size));
        }
        let path = area.path(staged.key);
        let link = path.with_extension("seal");
        let _ = std::fs::remove_file(&link);
        std::fs::hard_link(&path, &link).map_err(|e| failed("link staged file", &link, &e))?;
        self.batch.put_large(&link, &digest, size)?;
        Ok((digest, size))
    }

    /// Hard-link groups of the new tree, each sorted.
    fn groups(&self) -> Result<Vec<Vec<Node>>, Errno> {
        let (moves, mut names) = self.number();
        if let Some(base) = &self.st.base {
            for members in base.groups() {
                let Some(canonical) = members.iter().min() else { continue };
                let kept: Vec<Node> = if self.done.is_empty() {
                    members.to_vec()
                } else {
                    members.iter().filter_map(|n| moves.get(*n)).collect()
                };
                names.entry(*canonical).or_default().extend(kept);
            }
            // A file of the base with one name there, and more added.
            for (n, numbers) in &mut names {
                if self.st.in_base(*n) && base.members(*n).len() < 2 {
                    numbers.extend(moves.get(*n));
                }
            }
        }
        let mut groups: Vec<Vec<Node>> = names.into_values().filter(|g| g.len() > 1).collect();
        for group in &mut groups {
            group.sort_unstable();
        }
        groups.sort_unstable();
        Ok(groups)
    }

    /// Walks the rewritten directories in pre-order: where base nodes went, and the
    /// numbers of added names by their node.
    fn number(&self) -> (Moves, BTreeMap<Node, Vec<Node>>) {
        let mut moves = Moves::default();
        let mut names: BTreeMap<Node, Vec<Node>> = BTreeMap::new();
        let mut stack = vec![(ROOT, ROOT)];
        while let Some((dir, number)) = stack.pop() {
            let Some(done) = self.done.get(&dir) else { continue };
            for (offset, place) in &done.places {
                let new = number + 1 + offset;
                match place {
                    Place::Base(old, len) => moves.add(*old, *len, new),
                    Place::File(node) => names.entry(*node).or_default().push(new),
                    Place::Dir(child) => stack.push((*child, new)),
                }
            }
        }
        (moves.finish(), names)
    }
}

/// A name that only a client's own bookkeeping made.
fn silly(name: &[u8]) -> bool {
    name.strip_prefix(SILLY).is_some_and(|rest| {
        rest.len() >= SILLY_DIGITS && rest.iter().all(|b| b.is_ascii_hexdigit() || *b == b'.')
    })
}
