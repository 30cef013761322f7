//! Notes of layers: as long as their trees, and no more than so many.

use super::{open, step, two_files};
use crate::layers::LayerId;
use crate::types::Digest;
use crate::{GcOptions, Store};

fn id(tree: Digest, below: Option<Digest>) -> LayerId {
    let form = b"gzip".to_vec();
    LayerId { tree, below, form }
}

fn known(store: &Store, ids: &[&LayerId]) -> Vec<bool> {
    let known = |id: &&LayerId| store.layer(id).expect("asked").is_some();
    ids.iter().map(known).collect()
}

#[test]
fn a_note_goes_with_either_of_its_trees() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let [one, two, three] = [1, 2, 3].map(|n| two_files(&store, n).snapshot);
    store.put_step(step(1, one)).expect("step");
    store.put_step(step(2, two)).expect("step");
    let of = [
        id(one, None),
        id(two, Some(one)),
        id(three, Some(one)),
        id(one, Some(three)),
    ];
    for id in &of {
        assert!(store.note_layer(id, b"said").expect("noted"));
    }
    let nowhere = Digest([9; 32]);
    assert!(!store.note_layer(&id(nowhere, None), b"x").expect("asked"));
    assert!(
        !store
            .note_layer(&id(one, Some(nowhere)), b"x")
            .expect("asked")
    );
    let other = LayerId {
        form: b"zstd".to_vec(),
        ..id(one, None)
    };
    let all: Vec<&LayerId> = of.iter().chain([&other]).collect();
    assert_eq!(known(&store, &all), [true, true, true, true, false]);
    store.note_layer(&of[0], b"said again").expect("noted");
    assert_eq!(
        store.layer(&of[0]).expect("asked").expect("known"),
        b"said again"
    );
    let keep = GcOptions {
        keep_steps_since: Some(i64::MIN),
        ..GcOptions::default()
    };
    store.gc(keep, &[]).expect("gc");
    assert_eq!(known(&store, &all), [true, true, false, false, false]);
    store.gc(GcOptions::default(), &[]).expect("gc");
    assert_eq!(known(&store, &all), [false; 5]);
}

#[test]
fn no_more_are_noted_than_there_is_room_for() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let tree = two_files(&store, 1).snapshot;
    store.put_step(step(1, tree)).expect("step");
    let ids: Vec<LayerId> = (0..200u32)
        .map(|n| LayerId {
            form: n.to_be_bytes().to_vec(),
            ..id(tree, None)
        })
        .collect();
    let all: Vec<&LayerId> = ids.iter().collect();
    for (at, id) in ids.iter().enumerate() {
        assert!(store.note_layer_within(id, b"x", 100).expect("noted"));
        assert!(known(&store, &[id])[0], "the last one is there");
        if at % 20 == 0 {
            let count = known(&store, &all).iter().filter(|known| **known).count();
            assert!(count <= 100, "{count}");
        }
    }
}
