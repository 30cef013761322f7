//! A check beside everything else that goes on.

use super::*;
use crate::tests::meta;
use crate::types::{Create, Node, SetAttr};
use crate::work::tests::{at, mode, root};
use crate::work::{SealOptions, WorkClass, WorkTree};
use crate::{GcOptions, Ingest};
use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicU8;

/// An ingest with more small files than a batch holds back, and a large one.
fn unfinished(store: &Arc<Store>, seed: u8) -> Ingest {
    let mut ingest = store.ingest();
    for n in 0..4100_u32 {
        let bytes = [&[seed][..], &n.to_le_bytes()].concat();
        let name = format!("f{n}");
        ingest
            .file(name.as_bytes(), meta(0o644), 5, &mut &bytes[..])
            .expect("file");
    }
    ingest
        .file(b"large", meta(0o644), 20_000, &mut &[seed; 20_000][..])
        .expect("file");
    ingest
}

/// After each list and in each phase, a tree is made and cloned, another is left unfinished, and one that was begun
/// before goes on.
#[test]
fn sees_no_fault_in_what_is_being_made() {
    let bench = Bench::new();
    let works = Works::open_or_create(bench.store.clone()).expect("works");
    let clone = |base| {
        let made = works.create(Some(base), WorkClass::Build, b"", at(1));
        made.expect("create")
    };
    clone(bench.snapshot);
    for repair in [false, true] {
        let seed = Cell::new(if repair { 100 } else { 10 });
        let fresh = || seed.replace(seed.get() + 1);
        let begun = (0..10).map(|_| unfinished(&bench.store, fresh()));
        let before = RefCell::new(begun.collect::<Vec<_>>());
        let seen = RefCell::new(Vec::new());
        let made = RefCell::new(Vec::new());
        let meanwhile = |progress: FsckProgress| {
            // After each list, and once in each other phase.
            let moment = match progress.phase {
                FsckPhase::Listing => (progress.phase, progress.done),
                phase => (phase, 0),
            };
            if seen.borrow().contains(&moment) {
                return;
            }
            seen.borrow_mut().push(moment);
            let key = fresh();
            let snapshot = two_files(&bench.store, key).snapshot;
            bench.name(key, snapshot);
            made.borrow_mut().push(snapshot);
            drop(unfinished(&bench.store, fresh()));
            if let Some(ingest) = before.borrow_mut().pop() {
                let snapshot = ingest.finish(None).expect("finish").snapshot;
                bench.store.put_step(step(fresh(), snapshot)).expect("step");
                made.borrow_mut().push(snapshot);
            }
            clone(snapshot);
            let gc = bench.store.gc(GcOptions::default(), &[]);
            assert!(matches!(gc, Err(StoreError::Collecting)));
        };
        let options = FsckOptions {
            repair,
            works: Some(&works),
            volumes: None,
            cancel: None,
        };
        let report = bench.store.fsck(&options, &meanwhile).expect("fsck");
        sound(&report);
        assert_eq!(seen.borrow().len(), 6 + 4, "{:?}", seen.borrow());
        // What was left unfinished is waste now.
        let swept = FsckOptions {
            repair: true,
            ..options
        };
        let last = bench.store.fsck(&swept, &|_| ()).expect("fsck");
        assert!(last.is_sound() && last.findings.len() == 1, "{last:#?}");
        assert!(made.borrow().iter().all(|s| bench.store.sealed(s).is_ok()));
    }
    let options = FsckOptions {
        works: Some(&works),
        ..FsckOptions::default()
    };
    sound(&bench.store.fsck(&options, &|_| ()).expect("fsck"));
}

/// Staged files come and go between the moments when rows and files are looked at.
#[test]
fn sees_no_fault_in_staged_files_that_come_and_go() {
    let bench = Bench::new();
    let works = Works::open_or_create(bench.store.clone()).expect("works");
    let tree = works
        .create(None, WorkClass::Build, b"", at(1))
        .expect("create");
    let file = |name: &[u8]| {
        let made = tree.create(&root(2), ROOT, name, Create::Guarded, &mode(0o644));
        let node = made.expect("create").node.node;
        tree.write(&root(3), node, 0, &[5; 40_000]).expect("write");
        works.staged_path(tree.id(), node)
    };
    let old = file(b"old");
    let meanwhile = |progress: FsckProgress| {
        if progress.phase == FsckPhase::Content && old.exists() {
            tree.remove(&root(4), ROOT, b"old").expect("remove");
            assert!(file(b"new").exists() && !old.exists());
        }
    };
    let options = FsckOptions {
        repair: true,
        works: Some(&works),
        volumes: None,
        cancel: None,
    };
    sound(&bench.store.fsck(&options, &meanwhile).expect("fsck"));
    assert!(!old.exists(), "it did happen");
    let found = tree
        .lookup(&Creds::ROOT, ROOT, b"new")
        .expect("lookup")
        .node;
    assert!(works.staged_path(tree.id(), found.node).exists());
}

/// A build puts a lost snapshot again before the repairs begin.
#[test]
fn leaves_a_step_whose_snapshot_came_back() {
    let bench = Bench::new();
    let snapshot = bench.snapshot;
    bench.sql("DELETE FROM object WHERE digest = ?1", [&snapshot.0]);
    let options = FsckOptions {
        repair: true,
        ..FsckOptions::default()
    };
    let again = |progress: FsckProgress| {
        if progress.phase == FsckPhase::Finish && progress.done == 0 {
            two_files(&bench.store, 1);
        }
    };
    let report = bench.store.fsck(&options, &again).expect("fsck");
    let key = Digest([1; 32]);
    let of_step = report
        .findings
        .iter()
        .find(|f| f.fault == Fault::Step { key, snapshot });
    assert!(matches!(
        of_step.expect("is found").outcome,
        Outcome::Left(_)
    ));
    assert!(bench.store.step(&key).expect("step").is_some());
    sound(&bench.check());
}

/// Writes to, truncates and removes files of a work tree, large and small, then seals it.
fn work(works: &Works, base: Digest, seed: u8) -> Digest {
    let tree = works
        .create(Some(base), WorkClass::Build, b"", at(1))
        .expect("create");
    let file = |tree: &WorkTree, name: &[u8]| -> Node {
        let made = tree.create(&root(2), ROOT, name, Create::Unchecked, &mode(0o644));
        made.expect("create").node.node
    };
    let size = |size| SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    for round in 0..12_u8 {
        let f = file(&tree, format!("f{}", round % 3).as_bytes());
        tree.write(&root(3), f, 0, &[seed ^ round; 40_000])
            .expect("write");
        let dir = tree
            .lookup(&Creds::ROOT, ROOT, b"dir")
            .expect("dir")
            .node
            .node;
        let large = tree
            .lookup(&Creds::ROOT, dir, b"large")
            .expect("large")
            .node
            .node;
        tree.write(&root(4), large, 7, &[seed; 100]).expect("write");
        match round % 3 {
            0 => drop(tree.setattr(&root(5), f, &size(10), None).expect("cut")),
            1 => drop(
                tree.remove(&root(5), ROOT, format!("f{}", round % 3).as_bytes())
                    .expect("remove"),
            ),
            _ => {}
        }
    }
    let sealed = works.seal(tree.id(), &SealOptions::default());
    sealed.expect("seal").snapshot
}

/// Builds, work trees, collections and checks with repairs, all at once.
#[test]
fn runs_beside_everything() {
    let bench = Bench::new();
    let works = Works::open_or_create(bench.store.clone()).expect("works");
    let (store, base) = (&bench.store, bench.snapshot);
    let stop = AtomicBool::new(false);
    let keys = AtomicU8::new(10);
    let options = FsckOptions {
        repair: true,
        works: Some(&works),
        volumes: None,
        cancel: None,
    };
    std::thread::scope(|scope| {
        let checker = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                match store.fsck(&options, &|_| ()) {
                    Ok(report) => assert!(report.is_sound(), "{report:#?}"),
                    Err(e) => assert!(matches!(e, StoreError::Collecting), "{e}"),
                }
                rounds += 1;
            }
            rounds
        });
        let collector = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                match store.gc(GcOptions::default(), &[base]) {
                    Ok(_) | Err(StoreError::Collecting) => {}
                    Err(e) => panic!("{e}"),
                }
            }
        });
        let build = || {
            for round in 0..8_u8 {
                let key = keys.fetch_add(1, Ordering::Relaxed);
                let done = two_files(store, key);
                let held = store.put_step(step(key, done.snapshot)).expect("step");
                assert_eq!(held.snapshot, done.snapshot);
                drop(unfinished(store, key));
                let sealed = work(&works, base, round);
                assert_ne!(sealed, base);
                assert!(done.tree.getattr(ROOT).is_ok());
            }
        };
        let builders = [scope.spawn(build), scope.spawn(build)];
        for builder in builders {
            builder.join().expect("builder");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(checker.join().expect("checker") > 0);
        collector.join().expect("collector");
    });
    store.gc(GcOptions::default(), &[]).expect("gc");
    sound(&store.fsck(&options, &|_| ()).expect("fsck"));
    assert_eq!(bench.read(b"large").expect("read"), [1; 50_000]);
}

#[test]
fn ends_when_it_is_told_to() {
    let bench = Bench::new();
    let cancel = AtomicBool::new(true);
    let options = FsckOptions {
        cancel: Some(&cancel),
        ..FsckOptions::default()
    };
    let end = bench.store.fsck(&options, &|_| ());
    assert!(matches!(end, Err(StoreError::Stopped)));
    // In a later phase, too.
    cancel.store(false, Ordering::Relaxed);
    let end = bench.store.fsck(&options, &|progress| {
        cancel.store(progress.phase == FsckPhase::References, Ordering::Relaxed);
    });
    assert!(matches!(end, Err(StoreError::Stopped)));
    sound(&bench.check());
}

#[test]
fn progress_only_goes_forward() {
    let bench = Bench::new();
    two_files(&bench.store, 2);
    let last = Cell::new(None::<FsckProgress>);
    let see = |now: FsckProgress| {
        assert!(now.done <= now.total, "{now:?}");
        if let Some(last) = last.replace(Some(now)) {
            assert!(last.phase as u8 <= now.phase as u8);
            assert!(last.phase != now.phase || last.done <= now.done);
        }
    };
    bench
        .store
        .fsck(&FsckOptions::default(), &see)
        .expect("fsck");
    let end = last.get().expect("was called");
    assert_eq!((end.phase, end.done, end.total), (FsckPhase::Finish, 1, 1));
}
