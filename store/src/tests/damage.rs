//! Bytes that are not what they should be give errors, never a panic.

use super::{open, two_files};
use crate::object::{DirObject, Groups, SnapshotData, digest_of};
use crate::tree::Tree;
use crate::types::{Creds, Digest, Errno, ROOT};
use proptest::prelude::*;

fn objects() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let mut ingest = store.ingest();
    for n in 0..1500 {
        let path = format!("many/{n}");
        ingest
            .symlink(path.as_bytes(), super::meta(0o777), b"there")
            .expect("symlink");
    }
    let mut meta = super::meta(0o600);
    meta.xattrs.push((b"user.a".to_vec(), b"value".to_vec()));
    ingest.file(b"f", meta, 1, &mut &b"x"[..]).expect("file");
    ingest.hardlink(b"g", b"f").expect("link");
    ingest.finish(None).expect("finish");
    let list = |c: &rusqlite::Connection| {
        c.prepare("SELECT bytes FROM object ORDER BY id")?
            .query_map([], |r| r.get(0))?
            .collect()
    };
    store.index.read("list", list).expect("list")
}

/// Goes through all that a parsed object answers.
fn exercise(bytes: Vec<u8>) -> bool {
    if let Ok(s) = SnapshotData::parse(&bytes) {
        for n in 0..=s.last_number().min(100) {
            s.groups.of(n);
        }
        return true;
    }
    match DirObject::parse(bytes) {
        Ok(DirObject::Page(p)) => {
            for slot in 0..=p.len() {
                if let Some(e) = p.entry(slot) {
                    e.to_entry();
                    assert_eq!(p.find(e.name), Ok(slot));
                }
                p.slot_of(p.nodes_before(slot));
            }
            true
        }
        Ok(DirObject::Index(i)) => {
            for page in 0..i.len() {
                i.page(page);
                assert_eq!(i.page_of_name(i.first_name(page)), page);
                i.page_of_index(i.entries_before(page));
                i.page_of_node(i.nodes_before(page));
            }
            true
        }
        Err(_) => false,
    }
}

#[test]
fn flipped_truncated_and_grown() {
    for whole in objects() {
        assert!(exercise(whole.clone()));
        let step = (whole.len() / 400).max(1);
        for at in (0..whole.len())
            .step_by(step)
            .chain(0..whole.len().min(200))
        {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                exercise(bytes);
            }
            assert!(
                !exercise(whole[..at].to_vec()),
                "cut at {at} of {}",
                whole.len()
            );
        }
        let mut grown = whole.clone();
        grown.push(0);
        assert!(!exercise(grown));
    }
}

proptest! {
    #[test]
    fn garbage(kind in 0_u8..5, tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = b"PKRD\x01".to_vec();
        bytes.extend_from_slice(&[kind, 0, 0]);
        bytes.extend_from_slice(&tail);
        exercise(bytes);
        exercise(tail);
    }
}

#[test]
fn hard_link_groups_must_make_sense() {
    assert!(Groups::new(vec![vec![5, 3], vec![4, 9]], 9).is_ok());
    for bad in [
        vec![vec![5]],
        vec![vec![1, 5]],
        vec![vec![5, 10]],
        vec![vec![5, 5]],
        vec![vec![2, 5], vec![5, 7]],
    ] {
        assert!(Groups::new(bad.clone(), 9).is_err(), "{bad:?}");
    }
}

#[test]
fn damaged_rows_are_errors() {
    let dir = tempfile::tempdir().expect("tempdir");
    let done = two_files(&open(dir.path()), 1);
    let (snapshot, root) = (done.snapshot, done.tree.root_dir());
    drop(done);
    let change = |sql: &str, digest: Digest| {
        let conn = rusqlite::Connection::open(dir.path().join("store/index.db")).expect("open");
        assert_eq!(conn.execute(sql, [&digest.0]).expect("change"), 1);
    };
    change(
        "UPDATE object SET bytes = zeroblob(length(bytes)) WHERE digest = ?1",
        root,
    );
    let store = open(dir.path());
    let tree = store.sealed(&snapshot).expect("the snapshot is whole");
    assert!(tree.getattr(ROOT).is_ok());
    assert_eq!(
        tree.lookup(&Creds::ROOT, ROOT, b"dir").map(|_| ()),
        Err(Errno::Io)
    );
    assert_eq!(tree.getattr(2).map(|_| ()), Err(Errno::Io));
    assert!(
        store.gc(crate::GcOptions::default(), &[snapshot]).is_err(),
        "what it holds is unknown"
    );
    drop((tree, store));
    change("DELETE FROM object WHERE digest = ?1", snapshot);
    let store = open(dir.path());
    let error = store.sealed(&snapshot).map(|_| ()).expect_err("gone");
    assert!(error.to_string().contains(&snapshot.to_string()), "{error}");
    let absent = digest_of(b"nothing like it");
    assert!(matches!(
        store.sealed(&absent),
        Err(crate::StoreError::Missing { .. })
    ));
}

#[test]
fn damaged_blob_files_are_errors() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let done = two_files(&store, 1);
    let dir_node = done
        .tree
        .lookup(&Creds::ROOT, ROOT, b"dir")
        .expect("dir")
        .node
        .node;
    let large = done
        .tree
        .lookup(&Creds::ROOT, dir_node, b"large")
        .expect("large")
        .node
        .node;
    store
        .blobs
        .area
        .each(&mut |digest| {
            std::fs::write(store.blobs.area.path(&digest), b"short").expect("damage");
            Ok(())
        })
        .expect("list");
    let mut out = b"before".to_vec();
    let read = done.tree.read(&Creds::ROOT, large, 0, 1000, &mut out);
    assert_eq!(read.map(|_| ()), Err(Errno::Io));
    assert_eq!(out, b"before", "nothing half-read is left");
}
