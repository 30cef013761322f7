//! The tree in memory while it is built. Names refer to nodes by index, so that a hard
//! link is a second name of one node.

use super::error::{IngestError, IngestLimits, bad, limit};
use super::path::split;
use crate::object::{Body, Meta};
use crate::types::Time;
use std::collections::BTreeMap;

pub(super) type Id = usize;
pub(super) const ROOT_ID: Id = 0;

/// What a name of a directory stands for, and the layer that said so last.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub id: Id,
    layer: u32,
}

pub(super) enum What {
    Dir(BTreeMap<Vec<u8>, Named>),
    /// Anything but [`Body::Dir`].
    Leaf(Body),
}

pub(super) struct Inode {
    pub meta: Meta,
    pub what: What,
    /// A hard link to it was made.
    pub linked: bool,
}

pub(super) struct Arena {
    pub nodes: Vec<Inode>,
    /// Of an image whose layers come one on another; all of an archive is one.
    layer: u32,
}

/// A name in a directory.
pub(super) struct Spot {
    dir: Id,
    name: Vec<u8>,
}

impl Arena {
    pub fn new(root: Meta) -> Arena {
        let root = Inode {
            meta: root,
            what: What::Dir(BTreeMap::new()),
            linked: false,
        };
        Arena {
            nodes: vec![root],
            layer: 0,
        }
    }

    fn add(&mut self, meta: Meta, what: What) -> Id {
        self.nodes.push(Inode {
            meta,
            what,
            linked: false,
        });
        self.nodes.len() - 1
    }

    fn entry(&self, dir: Id, name: &[u8]) -> Option<Id> {
        match &self.nodes[dir].what {
            What::Dir(names) => names.get(name).map(|named| named.id),
            What::Leaf(_) => None,
        }
    }

    fn insert(&mut self, spot: Spot, id: Id) {
        let layer = self.layer;
        if let What::Dir(names) = &mut self.nodes[spot.dir].what {
            names.insert(spot.name, Named { id, layer });
        }
    }

    /// What comes now lies on what was there before.
    pub fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// A lower layer gave the name, and it is no directory: this layer's paths do not lead through it.
    fn lies_below(&self, dir: Id, name: &[u8]) -> bool {
        match &self.nodes[dir].what {
            What::Dir(names) => names.get(name).is_some_and(|named| {
                named.layer < self.layer && !matches!(self.nodes[named.id].what, What::Dir(_))
            }),
            What::Leaf(_) => false,
        }
    }

    /// The present layer has the name too.
    fn touch(&mut self, dir: Id, name: &[u8]) {
        let layer = self.layer;
        if let What::Dir(names) = &mut self.nodes[dir].what
            && let Some(named) = names.get_mut(name)
        {
            named.layer = layer;
        }
    }

    /// The directory at `path`, if all of it is there.
    fn existing(&self, parts: &[&[u8]]) -> Option<Id> {
        parts.iter().try_fold(ROOT_ID, |dir, name| {
            let id = self.entry(dir, name)?;
            matches!(self.nodes[id].what, What::Dir(_)).then_some(id)
        })
    }

    /// Takes away what lower layers have at `path`; nothing there is no error.
    pub fn hide(
        &mut self,
        path: &[u8],
        entries: &mut u64,
        limits: &IngestLimits,
    ) -> Result<(), IngestError> {
        let parts = split(path, limits)?;
        count(path, entries, limits)?;
        let Some((last, parents)) = parts.split_last() else {
            return Err(bad(path, "a whiteout of the root"));
        };
        let Some(dir) = self.existing(parents) else {
            return Ok(());
        };
        let What::Dir(names) = &mut self.nodes[dir].what else {
            return Ok(());
        };
        match names.get(*last).copied() {
            Some(named) if named.layer < self.layer => {
                names.remove(*last);
                Ok(())
            }
            Some(named) => self.clear(path, named.id, entries, limits),
            None => Ok(()),
        }
    }

    /// Takes away what lower layers have below the directory at `path`.
    pub fn hide_below(
        &mut self,
        path: &[u8],
        entries: &mut u64,
        limits: &IngestLimits,
    ) -> Result<(), IngestError> {
        count(path, entries, limits)?;
        match self.existing(&split(path, limits)?) {
            Some(dir) => self.clear(path, dir, entries, limits),
            None => Ok(()),
        }
    }

    /// What is looked at counts as entries, so that whiteouts of a large directory again and
    /// again end too.
    fn clear(
        &mut self,
        path: &[u8],
        dir: Id,
        entries: &mut u64,
        limits: &IngestLimits,
    ) -> Result<(), IngestError> {
        let layer = self.layer;
        let mut todo = vec![dir];
        while let Some(dir) = todo.pop() {
            if let What::Dir(names) = &mut self.nodes[dir].what {
                *entries = entries.saturating_add(names.len() as u64);
                names.retain(|_, named| named.layer >= layer);
                todo.extend(names.values().map(|named| named.id));
            }
            count(path, entries, limits)?;
        }
        Ok(())
    }

    /// The directory `name` in `dir`; `None` where there is no such name.
    fn enter(&self, path: &[u8], dir: Id, name: &[u8]) -> Result<Option<Id>, IngestError> {
        let Some(id) = self.entry(dir, name) else {
            return Ok(None);
        };
        match &self.nodes[id].what {
            What::Dir(_) => Ok(Some(id)),
            What::Leaf(Body::Symlink(_)) => Err(IngestError::ThroughSymlink {
                path: path.to_vec(),
                link: name.to_vec(),
            }),
            What::Leaf(_) => Err(IngestError::ThroughFile {
                path: path.to_vec(),
                file: name.to_vec(),
            }),
        }
    }

    /// Where the last name of `path` goes; `None` for the root. Missing directories are made.
    fn spot(
        &mut self,
        path: &[u8],
        entries: &mut u64,
        limits: &IngestLimits,
    ) -> Result<Option<Spot>, IngestError> {
        let parts = split(path, limits)?;
        let Some((last, parents)) = parts.split_last() else {
            return Ok(None);
        };
        let mut dir = ROOT_ID;
        count(path, entries, limits)?;
        for name in parents {
            let entered = match self.lies_below(dir, name) {
                true => None,
                false => self.enter(path, dir, name)?,
            };
            dir = match entered {
                Some(id) => {
                    self.touch(dir, name);
                    id
                }
                None => {
                    count(path, entries, limits)?;
                    let id = self.add(implied(), What::Dir(BTreeMap::new()));
                    self.insert(
                        Spot {
                            dir,
                            name: name.to_vec(),
                        },
                        id,
                    );
                    id
                }
            };
        }
        Ok(Some(Spot {
            dir,
            name: last.to_vec(),
        }))
    }

    /// Where a node other than a directory goes.
    pub fn place(
        &mut self,
        path: &[u8],
        entries: &mut u64,
        limits: &IngestLimits,
    ) -> Result<Spot, IngestError> {
        let spot = self
            .spot(path, entries, limits)?
            .ok_or_else(|| bad(path, "the root is a directory"))?;
        self.only_once(path, &spot, limits)?;
        Ok(spot)
    }

    fn only_once(
        &self,
        path: &[u8],
        spot: &Spot,
        limits: &IngestLimits,
    ) -> Result<(), IngestError> {
        match &self.nodes[spot.dir].what {
            What::Dir(names)
                if limits.once && names.get(&spot.name).is_some_and(|n| n.layer == self.layer) =>
            {
                Err(bad(path, "it is there twice"))
            }
            _ => Ok(()),
        }
    }

    /// Puts a new node at `spot`; what was there, a whole directory perhaps, goes.
    pub fn set(&mut self, spot: Spot, meta: Meta, what: What) {
        let id = self.add(meta, what);
        self.insert(spot, id);
    }

    pub fn dir(
        &mut self,
        path: &[u8],
        meta: Meta,
        entries: &mut u64,
        limits: &IngestLimits,
    ) -> Result<(), IngestError> {
        let Some(spot) = self.spot(path, entries, limits)? else {
            self.nodes[ROOT_ID].meta = meta;
            return Ok(());
        };
        match self.entry(spot.dir, &spot.name) {
            Some(id) if matches!(self.nodes[id].what, What::Dir(_)) => {
                self.nodes[id].meta = meta;
                self.touch(spot.dir, &spot.name);
            }
            _ => {
                self.only_once(path, &spot, limits)?;
                self.set(spot, meta, What::Dir(BTreeMap::new()));
            }
        }
        Ok(())
    }

    fn find(&self, path: &[u8], limits: &IngestLimits) -> Result<Id, IngestError> {
        let absent = || IngestError::Absent {
            path: path.to_vec(),
        };
        let parts = split(path, limits)?;
        let Some((last, parents)) = parts.split_last() else {
            return Ok(ROOT_ID);
        };
        let mut dir = ROOT_ID;
        for name in parents {
            dir = self.enter(path, dir, name)?.ok_or_else(absent)?;
        }
        self.entry(dir, last).ok_or_else(absent)
    }

    pub fn link(
        &mut self,
        path: &[u8],
        target: &[u8],
        entries: &mut u64,
        limits: &IngestLimits,
    ) -> Result<(), IngestError> {
        let id = self.find(target, limits)?;
        if matches!(self.nodes[id].what, What::Dir(_)) {
            let (path, target) = (path.to_vec(), target.to_vec());
            return Err(IngestError::LinkToDir { path, target });
        }
        let spot = self.place(path, entries, limits)?;
        if self.entry(spot.dir, &spot.name) != Some(id) {
            self.nodes[id].linked = true;
        }
        self.insert(spot, id);
        Ok(())
    }

    pub fn set_meta(
        &mut self,
        path: &[u8],
        meta: Meta,
        limits: &IngestLimits,
    ) -> Result<(), IngestError> {
        let id = self.find(path, limits)?;
        self.nodes[id].meta = meta;
        Ok(())
    }
}

fn count(path: &[u8], entries: &mut u64, limits: &IngestLimits) -> Result<(), IngestError> {
    *entries += 1;
    if *entries > limits.entries {
        return Err(limit(path, "entries", limits.entries));
    }
    Ok(())
}

/// Of a directory that only the paths below it mention.
fn implied() -> Meta {
    Meta {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
    }
}
