//! What goes in comes out: through ingest, a reopened store, and the reading interface.

use super::model::{Body, Expect, SpecialKind, ingest, plan};
use super::open;
use crate::SealedTree;
use crate::object::BodyRef;
use crate::tree::Tree;
use crate::types::{Creds, Node, ROOT, Rdev};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Every path of the tree with its node and its place, found by reading directories in small steps.
fn walk(tree: &SealedTree) -> BTreeMap<Vec<u8>, Node> {
    let mut found = BTreeMap::new();
    let mut todo = vec![(Vec::new(), ROOT)];
    while let Some((path, dir)) = todo.pop() {
        let mut cookie = 0;
        loop {
            let mut room = 3;
            let mut names = Vec::new();
            let done = tree
                .readdir(&Creds::ROOT, dir, cookie, true, &mut |entry| {
                    if room == 0 {
                        return false;
                    }
                    room -= 1;
                    let attr = entry.attr.expect("asked for");
                    assert_eq!(attr.node, entry.node);
                    names.push((entry.name.to_vec(), attr, entry.cookie));
                    true
                })
                .expect("readdir");
            for (name, attr, next) in names {
                cookie = next;
                let looked = tree.lookup(&Creds::ROOT, dir, &name).expect("lookup");
                assert_eq!(looked.node, attr);
                if name == b"." || name == b".." {
                    continue;
                }
                let full = if path.is_empty() {
                    name
                } else {
                    [&path[..], b"/", &name].concat()
                };
                if attr.kind == crate::types::Kind::Dir {
                    todo.push((full.clone(), attr.node));
                }
                assert_eq!(found.insert(full, attr.node), None, "a name twice");
            }
            if done.eof {
                break;
            }
        }
    }
    found
}

/// The path of a place, by going up.
fn path_of(tree: &SealedTree, mut n: Node) -> Vec<u8> {
    let mut names = Vec::new();
    while n != ROOT {
        let base = tree.base(n).expect("base");
        names.push(base.entry.name().to_vec());
        n = base.parent;
    }
    names.reverse();
    names.join(&b"/"[..])
}

fn check(tree: &SealedTree, node: Node, path: &[u8], expect: &Expect) {
    let attr = tree.getattr(node).expect("getattr");
    let meta = &expect.meta;
    assert_eq!(attr.kind, expect.kind(), "{}", path.escape_ascii());
    assert_eq!(
        (attr.mode, attr.uid, attr.gid),
        (meta.mode, meta.uid, meta.gid)
    );
    assert_eq!((attr.mtime, attr.ctime), (meta.mtime, meta.mtime));
    for (name, value) in &meta.xattrs {
        assert_eq!(&tree.getxattr(node, name).expect("getxattr"), value);
    }
    assert_eq!(
        tree.listxattr(node).expect("listxattr").len(),
        meta.xattrs.len()
    );
    match &expect.body {
        Body::File(data) => {
            assert_eq!(attr.size, data.len() as u64);
            let mut read = Vec::new();
            loop {
                let at = read.len() as u64;
                let done = tree
                    .read(&Creds::ROOT, node, at, 70_001, &mut read)
                    .expect("read");
                if done.eof {
                    break;
                }
            }
            assert!(read == *data, "content of {}", path.escape_ascii());
        }
        Body::Symlink(target) => {
            assert_eq!(&tree.readlink(node).expect("readlink").0, target);
        }
        Body::Special(SpecialKind::Char(major, minor) | SpecialKind::Block(major, minor)) => {
            assert_eq!(
                attr.rdev,
                Rdev {
                    major: *major,
                    minor: *minor
                }
            );
        }
        Body::Dir | Body::Special(_) | Body::Link(_) => {}
    }
    if expect.kind() != crate::types::Kind::Dir {
        assert_eq!(attr.nlink as usize, expect.paths.len());
        let places = tree.members(node);
        assert_eq!(places[0], node, "the lowest number stands for the group");
        let mut paths: Vec<_> = places.iter().map(|n| path_of(tree, *n)).collect();
        let mut expected = expect.paths.clone();
        paths.sort();
        expected.sort();
        assert_eq!(paths, expected);
    }
}

/// Each number is one place, each place's path leads back to it, and pre-order is kept.
fn check_numbers(tree: &SealedTree) {
    for n in ROOT + 1..=tree.last_number() {
        let base = tree.base(n).expect("base");
        assert!(base.parent < n);
        let child = tree
            .child(base.parent, base.entry.name())
            .expect("child")
            .expect("is there");
        assert_eq!(child.place, n);
        assert_eq!(child.node, tree.canonical(n));
        let view = child.entry.view().expect("view");
        if let BodyRef::Dir { counts, .. } = view.body {
            assert_eq!(
                u64::from(tree.attr(n).expect("attr").nlink),
                2 + counts.subdirs
            );
        }
    }
    assert!(tree.base(tree.last_number() + 1).is_err());
    assert!(tree.base(0).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn everything_survives(plan in plan()) {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = open(dir.path());
        let (done, expected) = ingest(&store, &plan);
        prop_assert_eq!(done.nodes, 1 + expected.len() as u64);
        let (snapshot, ordinal) = (done.snapshot, done.ordinal);
        drop((done, store));

        let store = open(dir.path());
        let tree = store.sealed(&snapshot).expect("sealed");
        prop_assert_eq!(tree.ordinal(), ordinal);
        let found = walk(&tree);
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (path, node) in &found {
            check(&tree, *node, path, &expected[path]);
        }
        check_numbers(&tree);
        // The same again is the same snapshot.
        let (again, _) = ingest(&store, &plan);
        prop_assert_eq!((again.snapshot, again.ordinal), (snapshot, ordinal));
    }
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let size = 64 << 20;
    let mut ingest = store.ingest();
    let zeros = std::io::repeat(0);
    ingest
        .file(
            b"hole",
            super::meta(0o600),
            size,
            &mut std::io::Read::take(zeros, size),
        )
        .expect("file");
    let done = ingest.finish(None).expect("finish");
    let attr = done
        .tree
        .lookup(&Creds::ROOT, ROOT, b"hole")
        .expect("lookup")
        .node;
    assert_eq!((attr.size, attr.used), (size, 0));
    let BodyRef::File { blob, .. } = done
        .tree
        .base(attr.node)
        .expect("base")
        .entry
        .view()
        .expect("view")
        .body
    else {
        panic!("a file");
    };
    let file = store
        .blobs()
        .open(&blob)
        .expect("open")
        .metadata()
        .expect("stat");
    assert_eq!(file.len(), size);
    assert!(file.blocks() * 512 < 1 << 20, "{} blocks", file.blocks());
    let mut out = Vec::new();
    done.tree
        .read(&Creds::ROOT, attr.node, size - 10, 100, &mut out)
        .expect("read");
    assert_eq!(out, [0; 10]);
}

#[test]
fn permissions_are_checked() {
    use crate::types::Errno;
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let mut ingest = store.ingest();
    let by = |mode, uid, gid| crate::object::Meta {
        uid,
        gid,
        ..super::meta(mode)
    };
    ingest.dir(b"private", by(0o700, 5, 5)).expect("dir");
    ingest
        .file(b"private/f", by(0o644, 5, 5), 1, &mut &b"x"[..])
        .expect("file");
    ingest
        .file(b"group", by(0o040, 5, 7), 1, &mut &b"g"[..])
        .expect("file");
    ingest
        .file(b"exec", by(0o001, 5, 7), 1, &mut &b"e"[..])
        .expect("file");
    ingest
        .file(b"owner", by(0o000, 5, 7), 1, &mut &b"o"[..])
        .expect("file");
    let tree = ingest.finish(None).expect("finish").tree;
    let node = |name: &[u8]| {
        tree.lookup(&Creds::ROOT, ROOT, name)
            .expect("lookup")
            .node
            .node
    };
    let who = |uid, gids: &[u32]| Creds {
        uid,
        gid: 99,
        gids: gids.to_vec(),
    };
    let lookup = |c: &Creds| tree.lookup(c, node(b"private"), b"f").map(|_| ());
    assert_eq!(lookup(&who(9, &[])), Err(Errno::Access));
    assert_eq!(lookup(&who(5, &[])), Ok(()));
    let read = |c: &Creds, n| tree.read(c, n, 0, 1, &mut Vec::new()).map(|_| ());
    assert_eq!(read(&who(9, &[7]), node(b"group")), Ok(()));
    assert_eq!(read(&who(9, &[8]), node(b"group")), Err(Errno::Access));
    assert_eq!(
        read(&who(9, &[]), node(b"exec")),
        Ok(()),
        "x alone reads, to execute"
    );
    assert_eq!(
        read(&who(9, &[7]), node(b"exec")),
        Err(Errno::Access),
        "the group's bits decide"
    );
    assert_eq!(
        read(&who(5, &[]), node(b"owner")),
        Ok(()),
        "the owner always reads"
    );
    let mut list = |_: crate::tree::DirEntry<'_>| true;
    let denied = tree.readdir(&who(9, &[]), node(b"private"), 0, false, &mut list);
    assert_eq!(denied.map(|_| ()), Err(Errno::Access));
    assert_eq!(
        tree.lookup(&Creds::ROOT, node(b"group"), b"x").map(|_| ()),
        Err(Errno::NotDir)
    );
}
