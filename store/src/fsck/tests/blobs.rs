//! Blobs that are not what they should be.

use super::*;

fn blob(digest: Digest, why: BlobFault) -> Fault {
    Fault::Blob { digest, why }
}

#[test]
fn a_flipped_bit_in_a_file() {
    let bench = Bench::new();
    let large = bench.large();
    flip(&bench.blob_path(&large));
    let rotten = std::fs::read(bench.blob_path(&large)).expect("read");
    let report = bench.check();
    let finding = only(&report);
    let found = digest_of(&rotten);
    assert_eq!(finding.fault, blob(large, BlobFault::Rotted { found }));
    assert_eq!(finding.repair, Repair::Quarantine);
    assert_eq!(finding.outcome, Outcome::Found);
    placed(finding, &bench, b"dir/large");
    assert_eq!(bench.check(), report, "a check changes nothing");

    // Descriptors that are open must not go on giving what is wrong.
    assert_eq!(bench.read(b"large").expect("read"), rotten);
    assert_eq!(only(&bench.repair()).outcome, Outcome::Repaired);
    assert_eq!(bench.quarantined(), [(format!("blob-{large}"), rotten)]);
    assert!(!bench.blob_path(&large).exists());
    assert_eq!(bench.read(b"large"), Err(Errno::Io));
    let after = bench.check();
    assert_eq!(only(&after).fault, blob(large, BlobFault::Missing));
    placed(only(&after), &bench, b"dir/large");

    // The same content again makes the tree whole.
    two_files(&bench.store, 1);
    sound(&bench.check());
    assert_eq!(bench.read(b"large").expect("read"), [1; 50_000]);
}

#[test]
fn a_flipped_bit_in_a_row() {
    let bench = Bench::new();
    let small = bench.small();
    bench.sql(
        "UPDATE small_blob SET bytes = x'010103' WHERE digest = ?1",
        [&small.0],
    );
    let report = bench.repair();
    let found = digest_of(&[1, 1, 3]);
    assert_eq!(
        only(&report).fault,
        blob(small, BlobFault::Rotted { found })
    );
    assert_eq!(only(&report).outcome, Outcome::Repaired);
    placed(only(&report), &bench, b"dir/small");
    assert_eq!(
        bench.quarantined(),
        [(format!("blob-{small}"), vec![1, 1, 3])]
    );
    assert_eq!(only(&bench.check()).fault, blob(small, BlobFault::Missing));
    two_files(&bench.store, 1);
    sound(&bench.check());
    assert_eq!(bench.read(b"small").expect("read"), [1; 3]);
}

#[test]
fn a_truncated_file() {
    let bench = Bench::new();
    let large = bench.large();
    let file = std::fs::File::options()
        .write(true)
        .open(bench.blob_path(&large))
        .expect("open");
    file.set_len(20_000).expect("truncate");
    let report = bench.repair();
    let why = BlobFault::Truncated {
        expected: 50_000,
        found: 20_000,
    };
    assert_eq!(only(&report).fault, blob(large, why));
    placed(only(&report), &bench, b"dir/large");
    assert_eq!(
        bench.quarantined(),
        [(format!("blob-{large}"), vec![1; 20_000])]
    );
}

#[test]
fn another_blobs_content() {
    let bench = Bench::new();
    let large = bench.large();
    let other = two_files(&bench.store, 2);
    let found = digest_of(&[2; 50_000]);
    std::fs::copy(bench.blob_path(&found), bench.blob_path(&large)).expect("copy");
    let report = bench.repair();
    assert_eq!(
        only(&report).fault,
        blob(large, BlobFault::Rotted { found })
    );
    placed(only(&report), &bench, b"dir/large");
    assert!(
        bench.blob_path(&found).exists(),
        "what it was copied from stays"
    );
    drop(other);
}

#[test]
fn a_row_without_its_file() {
    let bench = Bench::new();
    let large = bench.large();
    std::fs::remove_file(bench.blob_path(&large)).expect("remove");
    let report = bench.repair();
    let why = BlobFault::NoFile { size: 50_000 };
    assert_eq!(only(&report).fault, blob(large, why));
    assert_eq!(only(&report).outcome, Outcome::Repaired);
    placed(only(&report), &bench, b"dir/large");
    assert_eq!(only(&bench.check()).fault, blob(large, BlobFault::Missing));
    two_files(&bench.store, 1);
    sound(&bench.check());
}

#[test]
fn a_file_without_its_row_that_a_tree_needs() {
    let bench = Bench::new();
    let large = bench.large();
    bench.sql("DELETE FROM large_blob WHERE digest = ?1", [&large.0]);
    let report = bench.repair();
    assert_eq!(only(&report).fault, blob(large, BlobFault::NoRow));
    assert_eq!(only(&report).severity, Severity::Warning);
    assert_eq!(only(&report).outcome, Outcome::Repaired);
    let row = bench.store.index.large(&large).expect("row").expect("row");
    assert_eq!(row.size, 50_000);
    sound(&bench.check());
    assert_eq!(bench.read(b"large").expect("read"), [1; 50_000]);
}

#[test]
fn a_rotten_file_without_its_row_that_a_tree_needs() {
    let bench = Bench::new();
    let large = bench.large();
    flip(&bench.blob_path(&large));
    bench.sql("DELETE FROM large_blob WHERE digest = ?1", [&large.0]);
    let report = bench.repair();
    assert_eq!(only(&report).outcome, Outcome::Repaired);
    placed(only(&report), &bench, b"dir/large");
    assert_eq!(bench.quarantined().len(), 1);
    assert!(!bench.blob_path(&large).exists());
}

#[test]
fn a_small_blobs_row_deleted() {
    let bench = Bench::new();
    let small = bench.small();
    bench.sql("DELETE FROM small_blob WHERE digest = ?1", [&small.0]);
    let report = bench.repair();
    assert_eq!(only(&report).fault, blob(small, BlobFault::Missing));
    assert_eq!(only(&report).outcome, Outcome::Found, "nothing can be done");
    placed(only(&report), &bench, b"dir/small");
}

#[test]
fn a_size_that_is_off_by_one() {
    let bench = Bench::new();
    let large = bench.large();
    bench.sql(
        "UPDATE large_blob SET size = size + 1 WHERE digest = ?1",
        [&large.0],
    );
    let report = bench.repair();
    let why = BlobFault::RowSize {
        row: 50_001,
        found: 50_000,
    };
    assert_eq!(only(&report).fault, blob(large, why));
    assert_eq!(only(&report).severity, Severity::Warning);
    sound(&bench.check());
}

#[test]
fn what_is_no_file_is_left_alone() {
    let bench = Bench::new();
    let large = bench.large();
    std::fs::remove_file(bench.blob_path(&large)).expect("remove");
    nix::unistd::mkfifo(&bench.blob_path(&large), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let report = bench.repair();
    assert_eq!(only(&report).fault, blob(large, BlobFault::NotAFile));
    assert!(bench.blob_path(&large).symlink_metadata().is_ok());
}
