//! Blobs that another store has: fetched when they are read, kept up to a bound.

use super::{meta, open, step};
use crate::sync::{Receipt, Want};
use crate::tree::Tree;
use crate::types::{Creds, Digest};
use crate::{GcOptions, SealedTree, Store, StoreError, Take, Upstream};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Default)]
pub(super) struct Other {
    pub blobs: HashMap<Digest, Vec<u8>>,
    pub asked: Mutex<Vec<Digest>>,
    pub down: AtomicBool,
    pub spoilt: AtomicBool,
    /// Given with each that is asked for.
    pub beside: Vec<Digest>,
    pub slow: Option<Digest>,
    /// It does not come until this is false again.
    pub held: AtomicBool,
    /// Answers nothing until it is false again.
    pub shut: AtomicBool,
    pub panics: AtomicBool,
    /// Done once, when the first bytes are read.
    pub meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

struct Bytes<'a>(&'a Other, &'a [u8]);

impl std::io::Read for Bytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let meanwhile = self.0.meanwhile.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        self.1.read(out)
    }
}

impl Upstream for Arc<Other> {
    fn fetch(&self, want: &Want, take: Take<'_>) -> Result<(), StoreError> {
        self.asked.lock().push(want.digest);
        if self.slow == Some(want.digest) {
            until(|| !self.held.load(Ordering::Relaxed));
        }
        until(|| !self.shut.load(Ordering::Relaxed));
        assert!(!self.panics.load(Ordering::Relaxed), "on purpose");
        if self.down.load(Ordering::Relaxed) {
            let digest = want.digest;
            return Err(StoreError::Upstream {
                digest,
                why: "down".into(),
            });
        }
        for digest in self.beside.iter().chain([&want.digest]) {
            let mut bytes = self.blobs[digest].clone();
            let size = bytes.len() as u64;
            if self.spoilt.load(Ordering::Relaxed) {
                bytes[0] ^= 1;
            }
            take(&Want::blob(*digest, size), &mut Bytes(self, &bytes))?;
        }
        Ok(())
    }
}

pub(super) fn contents() -> Vec<Vec<u8>> {
    let sizes = [10, 3000, 16_384, 20_000, 70_000, 100_000];
    sizes
        .iter()
        .zip(1..)
        .map(|(size, n)| vec![n; *size])
        .collect()
}

/// A store with a tree whose blobs are all the other's.
pub(super) struct World {
    pub dir: tempfile::TempDir,
    pub store: Arc<Store>,
    pub tree: Arc<SealedTree>,
    pub other: Arc<Other>,
}

pub(super) fn digests() -> Vec<Digest> {
    contents()
        .iter()
        .map(|c| crate::object::digest_of(c))
        .collect()
}

/// The tree's directories come, its blobs are promised.
fn promised(dir: &Path) -> (Arc<Store>, Arc<SealedTree>) {
    let theirs = dir.join("theirs");
    std::fs::create_dir(&theirs).expect("mkdir");
    let theirs = open(&theirs);
    let mut ingest = theirs.ingest();
    for (n, bytes) in contents().iter().enumerate() {
        let size = bytes.len() as u64;
        ingest
            .file(
                format!("f{n}").as_bytes(),
                meta(0o644),
                size,
                &mut &bytes[..],
            )
            .expect("file");
    }
    let done = ingest.finish(None).expect("finish");
    let store = open(dir);
    let mut receipt = Receipt::lazy(store.clone());
    for (digest, bytes) in digests().iter().zip(contents()) {
        let want = Want::blob(*digest, bytes.len() as u64);
        assert!(!receipt.lacks(&want).expect("looked"), "it is left there");
    }
    let data = theirs.objects.snapshot(&done.snapshot).expect("there");
    for object in [data.root_dir, done.snapshot] {
        let (_, mut bytes) = theirs.give(&Want::object(object)).expect("given");
        receipt.put(&Want::object(object), &mut bytes).expect("put");
    }
    receipt.steps(&[step(1, done.snapshot)]).expect("steps");
    let tree = store.sealed(&done.snapshot).expect("there");
    (store, tree)
}

pub(super) fn world(bound: u64, change: impl FnOnce(&mut Other)) -> World {
    let dir = tempfile::tempdir().expect("tempdir");
    let (store, tree) = promised(dir.path());
    let mut other = Other {
        blobs: digests().into_iter().zip(contents()).collect(),
        ..Other::default()
    };
    change(&mut other);
    let other = Arc::new(other);
    store.set_upstream(Arc::new(other.clone()), bound);
    World {
        dir,
        store,
        tree,
        other,
    }
}

pub(super) fn read(tree: &SealedTree, n: usize) -> Result<Vec<u8>, crate::types::Errno> {
    let found = tree.lookup(&Creds::ROOT, 1, format!("f{n}").as_bytes())?;
    let mut out = Vec::new();
    tree.read(&Creds::ROOT, found.node.node, 0, 1 << 20, &mut out)?;
    Ok(out)
}

pub(super) fn worst(store: &Arc<Store>) -> Option<crate::fsck::Severity> {
    let report = store.fsck(&Default::default(), &|_| {}).expect("checked");
    report.worst()
}

#[test]
fn what_is_read_is_fetched_once_and_found_again() {
    let w = world(1 << 20, |_| {});
    assert!(
        worst(&w.store) < Some(crate::fsck::Severity::Warning),
        "promised, not lost"
    );
    for _ in 0..2 {
        for (n, bytes) in contents().into_iter().enumerate() {
            assert_eq!(read(&w.tree, n), Ok(bytes), "file {n}");
        }
    }
    assert_eq!(*w.other.asked.lock(), digests());
    let used = w.store.blobs().upstream_use().expect("it has one");
    assert_eq!((used.fetched, used.failed, used.evicted), (6, 0, 0));
    assert_eq!(
        used.held_bytes,
        contents().iter().map(|c| c.len() as u64).sum::<u64>()
    );
    assert!(worst(&w.store) < Some(crate::fsck::Severity::Warning));
    // Nobody waits where nobody may.
    let w = world(1 << 20, |_| {});
    let hurried = crate::without_waiting(|| read(&w.tree, 4));
    assert_eq!(hurried, Err(crate::types::Errno::Again));
    assert_eq!(*w.other.asked.lock(), []);
}

#[test]
fn the_cache_is_bounded_and_the_least_recently_read_goes() {
    let w = world(120_000, |_| {});
    for n in [0, 4, 3] {
        read(&w.tree, n).expect("read");
    }
    read(&w.tree, 4).expect("read");
    // Not from the memory of small ones, so that it counts as read.
    read(&w.tree, 2).expect("read");
    let held = || w.store.blobs().upstream_use().expect("one").held_bytes;
    assert_eq!(held(), 10 + 70_000 + 20_000 + 16_384);
    read(&w.tree, 5).expect("read");
    assert!(held() <= 120_000, "{}", held());
    let has = |n: usize| w.store.blobs().has(&digests()[n]).expect("looked");
    assert!(
        has(5) && !has(4) && !has(3),
        "the large one took their place"
    );
    assert!(!w.store.blobs().area.path(&digests()[4]).exists());
    let asked = w.other.asked.lock().len();
    for (n, bytes) in contents().into_iter().enumerate() {
        assert_eq!(read(&w.tree, n), Ok(bytes));
        assert!(held() <= 120_000);
    }
    assert!(
        w.other.asked.lock().len() > asked,
        "what went is fetched again"
    );
    assert!(worst(&w.store) < Some(crate::fsck::Severity::Warning));
    // One that is larger than the cache is said, and nothing goes for it.
    let w = world(50_000, |_| {});
    read(&w.tree, 3).expect("read");
    assert_eq!(read(&w.tree, 5), Err(crate::types::Errno::Io));
    assert_eq!(
        w.store.blobs().upstream_use().expect("one").held_bytes,
        20_000
    );
}

#[test]
fn what_this_store_makes_itself_stays() {
    let w = world(120_000, |_| {});
    read(&w.tree, 4).expect("read");
    read(&w.tree, 0).expect("read");
    // The same contents, in a tree of its own.
    let mut ingest = w.store.ingest();
    for n in [4, 0, 3] {
        let bytes = &contents()[n];
        let name = format!("own{n}");
        ingest
            .file(
                name.as_bytes(),
                meta(0o644),
                bytes.len() as u64,
                &mut &bytes[..],
            )
            .expect("file");
    }
    let done = ingest.finish(None).expect("finish");
    w.store.put_step(step(2, done.snapshot)).expect("step");
    assert_eq!(w.store.blobs().upstream_use().expect("one").held_bytes, 0);
    for n in [5, 2, 1] {
        read(&w.tree, n).expect("read");
    }
    w.other.down.store(true, Ordering::Relaxed);
    for n in [4, 0, 3] {
        assert_eq!(read(&w.tree, n), Ok(contents()[n].clone()));
    }
}

#[test]
fn a_failure_is_said_and_the_next_read_tries_again() {
    let w = world(1 << 20, |_| {});
    w.other.down.store(true, Ordering::Relaxed);
    assert_eq!(read(&w.tree, 0), Err(crate::types::Errno::Io));
    w.other.down.store(false, Ordering::Relaxed);
    w.other.spoilt.store(true, Ordering::Relaxed);
    for n in [0, 4] {
        assert_eq!(
            read(&w.tree, n),
            Err(crate::types::Errno::Io),
            "other bytes are refused"
        );
        assert!(!w.store.blobs().has(&digests()[n]).expect("looked"));
    }
    assert_eq!(w.store.blobs().upstream_use().expect("one").failed, 3);
    w.other.spoilt.store(false, Ordering::Relaxed);
    for n in [0, 4] {
        assert_eq!(read(&w.tree, n), Ok(contents()[n].clone()));
    }
}

#[test]
fn what_comes_beside_is_kept_where_it_was_promised() {
    let mut extra = Vec::new();
    let w = world(1 << 20, |other| {
        other.beside = vec![digests()[1], digests()[2]];
        let bytes = b"nobody was promised this".to_vec();
        extra.push(crate::object::digest_of(&bytes));
        other.beside.push(extra[0]);
        other.blobs.insert(extra[0], bytes);
    });
    read(&w.tree, 0).expect("read");
    read(&w.tree, 1).expect("read");
    read(&w.tree, 2).expect("read");
    assert_eq!(w.other.asked.lock().len(), 1);
    assert!(!w.store.blobs().has(&extra[0]).expect("looked"));
}

/// Its slow one comes when this is dropped.
struct Held<'a>(&'a Other);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::Relaxed);
    }
}

/// One that takes long: who wants the same waits for it, and nobody else does.
#[test]
fn readers_share_a_fetch_and_block_no_others() {
    let slow = digests()[4];
    let w = world(1 << 20, |other| {
        other.slow = Some(slow);
        other.held = AtomicBool::new(true);
    });
    std::thread::scope(|scope| {
        let held = Held(&w.other);
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(read(&w.tree, 4), Ok(contents()[4].clone())));
        }
        until(|| w.other.asked.lock().contains(&slow));
        for n in [0, 3, 5] {
            assert_eq!(read(&w.tree, n), Ok(contents()[n].clone()));
        }
        assert!(
            !w.store.blobs().has(&slow).expect("looked"),
            "it is not there yet"
        );
        drop(held);
    });
    let asked = w.other.asked.lock();
    assert_eq!(asked.iter().filter(|d| **d == slow).count(), 1);
}

pub(super) fn until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Another opening of the store knows what was promised, and what may go.
#[test]
fn promises_outlive_the_process_and_go_with_their_trees() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (store, tree) = promised(dir.path());
    let snapshot = tree.snapshot();
    assert_eq!(
        read(&tree, 0),
        Err(crate::types::Errno::Io),
        "there is no upstream"
    );
    drop((store, tree));
    let store = open(dir.path());
    let other = Arc::new(Other {
        blobs: digests().into_iter().zip(contents()).collect(),
        ..Other::default()
    });
    store.set_upstream(Arc::new(other.clone()), 1 << 20);
    let tree = store.sealed(&snapshot).expect("there");
    read(&tree, 4).expect("read");
    drop((store, tree));
    let store = open(dir.path());
    store.set_upstream(Arc::new(other.clone()), 1000);
    assert!(
        !store.blobs().has(&digests()[4]).expect("looked"),
        "the bound is smaller now"
    );
    let tree = store.sealed(&snapshot).expect("there");
    assert_eq!(read(&tree, 0), Ok(contents()[0].clone()));
    store.gc(GcOptions::default(), &[]).expect("gc");
    assert_eq!(
        store.index.all_promised().expect("read").len(),
        6,
        "its tree is open"
    );
    drop(tree);
    store.gc(GcOptions::default(), &[]).expect("gc");
    assert_eq!(store.index.all_promised().expect("read"), []);
    assert_eq!(store.blobs().upstream_use().expect("one").held_bytes, 0);
}

/// A clone of such a tree may change what is not here, and needs it no more than the tree does.
#[test]
fn a_clone_refers_to_what_is_not_here() {
    use crate::work::tests::{at, mode, root};
    use crate::work::{SealOptions, WorkClass, Works};
    let w = world(1 << 20, |_| {});
    let works = Works::open_or_create(w.store.clone()).expect("works");
    let base = Some(w.tree.snapshot());
    let clone = works
        .create(base, WorkClass::Build, b"", at(1))
        .expect("created");
    let find = |name| {
        clone
            .lookup(&Creds::ROOT, 1, name)
            .expect("found")
            .node
            .node
    };
    clone
        .setattr(&root(2), find(b"f5"), &mode(0o600), None)
        .expect("chmod");
    clone
        .write(&root(3), find(b"f4"), 60_000, b"changed")
        .expect("written");
    let asked = w.other.asked.lock().clone();
    assert!(!asked.contains(&digests()[5]), "its bytes matter to nobody");
    let options = crate::FsckOptions {
        works: Some(&works),
        ..Default::default()
    };
    let report = w.store.fsck(&options, &|_| {}).expect("checked");
    assert!(
        report.worst() < Some(crate::fsck::Severity::Warning),
        "{:?}",
        report.findings
    );
    let sealed = works
        .seal(clone.id(), &SealOptions::default())
        .expect("sealed");
    let tree = w.store.sealed(&sealed.snapshot).expect("there");
    let mut changed = contents()[4].clone();
    changed[60_000..60_007].copy_from_slice(b"changed");
    assert_eq!(read(&tree, 4), Ok(changed));
    assert_eq!(read(&tree, 5), Ok(contents()[5].clone()));
}
