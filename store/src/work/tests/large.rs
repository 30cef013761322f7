//! Files far larger than what is in them: nothing costs what a hole is long, but hashing it.

use super::*;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn size(size: u64) -> SetAttr {
    SetAttr {
        size: Some(size),
        ..SetAttr::default()
    }
}

fn read(tree: &WorkTree, f: Node, at: u64, count: u32) -> Vec<u8> {
    let mut out = Vec::new();
    tree.read(&Creds::ROOT, f, at, count, &mut out).unwrap();
    out
}

/// Bytes on disk below a directory.
fn on_disk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let used = |e: std::fs::DirEntry| {
        let meta = e.metadata().unwrap();
        match meta.is_dir() {
            true => on_disk(&e.path()),
            false => meta.blocks() * 512,
        }
    };
    entries.map(used).sum()
}

#[test]
fn a_terabyte_of_nothing_costs_nothing() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let (id, f) = (tree.id(), tree.file(ROOT, b"f", b""));
    let before = on_disk(bench.store.dir());
    tree.setattr(&root(3), f, &size(TIB), None).unwrap();
    for at in [0, (1 << 32) - 3, TIB - 6, TIB] {
        tree.write(&root(4), f, at, b"marked").unwrap();
    }
    assert_eq!(tree.getattr(f).unwrap().size, TIB + 6);
    drop(tree);
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    let attr = tree.getattr(f).unwrap();
    assert_eq!(attr.size, TIB + 6);
    assert!(attr.used < 1 << 20, "{} bytes used", attr.used);
    assert_eq!(read(&tree, f, (1 << 32) - 4, 8), b"\0marked\0");
    assert_eq!(read(&tree, f, TIB - 6, 100), b"markedmarked");
    tree.setattr(&root(5), f, &size((1 << 32) + 1), None)
        .unwrap();
    assert_eq!(read(&tree, f, (1 << 32) - 3, 100), b"mark");
    tree.setattr(&root(6), f, &size(TIB), None).unwrap();
    assert_eq!(read(&tree, f, (1 << 32) - 3, 8), b"mark\0\0\0\0");
    assert!(
        read(&tree, f, TIB - 6, 6) == [0; 6],
        "cut off and grown again"
    );
    let grown = on_disk(bench.store.dir()).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes on disk");
}

#[test]
fn a_file_ends_where_every_file_system_can_follow() {
    let bench = Bench::new();
    let tree = bench.empty();
    let f = tree.file(ROOT, b"f", b"begin");
    let before = tree.getattr(f).unwrap();
    let too_far = [
        tree.write(&root(4), f, MAX_FILE, b"x"),
        tree.write(&root(4), f, MAX_FILE - 1, b"xy"),
        tree.write(&root(4), f, u64::MAX - 1, b"x"),
        tree.setattr(&root(4), f, &size(MAX_FILE + 1), None),
        tree.setattr(&root(4), f, &size(u64::MAX), None),
    ];
    assert_eq!(too_far.map(Result::err), [Some(Errno::FBig); 5]);
    assert_eq!(tree.getattr(f).unwrap(), before, "nothing was changed");
    tree.write(&root(5), f, MAX_FILE - 1, b"x").unwrap();
    assert_eq!(tree.getattr(f).unwrap().size, MAX_FILE);
    assert_eq!(read(&tree, f, MAX_FILE - 2, 100), b"\0x");
}

/// Sealed, cloned, written to and sealed again: holes stay holes, of the base too.
#[test]
fn a_seal_keeps_holes() {
    let bench = Bench::new();
    let tree = bench.empty();
    let f = tree.file(ROOT, b"f", b"begin");
    tree.write(&root(4), f, 4 * GIB + 77, b"end").unwrap();
    let seal = |tree: &WorkTree| {
        let options = SealOptions::default();
        bench.works().seal(tree.id(), &options).unwrap().snapshot
    };
    let first = seal(&tree);
    let tree = bench.clone_of(first);
    let f = tree.find(ROOT, b"f").unwrap();
    assert_eq!(f.size, 4 * GIB + 80);
    assert!(f.used < 1 << 20, "{} bytes used", f.used);
    tree.write(&root(5), f.node, 2 * GIB, b"middle").unwrap();
    let tree = bench.clone_of(seal(&tree));
    let f = tree.find(ROOT, b"f").unwrap();
    assert!(f.used < 1 << 20, "{} bytes used", f.used);
    for (at, expected) in [
        (0, &b"begin\0"[..]),
        (2 * GIB - 1, b"\0middle\0"),
        (4 * GIB + 76, b"\0end"),
    ] {
        assert_eq!(read(&tree, f.node, at, expected.len() as u32), expected);
    }
    let used = on_disk(bench.store.dir());
    assert!(used < 8 << 20, "{used} bytes on disk");
}
