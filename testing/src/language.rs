//! The operation language: steps that mean something on any tree, so that any part of a
//! sequence is one too and shrinks to what matters.

use crate::call::{Call, What};
use crate::model::{Id, Model, ROOT_ID};
use crate::side::Together;
use pocker_store::types::{Creds, Kind, Time};
use proptest::prelude::*;

/// Nodes are drawn from all ever seen, names from a few, so that they meet.
#[derive(Clone, Debug)]
pub enum Op {
    Make(Kind, usize, u8, u32, bool),
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
pub struct Step {
    pub op: Op,
    pub who: usize,
    /// Seconds since the step before.
    pub later: i64,
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
        10 => (kind, n(), name(), mode(), any::<bool>()).prop_map(|(k, d, n, m, g)| Op::Make(k, d, n, m, g)),
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

/// Up to `most` steps.
pub fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let who = prop_oneof![3 => Just(0usize), 2 => Just(1), 1 => Just(2)];
    let step = (op(), who, 0..2i64).prop_map(|(op, who, later)| Step { op, who, later });
    proptest::collection::vec(step, 1..most)
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

/// Who acts: root, a user in a second group, and one in none.
pub fn people() -> [Creds; 3] {
    let user = |id, gids: &[u32]| Creds {
        uid: id,
        gid: id,
        gids: gids.to_vec(),
    };
    [Creds::ROOT, user(1001, &[50]), user(1002, &[])]
}

pub fn at(secs: i64) -> Time {
    Time {
        secs: 1_700_000_000 + secs,
        nanos: 0,
    }
}

fn name(n: u8) -> Vec<u8> {
    NAMES[usize::from(n) % NAMES.len()].to_vec()
}

/// A file capability as Linux has it (VFS_CAP_REVISION_2), which is all it lets in.
fn value(name: &[u8], v: u8) -> Vec<u8> {
    if name != b"security.capability" {
        return vec![v; usize::from(v)];
    }
    let permitted = u32::from(v);
    let words = [0x0200_0000, permitted, 0, 0, 0];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// A node that fits, mostly; one in eight is any ever seen.
fn pick(model: &Model, i: usize, dir: bool) -> Id {
    let fits = |id: &&Id| {
        let node = model.nodes.get(id);
        node.is_some_and(|n| (n.kind == Kind::Dir) == dir)
    };
    let fit: Vec<_> = model.drawn.iter().filter(fits).collect();
    if i.is_multiple_of(8) || fit.is_empty() {
        model.drawn[i / 8 % model.drawn.len()]
    } else {
        *fit[i / 8 % fit.len()]
    }
}

/// A name that is in the directory, mostly.
fn name_in(model: &Model, n: u8, dir: Id) -> Vec<u8> {
    let names = model.nodes.get(&dir).map(|d| &d.names);
    match names.filter(|names| !n.is_multiple_of(4) && !names.is_empty()) {
        Some(names) => {
            let nth = names.keys().nth(usize::from(n / 4) % names.len());
            nth.expect("less than the length").clone()
        }
        None => name(n / 4),
    }
}

/// What a step means on this tree.
pub fn resolve(m: &Model, step: &Step) -> Call {
    let any = |i: usize| pick(m, i / 2, i.is_multiple_of(2));
    let what = match step.op {
        Op::Make(kind, d, n, mode, guarded) => What::Make {
            kind,
            dir: pick(m, d, true),
            name: name(n),
            mode,
            guarded: guarded && kind == Kind::File,
        },
        Op::Link(f, d, n) => What::Link {
            file: pick(m, f, false),
            dir: pick(m, d, true),
            name: name(n),
        },
        Op::Remove(d, n, rmdir) => {
            let dir = pick(m, d, true);
            let name = name_in(m, n, dir);
            if rmdir {
                What::Rmdir { dir, name }
            } else {
                What::Remove { dir, name }
            }
        }
        Op::Rename(d, n, e, o) => {
            let (from, to) = (pick(m, d, true), pick(m, e, true));
            What::Rename {
                from,
                name: name_in(m, n, from),
                to,
                new: name_in(m, o, to),
            }
        }
        Op::Write(f, offset, len, seed) => What::Write {
            file: pick(m, f, false),
            offset,
            len,
            seed,
        },
        Op::Truncate(f, size) => What::Truncate {
            file: pick(m, f, false),
            size,
        },
        Op::Chmod(f, mode) => What::Chmod { node: any(f), mode },
        Op::Chown(f, uid, gid) => What::Chown {
            node: any(f),
            uid,
            gid,
        },
        Op::Utimes(f, secs) => What::Utimes {
            node: any(f),
            at: secs.map(at),
        },
        Op::Xattr(f, x, v) => {
            let (node, name) = (any(f), XATTRS[usize::from(x)]);
            match v {
                Some(v) => What::SetXattr {
                    node,
                    name,
                    value: value(name, v),
                },
                None => What::RemoveXattr { node, name },
            }
        }
        Op::Same | Op::Reopen | Op::Seal => unreachable!("no call"),
    };
    Call {
        who: people()[step.who].clone(),
        what,
    }
}

/// Names in the large directory: more than one page of it.
const MANY: usize = 1100;

/// Hard links across directories, a directory of more than one page, each kind, and
/// files on both sides of the small limit.
pub fn populate(w: &mut Together<'_>) {
    let dir = make(w, Kind::Dir, ROOT_ID, name(0), 0o777);
    let big = make(w, Kind::Dir, ROOT_ID, name(3), 0o1777);
    for i in 0..MANY {
        make(w, Kind::File, big, format!("f{i:04}").into_bytes(), 0o644);
    }
    // Few of them, or nothing else would be drawn.
    w.model.drawn.retain(|id| *id < 8 || id % 100 == 3);
    for (n, len) in [(1, 10), (2, 16_384), (4, 250_000)] {
        let file = make(w, Kind::File, dir, name(n), 0o4755);
        let write = What::Write {
            file,
            offset: 0,
            len,
            seed: n,
        };
        given(w, write);
        for dir in [big, ROOT_ID] {
            let name = name(n);
            given(w, What::Link { file, dir, name });
        }
    }
    for (kind, n) in [
        (Kind::Symlink, 0),
        (Kind::Fifo, 3),
        (Kind::Char, 5),
        (Kind::Dir, 7),
    ] {
        make(w, kind, dir, name(n), 0o755);
    }
}

fn make(w: &mut Together<'_>, kind: Kind, dir: Id, name: Vec<u8>, mode: u32) -> Id {
    let what = What::Make {
        kind,
        dir,
        name,
        mode,
        guarded: false,
    };
    given(w, what)
}

fn given(w: &mut Together<'_>, what: What) -> Id {
    w.call(&Call::root(what)).expect("root may")
}
