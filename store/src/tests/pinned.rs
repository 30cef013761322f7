//! Steps that stay: pinned, used lately, or wanted by the caller.

use super::{open, step, two_files};
use crate::types::Digest;
use crate::{GcOptions, GcRoots, Pinned, Store};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

fn key(n: u8) -> Digest {
    Digest([n; 32])
}

/// A store with steps of these keys, each with a tree of its own.
fn store(dir: &Path, keys: &[u8]) -> Arc<Store> {
    let store = open(dir);
    for n in keys {
        let snapshot = two_files(&store, *n).snapshot;
        store.put_step(step(*n, snapshot)).expect("step");
    }
    store
}

fn keys(store: &Store) -> Vec<u8> {
    let steps = store.steps().expect("steps");
    steps.iter().map(|s| s.key.0[0]).collect()
}

fn pin(store: &Store, n: u8) -> bool {
    let pinned = Pinned {
        key: key(n),
        label: b"box@2".to_vec(),
        since: 1_700_000_000,
    };
    store.pin_step(&pinned).expect("pin")
}

#[test]
fn a_pin_outlives_the_process_and_keeps_its_step() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path(), &[1, 2]);
    assert!(pin(&store, 2) && !pin(&store, 9), "no step, no pin");
    drop(store);
    let store = open(dir.path());
    let pinned = store.pinned_steps().expect("pins");
    assert_eq!(pinned.len(), 1);
    assert_eq!(
        (&pinned[0].label[..], pinned[0].since),
        (&b"box@2"[..], 1_700_000_000)
    );
    let report = store.gc(GcOptions::default(), &[]).expect("gc");
    assert_eq!(
        report.removed.iter().map(|s| s.key).collect::<Vec<_>>(),
        [key(1)]
    );
    let tree = store.steps().expect("steps")[0].snapshot;
    store.sealed(&tree).expect("its tree");
    assert!(store.unpin_step(&key(2)).expect("unpin"));
    assert!(!store.unpin_step(&key(2)).expect("unpin"), "once");
    store.gc(GcOptions::default(), &[]).expect("gc");
    assert_eq!(keys(&store), []);
}

/// Pinned while a collection that had not heard of it is about to remove it.
#[test]
fn a_pin_that_comes_between_mark_and_sweep_holds() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path(), &[1, 2]);
    let between = || assert!(pin(&store, 1));
    store
        .collect(GcOptions::default(), &[], between)
        .expect("gc");
    assert_eq!(keys(&store), [1]);
    let snapshot = store.steps().expect("steps")[0].snapshot;
    store.sealed(&snapshot).expect("whole");
}

#[test]
fn what_was_used_lately_stays_over_a_restart() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path(), &[1, 2, 3]);
    // They were made at 100.
    store.use_steps(&[key(1), key(2)], 500);
    store.use_steps(&[key(1)], 400);
    store.keep_uses().expect("kept");
    store.use_steps(&[key(2)], 900);
    let since = |secs| GcOptions {
        keep_steps_since: Some(secs),
        ..GcOptions::default()
    };
    store.gc(since(500), &[]).expect("gc");
    assert_eq!(keys(&store), [1, 2]);
    store.gc(since(900), &[]).expect("gc");
    assert_eq!(keys(&store), [2], "what is only in memory counts");
    store.keep_uses().expect("kept");
    drop(store);
    let store = open(dir.path());
    let steps = store.steps().expect("steps");
    assert_eq!(store.last_use(&steps[0]).expect("a time"), 900);
    store.gc(since(900), &[]).expect("gc");
    assert_eq!(keys(&store), [2]);
    store.gc(since(901), &[]).expect("gc");
    assert_eq!(keys(&store), []);
    assert!(
        store.records("used").expect("records").is_empty(),
        "no notes of what is gone"
    );
}

#[test]
fn roots_are_asked_for_when_the_collection_has_begun() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path(), &[1, 2]);
    let roots = || {
        // A collection runs: who comes now is heard.
        assert!(store.gc(GcOptions::default(), &[]).is_err());
        let steps = HashSet::from([key(2)]);
        Ok((
            GcOptions::default(),
            GcRoots {
                steps,
                ..GcRoots::default()
            },
        ))
    };
    store.gc_with(roots).expect("gc");
    assert_eq!(keys(&store), [2]);
}

#[test]
fn a_step_is_found_by_the_beginning_of_its_key() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path(), &[0x11, 0x12, 0xff]);
    let named = |digits: &str| store.steps_named(digits).expect("look");
    assert_eq!(named("ff"), [key(0xff)]);
    assert_eq!(named(&key(0x12).to_string()), [key(0x12)]);
    assert_eq!(named("1").len(), 2);
    for none in ["13", "", "FF", "xyz", &"1".repeat(65), "é"] {
        assert!(named(none).len() != 1, "{none}");
    }
}
