//! Reads that are checked: what rotted is refused, whichever way it is asked for.

use super::{meta, open, two_files};
use crate::tree::Tree;
use crate::types::{Creds, Digest, Errno, Node, ROOT};
use crate::{SealedTree, Store, StoreError};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

fn find(tree: &SealedTree, path: &[&[u8]]) -> Node {
    path.iter().fold(ROOT, |node, name| {
        tree.lookup(&Creds::ROOT, node, name)
            .expect("lookup")
            .node
            .node
    })
}

fn read(tree: &SealedTree, name: &[u8], at: u64) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    let node = find(tree, &[b"dir", name]);
    tree.read(&Creds::ROOT, node, at, 100, &mut out)?;
    Ok(out)
}

/// The one large blob of a store, with one bit of its file changed.
fn rot(store: &Store) -> Digest {
    let mut found = None;
    let area = &store.blobs.area;
    area.each(&mut |digest| {
        found = Some(digest);
        Ok(())
    })
    .expect("list");
    let digest = found.expect("a blob");
    flip(&area.path(&digest));
    digest
}

fn flip(path: &Path) {
    let file = std::fs::File::options().read(true).write(true).open(path);
    let file = file.expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 40_000).expect("read");
    file.write_all_at(&[byte[0] ^ 1], 40_000).expect("write");
}

#[test]
fn a_rotted_file_is_refused_at_every_read_and_as_a_descriptor() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let tree = two_files(&store, 1).tree;
    let digest = rot(&store);
    assert!(
        read(&tree, b"large", 0).is_ok(),
        "not looked at unless asked to"
    );
    drop((tree, store));

    let store = open(dir.path());
    store.verify_reads();
    let snapshot = store.snapshots().expect("snapshots")[0].0;
    let tree = store.sealed(&snapshot).expect("sealed");
    // Its beginning is whole, but it is not.
    for _ in 0..3 {
        assert_eq!(read(&tree, b"large", 0), Err(Errno::Io));
    }
    let node = find(&tree, &[b"dir", b"large"]);
    assert!(matches!(tree.file(&Creds::ROOT, node), Err(Errno::Io)));
    assert!(
        read(&tree, b"small", 0).is_ok(),
        "others are none the worse"
    );
    let report = store.verified().expect("it is on");
    assert_eq!(report.bad.len(), 1);
    assert_eq!(report.bad[0].0, digest);
    assert_eq!((report.blobs, report.refused), (2, 4), "hashed once");

    // Set aside and put again it is whole.
    let repair = crate::FsckOptions {
        repair: true,
        ..Default::default()
    };
    store.fsck(&repair, &|_| ()).expect("fsck");
    assert!(read(&tree, b"large", 0).is_err());
    two_files(&store, 1);
    assert_eq!(read(&tree, b"large", 0), Ok(vec![1; 100]));
    assert!(tree.file(&Creds::ROOT, node).expect("open").is_some());
    assert!(store.verified().expect("it is on").bad.is_empty());
}

#[test]
fn a_rotted_row_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.verify_reads();
    let tree = two_files(&store, 1).tree;
    let conn = rusqlite::Connection::open(store.dir().join("index.db")).expect("open");
    let sql = "UPDATE small_blob SET bytes = x'010102'";
    assert_eq!(conn.execute(sql, []).expect("update"), 1);
    assert_eq!(read(&tree, b"small", 0), Err(Errno::Io));
    assert_eq!(store.verified().expect("it is on").bad.len(), 1);
    assert!(read(&tree, b"large", 0).is_ok());
}

/// Where nothing may wait, what has to be hashed first is for later.
#[test]
fn hashing_waits_for_a_thread_that_may_and_is_done_once_for_many() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.verify_reads();
    let mut ingest = store.ingest();
    let large: Vec<u8> = (0..30_000_000_u32).map(|n| (n / 999) as u8).collect();
    let size = large.len() as u64;
    ingest
        .file(b"dir/large", meta(0o644), size, &mut &large[..])
        .expect("large");
    let tree: Arc<SealedTree> = ingest.finish(None).expect("finish").tree;
    let node = find(&tree, &[b"dir", b"large"]);
    let mut out = Vec::new();
    let hurried = crate::without_waiting(|| tree.read(&Creds::ROOT, node, 0, 1, &mut out));
    assert!(matches!(hurried, Err(Errno::Again)));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|n| {
                let tree = &tree;
                scope.spawn(move || read(tree, b"large", n * 999))
            })
            .collect();
        for (n, reader) in readers.into_iter().enumerate() {
            let got = reader.join().expect("a reader").expect("read");
            assert_eq!(got, vec![n as u8; 100]);
        }
    });
    let report = store.verified().expect("it is on");
    assert_eq!((report.blobs, report.bytes, report.refused), (1, size, 0));
}

#[test]
fn a_work_tree_makes_no_new_file_of_what_rotted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.verify_reads();
    let snapshot = two_files(&store, 1).snapshot;
    rot(&store);
    let works = crate::work::Works::open_or_create(store.clone()).expect("works");
    let now = crate::types::Time { secs: 1, nanos: 0 };
    let work = works
        .create(Some(snapshot), crate::work::WorkClass::Run, b"", now)
        .expect("a tree");
    let sealed = store.sealed(&snapshot).expect("sealed");
    let node = find(&sealed, &[b"dir", b"large"]);
    let cx = crate::types::OpCx {
        creds: &Creds::ROOT,
        now,
        once: None,
    };
    assert!(
        work.write(&cx, node, 10, b"in the middle of a block")
            .is_err()
    );
    let mut out = Vec::new();
    assert!(work.read(&Creds::ROOT, node, 0, 10, &mut out).is_err());
    let missing = StoreError::Rotted {
        digest: snapshot,
        found: snapshot,
    };
    assert!(missing.to_string().contains("fsck --repair"), "{missing}");
}
