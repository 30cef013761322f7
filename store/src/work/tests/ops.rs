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
    let name = || any::<u8>();
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

const NAMES: [&[u8]; 8] = [
    b"a",
    b"b",
    b"c",
    b"big",
    b"linked",
    b"f0003",
    b"f1050",
    b"\xff\xfe",
];
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
    let top = (ROOT_ID, ROOT);
    let dir = make(w, Kind::Dir, top, 0, 0o777);
    let big = make(w, Kind::Dir, top, 3, 0o1777);
    let tree = w.tree();
    let now = OpCx {
        now: w.model.now,
        ..root(0)
    };
    for i in 0..1100 {
        let name = format!("f{i:04}");
        let ours = tree.create(
            &now,
            big.1,
            name.as_bytes(),
            Create::Unchecked,
            &mode(0o644),
        );
        let theirs = w
            .model
            .make(&Creds::ROOT, big.0, name.as_bytes(), Kind::File, 0o644);
        w.pairs.push((theirs.unwrap(), ours.unwrap().node.node));
    }
    for (name, len) in [(1, 10), (2, 16_384), (4, 250_000)] {
        let file = make(w, Kind::File, dir, name, 0o4755);
        given(w, Op::Write(0, 0, len, name), file, top);
        given(w, Op::Link(0, 0, name), file, big);
        given(w, Op::Link(0, 0, name), file, top);
    }
    for (kind, name) in [
        (Kind::Symlink, 0),
        (Kind::Fifo, 3),
        (Kind::Char, 5),
        (Kind::Dir, 7),
    ] {
        make(w, kind, dir, name, 0o755);
    }
}

fn make(w: &mut World, kind: Kind, dir: (Id, Node), name: u8, mode: u32) -> (Id, Node) {
    given(w, Op::Make(kind, 0, name, mode), dir, dir);
    *w.pairs.last().unwrap()
}

fn given(w: &mut World, op: Op, first: (Id, Node), second: (Id, Node)) {
    let there = Vec::new();
    run_on(
        w,
        &Step {
            op,
            who: 0,
            later: 1,
        },
        Picks {
            first,
            second,
            there,
            new: Vec::new(),
        },
    );
}

fn name(n: u8) -> &'static [u8] {
    NAMES[usize::from(n) % NAMES.len()]
}

/// What an operation works on: nodes it fits, mostly; one in eight is any node ever seen.
struct Picks {
    first: (Id, Node),
    second: (Id, Node),
    /// A name that is in the first, mostly.
    there: Vec<u8>,
    /// A rename's new name, mostly one to replace.
    new: Vec<u8>,
}

fn picks(w: &World, op: &Op) -> Picks {
    let pick = |i: usize, dir: bool| {
        let fits = |p: &&(Id, Node)| {
            w.model
                .nodes
                .get(&p.0)
                .is_some_and(|n| (n.kind == Kind::Dir) == dir)
        };
        let fit: Vec<_> = w.pairs.iter().filter(fits).collect();
        if i.is_multiple_of(8) || fit.is_empty() {
            w.pairs[i / 8 % w.pairs.len()]
        } else {
            *fit[i / 8 % fit.len()]
        }
    };
    let in_dir = |n: u8, dir: Id| {
        let names = w
            .model
            .nodes
            .get(&dir)
            .map(|d| d.names.keys().collect::<Vec<_>>());
        match names.filter(|names| !n.is_multiple_of(4) && !names.is_empty()) {
            Some(names) => names[usize::from(n / 4) % names.len()].clone(),
            None => name(n / 4).to_vec(),
        }
    };
    let none = (ROOT_ID, ROOT);
    let (first, second) = match *op {
        Op::Make(_, d, ..) | Op::Remove(d, ..) => (pick(d, true), none),
        Op::Rename(d, _, e, _) => (pick(d, true), pick(e, true)),
        Op::Link(f, d, _) => (pick(f, false), pick(d, true)),
        Op::Write(f, ..) | Op::Truncate(f, _) => (pick(f, false), none),
        Op::Chmod(f, _) | Op::Chown(f, ..) | Op::Utimes(f, _) | Op::Xattr(f, ..) => {
            (pick(f / 2, f.is_multiple_of(2)), none)
        }
        Op::Same | Op::Reopen | Op::Seal => (none, none),
    };
    let there = match *op {
        Op::Remove(_, n, _) | Op::Rename(_, n, ..) => in_dir(n, first.0),
        _ => Vec::new(),
    };
    let new = match *op {
        Op::Rename(.., n) => in_dir(n, second.0),
        _ => Vec::new(),
    };
    Picks {
        first,
        second,
        there,
        new,
    }
}

fn run(w: &mut World, step: &Step) {
    let picks = picks(w, &step.op);
    run_on(w, step, picks);
}

fn run_on(w: &mut World, step: &Step, picks: Picks) {
    let what = format!("{step:?}");
    let people = people();
    let c = &people[step.who];
    w.model.now.secs += step.later;
    let cx = OpCx {
        creds: c,
        now: w.model.now,
        once: None,
    };
    let tree = w.tree();
    let Picks {
        first: (id, node),
        second: (to_id, to),
        there,
        new,
    } = picks;
    let m = &mut w.model;
    let (ours, theirs) = match step.op {
        Op::Make(kind, _, n, bits) => {
            let new = mode(bits);
            let ours = match kind {
                Kind::File => tree.create(&cx, node, name(n), Create::Unchecked, &new),
                Kind::Dir => tree.mkdir(&cx, node, name(n), &new),
                Kind::Symlink => tree.symlink(&cx, node, name(n), b"some/where", &new),
                _ => tree.mknod(&cx, node, name(n), kind, Rdev { major: 1, minor: 3 }, &new),
            };
            let theirs = m.make(c, id, name(n), kind, bits);
            if let (Ok(id), Kind::Symlink) = (theirs, kind) {
                m.nodes.get_mut(&id).unwrap().target = b"some/where".to_vec();
            }
            (ours, theirs)
        }
        Op::Link(_, _, n) => (
            tree.link(&cx, node, to, name(n)),
            m.link(c, id, to_id, name(n)),
        ),
        Op::Remove(_, _, false) => (
            tree.remove(&cx, node, &there),
            m.unlink(c, id, &there, false),
        ),
        Op::Remove(_, _, true) => (tree.rmdir(&cx, node, &there), m.unlink(c, id, &there, true)),
        Op::Rename(..) => {
            let ours = tree.rename(&cx, node, &there, to, &new);
            (ours, m.rename(c, id, &there, to_id, &new))
        }
        Op::Write(_, off, len, seed) => {
            let data = pattern(seed, len);
            (
                tree.write(&cx, node, off, &data),
                m.write(c, id, off, &data),
            )
        }
        Op::Truncate(_, size) => {
            let new = SetAttr {
                size: Some(size),
                ..SetAttr::default()
            };
            (tree.setattr(&cx, node, &new, None), m.truncate(c, id, size))
        }
        Op::Chmod(_, bits) => (
            tree.setattr(&cx, node, &mode(bits), None),
            m.chmod(c, id, bits),
        ),
        Op::Chown(_, uid, gid) => {
            let new = SetAttr {
                uid,
                gid,
                ..SetAttr::default()
            };
            (
                tree.setattr(&cx, node, &new, None),
                m.chown(c, id, uid, gid),
            )
        }
        Op::Utimes(_, secs) => {
            let time = secs.map(at);
            let set = Some(time.map_or(SetTime::Now, SetTime::At));
            let new = SetAttr {
                atime: set,
                mtime: set,
                ..SetAttr::default()
            };
            (tree.setattr(&cx, node, &new, None), m.utimes(c, id, time))
        }
        Op::Xattr(_, x, value) => {
            let name = XATTRS[usize::from(x)];
            let value = value.map(|v| vec![v; usize::from(v)]);
            let ours = match &value {
                Some(v) => tree.setxattr(&cx, node, name, v, XattrHow::Either),
                None => tree.removexattr(&cx, node, name),
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
        let mut w = World {
            bench,
            tree,
            model,
            pairs: vec![(ROOT_ID, ROOT)],
        };
        populate(&mut w);
        w.same("populated");
        let sealed = w.seal();
        w.same("cloned");
        (sealed.snapshot, w.model.clone(), w.pairs.clone())
    };
    let case = std::cell::Cell::new(0);
    let config = Config {
        cases: 96,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&steps(), |steps| {
            let bench = &mut *bench.borrow_mut();
            let tree = Some(bench.clone_of(base.0));
            let pairs = base
                .2
                .iter()
                .copied()
                .filter(|p| p.0 < 8 || p.0 > 1102 || p.0 % 100 == 3)
                .collect();
            let mut w = World {
                bench,
                tree,
                model: base.1.clone(),
                pairs,
            };
            for step in &steps {
                run(&mut w, step);
            }
            w.same("at the end");
            // Costs as much as all the rest, as snapshots gather.
            if case.replace(case.get() + 1) % 4 == 0 {
                w.checked();
            }
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
