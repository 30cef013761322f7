//! From store to store, with a source and a sink that fail wherever they can.

use super::transfer::transfer_within;
use super::{Each, Named, Receipt, Room, Sent, Sink, Source, SyncError, Want, transfer};
use crate::fsck::Severity;
use crate::object::{Entry, Meta};
use crate::tests::{meta, open, step};
use crate::types::Digest;
use crate::{FsckOptions, GcOptions, Pocker, Step, Store, StoreError};
use proptest::prelude::*;
use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// A store's end of a transfer, which fails at its `left`th call and counts what it is asked.
struct End {
    store: Arc<Store>,
    left: u64,
    fetched: HashSet<Want>,
    receipt: Option<Receipt>,
    wanted: Vec<Step>,
    /// Gives other bytes than these have.
    spoils: Option<Digest>,
}

impl End {
    fn of(store: &Arc<Store>) -> End {
        End {
            store: store.clone(),
            left: u64::MAX,
            fetched: HashSet::new(),
            receipt: None,
            wanted: Vec::new(),
            spoils: None,
        }
    }

    fn go(&mut self) -> Result<(), SyncError> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| SyncError::new("cut"))?;
        Ok(())
    }

    fn receipt(&mut self) -> &mut Receipt {
        self.receipt.as_mut().expect("begun")
    }
}

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> SyncError {
    SyncError::because("failed", e)
}

impl Source for End {
    fn fetch(&mut self, wants: &[Want], each: Each<'_>) -> Result<(), SyncError> {
        for want in wants {
            self.go()?;
            self.fetched.insert(*want);
            let (size, mut bytes) = self.store.give(want).map_err(failed)?;
            if self.spoils == Some(want.digest) {
                let other = vec![0x5a; size as usize];
                each(want, &mut &other[..])?;
            } else {
                each(want, &mut bytes)?;
            }
        }
        Ok(())
    }
}

impl Sink for End {
    fn begin(&mut self, named: &Named) -> Result<Vec<bool>, SyncError> {
        self.go()?;
        self.receipt = Some(Receipt::new(self.store.clone()));
        let mut wanted = Vec::new();
        for step in &named.steps {
            wanted.push(!self.receipt().has_step(step.key).map_err(failed)?);
        }
        let pairs = named.steps.iter().zip(&wanted);
        self.wanted = pairs.filter(|(_, w)| **w).map(|(s, _)| s.clone()).collect();
        Ok(wanted)
    }

    fn lacks(&mut self, wants: &[Want]) -> Result<Vec<bool>, SyncError> {
        self.go()?;
        let receipt = self.receipt();
        wants
            .iter()
            .map(|w| receipt.lacks(w).map_err(failed))
            .collect()
    }

    fn put(&mut self, want: &Want, bytes: &mut dyn Read) -> Result<(), SyncError> {
        self.go()?;
        self.receipt().put(want, bytes).map_err(failed)
    }

    fn finish(&mut self, named: &Named) -> Result<(), SyncError> {
        self.go()?;
        let wanted = std::mem::take(&mut self.wanted);
        self.receipt().steps(&wanted).map_err(failed)?;
        self.go()?;
        self.store.put_pocker(&named.pocker).map_err(failed)
    }
}

fn pocker(steps: &[Step]) -> Named {
    Named {
        pocker: Pocker {
            name: b"box".to_vec(),
            steps: steps.iter().map(|s| s.key).collect(),
            config: b"{}".to_vec(),
            created: 9,
        },
        steps: steps.to_vec(),
    }
}

fn file(name: &str, meta: Meta, blob: Digest, size: u64) -> Entry {
    Entry {
        name: name.as_bytes().to_vec(),
        meta,
        body: crate::object::Body::File { blob, size },
    }
}

/// A tree of these files, each a path and its bytes, kept as a step.
fn tree(store: &Arc<Store>, key: u8, files: &[(String, Vec<u8>)]) -> Step {
    let mut ingest = store.ingest();
    for (path, bytes) in files {
        ingest
            .file(
                path.as_bytes(),
                meta(0o644),
                bytes.len() as u64,
                &mut &bytes[..],
            )
            .expect("file");
    }
    let done = ingest.finish(None).expect("finish");
    store.put_step(step(key, done.snapshot)).expect("step")
}

fn some_files(seed: u8) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = (0..40)
        .map(|n| {
            (
                format!("usr/share/{}/file{n}", n % 5),
                vec![n as u8 ^ seed; 20 + n],
            )
        })
        .collect();
    files.push(("usr/bin/large".into(), vec![seed; 70_000]));
    files.push(("usr/bin/empty".into(), Vec::new()));
    files
}

fn sound(store: &Arc<Store>) {
    let report = store.fsck(&FsckOptions::default(), &|_| {}).expect("fsck");
    // What a cut left is waste, and no harm.
    let bad = report
        .findings
        .iter()
        .filter(|f| f.severity > Severity::Note);
    assert_eq!(bad.count(), 0, "{:?}", report.findings);
}

fn send(from: &Arc<Store>, to: &Arc<Store>, named: &Named) -> Sent {
    transfer(&mut End::of(from), &mut End::of(to), named).expect("sent")
}

fn two(dir: &Path) -> (Arc<Store>, Arc<Store>) {
    let (a, b) = (dir.join("a"), dir.join("b"));
    std::fs::create_dir_all(&a).expect("mkdir");
    std::fs::create_dir_all(&b).expect("mkdir");
    (open(&a), open(&b))
}

#[test]
fn only_what_the_other_lacks_goes_over() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (from, to) = two(dir.path());
    let mut files = some_files(0);
    let first = tree(&from, 1, &files);
    let sent = send(&from, &to, &pocker(std::slice::from_ref(&first)));
    assert_eq!((sent.steps, sent.had, sent.blobs), (1, 0, 42));
    sound(&to);
    assert_eq!(
        to.pocker(b"box").expect("read").expect("there").steps,
        [first.key]
    );
    assert_eq!(to.step(&first.key).expect("read"), Some(first.clone()));
    files[3].1 = b"changed".to_vec();
    let second = tree(&from, 2, &files);
    let named = pocker(&[first, second]);
    let mut source = End::of(&from);
    let sent = transfer(&mut source, &mut End::of(&to), &named).expect("sent");
    // The file, and the directories above it with the snapshot.
    assert_eq!(
        (sent.steps, sent.had, sent.blobs, sent.objects),
        (1, 1, 1, 5)
    );
    assert_eq!(source.fetched.len(), 6, "and no more was read");
    sound(&to);
    let again = send(&from, &to, &named);
    assert_eq!((again.steps, again.had, again.bytes), (0, 2, 0));
}

/// Cut at each call of either side: nothing is seen of it, the next try goes on, and what the two of
/// them sent is not much more than all.
#[test]
fn cut_anywhere_it_is_not_seen_and_the_next_try_goes_on() {
    let all = {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = two(dir.path());
        let first = tree(&from, 1, &some_files(0));
        let mut ends = (End::of(&from), End::of(&to));
        (ends.0.left, ends.1.left) = (1 << 40, 1 << 40);
        transfer(&mut ends.0, &mut ends.1, &pocker(&[first])).expect("sent");
        ((1 << 40) - ends.0.left, (1 << 40) - ends.1.left)
    };
    assert!(all.0 > 40 && all.1 > 40, "{all:?}");
    let points = (0..all.0)
        .map(|n| (n, u64::MAX))
        .chain((0..all.1).map(|n| (u64::MAX, n)));
    let some = if std::env::var_os("POCKER_LONG").is_some() {
        1
    } else {
        7
    };
    for (source, sink) in points.step_by(some) {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = two(dir.path());
        let first = tree(&from, 1, &some_files(0));
        let named = pocker(std::slice::from_ref(&first));
        let mut ends = (End::of(&from), End::of(&to));
        (ends.0.left, ends.1.left) = (source, sink);
        let error = transfer(&mut ends.0, &mut ends.1, &named).expect_err("cut");
        assert_eq!(error.tried, "cut");
        assert_eq!(to.pockers().expect("read"), []);
        if let Some(mut receipt) = ends.1.receipt.take() {
            // As the server does at the end of each call.
            receipt.settle().expect("durable");
        }
        drop(ends);
        let sent = send(&from, &to, &named);
        assert!(sent.steps + sent.had == 1);
        sound(&to);
        assert_eq!(to.pockers().expect("read").len(), 1);
        to.sealed(&first.snapshot).expect("its tree");
    }
}

/// What was received before a cut is found by the next try, unless a collection came between; what
/// is under way is left by one.
#[test]
fn what_came_before_a_cut_is_not_sent_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (from, to) = two(dir.path());
    let named = pocker(&[tree(&from, 1, &some_files(0))]);
    let mut sink = End::of(&to);
    sink.left = 30;
    transfer(&mut End::of(&from), &mut sink, &named).expect_err("cut");
    sink.receipt().settle().expect("durable");
    to.gc(GcOptions::default(), &[]).expect("gc");
    drop(sink);
    let mut source = End::of(&from);
    let sent = transfer(&mut source, &mut End::of(&to), &named).expect("sent");
    assert!(
        sent.blobs < 20,
        "{sent:?}: a collection while it was held took none"
    );
    sound(&to);

    let other = tempfile::tempdir().expect("tempdir");
    let to = open(other.path());
    let mut sink = End::of(&to);
    sink.left = 30;
    transfer(&mut End::of(&from), &mut sink, &named).expect_err("cut");
    sink.receipt().settle().expect("durable");
    drop(sink);
    to.gc(GcOptions::default(), &[]).expect("gc");
    assert_eq!(send(&from, &to, &named).blobs, 42);
    sound(&to);
}

#[test]
fn receipts_hold_so_much_each_and_together() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(&dir.path().join("a"));
    let room = Arc::new(Room::new(5));
    let receipt = |most| Receipt::new(store.clone()).within(most, Some(room.clone()));
    let (mut one, mut two) = (receipt(4), receipt(4));
    let ask = |receipt: &mut Receipt, n: u8| receipt.lacks(&Want::object(Digest([n; 32])));
    for n in 0..4 {
        assert!(ask(&mut one, n).expect("room"));
    }
    assert!(matches!(
        ask(&mut one, 4),
        Err(StoreError::TooMany { most: 4 })
    ));
    assert!(ask(&mut one, 0).expect("held already"));
    assert!(ask(&mut two, 0).expect("room"));
    assert!(matches!(
        ask(&mut two, 1),
        Err(StoreError::NoRoom { most: 5 })
    ));
    drop(one);
    assert!(ask(&mut two, 1).expect("room again"));
}

/// A directory of which something below was lost is not whole: that is sent.
#[test]
fn what_is_half_there_is_completed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (from, to) = two(dir.path());
    let first = tree(&from, 1, &some_files(0));
    // Its objects, without a snapshot row, and then without a blob.
    let mut receipt = Receipt::new(to.clone());
    let mut ends = (End::of(&from), End::of(&to));
    ends.1.left = u64::MAX;
    let named = pocker(&[first]);
    ends.1.begin(&named).expect("begun");
    let blob = crate::object::digest_of(&some_files(0)[3].1);
    struct Without<'a>(&'a mut End, Digest);
    impl Sink for Without<'_> {
        fn begin(&mut self, named: &Named) -> Result<Vec<bool>, SyncError> {
            self.0.begin(named)
        }
        fn lacks(&mut self, wants: &[Want]) -> Result<Vec<bool>, SyncError> {
            self.0.lacks(wants)
        }
        fn put(&mut self, want: &Want, bytes: &mut dyn Read) -> Result<(), SyncError> {
            if want.digest == self.1 {
                return std::io::copy(bytes, &mut std::io::sink())
                    .map(drop)
                    .map_err(failed);
            }
            self.0.put(want, bytes)
        }
        fn finish(&mut self, named: &Named) -> Result<(), SyncError> {
            self.0.finish(named)
        }
    }
    let error = transfer(&mut ends.0, &mut Without(&mut ends.1, blob), &named);
    let error = error.expect_err("it is not whole");
    assert!(
        format!("{error:?}").contains("part of the tree"),
        "{error:?}"
    );
    assert_eq!(to.pockers().expect("read"), []);
    let root = Want::object(named.steps[0].snapshot);
    assert!(receipt.lacks(&root).expect("looked"));
    let sent = send(&from, &to, &named);
    assert_eq!(sent.blobs, 1);
    assert!(!receipt.lacks(&root).expect("looked"));
    sound(&to);
}

#[test]
fn other_bytes_than_the_digests_are_refused() {
    let files = some_files(0);
    let blobs = [3, 40].map(|n: usize| crate::object::digest_of(&files[n].1));
    let dir = tempfile::tempdir().expect("tempdir");
    let (from, to) = two(dir.path());
    let first = tree(&from, 1, &files);
    let data = from.objects.snapshot(&first.snapshot).expect("there");
    let named = pocker(&[first]);
    for spoilt in [blobs[0], blobs[1], named.steps[0].snapshot, data.root_dir] {
        // Anew each time: what came before it is kept, and would not be asked for again.
        let dir = tempfile::tempdir().expect("tempdir");
        let (_, to) = two(dir.path());
        let mut source = End::of(&from);
        source.spoils = Some(spoilt);
        let error = transfer(&mut source, &mut End::of(&to), &named).expect_err("refused");
        let said = format!("{error:?}");
        assert!(
            said.contains("damaged") && said.contains("are those of"),
            "{said}"
        );
        assert_eq!(to.pockers().expect("read"), []);
        assert_eq!(to.steps().expect("read"), []);
    }
    // A sink checks for itself.
    let mut receipt = Receipt::new(to.clone());
    for (want, bytes) in [
        (Want::blob(blobs[0], 4), &b"spam"[..]),
        (Want::blob(blobs[1], 70_000), &[7; 70_000]),
        (Want::object(data.root_dir), b"spam"),
        (Want::blob(blobs[0], 9), b"short"),
        (Want::blob(blobs[1], 70_000), &[7; 69_999]),
        (Want::blob(blobs[1], 70_000), &[7; 70_001]),
    ] {
        receipt.put(&want, &mut &bytes[..]).expect_err("refused");
    }
    drop(receipt);
    send(&from, &to, &named);
    sound(&to);
}

/// A file with a directory's bytes is two things.
#[test]
fn a_file_that_holds_a_directory_object() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (from, to) = two(dir.path());
    let inner = tree(&from, 1, &[("a".into(), b"x".to_vec())]);
    let data = from.objects.snapshot(&inner.snapshot).expect("there");
    let bytes = from
        .objects
        .bytes("directory", &data.root_dir)
        .expect("there");
    for key in [2, 3] {
        // In one order and in the other.
        let name = ["0", "z"][key as usize - 2];
        let both = [
            (name.to_owned(), bytes.clone()),
            ("dir/a".into(), b"x".to_vec()),
        ];
        let outer = tree(&from, key, &both);
        sound(&from);
        send(&from, &to, &pocker(&[outer]));
        sound(&to);
    }
}

/// A sink that has a step of the same key keeps its own.
#[test]
fn the_first_tree_of_a_key_stays() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (from, to) = two(dir.path());
    let theirs = tree(&from, 1, &some_files(0));
    let ours = tree(&to, 1, &some_files(9));
    let sent = send(&from, &to, &pocker(&[theirs]));
    assert_eq!((sent.had, sent.bytes), (1, 0));
    assert_eq!(to.step(&ours.key).expect("read"), Some(ours));
    sound(&to);
}

/// No more of it is read than fits.
#[test]
fn directories_are_bounded_before_they_are_in_memory() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (from, to) = two(dir.path());
    let many = (0..2000).map(|n| (format!("a-file-of-a-large-directory-{n}"), b"x".to_vec()));
    let step = tree(&from, 1, &many.collect::<Vec<_>>());
    let named = pocker(&[step]);
    let mut counted = Counted {
        end: End::of(&from),
        read: 0,
    };
    let most = 20_000;
    let failed = transfer_within(most, &mut counted, &mut End::of(&to), &named);
    let failed = failed.expect_err("too much");
    assert!(failed.to_string().contains("20000 bytes"), "{failed}");
    assert!(counted.read <= most as u64 + 1, "{}", counted.read);
    assert_eq!(to.pockers().expect("read"), []);
    send(&from, &to, &named);
}

struct Counted {
    end: End,
    read: u64,
}

impl Source for Counted {
    fn fetch(&mut self, wants: &[Want], each: Each<'_>) -> Result<(), SyncError> {
        let read = &mut self.read;
        self.end.fetch(wants, &mut |want, bytes| {
            let mut bytes = Reads(bytes, &mut *read);
            each(want, &mut bytes)
        })
    }
}

struct Reads<'a>(&'a mut dyn Read, &'a mut u64);

impl Read for Reads<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let got = self.0.read(out)?;
        *self.1 += got as u64;
        Ok(got)
    }
}

#[test]
fn counts_that_contradict_what_is_below_are_refused() {
    use crate::object::{Body, Counts};
    let dir = tempfile::tempdir().expect("tempdir");
    let (from, to) = two(dir.path());
    let mut batch = from.write_batch();
    let blob = batch.put_small_blob(b"x".to_vec()).expect("put");
    let (below, counts) = batch
        .put_dir([file("f", meta(0o644), blob, 1)])
        .expect("put");
    let wrong = Counts {
        nodes: counts.nodes + 1,
        ..counts
    };
    let dir_entry = Entry {
        name: b"d".to_vec(),
        meta: meta(0o755),
        body: Body::Dir {
            digest: below,
            counts: wrong,
        },
    };
    let (root_dir, counts) = batch.put_dir([dir_entry]).expect("put");
    let data = crate::object::SnapshotData {
        root_meta: meta(0o755),
        root_dir,
        counts,
        groups: Default::default(),
    };
    let snapshot = batch.put_snapshot(&data).expect("put");
    batch.put_step(step(1, snapshot)).expect("put");
    let held = batch.commit().expect("committed");
    let named = pocker(&[held.steps[0].clone()]);
    let error = transfer(&mut End::of(&from), &mut End::of(&to), &named).expect_err("refused");
    assert!(
        format!("{error:?}").contains("counts contradict"),
        "{error:?}"
    );
    assert_eq!(to.pockers().expect("read"), []);
}

fn trees() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    prop::collection::btree_map(
        "[ab](/[cd]){0,2}/[ef]",
        (0..6_u8, prop::bool::weighted(0.1)),
        0..25,
    )
    .prop_map(|files| {
        files
            .into_iter()
            .map(|(path, (seed, large))| {
                (path, vec![seed; if large { 20_000 } else { seed as usize }])
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    /// Trees that share much, sent one after another with cuts between, are what they were.
    #[test]
    fn any_trees_arrive(list in prop::collection::vec((trees(), 0..200_u64), 1..4)) {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = two(dir.path());
        for (n, (files, cut)) in list.iter().enumerate() {
            let named = pocker(&[tree(&from, n as u8, files)]);
            let mut sink = End::of(&to);
            sink.left = *cut;
            if transfer(&mut End::of(&from), &mut sink, &named).is_err() {
                drop(sink);
                send(&from, &to, &named);
            }
            sound(&to);
            let again = to.sealed(&named.steps[0].snapshot).expect("there");
            let there = from.sealed(&named.steps[0].snapshot).expect("there");
            prop_assert_eq!(again.counts(), there.counts());
        }
    }
}
