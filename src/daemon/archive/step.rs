//! What a step made of the tree below it, as a layer of an image: what it added and changed, in order, the
//! directories that lead there, and a whiteout for what it removed (OCI image specification, "Layer").
//!
//! A file of several names is in a layer with all of them or with none: whoever unpacks it may have the
//! layer alone.

#[cfg(test)]
mod tests;

use super::ArchiveError;
use super::out::{Writer, names, store_error};
use pocker_store::SealedTree;
use pocker_store::tree::Tree;
use pocker_store::types::{Attr, Creds, Errno, Kind, Node, ROOT};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::iter::Peekable;
use std::vec::IntoIter;

const WHITEOUT: &[u8] = b".wh.";

/// Writes the layer that makes `new` of `below`; of nothing, the whole tree.
pub fn write(
    new: &SealedTree,
    below: Option<&SealedTree>,
    out: &mut dyn Write,
) -> Result<(), ArchiveError> {
    let mut writer = Writer::new(new, out);
    Walk::new(new, below)?.all(&mut writer)?;
    writer.finish()
}

/// Whether it can be written, before anything of it is.
pub fn check(new: &SealedTree, below: Option<&SealedTree>) -> Result<(), ArchiveError> {
    Walk::new(new, below)?.all(&mut Check)
}

/// Where what differs goes.
trait Into {
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

struct Check;

impl Into for Check {
    fn entry(&mut self, _: &Attr, path: &[u8]) -> Result<(), ArchiveError> {
        match path[name_at(path)..].starts_with(WHITEOUT) {
            true => Err(ArchiveError::Entry {
                path: path.escape_ascii().to_string(),
                why: "in an image a name that begins with .wh. says that a file is gone".into(),
            }),
            false => Ok(()),
        }
    }

    fn gone(&mut self, _: &[u8]) -> Result<(), ArchiveError> {
        Ok(())
    }
}

fn name_at(path: &[u8]) -> usize {
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
    /// Files that are the same, and whose names are not those of one file any more, or are only now.
    again: HashSet<Vec<u8>>,
    /// The directories that they are in.
    above: HashSet<Vec<u8>>,
    levels: Vec<Level>,
    path: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(new: &'a SealedTree, old: Option<&'a SealedTree>) -> Result<Walk<'a>, ArchiveError> {
        let again = match old {
            Some(old) => relinked(new, old).map_err(|e| store_error(b".", e))?,
            None => HashSet::new(),
        };
        let mut above = HashSet::new();
        for path in &again {
            let mut dir = path.as_slice();
            while let Some(at) = dir.iter().rposition(|b| *b == b'/') {
                dir = &dir[..at];
                above.insert(dir.to_vec());
            }
            above.insert(Vec::new());
        }
        Ok(Walk {
            new,
            old,
            again,
            above,
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
        let own = differs.own || self.again.contains(&self.path);
        if own {
            self.lead(into)?;
            into.entry(is, &self.path)?;
        }
        match is.kind == Kind::Dir && (differs.below || self.above.contains(&self.path)) {
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

/// The paths of a tree's files of several names, each with the number that all its names share.
fn linked(tree: &SealedTree) -> Result<HashMap<Vec<u8>, Node>, Errno> {
    let mut paths = HashMap::new();
    for group in tree.groups().iter() {
        for place in group {
            paths.insert(tree.path_of(*place)?, group[0]);
        }
    }
    Ok(paths)
}

fn find(tree: &SealedTree, path: &[u8]) -> Result<Option<Attr>, Errno> {
    let mut at = tree.getattr(ROOT)?;
    for name in path.split(|b| *b == b'/') {
        at = match tree.lookup(&Creds::ROOT, at.node, name) {
            Ok(found) => found.node,
            Err(Errno::NoEnt | Errno::NotDir) => return Ok(None),
            Err(e) => return Err(e),
        };
    }
    Ok(Some(at))
}

/// All names of the files of `new` that have other names for the same file than `old` has.
fn relinked(new: &SealedTree, old: &SealedTree) -> Result<HashSet<Vec<u8>>, Errno> {
    let (is, was) = (linked(new)?, linked(old)?);
    // Which file of `new` each name of a file of `old` belongs to now; files of one name by their number.
    let mut parts: HashMap<Node, HashSet<Node>> = HashMap::new();
    for (path, file) in &was {
        let now = match is.get(path) {
            Some(now) => Some(*now),
            None => find(new, path)?
                .filter(|a| a.kind != Kind::Dir)
                .map(|a| a.node),
        };
        parts.entry(*file).or_default().extend(now);
    }
    let split = |file: &Node| parts.get(file).is_some_and(|now| now.len() > 1);
    let mut changed = HashSet::new();
    for (path, now) in &is {
        let same = match was.get(path) {
            Some(file) => !split(file) && new.beside(*now, old, *file)?.is_some_and(|d| !d.own),
            None => false,
        };
        if !same {
            changed.insert(*now);
        }
    }
    // Names of one file now that were those of two.
    let mut from: HashMap<Node, Node> = HashMap::new();
    for (path, now) in &is {
        if let Some(file) = was.get(path)
            && *from.entry(*now).or_insert(*file) != *file
        {
            changed.insert(*now);
        }
    }
    let mut again: HashSet<Vec<u8>> = HashSet::new();
    again.extend(
        is.iter()
            .filter(|(_, now)| changed.contains(now))
            .map(|(path, _)| path.clone()),
    );
    for (path, file) in &was {
        if split(file) && find(new, path)?.is_some_and(|a| a.kind != Kind::Dir) {
            again.insert(path.clone());
        }
    }
    Ok(again)
}
