//! What a step made of the tree below it, as a layer of an image: what it added and changed, in order, the
//! directories that lead there, and a whiteout for what it removed (OCI image specification, "Layer").
//!
//! A file of several names is in a layer with all of them or with none: whoever unpacks it may have the
//! layer alone.

mod relinked;
#[cfg(test)]
mod tests;

use super::ArchiveError;
use super::entry::WHITEOUT;
use super::out::{Writer, names, store_error};
use pocker_store::SealedTree;
use pocker_store::tree::Tree;
use pocker_store::types::{Attr, Kind, Node, ROOT};
use relinked::Relinked;
use std::cmp::Ordering;
use std::io::Write;
use std::iter::Peekable;
use std::vec::IntoIter;

/// Writes the layer that makes `new` of `below`; of nothing, the whole tree.
pub fn write(
    new: &SealedTree,
    below: Option<&SealedTree>,
    out: &mut dyn Write,
) -> Result<(), ArchiveError> {
    let mut writer = Writer::new(new, out);
    walk(new, below, &mut writer)?;
    writer.finish()
}

/// Gives to `into` what differs, in the order in which it is written.
pub(super) fn walk(
    new: &SealedTree,
    below: Option<&SealedTree>,
    into: &mut dyn Into,
) -> Result<(), ArchiveError> {
    Walk::new(new, below)?.all(into)
}

/// Where what differs goes.
pub(super) trait Into {
    fn entry(&mut self, attr: &Attr, path: &[u8]) -> Result<(), ArchiveError>;
    fn gone(&mut self, path: &[u8]) -> Result<(), ArchiveError>;
}

impl Into for Writer<'_> {
    fn entry(&mut self, attr: &Attr, path: &[u8]) -> Result<(), ArchiveError> {
        self.one(attr, path)
    }

    fn gone(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        let (dir, name) = path.split_at(name_at(path));
        self.mark(&[dir, WHITEOUT, name].concat())
    }
}

pub(super) fn name_at(path: &[u8]) -> usize {
    path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1)
}

/// A directory that is being compared.
struct Level {
    /// Length of its path.
    path: usize,
    dir: Attr,
    /// Its own entry is in the layer.
    written: bool,
    was: Peekable<IntoIter<(Vec<u8>, Attr)>>,
    is: Peekable<IntoIter<(Vec<u8>, Attr)>>,
}

struct Walk<'a> {
    new: &'a SealedTree,
    old: Option<&'a SealedTree>,
    relinked: Relinked,
    levels: Vec<Level>,
    path: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(new: &'a SealedTree, old: Option<&'a SealedTree>) -> Result<Walk<'a>, ArchiveError> {
        let relinked = match old {
            Some(old) => Relinked::find(new, old)?,
            None => Relinked::default(),
        };
        Ok(Walk {
            new,
            old,
            relinked,
            levels: Vec::new(),
            path: Vec::new(),
        })
    }

    fn all(&mut self, into: &mut dyn Into) -> Result<(), ArchiveError> {
        let root = self.new.getattr(ROOT).map_err(|e| store_error(b".", e))?;
        match self.old {
            Some(_) => self.both(ROOT, &root, into)?,
            None => self.fresh(&root, into)?,
        }
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path);
            let order = match (level.was.peek(), level.is.peek()) {
                (None, None) => {
                    self.levels.pop();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((was, _)), Some((is, _))) => was.cmp(is),
            };
            let was = level.was.next_if(|_| order.is_le());
            let is = level.is.next_if(|_| order.is_ge());
            let Some((name, _)) = is.as_ref().or(was.as_ref()) else {
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            // Sockets have no place in tar: what one stands for is not there.
            let there = |found: Option<(Vec<u8>, Attr)>| {
                found
                    .map(|(_, attr)| attr)
                    .filter(|attr| attr.kind != Kind::Socket)
            };
            match (there(was), there(is)) {
                (Some(was), Some(is)) => self.both(was.node, &is, into)?,
                (None, Some(is)) => self.fresh(&is, into)?,
                (Some(_), None) => {
                    self.lead(into)?;
                    into.gone(&self.path)?;
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// The directories that lead to what is at hand, each once.
    fn lead(&mut self, into: &mut dyn Into) -> Result<(), ArchiveError> {
        for level in self.levels.iter_mut().filter(|level| !level.written) {
            into.entry(&level.dir, &self.path[..level.path])?;
            level.written = true;
        }
        Ok(())
    }

    /// What is nowhere below, or there of another kind.
    fn fresh(&mut self, is: &Attr, into: &mut dyn Into) -> Result<(), ArchiveError> {
        self.lead(into)?;
        into.entry(is, &self.path)?;
        match is.kind {
            Kind::Dir => self.enter(None, is, true),
            _ => Ok(()),
        }
    }

    fn both(&mut self, was: Node, is: &Attr, into: &mut dyn Into) -> Result<(), ArchiveError> {
        let Some(old) = self.old else {
            return self.fresh(is, into);
        };
        let differs = self.new.beside(is.node, old, was);
        let Some(differs) = differs.map_err(|e| store_error(&self.path, e))? else {
            return self.fresh(is, into);
        };
        let own = differs.own || self.relinked.again.contains(&is.node);
        if own {
            self.lead(into)?;
            into.entry(is, &self.path)?;
        }
        match is.kind == Kind::Dir && (differs.below || self.relinked.above.contains(&is.node)) {
            true => self.enter(Some((old, was)), is, own),
            false => Ok(()),
        }
    }

    fn enter(
        &mut self,
        was: Option<(&SealedTree, Node)>,
        dir: &Attr,
        written: bool,
    ) -> Result<(), ArchiveError> {
        let was = match was {
            Some((old, was)) => names(old, was, &self.path)?,
            None => Vec::new(),
        };
        self.levels.push(Level {
            path: self.path.len(),
            dir: *dir,
            written,
            was: was.into_iter().peekable(),
            is: names(self.new, dir.node, &self.path)?
                .into_iter()
                .peekable(),
        });
        Ok(())
    }
}
