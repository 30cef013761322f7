//! Sealed trees that are open: all of them, and the last few kept so that each
//! mount of a browse view need not open them again.

use crate::sealed::SealedTree;
use crate::types::Digest;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};

/// Trees kept open that nobody else holds.
const KEPT: NonZeroUsize = NonZeroUsize::new(32).unwrap();
/// Entries after which dead ones are looked for.
const TIDY: usize = 256;

pub(crate) struct Trees {
    state: Mutex<State>,
}

struct State {
    open: HashMap<Digest, Weak<SealedTree>>,
    kept: LruCache<Digest, Arc<SealedTree>>,
    tidy_at: usize,
}

impl Default for Trees {
    fn default() -> Trees {
        let state = State {
            open: HashMap::new(),
            kept: LruCache::new(KEPT),
            tidy_at: TIDY,
        };
        Trees {
            state: Mutex::new(state),
        }
    }
}

impl Trees {
    pub fn get(&self, snapshot: &Digest) -> Option<Arc<SealedTree>> {
        let state = &mut *self.state.lock();
        let tree = state.open.get(snapshot)?.upgrade()?;
        state.kept.put(*snapshot, tree.clone());
        Some(tree)
    }

    /// Keeps `tree`, or answers the one that another thread opened meanwhile.
    pub fn keep(&self, tree: Arc<SealedTree>) -> Arc<SealedTree> {
        let state = &mut *self.state.lock();
        let digest = tree.snapshot();
        let tree = state
            .open
            .get(&digest)
            .and_then(Weak::upgrade)
            .unwrap_or(tree);
        state.open.insert(digest, Arc::downgrade(&tree));
        state.kept.put(digest, tree.clone());
        if state.open.len() >= state.tidy_at {
            state.open.retain(|_, t| t.strong_count() > 0);
            state.tidy_at = TIDY.max(2 * state.open.len());
        }
        tree
    }

    /// Snapshots that somebody holds open. Those kept only here are let go.
    pub fn in_use(&self) -> Vec<Digest> {
        let state = &mut *self.state.lock();
        state.kept.clear();
        state.open.retain(|_, t| t.strong_count() > 0);
        state.open.keys().copied().collect()
    }
}
