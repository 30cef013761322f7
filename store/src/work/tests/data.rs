//! File data: sizes on both sides of the limit, holes, copy-up by blocks.

use super::*;
use crate::blob::SMALL;

const MIB: usize = 1 << 20;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn size(size: u64) -> SetAttr {
    SetAttr {
        size: Some(size),
        ..SetAttr::default()
    }
}

/// A small generator of our own: the test is the same each time.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[test]
fn files_grow_over_the_limit_and_shrink_again() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let (id, f) = (tree.id(), tree.file(ROOT, b"f", b"begin"));
    let mut model = b"begin".to_vec();
    for (at, len) in [(SMALL - 1, 1), (SMALL, 1), (100_000, 5), (3, 20)] {
        let data = pattern(len);
        let done = tree.write(&root(5), f, at, &data).unwrap();
        model.resize(model.len().max(at as usize + len), 0);
        model[at as usize..at as usize + len].copy_from_slice(&data);
        assert_eq!(done.node.size, model.len() as u64);
        assert_eq!(done.node, tree.getattr(f).unwrap());
        assert!(tree.slurp(f) == model);
    }
    for to in [50_000u64, 10, 70_000, 0, 200] {
        tree.setattr(&root(6), f, &size(to), None).unwrap();
        model.resize(to as usize, 0);
        assert!(tree.slurp(f) == model, "after a truncation to {to}");
    }
    let attr = tree.getattr(f).unwrap();
    drop(tree);
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    assert!(tree.slurp(f) == model);
    let again = tree.getattr(f).unwrap();
    assert_eq!(
        (again.size, again.mtime, again.ctime),
        (attr.size, attr.mtime, attr.ctime)
    );
    assert_eq!(tree.write(&root(6), f, u64::MAX, b"x"), Err(Errno::FBig));
    assert_eq!(
        tree.setattr(&root(6), f, &size(MAX_FILE + 1), None),
        Err(Errno::FBig)
    );
}

/// Random writes and truncations of a base file of 1 MiB, with restarts in between.
#[test]
fn copy_up_by_blocks_agrees_with_a_model() {
    let mut bench = Bench::new();
    let base = bench.empty();
    let mut model = pattern(MIB);
    base.file(ROOT, b"f", &model);
    let snapshot = bench
        .works()
        .seal(base.id(), &SealOptions::default())
        .unwrap()
        .snapshot;
    let tree = bench.clone_of(snapshot);
    let (id, f) = (tree.id(), tree.find(ROOT, b"f").unwrap().node);
    drop(tree);
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    for round in 0..300 {
        let tree = bench.works().get(id).unwrap();
        if rng.below(10) == 0 {
            let to = rng.below(MIB as u64 + 200_000);
            tree.setattr(&root(round), f, &size(to), None).unwrap();
            model.resize(to as usize, 0);
        } else {
            let at = rng.below(model.len() as u64 + 10_000);
            let len = 1 + if rng.below(4) == 0 {
                rng.below(150_000)
            } else {
                rng.below(5_000)
            } as usize;
            let data = vec![round as u8; len];
            tree.write(&root(round), f, at, &data).unwrap();
            model.resize(model.len().max(at as usize + len), 0);
            model[at as usize..at as usize + len].copy_from_slice(&data);
        }
        assert!(tree.slurp(f) == model, "round {round}");
        drop(tree);
        if rng.below(20) == 0 {
            bench.reopen();
            let tree = bench.works().get(id).unwrap();
            assert!(tree.slurp(f) == model, "reopened after round {round}");
        }
    }
    let other = bench.clone_of(snapshot);
    assert!(other.slurp(f) == pattern(MIB), "the base is as it was");
    let sealed = bench.works().seal(id, &SealOptions::default()).unwrap();
    let tree = bench.clone_of(sealed.snapshot);
    let f = tree.find(ROOT, b"f").unwrap().node;
    assert!(tree.slurp(f) == model, "sealed");
}

/// One byte into a large file copies its block, not the file.
#[test]
fn copy_up_copies_no_more_than_blocks() {
    let bench = Bench::new();
    let base = bench.empty();
    base.file(ROOT, b"f", &pattern(8 * MIB));
    let snapshot = bench
        .works()
        .seal(base.id(), &SealOptions::default())
        .unwrap()
        .snapshot;
    let tree = bench.clone_of(snapshot);
    let f = tree.find(ROOT, b"f").unwrap().node;
    tree.write(&root(5), f, 4 * MIB as u64 + 5, b"!").unwrap();
    use std::os::unix::fs::MetadataExt;
    let staged = std::fs::metadata(tree.area.path((tree.id(), f))).unwrap();
    assert_eq!(staged.len(), 8 * MIB as u64);
    let st = tree.view().unwrap();
    let staged_node = st.nodes.get(&f).unwrap();
    let shared = staged_node.staged().unwrap().base.is_none();
    assert!(shared || staged.blocks() * 512 <= 2 * super::super::blocks::BLOCK);
}

#[test]
fn holes_are_not_stored_and_read_as_zeros() {
    let bench = Bench::new();
    let tree = bench.empty();
    let f = tree.file(ROOT, b"sparse", b"");
    tree.setattr(&root(3), f, &size(1 << 32), None).unwrap();
    tree.write(&root(4), f, (1 << 32) - 4, b"tail").unwrap();
    let attr = tree.getattr(f).unwrap();
    assert_eq!(attr.size, 1 << 32);
    assert!(attr.used < 1 << 20, "{} bytes used", attr.used);
    let mut out = Vec::new();
    let done = tree
        .read(&Creds::ROOT, f, (1 << 32) - 8, 100, &mut out)
        .unwrap();
    assert_eq!((&out[..], done.eof), (&b"\0\0\0\0tail"[..], true));
    let done = tree.read(&Creds::ROOT, f, 1 << 33, 100, &mut out).unwrap();
    assert!(done.eof && out.len() == 8);
}

#[test]
fn writers_of_one_file_do_not_lose_each_other() {
    let bench = Bench::new();
    let tree = bench.empty();
    let f = tree.file(ROOT, b"f", b"");
    const THREADS: u64 = 8;
    const STEP: u64 = 3000;
    std::thread::scope(|scope| {
        for t in 0..THREADS {
            let tree = &tree;
            scope.spawn(move || {
                for i in 0..20 {
                    let at = (i * THREADS + t) * STEP;
                    tree.write(&root(5), f, at, &vec![t as u8 + 1; STEP as usize])
                        .unwrap();
                }
            });
        }
    });
    let data = tree.slurp(f);
    assert_eq!(data.len() as u64, 20 * THREADS * STEP);
    for (i, part) in data.chunks(STEP as usize).enumerate() {
        assert!(
            part.iter().all(|b| u64::from(*b) == i as u64 % THREADS + 1),
            "part {i}"
        );
    }
}
