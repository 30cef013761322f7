//! What came from an upstream and is the store's own now; and reads beside one that is slow or dies.

use super::upstream::{World, contents, digests, read, until, world};
use super::{meta, step, try_open};
use crate::sync::{Receipt, Want};
use crate::types::Errno;
use crate::{BackupOptions, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn held(w: &World) -> u64 {
    w.store.blobs().upstream_use().expect("one").held_bytes
}

fn is_promised(w: &World, n: usize) -> bool {
    let all = w.store.index.all_promised().expect("read");
    all.iter().any(|(digest, _)| *digest == digests()[n])
}

/// They are read although the upstream is gone and its cache was filled with others.
fn stay(w: &World, which: &[usize]) {
    assert!(which.iter().all(|n| !is_promised(w, *n)), "promises end");
    for n in (0..6).filter(|n| !which.contains(n)) {
        read(&w.tree, n).expect("read");
    }
    w.other.down.store(true, Ordering::Relaxed);
    for n in which {
        assert_eq!(read(&w.tree, *n), Ok(contents()[*n].clone()), "file {n}");
    }
    w.other.down.store(false, Ordering::Relaxed);
}

fn make(store: &Arc<Store>, which: &[usize]) {
    let mut ingest = store.ingest();
    for n in which {
        let bytes = &contents()[*n];
        let name = format!("own{n}");
        let size = bytes.len() as u64;
        let put = ingest.file(name.as_bytes(), meta(0o644), size, &mut &bytes[..]);
        put.expect("file");
    }
    let done = ingest.finish(None).expect("finish");
    store.put_step(step(9, done.snapshot)).expect("step");
}

#[test]
fn what_a_whole_sync_takes_or_finds_is_the_stores_own() {
    let w = world(120_000, |_| {});
    for n in [0, 4] {
        read(&w.tree, n).expect("read");
    }
    let mut receipt = Receipt::new(w.store.clone());
    for n in [0, 3, 4] {
        let want = Want::blob(digests()[n], contents()[n].len() as u64);
        let lacks = receipt.lacks(&want).expect("looked");
        assert_eq!(lacks, n == 3, "what was fetched is here");
        if lacks {
            receipt.put(&want, &mut &contents()[n][..]).expect("put");
        }
    }
    receipt.settle().expect("durable");
    drop(receipt);
    assert_eq!(held(&w), 0);
    stay(&w, &[0, 3, 4]);
    // A lazy one leaves them where they are.
    read(&w.tree, 5).expect("read");
    let mut lazy = Receipt::lazy(w.store.clone());
    let want = Want::blob(digests()[5], contents()[5].len() as u64);
    assert!(!lazy.lacks(&want).expect("looked"));
    assert!(is_promised(&w, 5) && held(&w) >= 100_000);
}

#[test]
fn what_is_made_here_while_it_is_fetched_is_the_stores_own() {
    for n in [0, 4] {
        let w = world(120_000, |_| {});
        let store = w.store.clone();
        *w.other.meanwhile.lock() = Some(Box::new(move || make(&store, &[n])));
        assert_eq!(read(&w.tree, n), Ok(contents()[n].clone()));
        assert!(w.other.meanwhile.lock().is_none());
        assert_eq!(held(&w), 0, "file {n}");
        stay(&w, &[n]);
        // Put before it is fetched, and made durable after.
        let w = world(120_000, |_| {});
        let mut batch = w.store.write_batch();
        batch.put_reader(&mut &contents()[n][..]).expect("put");
        assert_eq!(read(&w.tree, n), Ok(contents()[n].clone()));
        assert_eq!(held(&w), 0, "file {n}");
        batch.commit().expect("commit");
        stay(&w, &[n]);
    }
}

/// Readers of an upstream that does not answer are bounded; what is here is read, and so is all when it answers.
#[test]
fn not_all_threads_wait_for_an_upstream() {
    let w = world(1 << 20, |_| {});
    read(&w.tree, 3).expect("read");
    w.other.shut.store(true, Ordering::Relaxed);
    let waiting = || w.store.blobs().upstream_use().expect("one").waiting;
    std::thread::scope(|scope| {
        for _ in 0..crate::blob::WAITING_MAX {
            scope.spawn(|| assert_eq!(read(&w.tree, 4), Ok(contents()[4].clone())));
        }
        until(|| waiting() == crate::blob::WAITING_MAX as u64);
        assert_eq!(read(&w.tree, 0), Err(Errno::Io), "one too many");
        assert_eq!(read(&w.tree, 3), Ok(contents()[3].clone()));
        w.other.shut.store(false, Ordering::Relaxed);
    });
    assert_eq!(waiting(), 0);
    assert_eq!(read(&w.tree, 0), Ok(contents()[0].clone()));
}

#[test]
fn a_fetch_that_panics_is_tried_again_by_the_next() {
    let w = world(1 << 20, |_| {});
    w.other.panics.store(true, Ordering::Relaxed);
    let read_it = || read(&w.tree, 4);
    let panicked = std::thread::scope(|scope| scope.spawn(read_it).join());
    assert!(panicked.is_err());
    w.other.panics.store(false, Ordering::Relaxed);
    assert_eq!(read_it(), Ok(contents()[4].clone()));
}

#[test]
fn what_went_and_came_again_is_checked_again() {
    let w = world(120_000, |_| {});
    w.store.verify_reads();
    for n in [4, 5, 4] {
        assert_eq!(read(&w.tree, n), Ok(contents()[n].clone()));
    }
    assert_eq!(w.store.verified().expect("on").blobs, 3);
}

/// A file that the cache let go while the backup was made; here as one whose file is gone.
#[test]
fn a_backup_has_the_promise_of_what_is_not_here() {
    let w = world(1 << 20, |_| {});
    for n in [0, 3, 4] {
        read(&w.tree, n).expect("read");
    }
    std::fs::remove_file(w.store.blobs().area.path(&digests()[4])).expect("let go");
    let to = w.dir.path().join("backup");
    let done = w.store.backup(&to, &BackupOptions::default());
    let done = done.expect("backup");
    assert_eq!((done.promised, done.blobs), (1, 1), "{done:?}");
    assert!(done.missing.is_empty() && done.rotted.is_empty());
    let there = w.dir.path().join("there");
    std::fs::create_dir(&there).expect("mkdir");
    crate::restore(&to, &there.join("store")).expect("restored");
    let restored = try_open(&there, false).expect("open");
    restored.set_upstream(Arc::new(w.other.clone()), 1 << 20);
    let tree = restored.sealed(&w.tree.snapshot()).expect("there");
    let report = restored
        .fsck(&Default::default(), &|_| {})
        .expect("checked");
    assert!(report.worst() < Some(crate::fsck::Severity::Warning));
    for (n, bytes) in contents().into_iter().enumerate() {
        assert_eq!(read(&tree, n), Ok(bytes), "file {n}");
    }
    // One that nobody promised is missing.
    make(&w.store, &[3]);
    std::fs::remove_file(w.store.blobs().area.path(&digests()[3])).expect("lost");
    let other = w.dir.path().join("other");
    let done = w.store.backup(&other, &BackupOptions::default());
    let done = done.expect("backup");
    assert_eq!((done.promised, done.missing), (1, vec![digests()[3]]));
}
