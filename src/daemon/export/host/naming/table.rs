//! Where the files of a graft are, by inode number: each under a directory's number, by a name.
//!
//! What stands here is believed only after a look at the directory itself, so a row may be
//! old, wrong or missing. At its bound the table drops what was used least lately.

use lru::LruCache;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory of one graft's table, about.
pub const BYTES_MAX: usize = 32 << 20;
/// Memory of all tables together, about: beyond it each keeps its floor.
pub const ALL_MAX: usize = 256 << 20;
/// What a table has whatever the others take.
pub const FLOOR: usize = 256 << 10;
/// Names remembered of one file; a file with more links is found by the rest.
pub const LINKS_MAX: usize = 16;
/// Files remembered that are no more.
const GONE_MAX: NonZero<usize> = NonZero::new(16384).unwrap();
/// Deepest path in a graft.
pub const DEPTH_MAX: usize = 4096;
/// What a place and an entry take beside the name.
const PLACE_COST: usize = 48;
const ENTRY_COST: usize = 112;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub parent: u64,
    pub name: Box<[u8]>,
}

impl Place {
    fn cost(&self) -> usize {
        PLACE_COST + self.name.len()
    }

    fn is(&self, parent: u64, name: &[u8]) -> bool {
        self.parent == parent && *self.name == *name
    }
}

/// A path from a root: of each step the number and the name.
pub type Way = Vec<(u64, Box<[u8]>)>;

/// Why there is no way to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWay {
    /// Nothing is known of that number.
    Unknown(u64),
    /// It is deeper than anything in a graft is.
    TooDeep,
}

pub struct Table {
    /// Of each file its places, the latest first.
    files: LruCache<u64, Vec<Place>>,
    /// Numbers whose last name went here, each with what told that file from the next.
    gone: LruCache<u64, u64>,
    bytes: usize,
    /// What all tables take.
    all: Arc<AtomicUsize>,
}

impl Table {
    pub fn new(all: Arc<AtomicUsize>) -> Table {
        Table {
            files: LruCache::unbounded(),
            gone: LruCache::new(GONE_MAX),
            bytes: 0,
            all,
        }
    }

    /// The file has this name; answers whether that is new.
    pub fn learn(&mut self, file: u64, parent: u64, name: &[u8]) -> bool {
        let place = || Place {
            parent,
            name: name.into(),
        };
        let mut taken = 0;
        let mut freed = 0;
        let fresh = match self.files.get_mut(&file) {
            Some(places) => match places.iter().position(|p| p.is(parent, name)) {
                Some(at) => {
                    places[..=at].rotate_right(1);
                    false
                }
                None => {
                    places.insert(0, place());
                    taken += places[0].cost();
                    if places.len() > LINKS_MAX {
                        freed += places.pop().map_or(0, |p| p.cost());
                    }
                    true
                }
            },
            None => {
                let place = place();
                taken += ENTRY_COST + place.cost();
                self.files.put(file, vec![place]);
                true
            }
        };
        self.took(taken);
        self.freed(freed);
        while self.over() && self.files.len() > 1 {
            if let Some((_, places)) = self.files.pop_lru() {
                self.freed(ENTRY_COST + places.iter().map(Place::cost).sum::<usize>());
            }
        }
        fresh
    }

    /// The file has this name no more; answers whether that is new.
    pub fn forget(&mut self, file: u64, parent: u64, name: &[u8]) -> bool {
        let Some(places) = self.files.peek_mut(&file) else {
            return false;
        };
        let Some(at) = places.iter().position(|p| p.is(parent, name)) else {
            return false;
        };
        let mut freed = places.remove(at).cost();
        if places.is_empty() {
            self.files.pop(&file);
            freed += ENTRY_COST;
        }
        self.freed(freed);
        true
    }

    /// The file is no more; `tag` tells it from the next one of its number.
    pub fn end(&mut self, file: u64, tag: u64) {
        self.forget_all(file);
        self.gone.put(file, tag);
    }

    fn forget_all(&mut self, file: u64) {
        if let Some(places) = self.files.pop(&file) {
            self.freed(ENTRY_COST + places.iter().map(Place::cost).sum::<usize>());
        }
    }

    /// The file was met: if it is the one that was taken for ended, it did not.
    pub fn met(&mut self, file: u64, tag: u64) {
        if self.gone.peek(&file) == Some(&tag) {
            self.gone.pop(&file);
        }
    }

    /// The tag of the last file of that number that ended here.
    pub fn ended(&mut self, file: u64) -> Option<u64> {
        self.gone.get(&file).copied()
    }

    /// The way down from `root` to the file, a number and a name for each step.
    pub fn way(&mut self, root: u64, file: u64) -> Result<Way, NoWay> {
        let mut way = Way::new();
        let mut at = file;
        while at != root {
            if way.len() == DEPTH_MAX {
                // Old rows may make a ring. Which of them is wrong nobody can tell.
                let Some(from) = way.iter().position(|(ino, _)| *ino == at) else {
                    return Err(NoWay::TooDeep);
                };
                for (ino, _) in &way[from..] {
                    self.forget_all(*ino);
                }
                return Err(NoWay::Unknown(at));
            }
            let place = self.files.get(&at).and_then(|places| places.first());
            let Some(place) = place else {
                return Err(NoWay::Unknown(at));
            };
            let parent = place.parent;
            way.push((at, place.name.clone()));
            at = parent;
        }
        way.reverse();
        Ok(way)
    }

    /// Whether a row more would cost none of those that are there.
    pub fn has_room(&self) -> bool {
        self.bytes + (4 << 10) < BYTES_MAX && self.all.load(Ordering::Relaxed) < ALL_MAX
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Every place, those used least lately first.
    pub fn places(&self) -> impl Iterator<Item = (u64, &Place)> {
        let files = self.files.iter().rev();
        files.flat_map(|(file, places)| places.iter().rev().map(|place| (*file, place)))
    }

    /// Numbers of files that ended, the oldest first.
    pub fn ends(&self) -> impl Iterator<Item = (u64, u64)> {
        self.gone.iter().rev().map(|(file, tag)| (*file, *tag))
    }

    fn over(&self) -> bool {
        let all = self.all.load(Ordering::Relaxed);
        self.bytes > BYTES_MAX || (all > ALL_MAX && self.bytes > FLOOR)
    }

    fn took(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    fn freed(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn table() -> Table {
        Table::new(Arc::default())
    }

    #[test]
    fn what_was_used_least_goes_first_and_the_account_is_right() {
        let all = Arc::new(AtomicUsize::new(0));
        let mut table = Table::new(all.clone());
        table.learn(2, 1, b"used");
        let most = BYTES_MAX as u64 / (ENTRY_COST + PLACE_COST + 8) as u64;
        for n in 0..most + 1000 {
            table.learn(10 + n, 2, format!("{n:08}").as_bytes());
            assert!(table.way(1, 10 + n).is_ok());
        }
        assert!(table.bytes() <= BYTES_MAX);
        assert_eq!(table.way(1, 10), Err(NoWay::Unknown(10)));
        assert!(table.way(1, 2).is_ok(), "a directory in use went");
        assert_eq!(all.load(Ordering::Relaxed), table.bytes());
        let counted: usize = table.places().map(|(_, place)| place.cost()).sum();
        assert_eq!(
            counted + table.files.len() * ENTRY_COST,
            table.bytes(),
            "the account"
        );
        drop(table);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_table_keeps_its_floor_where_others_have_all() {
        let all = Arc::new(AtomicUsize::new(2 * ALL_MAX));
        let mut table = Table::new(all);
        for n in 0..10_000 {
            table.learn(n, 1, format!("{n:032}").as_bytes());
        }
        assert!(table.bytes() <= FLOOR && table.bytes() > FLOOR / 2);
    }

    #[test]
    fn rows_that_make_a_ring_lead_nowhere() {
        let mut table = table();
        table.learn(2, 3, b"a");
        table.learn(3, 2, b"b");
        table.learn(4, 2, b"c");
        assert!(matches!(
            table.way(1, 4),
            Err(NoWay::Unknown(2)) | Err(NoWay::Unknown(3))
        ));
        // The rows of the ring are no more, the one that led to it is.
        assert_eq!(table.way(1, 2), Err(NoWay::Unknown(2)));
        assert_eq!(table.way(1, 4), Err(NoWay::Unknown(2)));
        table.learn(3, 2, b"b");
        for n in 0..100 {
            table.learn(2, 1, format!("{n}").as_bytes());
        }
        assert_eq!(table.files.peek(&2).map(Vec::len), Some(LINKS_MAX));
        assert_eq!(table.way(1, 3).map(|way| way.len()), Ok(2));
    }

    #[test]
    fn what_is_too_deep_is_not_what_is_unknown() {
        let mut table = table();
        let deepest = DEPTH_MAX as u64 + 1;
        for n in 2..=deepest + 1 {
            table.learn(n, n - 1, b"d");
        }
        assert_eq!(table.way(1, deepest).map(|way| way.len()), Ok(DEPTH_MAX));
        assert_eq!(table.way(1, deepest + 1), Err(NoWay::TooDeep));
        assert!(table.way(1, deepest).is_ok(), "a row of it went");
        table.forget(5, 4, b"d");
        assert_eq!(table.way(1, 9), Err(NoWay::Unknown(5)));
    }

    #[test]
    fn a_file_that_is_met_again_did_not_end() {
        let mut table = table();
        table.end(5, 70);
        table.met(5, 71);
        assert_eq!(table.ended(5), Some(70), "another of its number");
        table.met(5, 70);
        assert_eq!(table.ended(5), None);
        assert_eq!(table.ends().count(), 0);
    }

    /// A directory's names, and the number of each.
    type Dirs = BTreeMap<u64, BTreeMap<u8, u64>>;

    fn below(dirs: &Dirs, dir: u64, other: u64) -> bool {
        dir == other
            || dirs[&dir]
                .values()
                .any(|n| dirs.contains_key(n) && below(dirs, *n, other))
    }

    proptest! {
        /// Names come, go and move, directories with all below them, files under several names;
        /// a number that is free is the next one's. Whatever the table says of the way to
        /// a file leads there.
        #[test]
        fn the_way_is_that_of_a_model(
            steps in proptest::collection::vec((0..6u8, 0..8u8, 0..5u8, 0..8u8, 0..5u8), 1..200)
        ) {
            let mut table = table();
            let mut dirs = Dirs::from([(1, BTreeMap::new())]);
            for (what, dir, name, to, new) in steps {
                let pick = |dirs: &Dirs, n: u8| {
                    *dirs.keys().nth(usize::from(n) % dirs.len()).expect("the root")
                };
                let (dir, to) = (pick(&dirs, dir), pick(&dirs, to));
                let there = dirs[&dir].get(&name).copied();
                let target = dirs[&to].get(&new).copied();
                let links = |dirs: &Dirs, n: u64| {
                    dirs.values().flat_map(BTreeMap::values).filter(|m| **m == n).count()
                };
                let lose = |dirs: &mut Dirs, table: &mut Table, dir: u64, name: u8, n: u64| {
                    dirs.get_mut(&dir).expect("it").remove(&name);
                    dirs.remove(&n);
                    if links(dirs, n) == 0 {
                        table.end(n, 0);
                    } else {
                        table.forget(n, dir, &[name]);
                    }
                };
                match (what, there) {
                    (0 | 1, None) => {
                        // The lowest that is free: numbers are used again at once.
                        let used = |n: &u64| dirs.contains_key(n) || links(&dirs, *n) > 0;
                        let n = (1..).find(|n| !used(n)).expect("a number");
                        dirs.get_mut(&dir).expect("it").insert(name, n);
                        if what == 1 {
                            dirs.insert(n, BTreeMap::new());
                        }
                        table.learn(n, dir, &[name]);
                    }
                    (2, Some(n)) if !dirs.contains_key(&n) && target.is_none() => {
                        dirs.get_mut(&to).expect("it").insert(new, n);
                        table.learn(n, to, &[new]);
                    }
                    (3, Some(n)) if dirs.get(&n).is_none_or(BTreeMap::is_empty) => {
                        lose(&mut dirs, &mut table, dir, name, n);
                    }
                    (4 | 5, Some(n)) if target != Some(n) => {
                        let into_itself = dirs.contains_key(&n) && below(&dirs, n, to);
                        let full = target.is_some_and(|t| dirs.get(&t).is_some_and(|d| !d.is_empty()));
                        if into_itself || full {
                            continue;
                        }
                        if let Some(target) = target {
                            lose(&mut dirs, &mut table, to, new, target);
                        }
                        dirs.get_mut(&dir).expect("it").remove(&name);
                        dirs.get_mut(&to).expect("it").insert(new, n);
                        table.forget(n, dir, &[name]);
                        table.learn(n, to, &[new]);
                    }
                    _ => {}
                }
                let all: Vec<u64> = dirs.values().flat_map(|d| d.values().copied()).collect();
                for n in all {
                    let way = table.way(1, n).expect("it is known");
                    let mut at = 1;
                    for (step, name) in &way {
                        at = dirs[&at][&name[0]];
                        prop_assert_eq!(at, *step);
                    }
                    prop_assert_eq!(at, n);
                }
            }
        }
    }
}
