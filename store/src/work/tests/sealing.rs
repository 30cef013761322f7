//! Seal: what is kept, what is not, and what it costs.

use super::*;
use crate::Step;
use std::sync::atomic::{AtomicUsize, Ordering};

fn seal(bench: &Bench, tree: &WorkTree) -> Sealed {
    bench
        .works()
        .seal(tree.id(), &SealOptions::default())
        .unwrap()
}

#[test]
fn leftovers_of_clients_are_not_sealed() {
    let bench = Bench::new();
    let tree = bench.empty();
    let d = tree.dir(ROOT, b"d");
    let hidden = tree.dir(ROOT, HIDDEN);
    let below = tree.dir(hidden, b"deep");
    tree.file(below, b"f", &[1; 50_000]);
    let f = tree.file(d, b".nfs00000000000000a100000001", b"open");
    tree.link(&root(4), f, d, b"kept").unwrap();
    tree.file(d, b".nfsA012344.4", b"OpenBSD's");
    tree.file(d, b".nfsrc", b"a user's");
    let tree = bench.clone_of(seal(&bench, &tree).snapshot);
    assert_eq!(tree.find(ROOT, HIDDEN), Err(Errno::NoEnt));
    let d = tree.find(ROOT, b"d").unwrap();
    assert_eq!(tree.names(d.node), [&b".nfsrc"[..], b"kept"]);
    assert_eq!(tree.find(d.node, b"kept").unwrap().nlink, 1);
}

#[test]
fn an_unchanged_clone_seals_to_its_base() {
    let bench = Bench::new();
    let tree = bench.empty();
    let f = tree.file(tree.dir(ROOT, b"d"), b"f", b"x");
    tree.link(&root(4), f, ROOT, b"g").unwrap();
    let first = seal(&bench, &tree);
    let again = seal(&bench, &bench.clone_of(first.snapshot));
    assert_eq!(
        (again.snapshot, again.ordinal, again.dirs),
        (first.snapshot, first.ordinal, 0)
    );
    // Changed and changed back: the same tree, the same name.
    let tree = bench.clone_of(first.snapshot);
    let times = SetAttr {
        mtime: Some(SetTime::At(tree.getattr(ROOT).unwrap().mtime)),
        ..SetAttr::default()
    };
    tree.rename(&root(9), ROOT, b"g", ROOT, b"h").unwrap();
    tree.rename(&root(9), ROOT, b"h", ROOT, b"g").unwrap();
    tree.setattr(&root(9), ROOT, &times, None).unwrap();
    assert_eq!(seal(&bench, &tree).snapshot, first.snapshot);
}

#[test]
fn mtimes_are_clamped_where_asked() {
    let bench = Bench::new();
    let make = |later| {
        let tree = bench.empty();
        let cx = root(later);
        tree.create(&cx, ROOT, b"f", Create::Guarded, &mode(0o644))
            .unwrap();
        let options = SealOptions {
            clamp_mtime: Some(at(0).secs),
            ..SealOptions::default()
        };
        bench.works().seal(tree.id(), &options).unwrap()
    };
    let (one, two) = (make(100), make(200));
    assert_eq!(one.snapshot, two.snapshot);
    let tree = bench.clone_of(one.snapshot);
    assert_eq!(tree.find(ROOT, b"f").unwrap().mtime, at(0));
    assert_eq!(tree.getattr(ROOT).unwrap().mtime, at(0));
}

#[test]
fn a_step_is_recorded_with_the_snapshot() {
    let bench = Bench::new();
    let step = |created| Step {
        key: Digest([9; 32]),
        snapshot: Digest([0; 32]),
        parent: None,
        instruction: b"EXEC true".to_vec(),
        inputs: Vec::new(),
        upstream: None,
        created,
    };
    let seal = |name: &[u8], created| {
        let tree = bench.empty();
        tree.file(ROOT, name, b"");
        let options = SealOptions {
            step: Some(step(created)),
            ..SealOptions::default()
        };
        bench.works().seal(tree.id(), &options).unwrap()
    };
    let (first, second) = (seal(b"a", 1), seal(b"b", 2));
    assert_ne!(first.snapshot, second.snapshot);
    assert_eq!(second.step, first.step, "the first of a key wins");
    let held = bench.store.step(&Digest([9; 32])).unwrap().unwrap();
    assert_eq!((held.snapshot, held.created), (first.snapshot, 1));
}

/// Ten files of ten thousand: their directories and those above, and no other.
#[test]
fn the_cost_follows_the_changes() {
    let bench = Bench::new();
    let tree = bench.empty();
    let a: Vec<Node> = (0..10)
        .map(|i| tree.dir(ROOT, format!("a{i}").as_bytes()))
        .collect();
    let leaf: Vec<Node> = (0..100)
        .map(|i| tree.dir(a[i % 10], format!("b{i}").as_bytes()))
        .collect();
    for i in 0..10_000 {
        let f = tree.file(
            leaf[i % 100],
            format!("f{i}").as_bytes(),
            format!("{}", i % 500).as_bytes(),
        );
        if i % 1000 == 0 {
            tree.link(&root(4), f, ROOT, format!("l{i}").as_bytes())
                .unwrap();
        }
    }
    let base = seal(&bench, &tree);
    assert_eq!((base.dirs, base.files), (111, 10_000));
    let tree = bench.clone_of(base.snapshot);
    let top = tree.find(ROOT, b"a3").unwrap().node;
    let dir = tree.find(top, b"b3").unwrap().node;
    for i in 0..10 {
        let f = tree
            .find(dir, format!("f{}", 103 + 100 * i).as_bytes())
            .unwrap()
            .node;
        tree.write(&root(9), f, 0, b"changed").unwrap();
    }
    let started = std::time::Instant::now();
    let sealed = seal(&bench, &tree);
    println!(
        "sealed ten files of ten thousand in {:?}",
        started.elapsed()
    );
    assert_eq!((sealed.dirs, sealed.files, sealed.bytes), (3, 10, 70));
    assert_eq!(sealed.counts.nodes, base.counts.nodes);
    let tree = bench.clone_of(sealed.snapshot);
    let linked = tree.find(ROOT, b"l7000").unwrap();
    assert_eq!((linked.nlink, tree.slurp(linked.node)), (2, b"0".to_vec()));
}

/// Mutations wait for a seal, then find the tree gone.
#[test]
fn mutations_beside_a_seal_are_in_it_or_stale() {
    let bench = Bench::new();
    let tree = bench.empty();
    // A listing would chase names that are made as fast as it reads.
    let count = AtomicUsize::new(0);
    let done = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|t| {
                let (tree, count) = (&tree, &count);
                scope.spawn(move || {
                    let mut made = Vec::new();
                    for i in 0.. {
                        let name = format!("{t}-{i}").into_bytes();
                        match tree.create(&root(5), ROOT, &name, Create::Guarded, &mode(0o644)) {
                            Ok(_) => {
                                made.push(name);
                                count.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(e) => {
                                assert_eq!(e, Errno::Stale);
                                return made;
                            }
                        }
                    }
                    made
                })
            })
            .collect();
        while count.load(Ordering::Relaxed) < 50 {
            std::thread::yield_now();
        }
        let sealed = seal(&bench, &tree);
        let mut made: Vec<_> = writers
            .into_iter()
            .flat_map(|w| w.join().unwrap())
            .collect();
        made.sort();
        (sealed, made)
    });
    let (sealed, made) = done;
    assert_eq!(bench.clone_of(sealed.snapshot).names(ROOT), made);
}
