//! Directories of very many names. What grows is counted, as bytes of the journal and pages of
//! the directory, and never timed. POCKER_LONG=1 makes it a million.

use super::*;

fn many() -> usize {
    match std::env::var_os("POCKER_LONG") {
        Some(_) => 1_000_000,
        None => 1 << 16,
    }
}

fn name(i: usize) -> Vec<u8> {
    format!("name-{i:07}").into_bytes()
}

/// Bytes that the journal took, over its turns, for what `work` did.
fn journalled(tree: &WorkTree, work: impl FnOnce()) -> u64 {
    let before = tree.writer.mark();
    work();
    let after = tree.writer.mark();
    assert!(after.offset >= before.offset || after != before);
    after.offset.saturating_sub(before.offset)
}

fn seal(bench: &Bench, tree: &WorkTree) -> Sealed {
    let options = SealOptions::default();
    bench.works().seal(tree.id(), &options).unwrap()
}

/// Rows of directory objects in the store.
fn objects(bench: &Bench) -> u64 {
    let options = crate::FsckOptions::default();
    let report = bench.store.fsck(&options, &|_| ()).unwrap();
    report.checked.objects
}

#[test]
fn a_huge_directory_costs_by_the_name() {
    let n = many();
    let mut bench = Bench::new();
    let tree = bench.empty();
    let id = tree.id();
    let dir = tree.dir(ROOT, b"dir");
    let make = |i: usize| {
        let how = Create::Guarded;
        let made = tree.create(&root(2), dir, &name(i), how, &mode(0o644));
        made.unwrap();
    };
    let early = journalled(&tree, || (0..10).for_each(make));
    (10..n - 10).for_each(make);
    let late = (n - 10..n).map(|i| journalled(&tree, || make(i))).max();
    assert!(
        late.unwrap() * 10 <= early * 2,
        "ten names took {early} bytes, one of the last {late:?}"
    );
    drop(tree);
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    let listed = list(&*tree, dir, 1000);
    assert_eq!(listed.len(), n);
    let distinct: std::collections::HashSet<_> = listed.iter().map(|e| &e.0).collect();
    assert_eq!(distinct.len(), n);
    let first = seal(&bench, &tree);
    assert_eq!(first.files, n as u64);

    // One change in a clone: one page of the directory and what is above it.
    let before = objects(&bench);
    let tree = bench.clone_of(first.snapshot);
    let dir = tree.find(ROOT, b"dir").unwrap().node;
    let f = tree.find(dir, &name(n / 2)).unwrap().node;
    tree.write(&root(5), f, 0, b"changed").unwrap();
    let second = seal(&bench, &tree);
    assert_eq!((second.files, second.dirs), (1, 2));
    let written = objects(&bench) - before;
    assert!(written <= 4, "{written} objects for one change");

    // rm -rf, as it is read.
    let tree = bench.clone_of(second.snapshot);
    let mut cookie = 2;
    let mut removed = 0;
    loop {
        let mut names = Vec::new();
        let done = tree
            .readdir(&Creds::ROOT, dir, cookie, false, &mut |e| {
                if names.len() == 1000 {
                    return false;
                }
                cookie = e.cookie;
                names.push(e.name.to_vec());
                true
            })
            .unwrap();
        for name in &names {
            tree.remove(&root(6), dir, name).unwrap();
        }
        removed += names.len();
        if done.eof {
            break;
        }
    }
    assert_eq!(removed, n);
    tree.rmdir(&root(7), ROOT, b"dir").unwrap();
    let last = seal(&bench, &tree);
    assert_eq!(last.counts.nodes, 0);
}
