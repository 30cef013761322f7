//! What a tree may hold of its own: counted to the byte, refused beyond, the same after a kill.

use super::*;
use crate::blob::SMALL;
use crate::work::blocks::BLOCK;
use crate::work::quota::DISK_BLOCK;
use proptest::prelude::*;
use std::cell::RefCell;

const NONE: SetAttr = SetAttr {
    mode: None,
    uid: None,
    gid: None,
    size: None,
    atime: None,
    mtime: None,
};

/// A base of one small and one large file, and a directory.
fn base(bench: &Bench) -> Digest {
    let tree = bench.empty();
    tree.file(ROOT, b"small", &[1; 5000]);
    tree.file(ROOT, b"large", &vec![2; 5 * BLOCK as usize + 77]);
    tree.dir(ROOT, b"dir");
    let sealed = bench.works().seal(tree.id(), &SealOptions::default());
    sealed.unwrap().snapshot
}

fn within(bench: &Bench, bytes: Option<u64>, names: Option<u64>) -> Arc<WorkTree> {
    let limits = Limits { bytes, names };
    let base = Some(base(bench));
    bench
        .works()
        .create_within(base, WorkClass::Run, b"test", limits, at(1))
        .unwrap()
}

fn held(tree: &WorkTree) -> (u64, u64) {
    let held = tree.held().unwrap();
    (held.bytes, held.names)
}

fn truncate(tree: &WorkTree, node: Node, size: u64) -> Result<Changed, Errno> {
    let size = Some(size);
    tree.setattr(&root(6), node, &SetAttr { size, ..NONE }, None)
}

fn again(bench: &mut Bench, tree: Arc<WorkTree>) -> Arc<WorkTree> {
    let id = tree.id();
    drop(tree);
    bench.reopen();
    bench.works().get(id).unwrap()
}

#[test]
fn what_is_counted_is_what_is_there() {
    let mut bench = Bench::new();
    let tree = within(&bench, Some(1 << 30), Some(1000));
    assert_eq!(held(&tree), (0, 0));
    let f = tree.file(ROOT, b"f", &[1; 100]);
    assert_eq!(held(&tree), (100, 1));
    // In a file of its own it takes blocks, and a hole none.
    tree.write(&root(3), f, 1 << 20, &[2; 10]).unwrap();
    assert_eq!(held(&tree), (2 * DISK_BLOCK, 1));
    truncate(&tree, f, 1 << 30).unwrap();
    assert_eq!(held(&tree), (2 * DISK_BLOCK, 1));
    tree.write(&root(3), f, 0, &[3; 50]).unwrap();
    assert_eq!(held(&tree), (2 * DISK_BLOCK, 1));
    truncate(&tree, f, 60).unwrap();
    assert_eq!(held(&tree), (DISK_BLOCK, 1));
    tree.link(&root(4), f, ROOT, b"g").unwrap();
    tree.rename(&root(4), ROOT, b"g", ROOT, b"h").unwrap();
    assert_eq!(held(&tree), (DISK_BLOCK, 2));
    tree.symlink(&root(4), ROOT, b"s", b"target", &NONE)
        .unwrap();
    let how = XattrHow::Either;
    tree.setxattr(&root(4), f, b"user.a", b"12", how).unwrap();
    assert_eq!(held(&tree), (DISK_BLOCK + 6 + 8, 3));
    tree.remove(&root(5), ROOT, b"s").unwrap();
    tree.remove(&root(5), ROOT, b"f").unwrap();
    tree.removexattr(&root(5), f, b"user.a").unwrap();
    assert_eq!(held(&tree), (DISK_BLOCK, 1));
    // Of the base, what is copied up, by blocks.
    let large = tree.find(ROOT, b"large").unwrap().node;
    tree.write(&root(5), large, BLOCK + 5, &[9; 3]).unwrap();
    assert_eq!(held(&tree), (DISK_BLOCK + BLOCK, 1));
    let small = tree.find(ROOT, b"small").unwrap().node;
    tree.write(&root(5), small, 0, &[9; 3]).unwrap();
    assert_eq!(held(&tree), (DISK_BLOCK + BLOCK + 5000, 1));
    tree.rename(&root(5), ROOT, b"small", ROOT, b"h").unwrap();
    assert_eq!(held(&tree), (BLOCK + 5000, 1));
    let tree = again(&mut bench, tree);
    assert_eq!(held(&tree), (BLOCK + 5000, 1));
    tree.remove(&root(7), ROOT, b"large").unwrap();
    tree.remove(&root(7), ROOT, b"h").unwrap();
    assert_eq!(held(&tree), (0, 0));
}

#[test]
fn beyond_it_is_refused_and_what_takes_away_is_not() {
    let mut bench = Bench::new();
    let tree = within(&bench, Some(10 * DISK_BLOCK), None);
    let f = tree.file(ROOT, b"f", &vec![1; 8 * DISK_BLOCK as usize]);
    let g = tree.file(ROOT, b"g", &vec![1; DISK_BLOCK as usize]);
    assert_eq!(held(&tree).0, 9 * DISK_BLOCK);
    let write = |tree: &WorkTree, node, at, len: u64| {
        tree.write(&root(4), node, at, &vec![5; len as usize])
    };
    assert_eq!(
        write(&tree, f, 8 * DISK_BLOCK, DISK_BLOCK + 1),
        Err(Errno::DQuot)
    );
    assert_eq!(write(&tree, f, 1 << 30, 2 * DISK_BLOCK), Err(Errno::DQuot));
    assert_eq!(tree.getattr(f).unwrap().size, 8 * DISK_BLOCK);
    write(&tree, f, 8 * DISK_BLOCK, DISK_BLOCK).unwrap();
    assert_eq!(held(&tree).0, 10 * DISK_BLOCK);
    let space = tree.space().unwrap();
    assert_eq!((space.total_bytes, space.avail_bytes), (10 * DISK_BLOCK, 0));
    let tree = again(&mut bench, tree);
    // What is there can be written again, in a file of its own or not.
    write(&tree, f, 100, 7 * DISK_BLOCK).unwrap();
    write(&tree, g, 0, DISK_BLOCK).unwrap();
    assert_eq!(write(&tree, g, DISK_BLOCK, 1), Err(Errno::DQuot));
    assert_eq!(truncate(&tree, g, DISK_BLOCK + 1), Err(Errno::DQuot));
    let large = tree.find(ROOT, b"large").unwrap().node;
    assert_eq!(write(&tree, large, 9, 1), Err(Errno::DQuot));
    let set = tree.setxattr(&root(4), g, b"user.a", b"1", XattrHow::Either);
    assert_eq!(set, Err(Errno::DQuot));
    let link = tree.symlink(&root(4), ROOT, b"s", b"target", &NONE);
    assert_eq!(link, Err(Errno::DQuot));
    // An empty file takes no bytes.
    tree.file(ROOT, b"empty", b"");
    tree.rename(&root(5), ROOT, b"dir", ROOT, b"moved").unwrap();
    truncate(&tree, f, 8 * DISK_BLOCK).unwrap();
    write(&tree, g, DISK_BLOCK, 1).unwrap();
    assert_eq!(held(&tree).0, 9 * DISK_BLOCK + 1);
    tree.remove(&root(6), ROOT, b"f").unwrap();
    assert_eq!(held(&tree).0, DISK_BLOCK + 1);
    // A byte of the base's file brings its block along.
    assert_eq!(write(&tree, large, 9, 1), Err(Errno::DQuot));
}

#[test]
fn names_are_bounded_however_they_are_made() {
    let bench = Bench::new();
    let tree = within(&bench, None, Some(3));
    let f = tree.file(ROOT, b"f", b"");
    let d = tree.dir(ROOT, b"d");
    tree.link(&root(3), f, d, b"g").unwrap();
    let refused = Err(Errno::DQuot);
    let new = tree.create(&root(4), d, b"h", Create::Unchecked, &NONE);
    assert_eq!(new, refused);
    assert_eq!(tree.mkdir(&root(4), d, b"h", &NONE), refused);
    assert_eq!(tree.link(&root(4), f, d, b"h"), refused);
    assert_eq!(tree.symlink(&root(4), d, b"h", b"x", &NONE), refused);
    let fifo = tree.mknod(&root(4), d, b"h", Kind::Fifo, Rdev::default(), &NONE);
    assert_eq!(fifo, refused);
    // What exists is opened, and a file that is open can lose its name.
    tree.create(&root(4), ROOT, b"f", Create::Unchecked, &NONE)
        .unwrap();
    let hidden = tree.mkdir(&root(4), ROOT, HIDDEN, &NONE).unwrap();
    tree.rename(&root(4), ROOT, b"small", hidden.node.node, b"1")
        .unwrap();
    let space = tree.space().unwrap();
    assert_eq!((space.total_files, space.free_files), (3, 0));
    tree.remove(&root(5), d, b"g").unwrap();
    tree.remove(&root(5), hidden.node.node, b"1").unwrap();
    assert_eq!(tree.mkdir(&root(6), d, b"h", &NONE), refused);
    tree.rmdir(&root(6), ROOT, HIDDEN).unwrap();
    tree.mkdir(&root(6), d, b"h", &NONE).unwrap();
}

#[test]
fn runs_leave_some_of_the_disk_and_builds_need_not() {
    let bench = Bench::new();
    let base = base(&bench);
    let [run, build] = [WorkClass::Run, WorkClass::Build].map(|class| {
        let made = bench.works().create(Some(base), class, b"test", at(1));
        made.unwrap()
    });
    let f = run.file(ROOT, b"f", &vec![1; 40_000]);
    // More than is there, whatever was taken unasked.
    let len = (64 << 20) + 1;
    *bench.works().area.reserve.room.lock() = Some(0);
    let hole = SetAttr {
        size: Some(len),
        ..NONE
    };
    run.setattr(&root(3), f, &hole, None).unwrap();
    let data = vec![1; len as usize];
    assert_eq!(run.write(&root(3), f, 0, &data), Err(Errno::NoSpc));
    assert_eq!(run.write(&root(3), f, 40_960, &[1]), Err(Errno::NoSpc));
    let new = run.create(&root(3), ROOT, b"g", Create::Unchecked, &NONE);
    assert_eq!(new, Err(Errno::NoSpc));
    run.write(&root(4), f, 0, &vec![2; 40_000]).unwrap();
    build.file(ROOT, b"f", &vec![1; 40_000]);
    run.remove(&root(4), ROOT, b"f").unwrap();
    *bench.works().area.reserve.room.lock() = Some(1 << 20);
    run.file(ROOT, b"g", &vec![1; 40_000]);
    let space = run.space().unwrap();
    assert!(space.avail_bytes < build.space().unwrap().avail_bytes);
}

#[derive(Clone, Debug)]
enum Op {
    Write(u8, u32, u32),
    Truncate(u8, u32),
    Make(u8),
    Mkdir(u8),
    Link(u8, u8),
    Symlink(u8),
    Rename(u8, u8),
    Remove(u8),
    Xattr(u8, u8),
    Kill,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let name = || 0..8_u8;
    // Around the sizes where contents change their place.
    let at = || prop_oneof![0..40_000_u32, Just(SMALL as u32), 0..400_000_u32];
    let op = prop_oneof![
        5 => (name(), at(), 1..70_000_u32).prop_map(|(n, at, len)| Op::Write(n, at, len)),
        2 => (name(), at()).prop_map(|(n, size)| Op::Truncate(n, size)),
        3 => name().prop_map(Op::Make),
        1 => name().prop_map(Op::Mkdir),
        1 => (name(), name()).prop_map(|(a, b)| Op::Link(a, b)),
        1 => name().prop_map(Op::Symlink),
        2 => (name(), name()).prop_map(|(a, b)| Op::Rename(a, b)),
        2 => name().prop_map(Op::Remove),
        1 => (name(), any::<u8>()).prop_map(|(n, len)| Op::Xattr(n, len)),
        1 => Just(Op::Kill),
    ];
    prop::collection::vec(op, 1..40)
}

const NAMES: [&[u8]; 8] = [b"small", b"large", b"dir", b"a", b"b", b"c", b"d", b"e"];

/// Makes one step; the bytes that it could need at most.
fn step(tree: &WorkTree, op: &Op) -> (Result<Changed, Errno>, u64) {
    let name = |n: &u8| NAMES[usize::from(*n)];
    let node = |n: &u8| tree.find(ROOT, name(n)).map(|attr| attr.node);
    let slack = 2 * BLOCK + SMALL;
    match op {
        Op::Write(n, at, len) => {
            let data = vec![*n + 1; *len as usize];
            let done = node(n).and_then(|f| tree.write(&root(5), f, u64::from(*at), &data));
            // A small file that grows over a gap holds it until it is a file of its own.
            (done, u64::from(*len) + slack)
        }
        Op::Truncate(n, size) => (
            node(n).and_then(|f| truncate(tree, f, u64::from(*size))),
            slack,
        ),
        Op::Make(n) => (
            tree.create(&root(5), ROOT, name(n), Create::Guarded, &NONE),
            0,
        ),
        Op::Mkdir(n) => (tree.mkdir(&root(5), ROOT, name(n), &NONE), 0),
        Op::Link(a, b) => (
            node(a).and_then(|f| tree.link(&root(5), f, ROOT, name(b))),
            0,
        ),
        Op::Symlink(n) => (
            tree.symlink(&root(5), ROOT, name(n), b"elsewhere", &NONE),
            9,
        ),
        Op::Rename(a, b) => (tree.rename(&root(5), ROOT, name(a), ROOT, name(b)), 0),
        Op::Remove(n) => {
            let away = tree.remove(&root(5), ROOT, name(n));
            (away.or_else(|_| tree.rmdir(&root(5), ROOT, name(n))), 0)
        }
        Op::Xattr(n, len) => {
            let value = vec![1; usize::from(*len)];
            let set = |f| tree.setxattr(&root(5), f, b"user.x", &value, XattrHow::Either);
            (node(n).and_then(set), 300)
        }
        Op::Kill => (Err(Errno::Stale), 0),
    }
}

/// Counted anew from all that the tree holds.
fn counted(tree: &WorkTree) -> (u64, u64) {
    let quota = tree.view().unwrap().quota.clone().unwrap();
    let before = quota.held();
    quota.count(&tree.view().unwrap());
    let now = quota.held();
    assert_eq!(before, now);
    (now.bytes, now.names)
}

#[test]
fn the_account_is_right_after_every_step() {
    let bench = RefCell::new(Bench::new());
    let base = base(&bench.borrow());
    let config = proptest::test_runner::Config {
        cases: 48,
        failure_persistence: None,
        ..Default::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let run = runner.run(&(ops(), 0..600_000_u64, 0..7_u64), |(ops, bytes, names)| {
        let limits = Limits {
            bytes: Some(bytes),
            names: Some(names),
        };
        accounted(&mut bench.borrow_mut(), base, limits, ops)
    });
    run.unwrap();
}

fn accounted(
    bench: &mut Bench,
    base: Digest,
    limits: Limits,
    ops: Vec<Op>,
) -> Result<(), TestCaseError> {
    let made = bench
        .works()
        .create_within(Some(base), WorkClass::Run, b"test", limits, at(1));
    let mut tree = made.unwrap();
    let (bytes, names) = (limits.bytes.unwrap_or(0), limits.names.unwrap_or(0));
    for op in ops {
        let before = held(&tree);
        if matches!(op, Op::Kill) {
            tree = again(bench, tree);
            prop_assert_eq!(held(&tree), before);
            continue;
        }
        let (done, most) = step(&tree, &op);
        let now = counted(&tree);
        prop_assert!(now.0 <= bytes.max(before.0), "{op:?}: {now:?} of {bytes}");
        // Names that were the base's may be moved, whatever the limit.
        prop_assert!(now.1 <= names + 3, "{op:?}: {now:?} of {names}");
        match done {
            Err(Errno::DQuot) => prop_assert!(
                before.0 + most > bytes || before.1 + 1 > names,
                "{op:?}: refused at {before:?} of {bytes} and {names}"
            ),
            Err(Errno::NoSpc) => prop_assert!(false, "{op:?}: the disk is not full"),
            _ => {}
        }
    }
    for name in NAMES {
        let _ = tree
            .remove(&root(9), ROOT, name)
            .or_else(|_| tree.rmdir(&root(9), ROOT, name));
    }
    prop_assert_eq!(held(&tree), (0, 0));
    let id = tree.id();
    drop(tree);
    bench.works().drop_tree(id).unwrap();
    Ok(())
}
