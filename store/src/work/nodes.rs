//! A delta's nodes by their numbers. New ones are given one after another, so those of a range
//! lie side by side in one allocation: a node costs hardly more than itself, and finding it a
//! look into a map of ranges that stays in the processor's caches.

use super::node::Node as Inode;
use crate::types::Node;
use std::collections::HashMap;

/// Numbers of a range: the bits of [`Range::held`].
const SPAN: u64 = u32::BITS as u64;

#[derive(Default)]
pub(super) struct Nodes {
    ranges: HashMap<u64, Range>,
}

/// The nodes that there are, in order of their numbers.
#[derive(Default)]
struct Range {
    held: u32,
    nodes: Vec<Inode>,
}

impl Range {
    /// Where a node is, or would be.
    fn at(&self, n: Node) -> Result<usize, usize> {
        let bit = 1 << (n % SPAN);
        let at = (self.held & (bit - 1)).count_ones() as usize;
        if self.held & bit != 0 {
            Ok(at)
        } else {
            Err(at)
        }
    }
}

impl Nodes {
    pub fn get(&self, n: &Node) -> Option<&Inode> {
        let range = self.ranges.get(&(n / SPAN))?;
        range.nodes.get(range.at(*n).ok()?)
    }

    pub fn get_mut(&mut self, n: &Node) -> Option<&mut Inode> {
        let range = self.ranges.get_mut(&(n / SPAN))?;
        let at = range.at(*n).ok()?;
        range.nodes.get_mut(at)
    }

    pub fn contains_key(&self, n: &Node) -> bool {
        self.get(n).is_some()
    }

    pub fn insert(&mut self, n: Node, node: Inode) {
        let range = self.ranges.entry(n / SPAN).or_default();
        match range.at(n) {
            Ok(at) => range.nodes[at] = node,
            Err(at) => {
                // Twice as many fill a range without rest; one that stays alone has no spare room.
                if range.nodes.len() == range.nodes.capacity() {
                    range.nodes.reserve_exact(range.nodes.len().max(1));
                }
                range.nodes.insert(at, node);
                range.held |= 1 << (n % SPAN);
            }
        }
    }

    pub fn remove(&mut self, n: Node) -> Option<Inode> {
        let range = self.ranges.get_mut(&(n / SPAN))?;
        let at = range.at(n).ok()?;
        let node = range.nodes.remove(at);
        range.held &= !(1 << (n % SPAN));
        if range.nodes.is_empty() {
            self.ranges.remove(&(n / SPAN));
        } else if range.nodes.len() * 4 <= range.nodes.capacity() {
            range.nodes.shrink_to(range.nodes.len() * 2);
        }
        Some(node)
    }

    pub fn clear(&mut self) {
        self.ranges = HashMap::new();
    }

    pub fn iter(&self) -> impl Iterator<Item = (Node, &Inode)> {
        self.ranges.iter().flat_map(|(first, range)| {
            let numbers = (0..SPAN).filter(|bit| range.held & (1 << bit) != 0);
            numbers.map(move |bit| first * SPAN + bit).zip(&range.nodes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::node::What;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn node(mark: u32) -> Inode {
        Inode::new((mark, 0, 0), 1, [Default::default(); 3], What::Fifo)
    }

    #[test]
    fn a_node_is_small_and_its_neighbours_cost_no_more() {
        assert!(size_of::<Inode>() <= 96, "{} bytes", size_of::<Inode>());
        let mut nodes = Nodes::default();
        (1..=10_000).for_each(|n| nodes.insert(n, node(0)));
        let room: usize = nodes.ranges.values().map(|r| r.nodes.capacity()).sum();
        assert!(room < 10_000 + SPAN as usize, "room for {room}");
        (1..10_000).for_each(|n| drop(nodes.remove(n)));
        let room: usize = nodes.ranges.values().map(|r| r.nodes.capacity()).sum();
        assert!(room <= 4, "room for {room}");
    }

    proptest! {
        #[test]
        fn they_are_a_map(ops in prop::collection::vec((0_u64..100, any::<bool>(), any::<u32>()), 0..300)) {
            let (mut nodes, mut model) = (Nodes::default(), BTreeMap::new());
            for (n, insert, mark) in ops {
                if insert {
                    nodes.insert(n, node(mark));
                    model.insert(n, mark);
                } else {
                    let gone = nodes.remove(n).map(|node| node.mode);
                    prop_assert_eq!(gone, model.remove(&n));
                }
                prop_assert_eq!(nodes.get_mut(&n).map(|n| n.mode), model.get(&n).copied());
            }
            for n in 0..100 {
                prop_assert_eq!(nodes.get(&n).map(|n| n.mode), model.get(&n).copied());
            }
            let all: BTreeMap<_, _> = nodes.iter().map(|(n, node)| (n, node.mode)).collect();
            prop_assert_eq!(nodes.iter().count(), model.len());
            prop_assert_eq!(all, model);
        }
    }
}
