//! Blobs that nobody used for long are packed, and come back whole.

use super::{meta, open, step, try_open};
use crate::fsck::Fault;
use crate::tree::Tree;
use crate::types::{Creds, Digest};
use crate::{FsckOptions, GcOptions, PackReport, Store};
use std::path::PathBuf;
use std::sync::Arc;

/// Text, more than a row holds.
pub(super) fn text(name: &str) -> Vec<u8> {
    let lines = (0..4000).map(|n| format!("line {n} of {name}\n"));
    lines.collect::<String>().into_bytes()
}

/// Nothing packs these.
fn noise() -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..60_000).map(next).collect()
}

pub(super) fn tree(store: &Arc<Store>, files: &[(&str, Vec<u8>)]) -> Digest {
    let mut ingest = store.ingest();
    for (path, data) in files {
        let mut from = &data[..];
        let put = ingest.file(path.as_bytes(), meta(0o644), data.len() as u64, &mut from);
        put.expect("file");
    }
    ingest.finish(None).expect("finish").snapshot
}

pub(super) fn read(
    store: &Arc<Store>,
    snapshot: &Digest,
    name: &str,
) -> Result<Vec<u8>, crate::types::Errno> {
    let tree = store.sealed(snapshot).expect("a tree");
    let found = tree
        .lookup(&Creds::ROOT, 1, name.as_bytes())
        .expect("there");
    let mut out = Vec::new();
    tree.read(&Creds::ROOT, found.node.node, 0, 1 << 20, &mut out)?;
    Ok(out)
}

/// The digest names a file below.
pub(super) fn files(store: &Store, below: &str) -> Vec<PathBuf> {
    let dirs = std::fs::read_dir(store.dir().join(below));
    let dirs = dirs
        .into_iter()
        .flatten()
        .map(|d| d.expect("a folder").path());
    let files = dirs.flat_map(|dir| std::fs::read_dir(dir).expect("list"));
    files.map(|file| file.expect("a file").path()).collect()
}

pub(super) fn sound(store: &Store) {
    let report = store
        .fsck(&FsckOptions::default(), &|_| ())
        .expect("checked");
    assert_eq!(report.findings, []);
}

/// Two steps that share a file; the second was used at 1000.
pub(super) fn two(store: &Arc<Store>) -> (Digest, Digest) {
    let old = tree(
        store,
        &[("a", text("a")), ("both", text("both")), ("noise", noise())],
    );
    let new = tree(store, &[("both", text("both")), ("c", text("c"))]);
    for (key, snapshot) in [(1, old), (2, new)] {
        store.put_step(step(key, snapshot)).expect("a step");
    }
    store.use_steps(&[Digest([2; 32])], 1000);
    (old, new)
}

#[test]
fn only_what_nobody_used_is_packed_and_whoever_reads_it_has_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (old, new) = two(&store);
    let before = store.usage().expect("usage").large_bytes;
    let report = store.pack_cold(500, &[], Vec::new()).expect("packed");
    assert_eq!(
        report.blobs, 1,
        "neither what is shared nor what would save nothing"
    );
    assert!(report.after * 4 < report.before, "{report:?}");
    assert_eq!(
        (files(&store, "packed").len(), files(&store, "blobs").len()),
        (1, 3)
    );
    let saved = report.before - report.after;
    // Rows count bytes, and files whole blocks.
    let less = before - store.usage().expect("usage").large_bytes;
    assert!(
        (saved - 8192..=saved).contains(&less),
        "{less}, not {saved}"
    );
    let sizes = store.sizes(&[vec![old], vec![new]]).expect("sizes");
    assert!(sizes.held[0].own < 70_000 + report.after, "{sizes:?}");
    sound(&store);
    assert_eq!(
        store.pack_cold(500, &[], Vec::new()).expect("again"),
        PackReport::default()
    );
    assert_eq!(read(&store, &old, "a").expect("read"), text("a"));
    assert_eq!(
        (files(&store, "packed").len(), files(&store, "blobs").len()),
        (0, 4)
    );
    sound(&store);
    // What is in use is not.
    let none = store
        .pack_cold(5000, &[old, new], Vec::new())
        .expect("none");
    assert_eq!(none.blobs, 0);
    let c = vec![crate::object::digest_of(&text("c"))];
    let none = store.pack_cold(5000, &[old], c).expect("none");
    assert_eq!(none.blobs, 0);
    // What is open is read on, whatever becomes of its file.
    let tree = store.sealed(&old).expect("a tree");
    let found = tree.lookup(&Creds::ROOT, 1, b"both").expect("there");
    let mut file = tree
        .file(&Creds::ROOT, found.node.node)
        .expect("open")
        .expect("large");
    assert_eq!(
        store.pack_cold(5000, &[], Vec::new()).expect("all").blobs,
        3
    );
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut all).expect("read");
    assert_eq!(all, text("both"));
    drop((file, tree));
    // And goes as any other.
    drop(store);
    let store = try_open(dir.path(), false).expect("open");
    store.gc(GcOptions::default(), &[]).expect("gc");
    assert_eq!(
        (files(&store, "packed").len(), files(&store, "blobs").len()),
        (0, 0)
    );
    sound(&store);
}

#[test]
fn a_kill_on_the_way_leaves_the_blob_in_one_place_or_both() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (old, _) = two(&store);
    let was: Vec<_> = files(&store, "blobs")
        .into_iter()
        .map(|f| (f.clone(), std::fs::read(f).expect("read")))
        .collect();
    store.pack_cold(500, &[], Vec::new()).expect("packed");
    let packed = files(&store, "packed").pop().expect("one");
    let name = packed.file_name().expect("a name").to_owned();
    drop(store);
    // Both: the packed one goes.
    let (place, bytes) = was
        .iter()
        .find(|(f, _)| f.file_name() == Some(&name))
        .expect("it was there");
    std::fs::write(place, bytes).expect("write");
    let store = try_open(dir.path(), false).expect("open");
    assert_eq!(files(&store, "packed").len(), 0);
    assert_eq!(read(&store, &old, "a").expect("read"), text("a"));
    sound(&store);
}

#[test]
fn what_rots_while_it_is_packed_is_found_and_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    for (how, cut) in [("cut", true), ("changed", false)] {
        let store = open(&dir.path().join(how));
        let (old, _) = two(&store);
        store.pack_cold(500, &[], Vec::new()).expect("packed");
        let packed = files(&store, "packed").pop().expect("one");
        let mut bytes = std::fs::read(&packed).expect("read");
        match cut {
            true => bytes.truncate(bytes.len() / 2),
            false => {
                let at = bytes.len() / 2;
                bytes[at] ^= 0x55;
            }
        }
        std::fs::write(&packed, &bytes).expect("write");
        assert!(read(&store, &old, "a").is_err(), "wrong bytes are read");
        let report = store
            .fsck(&FsckOptions::default(), &|_| ())
            .expect("checked");
        let bad = report
            .findings
            .iter()
            .filter(|f| matches!(f.fault, Fault::Blob { .. }));
        assert_eq!(bad.count(), 1, "{how}: {report:?}");
        let options = FsckOptions {
            repair: true,
            ..Default::default()
        };
        store.fsck(&options, &|_| ()).expect("repaired");
        let kept = std::fs::read_dir(store.dir().join("quarantine")).expect("quarantine");
        assert_eq!(kept.count(), 1);
        assert_eq!(files(&store, "packed").len(), 0);
        // The same content mends it.
        tree(&store, &[("again", text("a"))]);
        assert_eq!(read(&store, &old, "a").expect("read"), text("a"));
    }
}

#[test]
fn a_backup_needs_no_unpacking() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (old, _) = two(&store);
    store.pack_cold(500, &[], Vec::new()).expect("packed");
    let to = dir.path().join("backup");
    let done = store
        .backup(&to, &crate::BackupOptions::default())
        .expect("backup");
    assert!(
        done.missing.is_empty() && done.rotted.is_empty(),
        "{done:?}"
    );
    assert_eq!(files(&store, "packed").len(), 1, "it stays packed here");
    let there = dir.path().join("there/store");
    crate::restore(&to, &there).expect("restored");
    let restored = try_open(&dir.path().join("there"), false).expect("open");
    assert_eq!(read(&restored, &old, "a").expect("read"), text("a"));
    sound(&restored);
}
