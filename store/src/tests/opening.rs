//! Opening: one process, known formats, leftovers swept; and what the index keeps.

use super::{blob_files, meta, open, step, try_open, two_files};
use crate::types::Digest;
use crate::{OpenOptions, Pocker, Store, StoreError};
use std::os::unix::fs::PermissionsExt;

fn alter(dir: &std::path::Path, sql: &str) {
    let conn = rusqlite::Connection::open(dir.join("store/index.db")).expect("open");
    conn.execute_batch(sql).expect("alter");
}

#[test]
fn a_second_process_is_told_who_has_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let first = open(dir.path());
    let error = try_open(dir.path(), true).map(|_| ()).expect_err("in use");
    let pid = std::process::id();
    assert!(
        matches!(&error, StoreError::InUse { pid: Some(p), .. } if *p == pid),
        "{error}"
    );
    assert!(
        error.to_string().contains(&format!("process {pid}")),
        "{error}"
    );
    drop(first);
    open(dir.path());
}

#[test]
fn whether_it_is_closed_can_be_asked() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("store");
    crate::closed(&path).expect("there is none");
    let store = open(dir.path());
    let pid = Some(std::process::id());
    for _ in 0..2 {
        let used = crate::closed(&path).expect_err("in use");
        assert!(
            matches!(&used, StoreError::InUse { pid: p, .. } if *p == pid),
            "{used}"
        );
    }
    drop(store);
    crate::closed(&path).expect("closed");
    open(dir.path());
}

#[test]
fn a_tree_keeps_the_lock() {
    let dir = tempfile::tempdir().expect("tempdir");
    let tree = two_files(&open(dir.path()), 1).tree;
    assert!(matches!(
        try_open(dir.path(), true),
        Err(StoreError::InUse { .. })
    ));
    drop(tree);
    open(dir.path());
}

#[test]
fn is_private_and_not_made_unasked() {
    let dir = tempfile::tempdir().expect("tempdir");
    assert!(try_open(dir.path(), false).is_err());
    assert!(!dir.path().join("store").exists());
    std::fs::create_dir(dir.path().join("store")).expect("mkdir");
    assert!(matches!(
        try_open(dir.path(), false),
        Err(StoreError::NotAStore { .. })
    ));
    drop(open(dir.path()));
    let mode = std::fs::metadata(dir.path().join("store"))
        .expect("stat")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(try_open(dir.path(), false).is_ok());
}

#[test]
fn newer_formats_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("tempdir");
    drop(open(dir.path()));
    alter(dir.path(), "INSERT INTO feature VALUES ('harmless', 0)");
    drop(open(dir.path()));
    alter(dir.path(), "INSERT INTO feature VALUES ('zstd-blobs', 1)");
    let error = try_open(dir.path(), true).map(|_| ()).expect_err("feature");
    assert!(error.to_string().contains("zstd-blobs"), "{error}");
    alter(dir.path(), "DELETE FROM feature; PRAGMA user_version = 99");
    let error = try_open(dir.path(), true).map(|_| ()).expect_err("format");
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("99"), "{error}");
}

#[test]
fn another_programs_database_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(dir.path().join("store")).expect("mkdir");
    alter(dir.path(), "CREATE TABLE theirs (x)");
    assert!(matches!(
        try_open(dir.path(), true),
        Err(StoreError::NotAStore { .. })
    ));
    std::fs::write(dir.path().join("store/index.db"), "no database at all").expect("write");
    assert!(matches!(
        try_open(dir.path(), true),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn leftovers_of_a_killed_process_are_swept() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let done = two_files(&store, 1);
    let orphan = store.blobs.area.path(&Digest([0xab; 32]));
    let staged = store.blobs.area.fresh();
    let tree = dir.path().join("store/staging/7");
    drop((done, store));
    let old = dir
        .path()
        .join(format!("store/blobs/cd/{}", Digest([0xcd; 32])));
    std::fs::write(&old, "it has lost its row").expect("write");
    std::fs::write(&staged, "half").expect("write");
    drop(open(dir.path()));
    assert!(!staged.exists(), "swept at every start");
    std::fs::write(&staged, "half").expect("write");
    std::fs::create_dir(&tree).expect("mkdir");
    // Coarser clocks than one of ten milliseconds are not met.
    std::thread::sleep(std::time::Duration::from_millis(30));
    std::fs::write(dir.path().join("store/lock"), "4194305\n").expect("write");
    std::fs::write(&orphan, "no row names it").expect("write");
    let store = open(dir.path());
    assert!(!orphan.exists() && !staged.exists());
    assert!(tree.exists(), "work trees have their own rules");
    assert!(
        old.exists(),
        "it was there before the process that was killed"
    );
    assert_eq!(blob_files(&store), 2, "what has a row stays");
}

#[test]
fn the_pid_in_the_lock_goes_with_the_store() {
    let dir = tempfile::tempdir().expect("tempdir");
    let lock = dir.path().join("store/lock");
    let store = open(dir.path());
    let pid = std::fs::read_to_string(&lock).expect("read");
    assert_eq!(pid.trim(), std::process::id().to_string());
    drop(store);
    assert_eq!(std::fs::read(&lock).expect("read"), b"");
}

#[test]
fn ids_are_never_reused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut last = 0;
    for _ in 0..3 {
        let store = open(dir.path());
        for _ in 0..300 {
            let id = store.next_id().expect("id");
            assert!(id > last);
            last = id;
        }
    }
}

#[test]
fn the_verifier_changes_when_data_may_be_gone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let (first, id, secret) = (store.write_verifier(), store.store_id(), *store.secret());
    drop(store);
    let store = open(dir.path());
    assert_eq!(
        (store.write_verifier(), store.store_id(), *store.secret()),
        (first, id, secret)
    );
    store.bump_error_epoch().expect("bump");
    let second = store.write_verifier();
    assert_ne!(first, second);
    drop(store);
    assert_eq!(open(dir.path()).write_verifier(), second);
    let options = OpenOptions {
        create: false,
        boot_id: b"another".to_vec(),
    };
    let store = Store::open(&dir.path().join("store"), options).expect("open");
    assert_ne!(store.write_verifier(), second);
}

#[test]
fn a_copy_of_a_store_has_another_verifier_and_the_same_handles() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let (verifier, secret) = (store.write_verifier(), *store.secret());
    drop(store);
    let copy = tempfile::tempdir().expect("tempdir");
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(dir.path().join("store"))
        .arg(copy.path())
        .status();
    assert!(status.expect("cp runs").success());
    let there = open(copy.path());
    assert_ne!(there.write_verifier(), verifier);
    assert_eq!(*there.secret(), secret);
    drop(there);
    // In the first one's place, whose inode number it may have.
    std::fs::remove_dir_all(dir.path().join("store")).expect("removed");
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(copy.path().join("store"))
        .arg(dir.path())
        .status();
    assert!(status.expect("cp runs").success());
    assert_ne!(open(dir.path()).write_verifier(), verifier);
}

#[test]
fn steps_pockers_and_records() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let (a, b) = (two_files(&store, 1).snapshot, two_files(&store, 2).snapshot);
    assert!(matches!(
        store.put_step(step(9, Digest([0; 32]))),
        Err(StoreError::Missing { .. })
    ));
    assert_eq!(store.put_step(step(1, a)).expect("put"), step(1, a));
    assert_eq!(
        store.put_step(step(1, b)).expect("put"),
        step(1, a),
        "the first wins"
    );
    store.put_step(step(2, b)).expect("put");
    assert_eq!(store.steps().expect("steps"), [step(1, a), step(2, b)]);

    let name = b"web\xff".to_vec();
    let key = |k| Digest([k; 32]);
    let pocker = Pocker {
        name: name.clone(),
        steps: vec![key(2), key(1)],
        config: vec![1],
        created: 5,
    };
    store.put_pocker(&pocker).expect("put");
    let unknown = Pocker {
        steps: vec![key(8)],
        ..pocker.clone()
    };
    assert!(store.put_pocker(&unknown).is_err());
    assert_eq!(store.pocker(&name).expect("get"), Some(pocker.clone()));
    let shorter = Pocker {
        steps: vec![key(1)],
        ..pocker
    };
    store.put_pocker(&shorter).expect("replace");
    store.put_record("run", b"1", b"one").expect("put");
    store.put_record("run", b"1", b"uno").expect("replace");
    store.put_record("graft", b"1", b"other").expect("put");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.pockers().expect("list"), [shorter]);
    assert_eq!(
        store.records("run").expect("list"),
        [(b"1".to_vec(), b"uno".to_vec())]
    );
    assert_eq!(
        store.record("graft", b"1").expect("get"),
        Some(b"other".to_vec())
    );
    assert!(store.delete_record("run", b"1").expect("delete"));
    assert!(!store.delete_record("run", b"1").expect("delete"));
    assert!(store.remove_pocker(&name).expect("remove"));
    assert_eq!(store.pocker(&name).expect("get"), None);
}

#[test]
fn ordinals_are_bounded_and_persistent() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let first = two_files(&store, 1);
    let tree = store
        .sealed_by_ordinal(first.ordinal)
        .expect("read")
        .expect("is there");
    assert_eq!(tree.snapshot(), first.snapshot);
    assert!(store.sealed_by_ordinal(4000).expect("read").is_none());
    drop((tree, first, store));
    alter(
        dir.path(),
        "UPDATE sqlite_sequence SET seq = 4194303 WHERE name = 'snapshot'",
    );
    let store = open(dir.path());
    let mut ingest = store.ingest();
    ingest.dir(b"x", meta(0o755)).expect("dir");
    let error = ingest.finish(None).map(|_| ()).expect_err("none left");
    assert!(
        matches!(error, crate::IngestError::Store(StoreError::Ordinals)),
        "{error}"
    );
}

#[test]
fn space_is_told() {
    let dir = tempfile::tempdir().expect("tempdir");
    let space = open(dir.path()).statfs().expect("statfs");
    assert!(space.total_bytes >= space.free_bytes && space.free_bytes >= space.avail_bytes);
    assert!(space.total_bytes > 0);
}
