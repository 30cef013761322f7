//! What nothing refers to, and what only looks so.

use super::*;
use crate::index::{Large, Packed, Sync};
use crate::object::put_dir;
use crate::tests::blob_files;

/// An object, a small blob, a large blob and a file that nothing refers to.
fn litter(bench: &Bench) -> [Digest; 4] {
    let store = &bench.store;
    let mut sink = Sink(Vec::new());
    let entry = crate::object::Entry {
        name: b"nobody's".to_vec(),
        meta: crate::tests::meta(0o644),
        body: Body::Fifo,
    };
    let (object, _) = put_dir(&mut sink, [entry]).expect("directory");
    let small = digest_of(b"nobody's");
    let blobs = [(small, Packed::new(b"nobody's".to_vec()))];
    let put = store.index.put_bytes(Sync::Full, &blobs, &sink.0);
    put.expect("put");
    let [large, file] = [7, 8].map(|byte| {
        let digest = digest_of(&[byte; 30_000]);
        std::fs::write(bench.blob_path(&digest), [byte; 30_000]).expect("write");
        digest
    });
    let row = Large {
        size: 30_000,
        used: 30_000,
    };
    store.index.mend_large(&large, &row).expect("row");
    [object, small, large, file]
}

struct Sink(Vec<(Digest, Vec<u8>)>);

impl crate::object::ObjectSink for Sink {
    fn put_object(&mut self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = digest_of(&bytes);
        self.0.push((digest, bytes));
        Ok(digest)
    }

    fn dir_object(&mut self, digest: &Digest) -> Result<crate::object::DirObject, StoreError> {
        let kind = "directory";
        Err(StoreError::Missing {
            kind,
            digest: *digest,
        })
    }
}

fn counted(report: &FsckReport) -> Vec<(Waste, u64, u64)> {
    let mut all: Vec<_> = report
        .findings
        .iter()
        .map(|f| {
            assert_eq!((f.severity, f.repair), (Severity::Note, Repair::Delete));
            match &f.fault {
                Fault::Unreferenced { what, count, bytes } => (*what, *count, *bytes),
                fault => panic!("{fault:?}"),
            }
        })
        .collect();
    all.sort();
    all
}

#[test]
fn is_counted_and_removed() {
    let bench = Bench::new();
    let [object, small, large, file] = litter(&bench);
    let report = bench.check();
    let size = bench
        .store
        .index
        .object(&object)
        .expect("read")
        .expect("there")
        .len();
    let expected = [
        (Waste::Objects, 1, size as u64),
        (Waste::SmallBlobs, 1, 8),
        (Waste::LargeBlobs, 1, 30_000),
        (Waste::Files, 1, 30_000),
    ];
    assert_eq!(counted(&report), expected);
    assert!(report.is_sound(), "waste is no fault");
    assert_eq!(blob_files(&bench.store), 3, "a check changes nothing");
    let repaired = bench.repair();
    assert_eq!(counted(&repaired), expected);
    assert!(
        repaired
            .findings
            .iter()
            .all(|f| f.outcome == Outcome::Repaired)
    );
    sound(&bench.check());
    assert!(bench.store.index.object(&object).expect("read").is_none());
    assert!(!bench.store.blobs.has(&small).expect("look"));
    assert!(!bench.blob_path(&large).exists() && !bench.blob_path(&file).exists());
    assert_eq!(bench.read(b"large").expect("read"), [1; 50_000]);
    assert!(bench.quarantined().is_empty());
}

#[test]
fn is_left_to_batches_in_progress() {
    let bench = Bench::new();
    let all = litter(&bench);
    all.iter().for_each(|digest| bench.store.pins.pin(*digest));
    sound(&bench.repair());
    assert_eq!(blob_files(&bench.store), 3);
    bench
        .store
        .pins
        .release(all.into_iter(), std::iter::empty());
    assert_eq!(counted(&bench.check()).len(), 4);
}

#[test]
fn is_unknown_where_a_directory_is_lost() {
    let bench = Bench::new();
    let all = litter(&bench);
    let root = bench.tree().root_dir();
    bench.sql("DELETE FROM object WHERE digest = ?1", [&root.0]);
    let report = bench.repair();
    assert!(report.incomplete);
    assert!(matches!(only(&report).fault, Fault::Object { .. }));
    assert_eq!(blob_files(&bench.store), 3);
    assert!(bench.store.index.object(&all[0]).expect("read").is_some());
}

#[test]
fn strays_are_named_and_left() {
    let bench = Bench::new();
    let elsewhere = digest_of(b"elsewhere").to_string();
    let wrong = if elsewhere.starts_with("00") {
        "01"
    } else {
        "00"
    };
    let names = [
        format!("blobs/{wrong}/{elsewhere}"),
        "blobs/a0/notes.txt".to_owned(),
    ];
    for name in &names {
        std::fs::write(bench.store.dir().join(name), b"x").expect("write");
    }
    let report = bench.repair();
    let found: Vec<_> = report.findings.iter().map(|f| f.fault.clone()).collect();
    let strays = names.map(|name| Fault::Stray {
        path: name.into_bytes(),
    });
    assert_eq!(found, strays);
    assert!(report.is_sound());
    assert!(bench.store.dir().join("blobs/a0/notes.txt").exists());
}

/// A rotted blob that a batch found and relies on stays, this time.
#[test]
fn rot_is_left_to_batches_in_progress() {
    let bench = Bench::new();
    let large = bench.large();
    flip(&bench.blob_path(&large));
    bench.store.pins.pin(large);
    assert!(matches!(only(&bench.repair()).outcome, Outcome::Left(_)));
    assert!(bench.quarantined().is_empty() && bench.blob_path(&large).exists());
    bench
        .store
        .pins
        .release([large].into_iter(), std::iter::empty());
    assert_eq!(only(&bench.repair()).outcome, Outcome::Repaired);
}

/// A file without a row may be one that a batch has moved to its place, good or, while
/// another batch's is moved over it, not the one that was looked at.
#[test]
fn a_needed_file_without_its_row_is_left_to_its_batch() {
    for rotten in [false, true] {
        let bench = Bench::new();
        let large = bench.large();
        bench.sql("DELETE FROM large_blob WHERE digest = ?1", [&large.0]);
        if rotten {
            flip(&bench.blob_path(&large));
        }
        bench.store.pins.pin(large);
        sound(&bench.repair());
        bench
            .store
            .pins
            .release([large].into_iter(), std::iter::empty());
        assert_eq!(only(&bench.repair()).outcome, Outcome::Repaired);
    }
}

/// A dying disk has more than anybody reads: the rest is counted, and left for the next run.
#[test]
fn findings_have_a_bound() {
    let bench = Bench::new();
    let blobs: Vec<_> = (0..report::FINDINGS + 5)
        .map(|n| (digest_of(&n.to_le_bytes()), Packed::new(b"rotted".to_vec())))
        .collect();
    bench
        .store
        .index
        .put_bytes(Sync::Full, &blobs, &[])
        .expect("put");
    let report = bench.check();
    assert_eq!(report.more, 5);
    // And the one that counts those nothing refers to.
    assert_eq!(report.findings.len(), report::FINDINGS + 1);
    assert_eq!(report.worst(), Some(Severity::Warning), "no tree has them");
}

/// A repair that fails is told of, and the others are made.
#[test]
fn a_repair_that_fails_is_told_of() {
    let bench = Bench::new();
    let large = bench.large();
    flip(&bench.blob_path(&large));
    bench.sql(
        "UPDATE snapshot SET nodes = nodes + 1 WHERE digest = ?1",
        [&bench.snapshot.0],
    );
    std::fs::write(bench.store.dir().join("quarantine"), b"in the way").expect("write");
    let report = bench.repair();
    let outcome = |fault: fn(&Fault) -> bool| {
        let finding = report.findings.iter().find(|f| fault(&f.fault));
        finding.expect("is found").outcome.clone()
    };
    assert!(matches!(
        outcome(|f| matches!(f, Fault::Blob { .. })),
        Outcome::Failed(_)
    ));
    assert_eq!(
        outcome(|f| matches!(f, Fault::SnapshotSums { .. })),
        Outcome::Repaired
    );
    assert_eq!(report.unrepaired().count(), 1);
    assert!(
        bench.blob_path(&large).exists(),
        "nothing goes that is not kept"
    );
    assert!(bench.store.blobs.has(&large).expect("look"));
}
