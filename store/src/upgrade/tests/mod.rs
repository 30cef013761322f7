//! A store of each released format opens, and one of an older format does after its upgrade.

mod faults;

use super::*;
use crate::tree::Tree;
use crate::types::{Creds, Digest, ROOT};
use crate::work::Works;
use crate::{OpenOptions, Store};
use std::sync::Arc;

/// A store of format 1 with volumes of format 4, as the first program that had them wrote them:
/// its rows, and its files, which are all of one byte each.
const INDEX: &str = include_str!("../../tests/fixtures/format-1.sql");
const VOLUMES: &str = include_str!("../../tests/fixtures/volumes-4.sql");

fn fixture() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = dir.path().join("store");
    fill(&store);
    (dir, store)
}

fn fill(store: &Path) {
    std::fs::create_dir(store).expect("mkdir");
    for (name, sql) in [("index.db", INDEX), ("volumes.db", VOLUMES)] {
        let conn = Connection::open(store.join(name)).expect("open");
        conn.execute_batch(sql).expect(name);
    }
    let blob = vec![1; 50_000];
    let hex = crate::object::digest_of(&blob).to_string();
    let folder = store.join("blobs").join(&hex[..2]);
    std::fs::create_dir_all(&folder).expect("mkdir");
    std::fs::write(folder.join(hex), blob).expect("write");
    std::fs::create_dir_all(store.join("volumes/1")).expect("mkdir");
    std::fs::write(store.join("volumes/1/6"), vec![7; 20_000]).expect("write");
}

fn open(dir: &Path) -> Result<Arc<Store>, StoreError> {
    let options = OpenOptions {
        create: false,
        boot_id: b"another boot".to_vec(),
    };
    Store::open(dir, options)
}

/// All that the fixture has.
fn whole(dir: &Path) {
    let store = open(dir).expect("it opens");
    let volumes = Works::volumes(store.clone()).expect("the volumes");
    let options = crate::FsckOptions {
        volumes: Some(&volumes),
        ..Default::default()
    };
    let report = store.fsck(&options, &|_| ()).expect("fsck");
    assert_eq!(report.findings, [], "{report:?}");
    assert_eq!((report.checked.steps, report.checked.volumes), (1, 1));
    let pocker = store.pocker(b"box").expect("read").expect("the pocker");
    let step = store
        .step(&pocker.steps[0])
        .expect("read")
        .expect("its step");
    assert_eq!(step.key, Digest([1; 32]));
    let tree = store.sealed(&step.snapshot).expect("its tree");
    let read = |tree: &dyn Tree, path: &[&[u8]]| {
        let node = path.iter().fold(ROOT, |node, name| {
            tree.lookup(&Creds::ROOT, node, name)
                .expect("there")
                .node
                .node
        });
        let mut out = Vec::new();
        tree.read(&Creds::ROOT, node, 0, 1 << 20, &mut out)
            .expect("read");
        out
    };
    assert_eq!(read(&*tree, &[b"dir", b"small"]), [1; 3]);
    assert_eq!(read(&*tree, &[b"dir", b"large"]), [1; 50_000]);
    let volume = volumes.get(volumes.list()[0].id).expect("the volume");
    assert_eq!(read(&*volume, &[b"note"]), b"kept");
    assert_eq!(read(&*volume, &[b"data"]), [7; 20_000]);
    assert_eq!(read(&*volume, &[b"dir", b"large"]), [1; 50_000]);
}

/// As an older program would have had it.
fn make_older(dir: &Path) {
    let conn = Connection::open(dir.join("index.db")).expect("open");
    let sql = "ALTER TABLE small_blob DROP COLUMN plain; PRAGMA user_version = 0;";
    conn.execute_batch(sql).expect("older");
}

const TO_1: Migration = Migration {
    from: 0,
    what: "small blobs may be packed",
    run: |tx| tx.execute_batch("ALTER TABLE small_blob ADD COLUMN plain INTEGER"),
};

const OLDER: &[Migration] = &[TO_1];

#[test]
fn a_store_of_format_1_opens_as_it_is() {
    let (_dir, store) = fixture();
    let found = plan(&store).expect("a plan");
    assert_eq!((found.found, found.known), (1, FORMAT));
    assert_eq!(found.volumes, Some((4, VOLUMES_FORMAT)));
    whole(&store);
    // Volumes of an older format are read as they are, and are of this one then.
    let found = plan(&store).expect("a plan");
    assert_eq!(found.volumes, Some((VOLUMES_FORMAT, VOLUMES_FORMAT)));
}

#[test]
fn what_is_new_needs_no_upgrade() {
    let dir = tempfile::tempdir().expect("tempdir");
    drop(crate::tests::open(dir.path()));
    let found = upgrade(&dir.path().join("store")).expect("an upgrade");
    assert_eq!((found.steps, found.copy), (vec![], None));
}

#[test]
fn an_older_store_is_refused_then_upgraded_after_a_copy() {
    let (_dir, store) = fixture();
    make_older(&store);
    let refused = open(&store).map(drop).expect_err("older");
    assert!(
        matches!(refused, StoreError::Older { found: 0, .. }),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("pocker store upgrade"),
        "{refused}"
    );
    let planned = plan_to(&store, FORMAT, OLDER).expect("a plan");
    assert_eq!(planned.steps[0], "format 0 to 1: small blobs may be packed");
    assert!(open(&store).is_err(), "a plan does nothing");
    let done = upgrade_to(&store, FORMAT, OLDER).expect("upgraded");
    assert_eq!(done.steps, planned.steps);
    whole(&store);
    assert!(
        plan(&store).expect("a plan").steps.is_empty(),
        "once is enough"
    );
    whole_index(&done.copy.expect("a copy"), 0);
}

/// The copy is a whole index of the format before.
fn whole_index(copy: &Path, format: i64) {
    let conn = Connection::open(copy).expect("open");
    let found: i64 = conn
        .pragma_query_value(None, "user_version", |r| r.get(0))
        .expect("its format");
    let blobs: i64 = conn
        .query_row("SELECT count(*) FROM small_blob", [], |r| r.get(0))
        .expect("its rows");
    assert_eq!((found, blobs), (format, 1));
}

#[test]
fn an_upgrade_that_fails_changes_nothing() {
    const FAILS: &[Migration] = &[
        Migration {
            from: 0,
            what: "works",
            run: |tx| tx.execute_batch("ALTER TABLE small_blob ADD COLUMN plain INTEGER"),
        },
        Migration {
            from: 1,
            what: "does not",
            run: |tx| tx.execute_batch("DELETE FROM step; DELETE FROM no_such_table"),
        },
    ];
    let (_dir, store) = fixture();
    make_older(&store);
    for _ in 0..2 {
        let failed = upgrade_to(&store, 2, FAILS).expect_err("the second step fails");
        assert!(failed.to_string().contains("no_such_table"), "{failed}");
        let format = plan(&store).expect("a plan").found;
        assert_eq!(format, 0, "as it was");
    }
    upgrade_to(&store, FORMAT, OLDER).expect("upgraded");
    whole(&store);
}

#[test]
fn what_there_is_no_way_for_is_left_alone() {
    let (_dir, store) = fixture();
    make_older(&store);
    let none = upgrade(&store).expect_err("no migration");
    assert!(matches!(none, StoreError::NoWay { found: 0, .. }), "{none}");
    upgrade_to(&store, FORMAT, OLDER).expect("upgraded");
    let set = |sql: &str| {
        let conn = Connection::open(store.join("index.db")).expect("open");
        conn.execute_batch(sql).expect(sql);
    };
    set("PRAGMA user_version = 7");
    assert!(matches!(
        upgrade(&store),
        Err(StoreError::Newer { found: 7, .. })
    ));
    assert_eq!(
        plan(&store).expect("a plan").found,
        7,
        "that much can be told"
    );
    set("PRAGMA user_version = 1; INSERT INTO feature VALUES ('zstd', 1), ('notes', 0)");
    assert!(matches!(upgrade(&store), Err(StoreError::Feature { .. })));
    let features = plan(&store).expect("a plan").features;
    assert_eq!(features.len(), 2);
    assert!(!features[0].incompatible && features[1].incompatible && !features[1].known);
    set("DELETE FROM feature");
    let open = open(&store).expect("it opens");
    assert!(matches!(upgrade(&store), Err(StoreError::InUse { .. })));
    plan(&store).expect("a plan beside it");
    drop(open);
    assert!(matches!(
        plan(Path::new("/nowhere")),
        Err(StoreError::NotAStore { .. })
    ));
    std::fs::write(
        store.join("index.db"),
        "garbage that is no database, but a text",
    )
    .expect("write");
    assert!(plan(&store).is_err());
}
