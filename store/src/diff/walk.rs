//! Two directories side by side, name by name.

use super::{Change, Difference, Parts};
use crate::error::StoreError;
use crate::object::{BodyRef, DirObject, EntryRef, Page};
use crate::objects::Objects;
use crate::sealed::SealedTree;
use crate::types::{Digest, Kind};
use std::cmp::Ordering;
use std::sync::Arc;

pub(crate) struct Walk<'a> {
    objects: &'a Objects,
    emit: &'a mut dyn FnMut(Difference<'_>) -> bool,
    path: Vec<u8>,
}

/// A pair of directories that is being compared; none where one tree has no such directory.
struct Level {
    old: Option<Names>,
    new: Option<Names>,
    /// Length of their path.
    path: usize,
}

impl<'a> Walk<'a> {
    pub fn new(objects: &'a Objects, emit: &'a mut dyn FnMut(Difference<'_>) -> bool) -> Walk<'a> {
        Walk {
            objects,
            emit,
            path: Vec::new(),
        }
    }

    pub fn trees(&mut self, old: &SealedTree, new: &SealedTree) -> Result<(), StoreError> {
        let roots = (old.root_entry(), new.root_entry());
        let (Some(was), Some(is)) = (roots.0.entry(0), roots.1.entry(0)) else {
            return Ok(());
        };
        // The stack is on the heap: how deep a tree is was its maker's choice.
        let mut levels = Vec::new();
        if self.both(&was, &is, &mut levels)? {
            self.levels(levels)?;
        }
        Ok(())
    }

    /// What is in two directories at `path`, or in the one that is there; false when whoever is told
    /// has seen enough.
    pub fn below(
        &mut self,
        path: Vec<u8>,
        old: Option<&Digest>,
        new: Option<&Digest>,
    ) -> Result<bool, StoreError> {
        let open = |dir: Option<&Digest>| dir.map(|dir| Names::open(self.objects, dir)).transpose();
        let level = Level {
            old: open(old)?,
            new: open(new)?,
            path: path.len(),
        };
        self.path = path;
        self.levels(vec![level])
    }

    /// False when whoever is told has seen enough.
    fn levels(&mut self, mut levels: Vec<Level>) -> Result<bool, StoreError> {
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path);
            if let (Some(old), Some(new)) = (&mut level.old, &mut level.new) {
                skip_same_pages(old, new);
            }
            let was = entry(&mut level.old, self.objects)?;
            let is = entry(&mut level.new, self.objects)?;
            let (was, is) = match (&was, &is) {
                (None, None) => {
                    levels.pop();
                    continue;
                }
                (Some(was), Some(is)) => match was.name().cmp(is.name()) {
                    Ordering::Less => (Some(was), None),
                    Ordering::Greater => (None, Some(is)),
                    Ordering::Equal => (Some(was), Some(is)),
                },
                (was, is) => (was.as_ref(), is.as_ref()),
            };
            if let (Some(names), Some(_)) = (&mut level.old, was) {
                names.step();
            }
            if let (Some(names), Some(_)) = (&mut level.new, is) {
                names.step();
            }
            let Some(name) = was.or(is).map(Slot::name) else {
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            let views = (was.and_then(Slot::view), is.and_then(Slot::view));
            let go_on = match views {
                (Some(was), Some(is)) => self.both(&was, &is, &mut levels)?,
                (Some(was), None) => self.one(&was, Change::Removed, &mut levels)?,
                (None, Some(is)) => self.one(&is, Change::Added, &mut levels)?,
                (None, None) => true,
            };
            if !go_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A name that both trees have.
    fn both(
        &mut self,
        was: &EntryRef<'_>,
        is: &EntryRef<'_>,
        levels: &mut Vec<Level>,
    ) -> Result<bool, StoreError> {
        if was.body.kind() != is.body.kind() {
            // Below the one that is or was a directory names are told once.
            let removed = self.one(was, Change::Removed, levels)?;
            return Ok(removed && self.one(is, Change::Added, levels)?);
        }
        let parts = Parts::of(was, is);
        if parts.any() && !self.tell(is.body.kind(), Change::Changed(parts), (was, is)) {
            return Ok(false);
        }
        let dirs = (dir_of(was), dir_of(is));
        if let (Some(old), Some(new)) = dirs
            && old != new
        {
            levels.push(Level {
                old: Some(Names::open(self.objects, &old)?),
                new: Some(Names::open(self.objects, &new)?),
                path: self.path.len(),
            });
        }
        Ok(true)
    }

    /// A name that one tree has.
    fn one(
        &mut self,
        entry: &EntryRef<'_>,
        change: Change,
        levels: &mut Vec<Level>,
    ) -> Result<bool, StoreError> {
        if !self.tell(entry.body.kind(), change, (entry, entry)) {
            return Ok(false);
        }
        if let Some(dir) = dir_of(entry) {
            let names = Some(Names::open(self.objects, &dir)?);
            let (old, new) = match change {
                Change::Removed => (names, None),
                _ => (None, names),
            };
            let path = self.path.len();
            levels.push(Level { old, new, path });
        }
        Ok(true)
    }

    fn tell(
        &mut self,
        kind: Kind,
        change: Change,
        (was, is): (&EntryRef<'_>, &EntryRef<'_>),
    ) -> bool {
        let size = |entry: &EntryRef<'_>| match entry.body {
            BodyRef::File { size, .. } => size,
            _ => 0,
        };
        let sizes = match change {
            Change::Added => (0, size(is)),
            Change::Removed => (size(was), 0),
            Change::Changed(_) => (size(was), size(is)),
        };
        (self.emit)(Difference {
            path: &self.path,
            kind,
            change,
            sizes,
        })
    }
}

fn dir_of(entry: &EntryRef<'_>) -> Option<Digest> {
    match entry.body {
        BodyRef::Dir { digest, .. } => Some(digest),
        _ => None,
    }
}

/// The names of one directory, in order.
struct Names {
    object: DirObject,
    /// The page that is read, by its place in the directory, and the slot in it.
    page: usize,
    open: Option<Arc<Page>>,
    slot: usize,
}

/// One entry, kept with its page.
struct Slot {
    page: Arc<Page>,
    slot: usize,
}

impl Slot {
    fn name(&self) -> &[u8] {
        self.page.name(self.slot)
    }

    fn view(&self) -> Option<EntryRef<'_>> {
        self.page.entry(self.slot)
    }
}

impl Names {
    fn open(objects: &Objects, dir: &Digest) -> Result<Names, StoreError> {
        Ok(Names {
            object: objects.dir(dir)?,
            page: 0,
            open: None,
            slot: 0,
        })
    }

    /// The digest of the page that comes next, where it is at its beginning.
    fn at_page(&self) -> Option<Digest> {
        match &self.object {
            DirObject::Index(index) if self.slot == 0 && self.page < index.len() => {
                Some(index.digest(self.page))
            }
            _ => None,
        }
    }

    fn skip_page(&mut self) {
        (self.page, self.slot, self.open) = (self.page + 1, 0, None);
    }

    fn step(&mut self) {
        self.slot += 1;
        if self
            .open
            .as_ref()
            .is_some_and(|page| self.slot == page.len())
        {
            self.skip_page();
        }
    }

    fn peek(&mut self, objects: &Objects) -> Result<Option<Slot>, StoreError> {
        loop {
            let page = match (&self.open, &self.object) {
                (Some(page), _) => page.clone(),
                (None, DirObject::Page(page)) if self.page == 0 => page.clone(),
                (None, DirObject::Index(index)) if self.page < index.len() => {
                    objects.page(&index.digest(self.page))?
                }
                _ => return Ok(None),
            };
            self.open = Some(page.clone());
            if self.slot < page.len() {
                let slot = self.slot;
                return Ok(Some(Slot { page, slot }));
            }
            self.skip_page();
        }
    }
}

fn entry(names: &mut Option<Names>, objects: &Objects) -> Result<Option<Slot>, StoreError> {
    match names {
        Some(names) => names.peek(objects),
        None => Ok(None),
    }
}

/// Pages that both have at the same place in their order hold nothing that differs.
fn skip_same_pages(old: &mut Names, new: &mut Names) {
    while let (Some(was), Some(is)) = (old.at_page(), new.at_page())
        && was == is
    {
        old.skip_page();
        new.skip_page();
    }
}
