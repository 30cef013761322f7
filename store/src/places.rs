//! Where the nodes of sealed trees stand, remembered by the pages they stand in: one row for
//! a directory of a hundred files, and a node is found in two steps however large its tree is.

use crate::types::{Digest, Node};
use parking_lot::RwLock;
use std::collections::BTreeMap;

/// Pages remembered, with about 100 bytes each.
const PAGES: usize = 1 << 18;

/// A page of a directory, and the nodes that are in it or below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub first: Node,
    pub last: Node,
    pub page: Digest,
    /// The directory.
    pub dir: Node,
    /// The first node of the page that has the directory's own entry; the root's is in none.
    pub up: Option<Node>,
}

/// By snapshot ordinal and first node.
#[derive(Default)]
pub(crate) struct Places {
    pages: RwLock<BTreeMap<(u32, Node), Place>>,
}

impl Places {
    /// The deepest page known in or below which a node is.
    pub fn find(&self, ordinal: u32, n: Node) -> Option<Place> {
        let pages = self.pages.read();
        let (_, mut place) = pages.range((ordinal, 0)..=(ordinal, n)).next_back()?;
        // Of two pages the one is below the other or they have no node together: who has `n`
        // and begins before this one, has this one below.
        while place.last < n {
            place = pages.get(&(ordinal, place.up?))?;
        }
        Some(*place)
    }

    pub fn add(&self, ordinal: u32, place: Place) {
        let mut pages = self.pages.write();
        if pages.len() >= PAGES {
            // Each is found again by who comes down to it.
            pages.clear();
        }
        pages.insert((ordinal, place.first), place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(first: Node, last: Node, up: Option<Node>) -> Place {
        Place {
            first,
            last,
            page: Digest([first as u8; 32]),
            dir: first - 1,
            up,
        }
    }

    #[test]
    fn the_deepest_page_is_found() {
        let places = Places::default();
        assert!(places.find(1, 5).is_none());
        places.add(1, place(2, 100, None));
        places.add(1, place(11, 40, Some(2)));
        places.add(1, place(21, 25, Some(11)));
        places.add(1, place(51, 60, Some(2)));
        places.add(2, place(2, 3, None));
        let first = |n| places.find(1, n).map(|p| p.first);
        for (n, expected) in [
            (2, 2),
            (10, 2),
            (11, 11),
            (20, 11),
            (21, 21),
            (25, 21),
            (26, 11),
            (40, 11),
            (41, 2),
            (51, 51),
            (61, 2),
            (100, 2),
        ] {
            assert_eq!(first(n), Some(expected), "{n}");
        }
        assert_eq!(first(101), None);
        assert_eq!(first(1), None);
        assert!(places.find(3, 2).is_none());
    }

    #[test]
    fn a_page_whose_upper_ones_are_forgotten_leads_nowhere_else() {
        let places = Places::default();
        places.add(1, place(21, 25, Some(11)));
        assert!(places.find(1, 30).is_none());
        assert_eq!(places.find(1, 23).map(|p| p.dir), Some(20));
    }
}
