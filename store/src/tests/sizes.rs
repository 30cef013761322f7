//! What trees take, beside what was put into them.

use super::{meta, open};
use crate::Store;
use crate::types::Digest;
use std::sync::Arc;

/// Bytes that no packing makes smaller.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(next).collect()
}

fn tree(store: &Arc<Store>, files: &[(&str, u64, usize)]) -> Digest {
    let mut ingest = store.ingest();
    for (path, seed, len) in files {
        let data = noise(*seed, *len);
        let mut from = &data[..];
        let put = ingest.file(path.as_bytes(), meta(0o644), *len as u64, &mut from);
        put.expect("file");
    }
    ingest.finish(None).expect("finish").snapshot
}

#[test]
fn each_content_counts_once_for_each_holder_and_its_own_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Large ones take whole blocks.
    let a = tree(&store, &[("big", 1, 64 << 10), ("d/small", 2, 3000)]);
    let b = tree(
        &store,
        &[
            ("big", 1, 64 << 10),
            ("d/small", 2, 3000),
            ("more", 3, 8000),
        ],
    );
    let c = tree(
        &store,
        &[
            ("again", 1, 64 << 10),
            ("too", 3, 8000),
            ("own", 4, 32 << 10),
        ],
    );
    let sizes = store
        .sizes(&[vec![a, b, a], vec![c], vec![]])
        .expect("sizes");
    let [one, two, none] = &sizes.held[..] else {
        panic!("three holders");
    };
    assert_eq!((none.stored, none.own, none.added.len()), (0, 0, 0));
    // Directories are some hundred bytes each.
    let about = |size: u64, contents: u64| {
        assert!(
            (contents..contents + 2000).contains(&size),
            "{size}, not {contents}"
        );
    };
    about(one.added[0], (64 << 10) + 3000);
    about(one.added[1], 8000);
    assert_eq!(one.added[2], 0, "seen before");
    assert_eq!(one.stored, one.added.iter().sum::<u64>());
    about(two.stored, (64 << 10) + 8000 + (32 << 10));
    about(one.own, 3000);
    about(two.own, 32 << 10);
    about(sizes.stored, (64 << 10) + 3000 + 8000 + (32 << 10));
    // Shared is what is left of either.
    assert_eq!(sizes.stored, one.stored + two.own);
}
