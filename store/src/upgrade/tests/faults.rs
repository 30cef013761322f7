//! Each change that a migration makes to files is refused once, and once the process dies there:
//! the store is of the older format, or of the new one and whole.

use super::*;
use pocker_testing::faults::{Work, each};

/// Two formats on: the first migration rewrites rows, the second makes a table.
const STEPS: &[Migration] = &[
    Migration {
        from: -1,
        what: "rows are rewritten",
        run: |tx| tx.execute_batch("UPDATE step SET created = created + 1"),
    },
    TO_1,
];

fn upgraded(store: &Path) -> Result<(), String> {
    let done = upgrade_to(store, FORMAT, STEPS);
    done.map(drop).map_err(|e| e.to_string())
}

fn created(index: &Path) -> i64 {
    let conn = Connection::open(index).expect("open");
    conn.query_row("SELECT created FROM step", [], |r| r.get(0))
        .expect("a step")
}

#[test]
fn an_upgrade_is_made_whole_or_not_at_all() {
    let (_dir, before) = fixture();
    let before = created(&before.join("index.db"));
    let work = Work {
        name: "an upgrade by two formats",
        prepare: |dir| {
            let store = dir.join("store");
            fill(&store);
            make_older(&store);
            let conn = Connection::open(store.join("index.db")).expect("open");
            conn.pragma_update(None, "user_version", -1).expect("older");
        },
        open: |_| (),
        run: |(), dir| upgraded(&dir.join("store")),
    };
    each(&work, &|dir, done, when| {
        let store = dir.join("store");
        let found = plan_to(&store, FORMAT, STEPS).expect(when);
        assert!(!done || found.steps.is_empty(), "{when}: {found:?}");
        let copy = store.join("before-upgrade--1/index.db");
        if copy.exists() {
            assert_eq!(created(&copy), before, "{when}");
            whole_index(&copy, -1);
        }
        match found.found {
            -1 => {
                let refused = open(&store).map(drop).expect_err(when);
                assert!(
                    matches!(refused, StoreError::Older { .. }),
                    "{when}: {refused}"
                );
                upgraded(&store).expect(when);
            }
            FORMAT => assert!(copy.exists(), "{when}: no copy"),
            other => panic!("{when}: format {other}"),
        }
        whole(&store);
        assert_eq!(created(&store.join("index.db")), before + 1, "{when}: once");
    });
}
