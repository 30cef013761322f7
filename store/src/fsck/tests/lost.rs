//! Steps that lack something after a repair, until it is there again or they are replaced.

use super::*;

fn lost(store: &Store, key: u8) -> bool {
    store.is_lost(&Digest([key; 32])).expect("a note")
}

#[test]
fn a_step_is_lost_until_its_blob_is_put_again() {
    let bench = Bench::new();
    let other = two_files(&bench.store, 2).snapshot;
    bench.name(2, other);
    bench.sql("UPDATE small_blob SET bytes = x'ff' WHERE id = 1", []);
    bench.check();
    assert!(!lost(&bench.store, 1), "nothing is set aside yet");
    bench.repair();
    assert!(lost(&bench.store, 1) && !lost(&bench.store, 2));
    two_files(&bench.store, 1);
    assert!(!lost(&bench.store, 1), "it came back");
}

#[test]
fn a_step_that_is_replaced_lacks_nothing() {
    let bench = Bench::new();
    // What is gone altogether is noted by a repair too, which has nothing else to do.
    bench.sql("DELETE FROM small_blob WHERE id = 1", []);
    bench.repair();
    bench.repair();
    assert!(lost(&bench.store, 1));
    let instead = two_files(&bench.store, 3).snapshot;
    bench.store.put_step(step(1, instead)).expect("step");
    assert!(lost(&bench.store, 1), "the first won");
    bench.store.replace_step(step(1, instead)).expect("step");
    assert!(!lost(&bench.store, 1));
}

#[test]
fn a_lost_directory_counts_as_well() {
    let bench = Bench::new();
    let dir = bench.body(&[b"dir"]);
    let Body::Dir { digest, .. } = dir else {
        panic!("{dir:?}")
    };
    bench.sql("DELETE FROM object WHERE digest = ?1", [&digest.0]);
    bench.repair();
    assert!(lost(&bench.store, 1));
    two_files(&bench.store, 1);
    assert!(!lost(&bench.store, 1));
}

#[test]
fn pins_of_steps_that_are_not_there_are_found() {
    let bench = Bench::new();
    let pinned = crate::Pinned {
        key: Digest([1; 32]),
        label: b"box@run".to_vec(),
        since: 1,
    };
    assert!(bench.store.pin_step(&pinned).expect("pin"));
    assert_eq!(bench.check().checked.pins, 1);
    assert!(bench.check().is_sound());
    bench.store.remove_pocker(b"p\x01").expect("removed");
    bench.sql("DELETE FROM step", []);
    let report = bench.check();
    let pin = Fault::Pin {
        key: pinned.key,
        label: pinned.label,
    };
    assert!(report.findings.iter().any(|f| f.fault == pin), "{report:?}");
    assert!(!report.is_sound());
}
