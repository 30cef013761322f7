//! What collection says it frees, and what the disk has of it.

use super::{meta, open, step};
use crate::{GcOptions, Store};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes that files below `dir` take. Of a database by its length: a file system may keep room
/// for what is appended to it.
fn taken(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).expect("list").flatten() {
        let meta = entry.metadata().expect("stat");
        sum += match meta.is_dir() {
            true => taken(&entry.path()),
            false if entry.path().extension().is_some() => meta.len(),
            false => meta.blocks() * 512,
        };
    }
    sum
}

/// A step whose tree has `files` of `size` bytes that nothing packs, and no other tree has.
fn noise(store: &Arc<Store>, key: u8, files: u64, size: usize) {
    let mut ingest = store.ingest();
    for n in 0..files {
        let mut state = ((u64::from(key) << 32) | n) + 1;
        // From half to one and a half of it.
        let size = size / 2 + (n as usize * 7919) % size;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(size)
        .collect();
        let name = format!("d{}/f{n}", n % 7);
        ingest
            .file(name.as_bytes(), meta(0o644), size as u64, &mut &bytes[..])
            .expect("file");
    }
    let snapshot = ingest.finish(None).expect("finish").snapshot;
    store.put_step(step(key, snapshot)).expect("step");
}

/// Opened anew, so that the log is in the database.
fn settled(dir: &Path, store: Arc<Store>) -> (Arc<Store>, u64) {
    drop(store);
    let bytes = taken(&dir.join("store"));
    (open(dir), bytes)
}

#[test]
fn what_it_says_it_frees_the_disk_has_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    noise(&store, 1, 40, 3000);
    noise(&store, 2, 900, 3000);
    noise(&store, 3, 300, 8_000);
    noise(&store, 4, 9, 700_000);
    store
        .pin_step(&crate::Pinned {
            key: crate::types::Digest([1; 32]),
            label: Vec::new(),
            since: 0,
        })
        .expect("pin");
    let (store, before) = settled(dir.path(), store);
    let dry = GcOptions {
        dry_run: true,
        ..GcOptions::default()
    };
    let said = store.gc(dry, &[]).expect("dry");
    let (store, same) = settled(dir.path(), store);
    assert!(same.abs_diff(before) <= 8192, "{same} {before}");
    assert_eq!(store.gc(GcOptions::default(), &[]).expect("gc"), said);
    let (store, after) = settled(dir.path(), store);
    let freed = before - after;
    assert!(
        freed.abs_diff(said.bytes) * 20 < said.bytes,
        "said {}, freed {freed}",
        said.bytes
    );
    assert_eq!(store.steps().expect("steps").len(), 1);
}

/// A file that a backup holds too is not freed by taking one of its names.
#[test]
fn a_file_with_another_name_frees_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    noise(&store, 1, 2, 700_000);
    let mut files = Vec::new();
    let area = &store.blobs.area;
    area.each(&mut |digest| {
        files.push(area.path(&digest));
        Ok(())
    })
    .expect("list");
    std::fs::hard_link(&files[0], dir.path().join("other")).expect("link");
    let said = store.gc(GcOptions::default(), &[]).expect("gc");
    assert_eq!(said.blobs, 2);
    // Each has some 350 000 bytes.
    assert!((340_000..400_000).contains(&said.bytes), "{}", said.bytes);
}
