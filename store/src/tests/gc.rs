//! What collection takes and what it leaves.

use super::{blob_files, meta, open, step, two_files};
use crate::tree::Tree;
use crate::types::{Creds, Digest, ROOT};
use crate::{GcOptions, GcReport, Pocker, SealedTree, Store, StoreError};
use std::sync::Arc;

fn pocker(name: &str, keys: &[u8]) -> Pocker {
    Pocker {
        name: name.as_bytes().to_vec(),
        steps: keys.iter().map(|k| Digest([*k; 32])).collect(),
        config: Vec::new(),
        created: 1,
    }
}

fn gc(store: &Store) -> GcReport {
    store.gc(GcOptions::default(), &[]).expect("gc")
}

/// All of a `two_files` tree can be read.
fn whole(tree: &SealedTree, seed: u8) {
    let dir = tree
        .lookup(&Creds::ROOT, ROOT, b"dir")
        .expect("dir")
        .node
        .node;
    for (name, size) in [(&b"small"[..], 3), (b"large", 50_000)] {
        let node = tree
            .lookup(&Creds::ROOT, dir, name)
            .expect("lookup")
            .node
            .node;
        let mut data = Vec::new();
        tree.read(&Creds::ROOT, node, 0, 60_000, &mut data)
            .expect("read");
        assert!(data == vec![seed; size]);
    }
}

fn sealed(store: &Arc<Store>, seed: u8, key: u8) -> Digest {
    let snapshot = two_files(store, seed).snapshot;
    store.put_step(step(key, snapshot)).expect("step");
    snapshot
}

#[test]
fn keeps_what_is_live_and_frees_the_rest() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let live = sealed(&store, 1, 1);
    let dead = sealed(&store, 2, 2);
    let unnamed = two_files(&store, 3).snapshot;
    store.put_pocker(&pocker("live", &[1])).expect("pocker");
    store.put_pocker(&pocker("dead", &[2])).expect("pocker");
    assert_eq!(gc(&store).snapshots, 1, "only what has no step goes");
    store.remove_pocker(b"dead").expect("remove");
    let dry = store
        .gc(
            GcOptions {
                dry_run: true,
                ..GcOptions::default()
            },
            &[],
        )
        .expect("dry");
    assert_eq!(blob_files(&store), 2);
    let report = gc(&store);
    assert_eq!(report, dry, "a dry run counts what then goes");
    assert_eq!(
        report,
        GcReport {
            steps: 1,
            snapshots: 1,
            objects: 3,
            blobs: 2,
            bytes: report.bytes,
            removed: vec![step(2, dead)],
        }
    );
    assert!(report.bytes > 50_003);
    assert_eq!(gc(&store), GcReport::default(), "nothing is left to free");
    assert_eq!(blob_files(&store), 1);
    assert_eq!(store.steps().expect("steps").len(), 1);
    for gone in [dead, unnamed] {
        assert!(matches!(
            store.sealed(&gone),
            Err(StoreError::Missing { .. })
        ));
    }
    drop(store);
    let store = open(dir.path());
    whole(&store.sealed(&live).expect("live"), 1);
    // What went can come again.
    let again = two_files(&store, 2);
    assert_eq!(again.snapshot, dead);
    whole(&again.tree, 2);
}

#[test]
fn ordinals_are_not_reused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let first = two_files(&store, 1).ordinal;
    assert_eq!(gc(&store).snapshots, 1);
    assert!(two_files(&store, 1).ordinal > first);
}

#[test]
fn leaves_extra_roots_open_trees_and_young_steps() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let extra = sealed(&store, 1, 1);
    let held = two_files(&store, 2);
    store.gc(GcOptions::default(), &[extra]).expect("gc");
    assert_eq!(
        store.steps().expect("steps").len(),
        1,
        "an extra root keeps its step"
    );
    whole(&store.sealed(&extra).expect("extra"), 1);
    whole(&held.tree, 2);
    let young = GcOptions {
        keep_steps_since: Some(100),
        ..GcOptions::default()
    };
    assert_eq!(store.gc(young, &[]).expect("gc").snapshots, 0);
    drop(held);
    let older = GcOptions {
        keep_steps_since: Some(101),
        ..GcOptions::default()
    };
    assert_eq!(store.gc(older, &[]).expect("gc").snapshots, 2);
}

#[test]
fn leaves_what_a_batch_in_progress_relies_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    // Blobs that nothing refers to, and an ingest that finds them there.
    drop(two_files(&store, 1));
    let mut ingest = store.ingest();
    ingest
        .file(b"dir/small", meta(0o644), 3, &mut &[1; 3][..])
        .expect("small");
    ingest
        .file(b"dir/large", meta(0o644), 50_000, &mut &[1; 50_000][..])
        .expect("large");
    let report = gc(&store);
    assert_eq!((report.snapshots, report.blobs), (1, 0));
    whole(&ingest.finish(None).expect("finish").tree, 1);
}

/// After the marks are made: a tree is opened and closed, a batch commits, a step is
/// looked up and a pocker put that names it, a batch puts a key that was to go.
#[test]
fn leaves_what_comes_into_use_between_mark_and_sweep() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let opened = two_files(&store, 1).snapshot;
    let named = sealed(&store, 2, 2);
    let shared = sealed(&store, 3, 3);
    let dead = sealed(&store, 4, 4);
    let mut made = None;
    let between = || {
        drop(store.sealed(&opened).expect("open"));
        made = Some(two_files(&store, 5).snapshot);
        assert!(store.step(&Digest([2; 32])).expect("step").is_some());
        store.put_pocker(&pocker("p", &[2])).expect("pocker");
        let held = store
            .put_step(step(3, two_files(&store, 6).snapshot))
            .expect("step");
        assert_eq!(held.snapshot, shared, "the first wins");
    };
    let report = store
        .collect(GcOptions::default(), &[], between)
        .expect("gc");
    assert_eq!((report.snapshots, report.steps), (1, 1));
    assert!(store.sealed(&dead).is_err());
    for (snapshot, seed) in [
        (opened, 1),
        (named, 2),
        (shared, 3),
        (made.expect("made"), 5),
    ] {
        whole(&store.sealed(&snapshot).expect("is there"), seed);
    }
    let again = store.collect(GcOptions::default(), &[], || {
        let nested = store.gc(GcOptions::default(), &[]);
        assert!(matches!(nested, Err(StoreError::Collecting)));
    });
    assert_eq!(again.expect("gc").snapshots, 4, "all but the pocker's");
}

/// Builds and collects at once for many rounds; every tree that was made stays whole while held.
#[test]
fn runs_beside_builds() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                gc(&store);
                rounds += 1;
            }
            rounds
        });
        let builder = |seed: u8| {
            for round in 0..9_u8 {
                let done = two_files(&store, seed ^ (round % 3));
                whole(&done.tree, seed ^ (round % 3));
                let key = seed ^ (round % 3);
                let held = store.put_step(step(key, done.snapshot)).expect("step");
                assert_eq!(held.snapshot, done.snapshot);
                let tree = store.sealed(&held.snapshot).expect("sealed");
                whole(&tree, key);
                store.put_pocker(&pocker("p", &[])).expect("pocker");
            }
        };
        let builders: Vec<_> = [8_u8, 8, 16]
            .map(|seed| scope.spawn(move || builder(seed)))
            .into();
        for b in builders {
            b.join().expect("builder");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(collector.join().expect("collector") > 0);
    });
    gc(&store);
    assert_eq!(blob_files(&store), 0);
}
