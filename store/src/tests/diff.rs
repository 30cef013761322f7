//! What differs between two trees, against a comparison of all their paths.

use super::model::{self, Body, Expect};
use super::{meta, open};
use crate::diff::{Change, Parts};
use crate::types::{Digest, Kind};
use crate::{IngestDone, Store};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

type Told = (Vec<u8>, Kind, Change, (u64, u64));

fn told(store: &Store, old: &Digest, new: &Digest) -> Vec<Told> {
    let mut all = Vec::new();
    store
        .diff(old, new, &mut |d| {
            all.push((d.path.to_vec(), d.kind, d.change, d.sizes));
            true
        })
        .expect("diff");
    all
}

fn size(expect: &Expect) -> u64 {
    match &expect.body {
        Body::File(data) => data.len() as u64,
        _ => 0,
    }
}

fn parts(old: &Expect, new: &Expect) -> Parts {
    let (a, b) = (&old.meta, &new.meta);
    Parts {
        content: match (&old.body, &new.body) {
            (Body::File(a), Body::File(b)) | (Body::Symlink(a), Body::Symlink(b)) => a != b,
            (Body::Special(a), Body::Special(b)) => format!("{a:?}") != format!("{b:?}"),
            _ => false,
        },
        mode: a.mode != b.mode,
        owner: (a.uid, a.gid) != (b.uid, b.gid),
        mtime: a.mtime != b.mtime,
        xattrs: a.xattrs != b.xattrs,
    }
}

fn expected(old: &BTreeMap<Vec<u8>, Expect>, new: &BTreeMap<Vec<u8>, Expect>) -> HashSet<Told> {
    let mut all = HashSet::new();
    for (path, was) in old {
        match new.get(path) {
            Some(is) if is.kind() == was.kind() => {
                let parts = parts(was, is);
                if parts.any() {
                    let sizes = (size(was), size(is));
                    all.insert((path.clone(), is.kind(), Change::Changed(parts), sizes));
                }
            }
            _ => {
                all.insert((path.clone(), was.kind(), Change::Removed, (size(was), 0)));
            }
        }
    }
    for (path, is) in new {
        if old.get(path).is_none_or(|was| was.kind() != is.kind()) {
            all.insert((path.clone(), is.kind(), Change::Added, (0, size(is))));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_path_that_differs_is_told_once_and_no_other(
        plan in model::plan(),
        left_out in proptest::collection::vec(any::<bool>(), 60),
        more in model::plan(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (old, was) = model::ingest(&store, &plan);
        let kept = plan.iter().zip(&left_out).filter(|(_, out)| !**out);
        let mut changed: Vec<_> = kept.map(|(line, _)| line.clone()).collect();
        changed.extend(more.into_iter().take(10));
        let (new, is) = model::ingest(&store, &changed);
        let told = told(&store, &old.snapshot, &new.snapshot);
        let set: HashSet<Told> = told.iter().cloned().collect();
        prop_assert_eq!(set.len(), told.len(), "something is told twice");
        prop_assert_eq!(set, expected(&was, &is));
    }
}

/// A directory of several pages, less and more some names.
fn wide(store: &Arc<Store>, names: impl Iterator<Item = usize>) -> IngestDone {
    let mut ingest = store.ingest();
    for n in names {
        let path = format!("wide/{n:05}");
        let bytes = path.clone().into_bytes();
        ingest
            .file(
                path.as_bytes(),
                meta(0o644),
                bytes.len() as u64,
                &mut &bytes[..],
            )
            .expect("file");
    }
    ingest.finish(None).expect("finish")
}

#[test]
fn a_directory_of_many_pages_tells_only_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let old = wide(&store, 0..5000);
    let new = wide(&store, (3..5010).filter(|n| *n != 2500));
    let told = told(&store, &old.snapshot, &new.snapshot);
    let names = |change| {
        let of = told.iter().filter(|(_, _, c, _)| *c == change);
        of.map(|(path, ..)| String::from_utf8_lossy(path).into_owned())
            .collect::<Vec<_>>()
    };
    let gone = ["wide/00000", "wide/00001", "wide/00002", "wide/02500"];
    assert_eq!(names(Change::Removed), gone);
    assert_eq!(names(Change::Added).len(), 10);
    assert_eq!(told.len(), 14);
    assert!(told.is_sorted_by_key(|(path, ..)| path.clone()));
}

#[test]
fn who_has_seen_enough_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (old, new) = (wide(&store, 0..10), wide(&store, 20..30));
    let mut seen = 0;
    store
        .diff(&old.snapshot, &new.snapshot, &mut |_| {
            seen += 1;
            seen < 3
        })
        .expect("diff");
    assert_eq!(seen, 3);
}
