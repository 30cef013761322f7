//! The numbers a seal gives: where each node of the base went, so that
//! hard-link groups hold in the new tree.

use crate::types::Node;

/// A run of base nodes that keep their order: `len` from `old` on are now from `new` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    old: Node,
    len: u64,
    new: Node,
}

/// A map from the base's numbers to the new tree's.
#[derive(Default)]
pub(super) struct Moves(Vec<Run>);

impl Moves {
    pub fn add(&mut self, old: Node, len: u64, new: Node) {
        match self.0.last_mut() {
            Some(last) if last.old + last.len == old && last.new + last.len == new => {
                last.len += len
            }
            _ => self.0.push(Run { old, len, new }),
        }
    }

    /// To be called once, when all is added.
    pub fn finish(mut self) -> Moves {
        self.0.sort_unstable_by_key(|run| run.old);
        self
    }

    /// Where a base node is now; `None` where it has no name any more.
    pub fn get(&self, old: Node) -> Option<Node> {
        let after = self.0.partition_point(|run| run.old <= old);
        let run = self.0.get(after.checked_sub(1)?)?;
        (old - run.old < run.len).then(|| run.new + (old - run.old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_and_are_found() {
        let mut moves = Moves::default();
        moves.add(10, 5, 2);
        moves.add(15, 1, 7);
        moves.add(3, 2, 20);
        assert_eq!(moves.0.len(), 2);
        let moves = moves.finish();
        let got: Vec<_> = [2, 3, 4, 5, 9, 10, 15, 16].map(|n| moves.get(n)).into();
        assert_eq!(
            got,
            [None, Some(20), Some(21), None, None, Some(2), Some(7), None]
        );
    }
}
