//! Tests that go through the store's public interface.

mod damage;
mod diff;
mod gc;
mod gc_space;
mod ingest;
mod layers;
mod model;
mod opening;
mod owned;
mod packed;
mod packed_care;
mod paging;
mod pinned;
mod roundtrip;
mod sizes;
mod upstream;
mod verify;

use crate::object::Meta;
use crate::types::{Digest, Time};
use crate::{OpenOptions, Step, Store, StoreError};
use std::path::Path;
use std::sync::Arc;

pub fn open(dir: &Path) -> Arc<Store> {
    try_open(dir, true).expect("open the store")
}

pub fn try_open(dir: &Path, create: bool) -> Result<Arc<Store>, StoreError> {
    Store::open(
        &dir.join("store"),
        OpenOptions {
            create,
            boot_id: b"boot".to_vec(),
        },
    )
}

pub fn meta(mode: u32) -> Meta {
    Meta {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time {
            secs: 1_000,
            nanos: 7,
        },
        xattrs: Vec::new(),
    }
}

pub fn step(key: u8, snapshot: Digest) -> Step {
    Step {
        key: Digest([key; 32]),
        snapshot,
        parent: None,
        instruction: b"EXEC true".to_vec(),
        inputs: Vec::new(),
        upstream: None,
        created: 100,
    }
}

/// A tree of one small and one large file, told apart by `seed`.
pub fn two_files(store: &Arc<Store>, seed: u8) -> crate::IngestDone {
    let mut ingest = store.ingest();
    ingest
        .file(b"dir/small", meta(0o644), 3, &mut &[seed; 3][..])
        .expect("small");
    let large = vec![seed; 50_000];
    ingest
        .file(b"dir/large", meta(0o644), 50_000, &mut &large[..])
        .expect("large");
    ingest.finish(None).expect("finish")
}

pub fn blob_files(store: &Store) -> usize {
    let mut found = 0;
    store
        .blobs
        .area
        .each(&mut |_| {
            found += 1;
            Ok(())
        })
        .expect("list blobs");
    found
}
