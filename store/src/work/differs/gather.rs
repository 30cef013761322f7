//! What the delta names, beside what the base has in its place.

use super::bytes::Doubt;
use super::{Item, State, size};
use crate::diff::{Change, Parts};
use crate::object::{BodyRef, EntryRef, digest_of};
use crate::sealed::{BaseChild, BaseEntry};
use crate::types::{Digest, Errno, Kind, Node, ROOT};
use crate::work::node::{Content, Node as Inode, What};
use crate::work::read::hidden;
use crate::work::seal::{Plan, Touch, silly};
use std::collections::BTreeMap;

pub(super) struct Gather<'a> {
    st: &'a State,
    plan: Plan,
    items: Vec<Item>,
    path: Vec<u8>,
}

/// A name, as it was and as it is.
struct Pair {
    name: Vec<u8>,
    was: Option<BaseEntry>,
    /// Its number in the base.
    place: Node,
    is: Option<Node>,
}

/// A directory whose names are being compared.
struct Frame {
    /// Length of its path.
    path: usize,
    pairs: std::vec::IntoIter<Pair>,
}

/// A node as it is now.
enum Is<'a> {
    Changed(&'a Inode),
    Base(BaseEntry),
}

impl Is<'_> {
    fn kind(&self) -> Result<Kind, Errno> {
        match self {
            Is::Changed(node) => Ok(node.what.kind()),
            Is::Base(entry) => entry.kind(),
        }
    }

    fn size(&self) -> Result<u64, Errno> {
        match self {
            Is::Changed(node) if node.what.kind() == Kind::File => Ok(node.attr(0).size),
            Is::Changed(_) => Ok(0),
            Is::Base(entry) => Ok(size(&entry.view()?.body)),
        }
    }
}

impl<'a> Gather<'a> {
    pub fn of(st: &'a State) -> Result<Vec<Item>, Errno> {
        let mut gather = Gather {
            st,
            plan: Plan::of(st)?,
            items: Vec::new(),
            path: Vec::new(),
        };
        gather.run()?;
        Ok(gather.items)
    }

    fn run(&mut self) -> Result<(), Errno> {
        // The stack is on the heap: a tree may be deeper than a thread's.
        let mut frames = Vec::new();
        match &self.st.base {
            Some(base) => {
                let root = base.base(ROOT)?.entry;
                self.both(&root, ROOT, ROOT, &mut frames)?;
            }
            None => frames.push(self.frame(self.names(ROOT)?)),
        }
        while let Some(frame) = frames.last_mut() {
            self.path.truncate(frame.path);
            let Some(pair) = frame.pairs.next() else {
                frames.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&pair.name);
            match (pair.was, pair.is) {
                (Some(was), Some(n)) => self.both(&was, pair.place, n, &mut frames)?,
                (Some(was), None) => self.gone(&was)?,
                (None, Some(n)) => self.added(n, &mut frames)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn frame(&self, pairs: Vec<Pair>) -> Frame {
        Frame {
            path: self.path.len(),
            pairs: pairs.into_iter(),
        }
    }

    fn now(&self, n: Node) -> Result<Is<'a>, Errno> {
        if let Some(node) = self.st.nodes.get(&n) {
            return Ok(Is::Changed(node));
        }
        let base = self.st.base.as_ref().filter(|_| self.st.in_base(n));
        Ok(Is::Base(base.ok_or(Errno::Stale)?.base(n)?.entry))
    }

    /// A directory of the base in which, and below which, nothing was touched.
    fn sealed(&self, n: Node) -> Result<Option<Digest>, Errno> {
        let base = self.st.base.as_ref().filter(|_| self.st.in_base(n));
        match base {
            Some(base) if !self.plan.dirs.contains_key(&n) => Ok(dir_of(&base.base(n)?.entry)?),
            _ => Ok(None),
        }
    }

    /// `n` is where `was`, the base's node `place`, stood.
    fn both(
        &mut self,
        was: &BaseEntry,
        place: Node,
        n: Node,
        frames: &mut Vec<Frame>,
    ) -> Result<(), Errno> {
        let is = self.now(n)?;
        let kind = is.kind()?;
        if was.kind()? != kind {
            // Both of the name first, as of two sealed trees; one of them at most is a directory.
            let body = was.view()?.body;
            self.one(body.kind(), Change::Removed, (size(&body), 0));
            self.added(n, frames)?;
            if let Some(dir) = dir_of(was)? {
                self.below(Some(dir), None);
            }
            return Ok(());
        }
        let (parts, doubt) = compare(&was.view()?, &is)?;
        if parts.any() || doubt.is_some() {
            self.items.push(Item::One {
                path: self.path.clone(),
                kind,
                change: Change::Changed(parts),
                sizes: (size(&was.view()?.body), is.size()?),
                doubt,
            });
        }
        if kind != Kind::Dir {
            return Ok(());
        }
        let pairs = if n == place {
            self.touched(n)?
        } else if let Some(new) = self.sealed(n)? {
            let old = dir_of(was)?;
            if old != Some(new) {
                self.below(old, Some(new));
            }
            return Ok(());
        } else {
            self.side_by_side(place, n)?
        };
        frames.push(self.frame(pairs));
        Ok(())
    }

    /// A name of the base that is there no more, and all below it.
    fn gone(&mut self, was: &BaseEntry) -> Result<(), Errno> {
        let body = was.view()?.body;
        self.one(body.kind(), Change::Removed, (size(&body), 0));
        if let Some(dir) = dir_of(was)? {
            self.below(Some(dir), None);
        }
        Ok(())
    }

    fn added(&mut self, n: Node, frames: &mut Vec<Frame>) -> Result<(), Errno> {
        let is = self.now(n)?;
        let kind = is.kind()?;
        self.one(kind, Change::Added, (0, is.size()?));
        if kind != Kind::Dir {
            return Ok(());
        }
        match self.sealed(n)? {
            Some(dir) => self.below(None, Some(dir)),
            None => frames.push(self.frame(self.names(n)?)),
        }
        Ok(())
    }

    fn one(&mut self, kind: Kind, change: Change, sizes: (u64, u64)) {
        self.items.push(Item::One {
            path: self.path.clone(),
            kind,
            change,
            sizes,
            doubt: None,
        });
    }

    fn below(&mut self, old: Option<Digest>, new: Option<Digest>) {
        let path = self.path.clone();
        self.items.push(Item::Below { path, old, new });
    }

    /// The names of a directory that stands where it stood, as far as they were touched.
    fn touched(&self, dir: Node) -> Result<Vec<Pair>, Errno> {
        let mut pairs = Vec::new();
        for (name, touch) in self.plan.dirs.get(&dir).into_iter().flatten() {
            let base = self.st.base.as_ref().filter(|_| self.st.in_base(dir));
            let child = base.map(|base| base.child(dir, name)).transpose()?;
            let is = match touch {
                Touch::Gone => None,
                Touch::Added(n) | Touch::Changed(n) => Some(*n),
            };
            pairs.push(pair(name.clone(), child.flatten(), is));
        }
        Ok(pairs)
    }

    /// All names of a directory that is new here.
    fn names(&self, dir: Node) -> Result<Vec<Pair>, Errno> {
        let names = self.listed(dir)?.into_iter();
        Ok(names.map(|(name, n)| pair(name, None, Some(n))).collect())
    }

    /// All names of the base's directory `place` and of `dir`.
    fn side_by_side(&self, place: Node, dir: Node) -> Result<Vec<Pair>, Errno> {
        let mut names = self.listed(dir)?;
        let mut pairs = BTreeMap::new();
        if let Some(base) = &self.st.base {
            base.children_from(place, 0, &mut |child| {
                let name = child.entry.name().to_vec();
                let is = names.remove(&name);
                pairs.insert(name.clone(), pair(name, Some(child.clone()), is));
                Ok(true)
            })?;
        }
        for (name, n) in names {
            pairs.insert(name.clone(), pair(name, None, Some(n)));
        }
        Ok(pairs.into_values().collect())
    }

    fn listed(&self, dir: Node) -> Result<BTreeMap<Vec<u8>, Node>, Errno> {
        let mut listed = BTreeMap::new();
        if let Some(base) = self.st.base.as_ref().filter(|_| self.st.in_base(dir)) {
            base.children_from(dir, 0, &mut |child| {
                let name = child.entry.name();
                if !self.st.whited_out(dir, name) && !hidden(dir, name) {
                    listed.insert(name.to_vec(), child.node);
                }
                Ok(true)
            })?;
        }
        let added = self.st.names.get(&dir).into_iter();
        for (_, name, n) in added.flat_map(|names| names.from(0)) {
            if !silly(name) && !hidden(dir, name) {
                listed.insert(name.to_vec(), n);
            }
        }
        Ok(listed)
    }
}

fn pair(name: Vec<u8>, child: Option<BaseChild>, is: Option<Node>) -> Pair {
    Pair {
        name,
        place: child.as_ref().map_or(0, |child| child.place),
        was: child.map(|child| child.entry),
        is,
    }
}

fn dir_of(entry: &BaseEntry) -> Result<Option<Digest>, Errno> {
    match entry.view()?.body {
        BodyRef::Dir { digest, .. } => Ok(Some(digest)),
        _ => Ok(None),
    }
}

/// What of two nodes of one kind differs, as far as it can be told without reading large files.
fn compare(was: &EntryRef<'_>, is: &Is<'_>) -> Result<(Parts, Option<Doubt>), Errno> {
    let node = match is {
        Is::Base(entry) => return Ok((Parts::of(was, &entry.view()?), None)),
        Is::Changed(node) => node,
    };
    let mut doubt = None;
    let content = match (&was.body, &node.what) {
        (BodyRef::File { blob, size }, What::File(content)) => match content {
            Content::Blob(now) => now.digest != *blob,
            Content::Inline(now) if now.len() != *size => true,
            Content::Inline(now) => digest_of(&now.to_vec()?) != *blob,
            Content::Staged(staged) if staged.state().size != *size => true,
            Content::Staged(staged) => {
                doubt = Some(Doubt {
                    staged: staged.clone(),
                    old: *blob,
                    size: *size,
                });
                false
            }
        },
        (BodyRef::Symlink(target), What::Symlink(now)) => **target != **now,
        (BodyRef::Char(rdev), What::Char(now)) | (BodyRef::Block(rdev), What::Block(now)) => {
            rdev != now
        }
        _ => false,
    };
    let parts = Parts {
        content,
        mode: was.mode != node.mode,
        owner: (was.uid, was.gid) != (node.uid, node.gid),
        mtime: was.mtime != node.times().0,
        xattrs: !was
            .xattrs()
            .eq(node.xattrs.iter().map(|(n, v)| (&n[..], &v[..]))),
    };
    Ok((parts, doubt))
}
