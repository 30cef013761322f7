//! Stores made of stores: backups, what is restored of them, and an upgrade with its copy.

use crate::bench::{find, large, named, prepare, text, write};
use crate::state::{Opened, State};
use pocker_store::{BackupOptions, OpenOptions, Store, StoreError, restore, upgrade};
use pocker_testing::faults::{Work, each};
use pocker_testing::image::folder;
use std::path::Path;

/// What a backup has: trees of builds and runs are left out.
fn kept(opened: &Opened) -> State {
    let mut state = opened.state();
    state.retain(|name, _| !name.starts_with("work "));
    state
}

/// What is in the store at `dir`, which is whole.
fn whole(dir: &Path, when: &str) -> State {
    let opened = Opened::at(dir).unwrap_or_else(|e| panic!("{when}: {e}"));
    let report = opened.fsck(false).expect("fsck");
    assert_eq!(report.findings, [], "{when}");
    kept(&opened)
}

fn state_of(put: fn(&Opened)) -> State {
    let dir = folder();
    let opened = Opened::at(&dir.path().join("store")).expect("a store");
    put(&opened);
    kept(&opened)
}

fn changed(opened: &Opened) {
    prepare(opened);
    named(&opened.store, "more", 2).expect("a pocker");
    opened.store.remove_pocker(b"base").expect("removed");
    let volume = find(&opened.volumes, "one").expect("a volume");
    write(&volume, "large-file", &large(8)).expect("a file");
    write(&volume, "another", &large(7)).expect("a file");
}

fn backup(opened: &Opened, dir: &Path) -> Result<(), String> {
    let options = BackupOptions {
        volumes: Some(&opened.volumes),
        leave: &[],
    };
    let done = opened.store.backup(&dir.join("backups"), &options);
    done.map(drop).map_err(text)
}

/// What a backup or a restore has in the making is no store until it is whole.
fn never_half(dir: &Path, then: &State, when: &str) {
    let options = OpenOptions {
        create: false,
        boot_id: b"this boot".to_vec(),
    };
    if Store::open(dir, options).is_ok() {
        assert_eq!(whole(dir, when), *then, "{when}: {}", dir.display());
    }
}

fn open(dir: &Path) -> Opened {
    Opened::at(&dir.join("store")).expect("the store opens")
}

/// The first backup, or one beside which there is another.
fn backups(name: &'static str, prepare: fn(&Path), before: Option<State>) {
    let now = state_of(changed);
    let work = Work {
        name,
        prepare,
        open,
        run: backup,
    };
    each(&work, &|dir, done, when| {
        for entry in std::fs::read_dir(dir.join("backups")).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "partial") && path.is_dir() {
                never_half(&path, &now, when);
            }
        }
        let restored = dir.join("restored");
        match (restore(&dir.join("backups"), &restored), &before) {
            (Ok(_), before) => {
                let found = whole(&restored, when);
                let is_before = !done && Some(&found) == before.as_ref();
                assert!(is_before || found == now, "{when}: {found:#?}");
                if done {
                    // A backup can be looked at as it is, too.
                    assert_eq!(whole(&dir.join("backups/current"), when), found, "{when}");
                }
            }
            (Err(StoreError::NotABackup { .. }), None) if !done => {}
            (Err(StoreError::Io { .. }), None) if !done && !dir.join("backups").exists() => {}
            (Err(e), _) => panic!("{when}: {e}"),
        }
        assert_eq!(whole(&dir.join("store"), when), now, "{when}: the store");
    });
}

#[test]
fn a_first_backup() {
    let prepare = |dir: &Path| changed(&open(dir));
    backups("a first backup", prepare, None);
}

#[test]
fn a_backup_after_another() {
    let before = |dir: &Path| {
        let opened = open(dir);
        prepare(&opened);
        backup(&opened, dir).expect("a backup");
        changed(&opened);
        opened.gc().expect("gc");
    };
    backups("a backup after another", before, Some(state_of(prepare)));
}

#[test]
fn a_restore() {
    let then = state_of(changed);
    let work = Work {
        name: "a restore",
        prepare: |dir| {
            let opened = open(dir);
            changed(&opened);
            backup(&opened, dir).expect("a backup");
        },
        open: |_| (),
        run: |(), dir| match restore(&dir.join("backups"), &dir.join("new/place")) {
            // It was cut short, or failed, when all was done.
            Err(StoreError::Occupied { .. }) => Ok(()),
            done => done.map(drop).map_err(text),
        },
    };
    each(&work, &|dir, done, when| {
        let (place, making) = (dir.join("new/place"), dir.join("new/place.restoring"));
        never_half(&making.join("store"), &then, when);
        if done || place.exists() {
            assert_eq!(whole(&place, when), then, "{when}");
        }
        let left = making.join("store").exists();
        assert!(!done || !left, "{when}: it is left behind");
        // The backup is as it was.
        restore(&dir.join("backups"), &dir.join("another")).expect(when);
        assert_eq!(whole(&dir.join("another"), when), then, "{when}");
    });
}

/// Of a store that cannot give space back. What a migration does: `store/src/upgrade/tests`.
#[test]
fn an_upgrade() {
    let then = state_of(changed);
    let work = Work {
        name: "an upgrade",
        prepare: |dir| {
            changed(&open(dir));
            let conn = rusqlite::Connection::open(dir.join("store/index.db")).expect("open");
            let older = "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM";
            conn.execute_batch(older).expect("older");
        },
        open: |_| (),
        run: |(), dir| upgrade::upgrade(&dir.join("store")).map(drop).map_err(text),
    };
    each(&work, &|dir, done, when| {
        let store = dir.join("store");
        let plan = upgrade::plan(&store).expect(when);
        assert!(!done || plan.steps.is_empty(), "{when}: {plan:?}");
        let copy = store.join("before-upgrade-1/index.db");
        assert!(!done || copy.exists(), "{when}: no copy");
        if copy.exists() {
            // In the place of the index it makes the store that it was.
            let was = dir.join("was");
            pocker_testing::image::copy(&store, &was, pocker_testing::image::Empty::Left);
            for log in ["index.db-wal", "index.db-shm", "index.db-journal"] {
                let _ = std::fs::remove_file(was.join(log));
            }
            std::fs::copy(&copy, was.join("index.db")).expect("copy");
            assert_eq!(whole(&was, when), then, "{when}: the copy");
        }
        assert_eq!(whole(&store, when), then, "{when}");
    });
}
