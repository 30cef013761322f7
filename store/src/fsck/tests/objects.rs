//! Directories and snapshots that are not what they should be.

use super::*;
use crate::object::{Counts, Groups, ObjectSink, SnapshotData};

fn object(digest: Digest, why: ObjectFault) -> Fault {
    Fault::Object { digest, why }
}

fn faults(report: &FsckReport) -> Vec<&Fault> {
    report.findings.iter().map(|f| &f.fault).collect()
}

#[test]
fn a_directory_swapped_with_another() {
    let bench = Bench::new();
    let other = two_files(&bench.store, 2);
    let mine = bench.dir_object();
    let theirs = match other.tree.base(2).expect("dir").entry.body() {
        Ok(Body::Dir { digest, .. }) => digest,
        body => panic!("{body:?}"),
    };
    let bytes = |digest| {
        bench
            .store
            .index
            .object(digest)
            .expect("read")
            .expect("there")
    };
    let (own, foreign) = (bytes(&mine), bytes(&theirs));
    for (digest, bytes) in [(mine, &foreign), (theirs, &own)] {
        bench.sql(
            "UPDATE object SET bytes = ?2 WHERE digest = ?1",
            (&digest.0, bytes),
        );
    }
    let report = bench.repair();
    assert!(report.incomplete, "what they refer to is unknown");
    assert_eq!(report.findings.len(), 2, "{:#?}", report.findings);
    for (digest, found, snapshot) in [
        (mine, theirs, bench.snapshot),
        (theirs, mine, other.snapshot),
    ] {
        let fault = object(digest, ObjectFault::Rotted { found });
        let finding = report.findings.iter().find(|f| f.fault == fault);
        let finding = finding.expect("is found");
        assert_eq!(finding.places.snapshots, [snapshot]);
        assert_eq!(finding.places.example.as_deref(), Some(&b"dir"[..]));
        assert_eq!(finding.severity, Severity::Damage);
        assert_eq!(finding.outcome, Outcome::Repaired);
    }
    let mut kept = vec![
        (format!("object-{mine}"), foreign),
        (format!("object-{theirs}"), own),
    ];
    kept.sort();
    assert_eq!(bench.quarantined(), kept);
    for digest in [bench.small(), digest_of(&[2; 3])] {
        assert!(bench.store.blobs.has(&digest).expect("look"));
    }
    assert_eq!(bench.read(b"small"), Err(Errno::Io));
    // Built again, both are whole.
    two_files(&bench.store, 1);
    two_files(&bench.store, 2);
    sound(&bench.check());
    assert_eq!(bench.read(b"small").expect("read"), [1; 3]);
}

/// Nothing that a lost directory may have referred to is taken for waste.
#[test]
fn a_lost_directory_keeps_what_was_below() {
    let bench = Bench::new();
    let (dir, large) = (bench.dir_object(), bench.large());
    bench.sql("DELETE FROM object WHERE digest = ?1", [&dir.0]);
    let report = bench.repair();
    assert_eq!(only(&report).fault, object(dir, ObjectFault::Missing));
    assert_eq!(only(&report).outcome, Outcome::Found);
    placed(only(&report), &bench, b"dir");
    assert!(report.incomplete);
    assert!(bench.store.blobs.has(&large).expect("look") && bench.blob_path(&large).exists());
    two_files(&bench.store, 1);
    sound(&bench.check());
}

#[test]
fn a_lost_snapshot_takes_its_step_along() {
    let bench = Bench::new();
    let snapshot = bench.snapshot;
    bench.sql(
        "UPDATE object SET bytes = zeroblob(9) WHERE digest = ?1",
        [&snapshot.0],
    );
    let report = bench.repair();
    let found = digest_of(&[0; 9]);
    let key = Digest([1; 32]);
    let expected = [
        object(snapshot, ObjectFault::Rotted { found }),
        Fault::Step { key, snapshot },
    ];
    assert_eq!(faults(&report), expected.each_ref());
    for finding in &report.findings {
        placed(finding, &bench, b"");
        assert_eq!(finding.outcome, Outcome::Repaired);
    }
    assert_eq!(bench.store.step(&key).expect("step"), None, "is built anew");
    let after = bench.check();
    let pocker = Fault::Pocker {
        name: b"p\x01".to_vec(),
        key,
    };
    let left = [object(snapshot, ObjectFault::Missing), pocker];
    assert_eq!(faults(&after), left.each_ref());
    let again = two_files(&bench.store, 1).snapshot;
    assert_eq!(again, snapshot);
    bench.name(1, again);
    sound(&bench.check());
}

/// The bytes are those that were put: building again would give the same.
#[test]
fn an_object_that_makes_no_sense() {
    let bench = Bench::new();
    let mut batch = bench.store.write_batch();
    let dir = batch
        .put_object(b"PKRD\x01\x01\0\0short".to_vec())
        .expect("put");
    let mut data = bench.store.objects.snapshot(&bench.snapshot).expect("data");
    (data.root_dir, data.counts) = (dir, Counts::default());
    let data = SnapshotData {
        groups: Groups::default(),
        ..data
    };
    let snapshot = batch.put_snapshot(&data).expect("put");
    batch.commit().expect("commit");
    let report = bench.repair();
    let finding = only(&report);
    let Fault::Object {
        digest,
        why: ObjectFault::Malformed(why),
    } = &finding.fault
    else {
        panic!("{finding:?}");
    };
    assert_eq!((*digest, why.object), (dir, "directory page"));
    assert_eq!(
        (finding.repair, finding.outcome.clone()),
        (Repair::None, Outcome::Found)
    );
    assert_eq!(finding.places.snapshots, [snapshot]);
    assert!(bench.quarantined().is_empty());
    // A snapshot where a directory belongs is good bytes, and wrong.
    let mut batch = bench.store.write_batch();
    let data = SnapshotData {
        root_dir: bench.snapshot,
        ..data
    };
    batch.put_snapshot(&data).expect("put");
    batch.commit().expect("commit");
    let report = bench.check();
    let kind = |f: &Finding| {
        matches!(&f.fault, Fault::Object { digest, why: ObjectFault::Malformed(why) }
            if *digest == bench.snapshot && why.why == "kind is neither page nor index")
    };
    assert!(report.findings.iter().any(kind), "{:#?}", report.findings);
}
