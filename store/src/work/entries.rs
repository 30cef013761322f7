//! A directory's changed names. Few are searched one by one; for more there is a table of where
//! each is. Names lie one after another, in no allocations of their own, and what was removed
//! is left in its place until half of a directory is that.

use crate::types::{Errno, Node};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// As many names are searched without a table.
const FEW: usize = 8;

/// Keyed, as names are the clients' choice.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

#[derive(Clone, Default)]
pub(super) struct Names {
    /// Added names in order of their sequence numbers, which are the READDIR cookies less
    /// [`super::state::ADDED`].
    added: Vec<Added>,
    text: Vec<u8>,
    /// Indexes into `added`, where there are more than [`FEW`].
    table: HashTable<u32>,
    removed: usize,
    /// Names of the base that are gone, or hidden by an added one.
    pub whiteouts: HashSet<Box<[u8]>>,
}

#[derive(Clone, Copy)]
struct Added {
    seq: u64,
    /// 0 where it was removed: no node has that number.
    node: Node,
    /// Where its name is in the text, and in the lowest byte how long it is.
    name: u64,
}

impl Added {
    fn name<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let from = (self.name >> 8) as usize;
        &text[from..from + (self.name & 0xff) as usize]
    }
}

impl Names {
    /// An added name's sequence number and node.
    pub fn find(&self, name: &[u8]) -> Option<(u64, Node)> {
        let is = |entry: &Added| entry.node != 0 && entry.name(&self.text) == name;
        let entry = if self.table.is_empty() {
            self.added.iter().find(|entry| is(entry))
        } else {
            let at = self
                .table
                .find(HASHER.hash_one(name), |at| is(&self.added[*at as usize]));
            at.map(|at| &self.added[*at as usize])
        };
        entry.map(|entry| (entry.seq, entry.node))
    }

    /// `name` is not there, and `seq` is above all others.
    pub fn add(&mut self, seq: u64, name: &[u8], node: Node) -> Result<(), Errno> {
        if u32::try_from(self.added.len()).is_err() {
            return Err(Errno::NoSpc);
        }
        debug_assert!(self.added.last().is_none_or(|last| last.seq < seq));
        let len = u8::try_from(name.len()).map_err(|_| Errno::NameTooLong)?;
        let from = self.text.len() as u64;
        self.text.extend_from_slice(name);
        self.added.push(Added {
            seq,
            node,
            name: from << 8 | u64::from(len),
        });
        if self.added.len() > FEW {
            self.index();
        }
        Ok(())
    }

    /// Puts into the table what is not there yet: the last one, or all.
    fn index(&mut self) {
        let Names {
            added, text, table, ..
        } = self;
        let hash = |at: &u32| HASHER.hash_one(added[*at as usize].name(text));
        let first = if table.is_empty() { 0 } else { added.len() - 1 };
        for at in first as u32..added.len() as u32 {
            if added[at as usize].node != 0 {
                table.insert_unique(hash(&at), at, hash);
            }
        }
    }

    pub fn remove(&mut self, seq: u64) {
        let Ok(at) = self.added.binary_search_by_key(&seq, |entry| entry.seq) else {
            return;
        };
        if self.added[at].node == 0 {
            return;
        }
        let Names {
            added, text, table, ..
        } = self;
        if !table.is_empty() {
            let hash = |at: &u32| HASHER.hash_one(added[*at as usize].name(text));
            let place = table.entry(hash(&(at as u32)), |a| *a as usize == at, hash);
            if let Place::Occupied(place) = place {
                place.remove();
            }
        }
        added[at].node = 0;
        self.removed += 1;
        if self.removed > FEW / 2 && self.removed * 2 >= self.added.len() {
            self.compact();
        }
    }

    /// Added names, those of the base left out.
    pub fn count(&self) -> u64 {
        (self.added.len() - self.removed) as u64
    }

    /// Lets go of what was removed.
    fn compact(&mut self) {
        let (old, text) = (
            std::mem::take(&mut self.added),
            std::mem::take(&mut self.text),
        );
        self.table = HashTable::new();
        self.added.reserve_exact(old.len() - self.removed);
        self.removed = 0;
        for mut entry in old.into_iter().filter(|entry| entry.node != 0) {
            let (from, name) = (self.text.len() as u64, entry.name(&text));
            self.text.extend_from_slice(name);
            entry.name = from << 8 | (entry.name & 0xff);
            self.added.push(entry);
        }
        if self.added.len() > FEW {
            self.index();
        }
    }

    /// Added names in order, from the first whose number is not below `seq`.
    pub fn from(&self, seq: u64) -> impl Iterator<Item = (u64, &[u8], Node)> {
        let first = self.added.partition_point(|entry| entry.seq < seq);
        let there = self.added[first..].iter().filter(|entry| entry.node != 0);
        there.map(|entry| (entry.seq, entry.name(&self.text), entry.node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn all(names: &Names, seq: u64) -> Vec<(u64, Vec<u8>, Node)> {
        let from = names.from(seq);
        from.map(|(seq, name, node)| (seq, name.to_vec(), node))
            .collect()
    }

    #[test]
    fn a_name_takes_little_more_than_its_text() {
        let mut names = Names::default();
        for n in 0..10_000_u64 {
            names
                .add(n, format!("file-{n:07}").as_bytes(), n + 1)
                .unwrap();
        }
        let room = |names: &Names| {
            let added = names.added.capacity() * size_of::<Added>();
            added + names.text.capacity() + names.table.allocation_size()
        };
        assert!(room(&names) < 80 * 10_000, "{} bytes", room(&names));
        (0..9_999).for_each(|n| names.remove(n));
        assert!(room(&names) < 1_000, "{} bytes", room(&names));
        assert_eq!(names.find(b"file-0009999"), Some((9_999, 10_000)));
    }

    proptest! {
        #[test]
        fn they_are_found_and_listed_as_they_were_added(
            ops in prop::collection::vec((0_u8..60, any::<bool>()), 0..400),
        ) {
            let mut names = Names::default();
            let mut model: BTreeMap<u64, (Vec<u8>, Node)> = BTreeMap::new();
            for (seq, (name, remove)) in ops.into_iter().enumerate() {
                let seq = seq as u64 * 3;
                let name = vec![name; usize::from(name)];
                let known = model.iter().find(|(_, (n, _))| *n == name).map(|(seq, (_, node))| (*seq, *node));
                prop_assert_eq!(names.find(&name), known);
                match known {
                    Some((old, _)) if remove => {
                        names.remove(old);
                        model.remove(&old);
                    }
                    Some(_) => {}
                    None => {
                        names.add(seq, &name, seq + 7).unwrap();
                        model.insert(seq, (name, seq + 7));
                    }
                }
                let listed = |from| model.range(from..).map(|(s, (n, i))| (*s, n.clone(), *i)).collect::<Vec<_>>();
                prop_assert_eq!(all(&names, 0), listed(0));
                prop_assert_eq!(all(&names, seq / 2), listed(seq / 2));
                prop_assert!(names.added.len() <= 2 * model.len() + FEW);
            }
        }
    }
}
