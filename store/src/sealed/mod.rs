//! A sealed tree, read from its objects. Numbers are positions in pre-order, found by
//! descending the counts: there is no inode table.

mod each;
mod entry;
mod read;
mod seek;

pub use each::NameRef;
pub(crate) use entry::{BaseChild, BaseEntry, BaseNode};

use crate::blob::BlobStore;
use crate::error::StoreError;
use crate::object::{
    Body, BodyRef, Counts, DirObject, Entry, EntryRef, Groups, Malformed, Meta, Page, SnapshotData,
    synthetic_page,
};
use crate::objects::Objects;
use crate::places::Place;
use crate::types::{Attr, Digest, Errno, Kind, Node, ROOT, Rdev};
use std::sync::Arc;

/// Size that a directory's attributes give, in bytes.
const DIR_SIZE: u64 = 4096;

/// A snapshot, open for reading. Opening costs its hard links, not its nodes.
pub struct SealedTree {
    snapshot: Digest,
    ordinal: u32,
    data: SnapshotData,
    /// One entry, the root's, so that the root is read as every other node is.
    root: Arc<Page>,
    objects: Arc<Objects>,
    blobs: Arc<BlobStore>,
}

/// One page of a directory and what is before it.
struct Span {
    digest: Digest,
    page: Arc<Page>,
    entries_before: u64,
    nodes_before: u64,
}

impl SealedTree {
    pub(crate) fn open(
        snapshot: Digest,
        ordinal: u32,
        objects: Arc<Objects>,
        blobs: Arc<BlobStore>,
    ) -> Result<SealedTree, StoreError> {
        let data = objects.snapshot(&snapshot)?;
        let body = Body::Dir {
            digest: data.root_dir,
            counts: data.counts,
        };
        let root = Entry {
            name: b"root".to_vec(),
            meta: data.root_meta.clone(),
            body,
        };
        let root = synthetic_page(&root).map_err(|e| StoreError::corrupt(snapshot, e))?;
        Ok(SealedTree {
            snapshot,
            ordinal,
            data,
            root: root.into(),
            objects,
            blobs,
        })
    }

    pub fn snapshot(&self) -> Digest {
        self.snapshot
    }

    /// Persistent and below 2^22.
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// The highest number of the tree.
    pub fn last_number(&self) -> Node {
        self.data.last_number()
    }

    /// Of the root directory: the whole tree without the root itself.
    pub fn counts(&self) -> Counts {
        self.data.counts
    }

    pub fn root_meta(&self) -> &Meta {
        &self.data.root_meta
    }

    /// One entry, the root's.
    pub(crate) fn root_entry(&self) -> &Page {
        &self.root
    }

    pub fn root_dir(&self) -> Digest {
        self.data.root_dir
    }

    /// Which numbers are one file.
    pub fn groups(&self) -> &Groups {
        &self.data.groups
    }

    /// All places of the file `canonical`, ascending, itself first; one where it is not linked.
    pub(crate) fn members(&self, canonical: Node) -> Vec<Node> {
        self.data
            .groups
            .of(canonical)
            .map_or_else(|| vec![canonical], <[Node]>::to_vec)
    }

    /// The number that stands for the file at `place` in handles and attributes.
    pub(crate) fn canonical(&self, place: Node) -> Node {
        self.data.groups.canonical(place)
    }

    /// The node with this number: a place, so any member of a hard-link group will do.
    pub(crate) fn base(&self, n: Node) -> Result<BaseNode, Errno> {
        if n == ROOT {
            return Ok(self.root_node());
        }
        if n == 0 || n > self.last_number() {
            return Err(Errno::Stale);
        }
        let mut at = match self.objects.places.find(self.ordinal, n) {
            Some(place) => (self.page_at(&place)?, place),
            None => self.page_towards(n, &self.root_node().entry, ROOT, None)?,
        };
        // Each turn goes one level down, and each level has fewer nodes than the one above.
        loop {
            let (page, place) = at;
            let slot = page
                .slot_of(n - place.first)
                .ok_or_else(|| self.damaged(&place.page))?;
            let child = place.first + page.nodes_before(slot);
            let entry = BaseEntry::new(page, slot as u32);
            if child == n {
                let parent = place.dir;
                return Ok(BaseNode { entry, parent });
            }
            at = self.page_towards(n, &entry, child, Some(place.first))?;
        }
    }

    fn page_at(&self, place: &Place) -> Result<Arc<Page>, Errno> {
        self.objects.page(&place.page).map_err(StoreError::log)
    }

    /// The page in or below which `n` is, of the directory `dir`, which has this entry on the
    /// page that begins with `up`.
    fn page_towards(
        &self,
        n: Node,
        entry: &BaseEntry,
        dir: Node,
        up: Option<Node>,
    ) -> Result<(Arc<Page>, Place), Errno> {
        let object = self.object(entry)?;
        let span = self.span_of_node(&object, entry, n - dir - 1)?;
        let nodes = span.page.counts().nodes;
        let first = dir + 1 + span.nodes_before;
        if n < first || n - first >= nodes {
            return Err(self.damaged(&span.digest));
        }
        let place = Place {
            first,
            last: first + (nodes - 1),
            page: span.digest,
            dir,
            up,
        };
        self.objects.places.add(self.ordinal, place);
        Ok((span.page, place))
    }

    fn root_node(&self) -> BaseNode {
        BaseNode {
            entry: BaseEntry::new(self.root.clone(), 0),
            parent: ROOT,
        }
    }

    fn damaged(&self, digest: &Digest) -> Errno {
        let why = Malformed::new("directory", 0, "its counts do not match its entries");
        StoreError::corrupt(*digest, why).log()
    }

    /// The object of the directory that `entry` stands for, checked against the entry.
    fn object(&self, entry: &BaseEntry) -> Result<DirObject, Errno> {
        let BodyRef::Dir { digest, counts } = entry.view()?.body else {
            return Err(Errno::NotDir);
        };
        let object = self.objects.dir(&digest).map_err(StoreError::log)?;
        if object.counts() != counts {
            return Err(self.damaged(&digest));
        }
        Ok(object)
    }

    /// One page of a directory.
    fn span(&self, object: &DirObject, dir: &BaseEntry, page: usize) -> Result<Span, Errno> {
        match object {
            DirObject::Page(page) => {
                let digest = match dir.view()?.body {
                    BodyRef::Dir { digest, .. } => digest,
                    _ => return Err(Errno::NotDir),
                };
                Ok(Span {
                    digest,
                    page: page.clone(),
                    entries_before: 0,
                    nodes_before: 0,
                })
            }
            DirObject::Index(index) => {
                let known = index.page(page);
                let read = self.objects.page(&known.digest).map_err(StoreError::log)?;
                if read.counts() != known.counts || read.name(0) != known.first {
                    return Err(self.damaged(&known.digest));
                }
                Ok(Span {
                    digest: known.digest,
                    page: read,
                    entries_before: index.entries_before(page),
                    nodes_before: index.nodes_before(page),
                })
            }
        }
    }

    fn span_of_node(
        &self,
        object: &DirObject,
        dir: &BaseEntry,
        before: u64,
    ) -> Result<Span, Errno> {
        let page = match object {
            DirObject::Page(_) => 0,
            DirObject::Index(index) => index.page_of_node(before).ok_or(Errno::Stale)?,
        };
        self.span(object, dir, page)
    }

    /// `None` where the directory has no such name.
    pub(crate) fn child(&self, dir: Node, name: &[u8]) -> Result<Option<BaseChild>, Errno> {
        self.child_of(dir, &self.base(dir)?, name)
    }

    /// As [`SealedTree::child`], for who has found the directory already.
    pub(crate) fn child_of(
        &self,
        dir: Node,
        base: &BaseNode,
        name: &[u8],
    ) -> Result<Option<BaseChild>, Errno> {
        let object = self.object(&base.entry)?;
        let page = match &object {
            DirObject::Page(_) => 0,
            DirObject::Index(index) => index.page_of_name(name),
        };
        let span = self.span(&object, &base.entry, page)?;
        let Ok(slot) = span.page.find(name) else {
            return Ok(None);
        };
        Ok(Some(self.child_at(dir, &span, slot)))
    }

    fn child_at(&self, dir: Node, span: &Span, slot: usize) -> BaseChild {
        let place = dir + 1 + span.nodes_before + span.page.nodes_before(slot);
        BaseChild {
            place,
            node: self.canonical(place),
            index: span.entries_before + slot as u64,
            entry: BaseEntry::new(span.page.clone(), slot as u32),
        }
    }

    /// Entry number `index` of a directory and those after it, until `f` answers false.
    pub(crate) fn children_from(
        &self,
        dir: Node,
        index: u64,
        f: &mut dyn FnMut(&BaseChild) -> Result<bool, Errno>,
    ) -> Result<(), Errno> {
        let base = self.base(dir)?;
        let object = self.object(&base.entry)?;
        let (first, pages) = match &object {
            DirObject::Page(_) => (0, 1),
            DirObject::Index(i) => (i.page_of_index(index).unwrap_or(i.len()), i.len()),
        };
        for page in first..pages {
            let span = self.span(&object, &base.entry, page)?;
            let start = index.saturating_sub(span.entries_before);
            for slot in usize::try_from(start).unwrap_or(usize::MAX)..span.page.len() {
                if !f(&self.child_at(dir, &span, slot))? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn links(&self, n: Node, entry: &EntryRef<'_>) -> u32 {
        let links = match entry.body {
            BodyRef::Dir { counts, .. } => 2 + counts.subdirs,
            _ => self.data.groups.of(n).map_or(1, |g| g.len() as u64),
        };
        u32::try_from(links).unwrap_or(u32::MAX)
    }

    /// atime and ctime are mtime: nothing changes here.
    pub(crate) fn attr(&self, n: Node) -> Result<Attr, Errno> {
        let base = self.base(n)?;
        self.attr_of(n, &base.entry.view()?)
    }

    pub(crate) fn attr_of(&self, n: Node, entry: &EntryRef<'_>) -> Result<Attr, Errno> {
        let (size, used, rdev) = match entry.body {
            BodyRef::File { blob, size } => {
                let used = self.blobs.used(&blob, size).map_err(StoreError::log)?;
                (size, used, Rdev::default())
            }
            BodyRef::Dir { .. } => (DIR_SIZE, DIR_SIZE, Rdev::default()),
            BodyRef::Symlink(target) => (target.len() as u64, 0, Rdev::default()),
            BodyRef::Char(rdev) | BodyRef::Block(rdev) => (0, 0, rdev),
            BodyRef::Fifo | BodyRef::Socket => (0, 0, Rdev::default()),
        };
        Ok(Attr {
            node: self.canonical(n),
            kind: entry.body.kind(),
            mode: entry.mode,
            nlink: self.links(n, entry),
            uid: entry.uid,
            gid: entry.gid,
            size,
            used,
            rdev,
            atime: entry.mtime,
            mtime: entry.mtime,
            ctime: entry.mtime,
        })
    }

    fn is_dir(entry: &EntryRef<'_>) -> Result<(), Errno> {
        match entry.body.kind() {
            Kind::Dir => Ok(()),
            _ => Err(Errno::NotDir),
        }
    }
}
