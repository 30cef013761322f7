//! What is kept in `index.db` and the blob area.

use super::points::every_point;
use super::script::Script;
use crate::bench::{ingest, named, pocker, prepare, step, text};
use crate::state::{Opened, RECORD};
use pocker_store::Pinned;

#[test]
fn a_tree_a_step_and_a_pocker() {
    every_point(Script::new(
        "ingest",
        prepare,
        &[
            |o| ingest(&o.store, 2).map(drop),
            |o| {
                let snapshot = ingest(&o.store, 2)?.snapshot;
                o.store.put_step(step(2, snapshot)).map(drop).map_err(text)
            },
            |o| {
                // A collection may have taken what nothing named.
                named(&o.store, "new", 2).map(drop)
            },
        ],
    ));
}

#[test]
fn steps_and_pockers_replaced_and_removed() {
    every_point(Script::new(
        "steps and pockers",
        |o| {
            prepare(o);
            named(&o.store, "other", 3).expect("a pocker");
        },
        &[
            |o| {
                let mut other = pocker("other", &[3, 1]);
                other.config = b"changed".to_vec();
                o.store.put_pocker(&other).map_err(text)
            },
            |o| {
                let snapshot = ingest(&o.store, 4)?.snapshot;
                let step = step(3, snapshot);
                o.store.replace_step(step).map(drop).map_err(text)
            },
            |o| o.store.remove_pocker(b"other").map(drop).map_err(text),
        ],
    ));
}

#[test]
fn records_and_counters() {
    every_point(Script::new(
        "records",
        prepare,
        &[
            |o| o.store.put_record(RECORD, b"b", b"2").map_err(text),
            |o| o.store.put_record(RECORD, b"a", &[7; 9000]).map_err(text),
            |o| o.store.bump_error_epoch().map_err(text),
            |o| o.store.next_id().map(drop).map_err(text),
            |o| o.store.delete_record(RECORD, b"b").map(drop).map_err(text),
        ],
    ));
}

/// The first step that there is.
fn first(o: &Opened) -> Result<Pinned, String> {
    let steps = o.store.steps().map_err(text)?;
    Ok(Pinned {
        key: steps.first().ok_or("no step")?.key,
        label: b"kept".to_vec(),
        since: 5,
    })
}

#[test]
fn pins_and_uses() {
    every_point(Script::new(
        "pins",
        prepare,
        &[
            |o| o.store.pin_step(&first(o)?).map(drop).map_err(text),
            |o| {
                o.store.use_steps(&[first(o)?.key], 9);
                o.store.keep_uses().map_err(text)
            },
            |o| o.store.unpin_step(&first(o)?.key).map(drop).map_err(text),
        ],
    ));
}

fn garbage(o: &Opened) {
    prepare(o);
    for key in 10..13 {
        named(&o.store, "garbage", key).expect("a pocker");
    }
    o.store.remove_pocker(b"garbage").expect("removed");
}

#[test]
fn collection() {
    every_point(Script::new("gc", garbage, &[|o| o.gc().map_err(text)]));
}

#[test]
fn a_new_store() {
    let mut script = Script::new(
        "a new store",
        prepare,
        &[|o| named(&o.store, "first", 1).map(drop)],
    );
    script.prepare = None;
    script.from_open = true;
    every_point(script);
}

/// Opened after a kill that left files in the making, files without rows, and a journal.
#[test]
fn a_store_that_was_not_closed() {
    let mut script = Script::new(
        "opening after a kill",
        prepare,
        &[|o| o.store.put_record(RECORD, b"b", b"2").map_err(text)],
    );
    script.from_open = true;
    script.hurt = None;
    script.left = Some(|dir| {
        std::fs::write(dir.join("lock"), "4194305\n").expect("write");
        std::fs::write(dir.join("staging/in/0"), "half").expect("write");
        let orphan = format!("blobs/ab/{}", "ab".repeat(32));
        std::fs::create_dir_all(dir.join("blobs/ab")).expect("mkdir");
        std::fs::write(dir.join(orphan), "no row names it").expect("write");
    });
    every_point(script);
}
