//! Random trees, as a plain list that ingest is fed and reading is compared with.

use crate::Special;
use crate::object::{Meta, Xattrs};
use crate::types::{Kind, Rdev, Time};
use crate::{IngestDone, Store};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Body {
    Dir,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Special(SpecialKind),
    /// To the leaf that this picks.
    Link(usize),
}

#[derive(Clone, Debug)]
pub enum SpecialKind {
    Fifo,
    Socket,
    Char(u32, u32),
    Block(u32, u32),
}

impl SpecialKind {
    pub fn special(&self) -> Special {
        match *self {
            SpecialKind::Fifo => Special::Fifo,
            SpecialKind::Socket => Special::Socket,
            SpecialKind::Char(major, minor) => Special::Char(Rdev { major, minor }),
            SpecialKind::Block(major, minor) => Special::Block(Rdev { major, minor }),
        }
    }
}

/// One line of a plan: a name in the directory that `parent` picks.
#[derive(Clone, Debug)]
pub struct Line {
    parent: usize,
    name: Vec<u8>,
    meta: Meta,
    body: Body,
}

/// What a node of the finished tree must be.
#[derive(Clone, Debug)]
pub struct Expect {
    pub meta: Meta,
    pub body: Body,
    /// All paths of the same file, itself included.
    pub paths: Vec<Vec<u8>>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no / or NUL", |b| *b != b'/' && *b != 0);
    let ok = |n: &Vec<u8>| n != b"." && n != b"..";
    prop_oneof![
        4 => proptest::collection::vec(b'a'..b'f', 1..3),
        2 => proptest::collection::vec(byte.clone(), 1..20),
        1 => proptest::collection::vec(byte, 255),
    ]
    .prop_filter("a name", ok)
}

fn xattrs() -> impl Strategy<Value = Xattrs> {
    let capability = b"security.capability".to_vec();
    let name = prop_oneof![
        Just(capability),
        proptest::collection::vec(1_u8..=255, 1..30)
    ];
    let value = proptest::collection::vec(any::<u8>(), 0..40);
    proptest::collection::btree_map(name, value, 0..3).prop_map(|m| m.into_iter().collect())
}

prop_compose! {
    fn meta()(
        mode in 0_u32..=0o7777,
        uid: u32,
        gid: u32,
        secs in prop_oneof![any::<i64>(), -2_000_000_000_i64..2_000_000_000],
        nanos in 0_u32..1_000_000_000,
        xattrs in xattrs(),
    ) -> Meta {
        Meta { mode, uid, gid, mtime: Time { secs, nanos }, xattrs }
    }
}

/// Sizes around the boundary between rows and files, with and without holes.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![
        Just(0_usize),
        1_usize..200,
        Just(16 * 1024 - 1),
        Just(16 * 1024),
        Just(16 * 1024 + 1),
        Just(300_000),
    ];
    (size, any::<u64>(), any::<bool>()).prop_map(|(size, seed, sparse)| {
        let mut state = seed | 1;
        let mut data: Vec<u8> = (0..size)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        if sparse {
            let (from, to) = (size / 5, size - size / 7);
            data[from..to].fill(0);
        }
        data
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        3 => Just(Body::Dir),
        4 => content().prop_map(Body::File),
        1 => proptest::collection::vec(1_u8..=255, 1..60).prop_map(Body::Symlink),
        1 => Just(Body::Special(SpecialKind::Fifo)),
        1 => Just(Body::Special(SpecialKind::Socket)),
        1 => any::<(u32, u32)>().prop_map(|(a, b)| Body::Special(SpecialKind::Char(a, b))),
        1 => any::<(u32, u32)>().prop_map(|(a, b)| Body::Special(SpecialKind::Block(a, b))),
        2 => any::<usize>().prop_map(Body::Link),
    ]
}

pub fn plan() -> impl Strategy<Value = Vec<Line>> {
    let line =
        (any::<usize>(), name(), meta(), body()).prop_map(|(parent, name, meta, body)| Line {
            parent,
            name,
            meta,
            body,
        });
    proptest::collection::vec(line, 0..60)
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        name.to_vec()
    } else {
        [dir, b"/", name].concat()
    }
}

/// Ingests the plan; what the tree must be, by path.
pub fn ingest(store: &Arc<Store>, plan: &[Line]) -> (IngestDone, BTreeMap<Vec<u8>, Expect>) {
    let mut ingest = store.ingest();
    let mut dirs: Vec<Vec<u8>> = vec![Vec::new()];
    let mut leaves: Vec<Vec<u8>> = Vec::new();
    let mut tree: BTreeMap<Vec<u8>, Expect> = BTreeMap::new();
    // Paths of one file share an entry of this list.
    let mut groups: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut seen = HashSet::new();
    for line in plan {
        let path = join(&dirs[line.parent % dirs.len()], &line.name);
        if !seen.insert(path.clone()) || path.len() > 4000 {
            continue;
        }
        let meta = line.meta.clone();
        let mut expect = Expect {
            meta: meta.clone(),
            body: line.body.clone(),
            paths: vec![path.clone()],
        };
        match &line.body {
            Body::Dir => ingest.dir(&path, meta),
            Body::File(data) => ingest.file(&path, meta, data.len() as u64, &mut data.as_slice()),
            Body::Symlink(target) => ingest.symlink(&path, meta, target),
            Body::Special(kind) => ingest.special(&path, meta, kind.special()),
            Body::Link(_) if leaves.is_empty() => continue,
            Body::Link(pick) => {
                let target = &leaves[pick % leaves.len()];
                expect.meta = tree[target].meta.clone();
                expect.body = tree[target].body.clone();
                ingest.hardlink(&path, target)
            }
        }
        .expect("ingest");
        match &line.body {
            Body::Dir => dirs.push(path.clone()),
            Body::Link(pick) => {
                let target = leaves[pick % leaves.len()].clone();
                for group in groups.iter_mut().filter(|g| g.contains(&target)) {
                    group.push(path.clone());
                }
            }
            _ => groups.push(vec![path.clone()]),
        }
        if !matches!(line.body, Body::Dir) {
            leaves.push(path.clone());
        }
        tree.insert(path, expect);
    }
    for group in groups {
        for path in &group {
            if let Some(expect) = tree.get_mut(path) {
                expect.paths = group.clone();
            }
        }
    }
    (ingest.finish(None).expect("finish"), tree)
}

impl Expect {
    pub fn kind(&self) -> Kind {
        match &self.body {
            Body::Dir => Kind::Dir,
            Body::File(_) | Body::Link(_) => Kind::File,
            Body::Symlink(_) => Kind::Symlink,
            Body::Special(SpecialKind::Fifo) => Kind::Fifo,
            Body::Special(SpecialKind::Socket) => Kind::Socket,
            Body::Special(SpecialKind::Char(..)) => Kind::Char,
            Body::Special(SpecialKind::Block(..)) => Kind::Block,
        }
    }
}
