//! References that lead to something else than they say, and rows that are off.

use super::*;
use crate::object::{Counts, DirObject, Entry, Groups, ObjectSink, SnapshotData};
use crate::tests::meta;

fn entry(name: &[u8], body: Body) -> Entry {
    Entry {
        name: name.to_vec(),
        meta: meta(0o644),
        body,
    }
}

/// A snapshot of these entries, whatever they say.
fn snapshot(bench: &Bench, entries: Vec<Entry>, groups: Vec<Vec<u64>>) -> Digest {
    let mut batch = bench.store.write_batch();
    let (root_dir, counts) = batch.put_dir(entries).expect("directory");
    let data = SnapshotData {
        root_meta: meta(0o755),
        root_dir,
        counts,
        groups: Groups::new(groups, ROOT + counts.nodes).expect("groups"),
    };
    let snapshot = batch.put_snapshot(&data).expect("snapshot");
    batch.commit().expect("commit");
    snapshot
}

#[test]
fn a_count_off_by_one() {
    let bench = Bench::new();
    let Body::Dir { digest, counts } = bench.body(&[b"dir"]) else {
        panic!("a directory");
    };
    type Change = fn(&mut Counts);
    let changes: [Change; 2] = [|c| c.nodes += 1, |c| c.bytes -= 1];
    for change in changes {
        let mut says = counts;
        change(&mut says);
        let body = Body::Dir {
            digest,
            counts: says,
        };
        // Where it is said once more, rightly, that is no finding.
        let right = entry(b"a-dir", bench.body(&[b"dir"]));
        let made = snapshot(&bench, vec![right, entry(b"wrong", body)], Vec::new());
        let holder = bench.store.sealed(&made).expect("sealed").root_dir();
        let report = bench.repair();
        let fault = Fault::Counts {
            holder,
            dir: digest,
            says,
            found: counts,
        };
        let finding = report.findings.iter().find(|f| f.fault == fault);
        let finding = finding.expect("is found");
        assert_eq!(finding.places.snapshots, [made]);
        assert_eq!(finding.severity, Severity::Damage);
        assert_eq!(finding.outcome, Outcome::Found);
    }
    assert_eq!(bench.check().findings.len(), 2);
}

#[test]
fn a_snapshot_that_miscounts_its_root() {
    let bench = Bench::new();
    let mut data = bench.store.objects.snapshot(&bench.snapshot).expect("data");
    let found = data.counts;
    data.counts.nodes += 1;
    let mut batch = bench.store.write_batch();
    let holder = batch.put_snapshot(&data).expect("put");
    batch.commit().expect("commit");
    let report = bench.check();
    let fault = Fault::Counts {
        holder,
        dir: data.root_dir,
        says: data.counts,
        found,
    };
    assert_eq!(only(&report).fault, fault);
    assert_eq!(only(&report).places.snapshots, [holder]);
    assert_eq!(only(&report).places.example.as_deref(), Some(&b""[..]));
}

#[test]
fn another_size_than_the_blobs() {
    let bench = Bench::new();
    for (blob, found) in [(bench.small(), 3), (bench.large(), 50_000)] {
        let says = found + 1;
        let body = Body::File { blob, size: says };
        let made = snapshot(&bench, vec![entry(b"f", body)], Vec::new());
        let dir = bench.store.sealed(&made).expect("sealed").root_dir();
        let report = bench.check();
        let fault = Fault::Size {
            dir,
            blob,
            says,
            found,
        };
        let finding = report.findings.iter().find(|f| f.fault == fault);
        assert_eq!(finding.expect("is found").places.snapshots, [made]);
    }
    assert_eq!(bench.check().findings.len(), 2);
}

#[test]
fn pages_of_a_directory_swapped() {
    let bench = Bench::new();
    let names: Vec<String> = (0..4000).map(|n| format!("link-{n:04}")).collect();
    let link = |name: &String| entry(name.as_bytes(), Body::Symlink(b"to".to_vec()));
    let whole = snapshot(&bench, names.iter().map(link).collect(), Vec::new());
    sound(&bench.check());
    let data = bench.store.objects.snapshot(&whole).expect("data");
    let mut bytes = bench
        .store
        .index
        .object(&data.root_dir)
        .expect("read")
        .expect("there");
    // Past the header of 48 bytes, rows of 64 begin with a page's digest.
    let (head, tail) = bytes.split_at_mut(48 + 64);
    head[48..48 + 32].swap_with_slice(&mut tail[..32]);
    let mut batch = bench.store.write_batch();
    let root_dir = batch.put_object(bytes).expect("put");
    let made = batch
        .put_snapshot(&SnapshotData { root_dir, ..data })
        .expect("put");
    batch.commit().expect("commit");
    let report = bench.check();
    let wrong: Vec<_> = report
        .findings
        .iter()
        .filter(|f| matches!(&f.fault, Fault::Page { index, .. } if *index == root_dir))
        .collect();
    assert_eq!(wrong.len(), 2, "{:#?}", report.findings);
    assert!(wrong.iter().all(|f| f.places.snapshots == [made]));
}

/// The same first name and the same counts, but its last name is past the next page's first.
#[test]
fn a_page_that_reaches_into_the_next() {
    let bench = Bench::new();
    let names: Vec<String> = (0..4000).map(|n| format!("link-{n:04}")).collect();
    let link = |name: &String| entry(name.as_bytes(), Body::Symlink(b"to".to_vec()));
    let whole = snapshot(&bench, names.iter().map(link).collect(), Vec::new());
    let data = bench.store.objects.snapshot(&whole).expect("data");
    let DirObject::Index(index) = bench.store.objects.dir(&data.root_dir).expect("index") else {
        panic!("an index");
    };
    let first = index.digest(0);
    let DirObject::Page(page) = bench.store.objects.dir(&first).expect("page") else {
        panic!("a page");
    };
    let mut entries: Vec<Entry> = (0..page.len())
        .filter_map(|slot| Some(page.entry(slot)?.to_entry()))
        .collect();
    entries.last_mut().expect("not empty").name = b"zzz".to_vec();
    let mut batch = bench.store.write_batch();
    let (far, _) = batch.put_dir(entries).expect("page");
    let mut bytes = bench
        .store
        .index
        .object(&data.root_dir)
        .expect("read")
        .expect("there");
    bytes[48..48 + 32].copy_from_slice(&far.0);
    let root_dir = batch.put_object(bytes).expect("put");
    batch
        .put_snapshot(&SnapshotData { root_dir, ..data })
        .expect("put");
    batch.commit().expect("commit");
    let fault = Fault::Page {
        index: root_dir,
        page: far,
        why: "which reaches into the next page",
    };
    assert_eq!(only(&bench.check()).fault, fault);
}

#[test]
fn hard_links_that_differ() {
    let bench = Bench::new();
    let file = || Body::File {
        blob: bench.small(),
        size: 3,
    };
    let link = || Body::Symlink(b"to".to_vec());
    let entries = vec![
        entry(b"a", file()),
        entry(b"b", file()),
        entry(b"c", link()),
        entry(b"d", bench.body(&[b"dir"])),
    ];
    let good = vec![vec![2, 3]];
    snapshot(&bench, entries.clone(), good);
    sound(&bench.check());
    let mut changed = entries.clone();
    changed[1].meta.mode = 0o600;
    for (entries, member, why, path) in [
        (entries.clone(), 4, "their content differs", b"c"),
        (changed, 3, "their attributes differ", b"b"),
        (entries, 5, "one is a directory", b"d"),
    ] {
        let made = snapshot(&bench, entries, vec![vec![2, member]]);
        let fault = Fault::Links {
            snapshot: made,
            first: 2,
            member,
            why,
        };
        let report = bench.check();
        let finding = report.findings.iter().find(|f| f.fault == fault);
        let finding = finding.unwrap_or_else(|| panic!("{why}: {:#?}", report.findings));
        assert_eq!(finding.places.snapshots, [made]);
        assert_eq!(finding.places.example.as_deref(), Some(&path[..]));
        assert_eq!(finding.severity, Severity::Damage);
    }
    assert_eq!(bench.check().findings.len(), 3);
}

#[test]
fn sums_of_a_snapshot_off_by_one() {
    let bench = Bench::new();
    let snapshot = bench.snapshot;
    bench.sql(
        "UPDATE snapshot SET nodes = nodes + 1 WHERE digest = ?1",
        [&snapshot.0],
    );
    let report = bench.repair();
    let fault = Fault::SnapshotSums {
        snapshot,
        nodes: 4,
        bytes: 50_003,
    };
    assert_eq!(only(&report).fault, fault);
    assert_eq!(only(&report).severity, Severity::Warning);
    assert_eq!(only(&report).outcome, Outcome::Repaired);
    sound(&bench.check());
}

#[test]
fn a_snapshots_row_deleted() {
    let bench = Bench::new();
    let snapshot = bench.snapshot;
    bench.sql("DELETE FROM snapshot WHERE digest = ?1", [&snapshot.0]);
    let report = bench.repair();
    assert_eq!(only(&report).fault, Fault::SnapshotRow { snapshot });
    assert_eq!(only(&report).places.steps, [Digest([1; 32])]);
    assert_eq!(only(&report).outcome, Outcome::Repaired);
    sound(&bench.check());
    assert_eq!(bench.read(b"large").expect("read"), [1; 50_000]);
}

#[test]
fn a_steps_row_deleted() {
    let bench = Bench::new();
    bench.sql("DELETE FROM step WHERE key = ?1", [&[1_u8; 32]]);
    let report = bench.repair();
    let fault = Fault::Pocker {
        name: b"p\x01".to_vec(),
        key: Digest([1; 32]),
    };
    assert_eq!(only(&report).fault, fault);
    assert_eq!(only(&report).severity, Severity::Damage);
    assert!(bench.tree().getattr(ROOT).is_ok(), "its snapshot stays");
}

/// One damaged blob in several trees: all of them are named, and one finding is enough.
#[test]
fn damage_that_trees_share() {
    let bench = Bench::new();
    let dir = bench.body(&[b"dir"]);
    let nested = Body::Dir {
        digest: bench.tree().root_dir(),
        counts: bench.tree().counts(),
    };
    let second = snapshot(
        &bench,
        vec![entry(b"x", nested), entry(b"y", dir)],
        Vec::new(),
    );
    bench.name(2, second);
    bench.name(3, second);
    let clean = snapshot(&bench, vec![entry(b"f", Body::Fifo)], Vec::new());
    bench.name(4, clean);
    flip(&bench.blob_path(&bench.large()));
    let report = bench.check();
    let places = &only(&report).places;
    assert_eq!(places.snapshots, [bench.snapshot, second]);
    assert_eq!(places.steps, [1, 2, 3].map(|key| Digest([key; 32])));
    assert_eq!(places.example.as_deref(), Some(&b"dir/large"[..]));
}
