//! Any sequence of operations: the tree and the model say the same, before and after
//! a restart and a seal.

use super::model::{Id, Model, ROOT_ID};
use super::world::World;
use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;

/// Nodes are drawn from all ever seen, names from a few, so that they meet.
#[derive(Clone, Debug)]
enum Op {
    Make(Kind, usize, u8, u32),
    Link(usize, usize, u8),
    Remove(usize, u8, bool),
    Rename(usize, u8, usize, u8),
    Write(usize, u64, usize, u8),
    Truncate(usize, u64),
    Chmod(usize, u32),
    Chown(usize, Option<u32>, Option<u32>),
    Utimes(usize, Option<i64>),
    Xattr(usize, u8, Option<u8>),
    Same,
    Reopen,
    Seal,
}

#[derive(Clone, Debug)]
struct Step {
    op: Op,
    who: usize,
    /// Seconds since the step before.
    later: i64,
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0..1000usize;
    let name = || 0..8u8;
    let mode = || {
        prop_oneof![
            Just(0o755u32),
            Just(0o777),
            Just(0o1777),
            Just(0o2775),
            Just(0o6755),
            Just(0o6777),
            Just(0o640),
            0..0o10000u32
        ]
    };
    let kind = prop_oneof![
        4 => Just(Kind::File), 4 => Just(Kind::Dir), 1 => Just(Kind::Symlink),
        1 => Just(Kind::Fifo), 1 => Just(Kind::Char)
    ];
    let size = || prop_oneof![3 => 0..20_000u64, 1 => Just(16_384u64), 1 => Just(0u64), 2 => 0..300_000u64];
    let id = || prop_oneof![Just(50u32), Just(1001), Just(1002)];
    prop_oneof![
        10 => (kind, n(), name(), mode()).prop_map(|(k, d, n, m)| Op::Make(k, d, n, m)),
        5 => (n(), n(), name()).prop_map(|(f, d, n)| Op::Link(f, d, n)),
        8 => (n(), name(), any::<bool>()).prop_map(|(d, n, r)| Op::Remove(d, n, r)),
        8 => (n(), name(), n(), name()).prop_map(|(d, n, e, m)| Op::Rename(d, n, e, m)),
        8 => (n(), size(), 0..40_000usize, any::<u8>()).prop_map(|(f, o, l, b)| Op::Write(f, o, l, b)),
        4 => (n(), size()).prop_map(|(f, s)| Op::Truncate(f, s)),
        4 => (n(), mode()).prop_map(|(f, m)| Op::Chmod(f, m)),
        3 => (n(), proptest::option::of(id()), proptest::option::of(id())).prop_map(|(f, u, g)| Op::Chown(f, u, g)),
        2 => (n(), proptest::option::of(0..5000i64)).prop_map(|(f, t)| Op::Utimes(f, t)),
        3 => (n(), 0..3u8, proptest::option::of(any::<u8>())).prop_map(|(f, x, v)| Op::Xattr(f, x, v)),
        1 => Just(Op::Same),
        1 => Just(Op::Reopen),
        1 => Just(Op::Seal),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = prop_oneof![3 => Just(0usize), 2 => Just(1), 1 => Just(2)];
    let step = (op(), who, 0..2i64).prop_map(|(op, who, later)| Step { op, who, later });
    proptest::collection::vec(step, 1..80)
}

const NAMES: [&[u8]; 8] = [b"a", b"b", b"c", b"big", b"linked", b"f0003", b"f1050", b"\xff\xfe"];
const XATTRS: [&[u8]; 3] = [b"user.one", b"security.capability", b"trusted.two"];

fn people() -> [Creds; 3] {
    [Creds::ROOT, user(1001, 1001, &[50]), user(1002, 1002, &[])]
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| seed.wrapping_add((i / 7) as u8)).collect()
}

/// Hard links across directories, a directory of more than one page, each kind, and
/// files on both sides of the small limit.
fn populate(w: &mut World) {
    let r = 0;
    let dir = apply_kind(w, Kind::Dir, r, 0, 0o777);
    let big = apply_kind(w, Kind::Dir, r, 3, 0o1777);
    let tree = w.tree();
    let now = OpCx { now: w.model.now, ..root(0) };
    for i in 0..1100 {
        let name = format!("f{i:04}");
        let ours = tree.create(&now, ROOT + 2, name.as_bytes(), Create::Unchecked, &mode(0o644));
        let theirs = w.model.make(&Creds::ROOT, big, name.as_bytes(), Kind::File, 0o644);
        let (ours, id) = (ours.unwrap(), theirs.unwrap());
        if i % 100 == 0 {
            w.pairs.push((id, ours.node.node));
        }
    }
    for (name, len) in [(1, 10), (2, 16_384), (4, 250_000)] {
        let file = apply_kind(w, Kind::File, 1, name, 0o4755);
        let i = w.pairs.iter().position(|p| p.0 == file).unwrap();
        run(w, &Step { op: Op::Write(i, 0, len, name), who: 0, later: 1 });
        run(w, &Step { op: Op::Link(i, 2, name), who: 0, later: 1 });
        run(w, &Step { op: Op::Link(i, 0, name), who: 0, later: 1 });
    }
    let kinds = [Kind::Symlink, Kind::Fifo, Kind::Char, Kind::Dir];
    for (i, kind) in kinds.into_iter().enumerate() {
        let dir = w.pairs.iter().position(|p| p.0 == dir).unwrap();
        apply_kind(w, kind, dir, [0, 3, 5, 7][i], 0o755);
    }
}

fn apply_kind(w: &mut World, kind: Kind, dir: usize, name: u8, mode: u32) -> Id {
    run(w, &Step { op: Op::Make(kind, dir, name, mode), who: 0, later: 1 });
    w.pairs.last().unwrap().0
}

fn run(w: &mut World, step: &Step) {
    let what = format!("{step:?}");
    let people = people();
    let c = &people[step.who];
    w.model.now.secs += step.later;
    let cx = OpCx { creds: c, now: w.model.now, once: None };
    let tree = w.tree();
    let (len, pairs) = (w.pairs.len(), w.pairs.clone());
    let pick = |i: usize| pairs[i % len];
    let name = |n: u8| NAMES[usize::from(n) % NAMES.len()];
    let m = &mut w.model;
    let (ours, theirs) = match step.op {
        Op::Make(kind, d, n, bits) => {
            let (id, dir) = pick(d);
            let new = mode(bits);
            let ours = match kind {
                Kind::File => tree.create(&cx, dir, name(n), Create::Unchecked, &new),
                Kind::Dir => tree.mkdir(&cx, dir, name(n), &new),
                Kind::Symlink => tree.symlink(&cx, dir, name(n), b"some/where", &new),
                _ => tree.mknod(&cx, dir, name(n), kind, Rdev { major: 1, minor: 3 }, &new),
            };
            let theirs = m.make(c, id, name(n), kind, bits);
            if let (Ok(id), Kind::Symlink) = (theirs, kind) {
                m.nodes.get_mut(&id).unwrap().target = b"some/where".to_vec();
            }
            (ours, theirs)
        }
        Op::Link(f, d, n) => {
            let ((id, file), (dir_id, dir)) = (pick(f), pick(d));
            (tree.link(&cx, file, dir, name(n)), m.link(c, id, dir_id, name(n)))
        }
        Op::Remove(d, n, is_rmdir) => {
            let (id, dir) = pick(d);
            let ours = if is_rmdir { tree.rmdir(&cx, dir, name(n)) } else { tree.remove(&cx, dir, name(n)) };
            (ours, m.unlink(c, id, name(n), is_rmdir))
        }
        Op::Rename(d, n, e, new) => {
            let ((from_id, from), (to_id, to)) = (pick(d), pick(e));
            let ours = tree.rename(&cx, from, name(n), to, name(new));
            (ours, m.rename(c, from_id, name(n), to_id, name(new)))
        }
        Op::Write(f, off, len, seed) => {
            let (id, file) = pick(f);
            let data = pattern(seed, len);
            (tree.write(&cx, file, off, &data), m.write(c, id, off, &data))
        }
        Op::Truncate(f, size) => {
            let (id, file) = pick(f);
            let new = SetAttr { size: Some(size), ..SetAttr::default() };
            (tree.setattr(&cx, file, &new, None), m.truncate(c, id, size))
        }
        Op::Chmod(f, bits) => {
            let (id, file) = pick(f);
            (tree.setattr(&cx, file, &mode(bits), None), m.chmod(c, id, bits))
        }
        Op::Chown(f, uid, gid) => {
            let (id, file) = pick(f);
            let new = SetAttr { uid, gid, ..SetAttr::default() };
            (tree.setattr(&cx, file, &new, None), m.chown(c, id, uid, gid))
        }
        Op::Utimes(f, secs) => {
            let (id, file) = pick(f);
            let time = secs.map(at);
            let set = Some(time.map_or(SetTime::Now, SetTime::At));
            let new = SetAttr { atime: set, mtime: set, ..SetAttr::default() };
            (tree.setattr(&cx, file, &new, None), m.utimes(c, id, time))
        }
        Op::Xattr(f, x, value) => {
            let (id, file) = pick(f);
            let name = XATTRS[usize::from(x)];
            let value = value.map(|v| vec![v; usize::from(v)]);
            let ours = match &value {
                Some(v) => tree.setxattr(&cx, file, name, v, XattrHow::Either),
                None => tree.removexattr(&cx, file, name),
            };
            (ours, m.setxattr(c, id, name, value.as_deref()))
        }
        Op::Same => return w.same(&what),
        Op::Reopen => {
            drop(tree);
            w.reopen();
            return w.same(&what);
        }
        Op::Seal => {
            drop(tree);
            w.seal();
            return w.same(&what);
        }
    };
    drop(tree);
    w.agree(&what, ours, theirs);
}

#[test]
fn a_work_tree_is_posix() {
    let bench = RefCell::new(Bench::new());
    let base = {
        let bench = &mut *bench.borrow_mut();
        let tree = Some(bench.empty());
        let model = Model::new(at(1));
        let mut w = World { bench, tree, model, pairs: vec![(ROOT_ID, ROOT)] };
        populate(&mut w);
        w.same("populated");
        let sealed = w.seal();
        w.same("cloned");
        (sealed.snapshot, w.model.clone(), w.pairs.clone())
    };
    let config = Config { cases: 96, max_shrink_iters: 400, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&steps(), |steps| {
            let bench = &mut *bench.borrow_mut();
            let tree = Some(bench.clone_of(base.0));
            let pairs = base.2.iter().copied().filter(|p| p.0 < 40 || p.0 % 100 == 3).collect();
            let mut w = World { bench, tree, model: base.1.clone(), pairs };
            for step in &steps {
                run(&mut w, step);
            }
            w.same("at the end");
            w.reopen();
            w.same("reopened");
            w.seal();
            w.same("cloned");
            let id = w.tree().id();
            w.tree = None;
            w.bench.works().drop_tree(id).unwrap();
            Ok(())
        })
        .unwrap();
}
