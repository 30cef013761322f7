//! Restarts, retransmissions and failures.

use super::*;
use std::time::{Duration, Instant};

fn once(key: u8) -> OpCx<'static> {
    OpCx {
        once: Some([key; 32]),
        ..root(5)
    }
}

/// The same call again, before and after a restart: one effect, one answer.
#[test]
fn a_call_with_a_key_runs_once() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let id = tree.id();
    let f = tree.file(ROOT, b"f", &[7; 40_000]);
    let new = mode(0o640);
    type Call = fn(&WorkTree, &OpCx, Node, &SetAttr) -> Result<Changed, Errno>;
    let calls: [Call; 9] = [
        |t, cx, _, new| t.create(cx, ROOT, b"made", Create::Guarded, new),
        |t, cx, _, new| t.mkdir(cx, ROOT, b"dir", new),
        |t, cx, _, new| t.symlink(cx, ROOT, b"link", b"to", new),
        |t, cx, _, new| t.mknod(cx, ROOT, b"fifo", Kind::Fifo, Rdev::default(), new),
        |t, cx, f, _| t.link(cx, f, ROOT, b"second"),
        |t, cx, _, _| t.rename(cx, ROOT, b"second", ROOT, b"third"),
        |t, cx, _, _| t.remove(cx, ROOT, b"third"),
        |t, cx, _, _| t.rmdir(cx, ROOT, b"dir"),
        |t, cx, f, new| t.setattr(cx, f, new, None),
    ];
    let first: Vec<_> = calls
        .iter()
        .enumerate()
        .map(|(i, call)| call(&tree, &once(i as u8), f, &new).unwrap())
        .collect();
    let after = (
        tree.names(ROOT),
        tree.getattr(ROOT).unwrap(),
        tree.getattr(f).unwrap(),
    );
    drop(tree);
    for round in 0..3 {
        let tree = bench.works().get(id).unwrap();
        for (i, call) in calls.iter().enumerate() {
            assert_eq!(
                call(&tree, &once(i as u8), f, &new),
                Ok(first[i]),
                "call {i}, round {round}"
            );
        }
        assert_eq!(
            (
                tree.names(ROOT),
                tree.getattr(ROOT).unwrap(),
                tree.getattr(f).unwrap()
            ),
            after
        );
        drop(tree);
        bench.reopen();
    }
    let tree = bench.works().get(id).unwrap();
    let again = tree.create(&once(77), ROOT, b"made", Create::Guarded, &new);
    assert_eq!(again, Err(Errno::Exist), "another key is another call");
    let refused = tree.remove(&once(78), ROOT, b"none");
    assert_eq!(refused, Err(Errno::NoEnt));
    tree.file(ROOT, b"none", b"");
    assert!(
        tree.remove(&once(78), ROOT, b"none").is_ok(),
        "failures are not recorded"
    );
}

#[test]
fn the_reply_cache_is_a_ring() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let (id, f) = (tree.id(), tree.file(ROOT, b"f", b""));
    let key = |i: usize| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&i.to_le_bytes());
        OpCx {
            once: Some(key),
            ..root(5)
        }
    };
    let calls = REPLIES + 10;
    let answers: Vec<_> = (0..calls)
        .map(|i| tree.setattr(&key(i), f, &mode(0o600), None).unwrap())
        .collect();
    drop(tree);
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    for (i, answer) in answers.iter().enumerate().skip(10) {
        let again = tree.setattr(&key(i), f, &mode(0o600), None);
        assert_eq!(again, Ok(*answer), "call {i}");
    }
    let forgotten = tree.setattr(&key(0), f, &mode(0o600), None).unwrap();
    assert!(forgotten.node.ctime > answers[calls - 1].node.ctime);
}

#[test]
fn a_hundred_thousand_rows_are_loaded_again() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let id = tree.id();
    let dirs: Vec<Node> = (0..50)
        .map(|i| tree.dir(ROOT, format!("d{i}").as_bytes()))
        .collect();
    for i in 0..40_000 {
        let name = format!("file-{i}");
        tree.create(
            &root(5),
            dirs[i % 50],
            name.as_bytes(),
            Create::Guarded,
            &mode(0o644),
        )
        .unwrap();
        if i % 2 == 0 {
            let f = tree.find(dirs[i % 50], name.as_bytes()).unwrap().node;
            tree.write(&root(6), f, 0, name.as_bytes()).unwrap();
        }
    }
    let rows: i64 = tree.writer.with(|c| {
        let sql = "SELECT (SELECT count(*) FROM node) + (SELECT count(*) FROM added) + (SELECT count(*) FROM content)";
        c.query_row(sql, [], |r| r.get(0)).unwrap()
    });
    assert!(rows >= 100_000, "{rows}");
    drop(tree);
    bench.reopen();
    let started = Instant::now();
    let tree = bench.works().get(id).unwrap();
    println!("loaded {rows} rows in {:?}", started.elapsed());
    let names: usize = dirs.iter().map(|d| tree.names(*d).len()).sum();
    assert_eq!(names, 40_000);
    let f = tree.find(dirs[0], b"file-33900").unwrap().node;
    assert_eq!(tree.slurp(f), b"file-33900");
}

/// A full disk refuses what it cannot keep, and nothing else is lost or half there.
#[test]
fn what_the_journal_refuses_is_taken_back() {
    let bench = Bench::new();
    let tree = bench.empty();
    tree.file(ROOT, b"before", b"kept");
    tree.writer.limit_journal(Some(4096));
    let mut made = 0;
    let refused = loop {
        let name = format!("n{made}");
        match tree.create(
            &root(5),
            ROOT,
            name.as_bytes(),
            Create::Guarded,
            &mode(0o644),
        ) {
            Ok(c) => assert_eq!(tree.getattr(c.node.node), Ok(c.node)),
            Err(e) => break e,
        }
        made += 1;
        assert!(made < 10_000, "the limit is not met");
    };
    assert_eq!(refused, Errno::NoSpc);
    let attr = tree.getattr(ROOT).unwrap();
    assert_eq!(tree.names(ROOT).len(), made + 1);
    tree.writer.limit_journal(None);
    let next = tree.file(ROOT, b"after", b"x");
    assert_eq!(tree.names(ROOT).len(), made + 2);
    assert!(tree.getattr(ROOT).unwrap().ctime > attr.ctime);
    assert!(
        tree.getattr(next).is_ok()
            && tree.slurp(tree.find(ROOT, b"before").unwrap().node) == b"kept"
    );
}

#[test]
fn another_boot_starts_empty() {
    let dir = tempfile::tempdir().unwrap();
    let open = |boot: &[u8]| {
        let options = crate::OpenOptions {
            create: true,
            boot_id: boot.to_vec(),
        };
        let store = Store::open(dir.path(), options).unwrap();
        Works::open_or_create(store).unwrap()
    };
    let works = open(b"one");
    let tree = works.create(None, WorkClass::Run, b"label", at(1)).unwrap();
    let id = tree.id();
    tree.file(ROOT, b"f", &[1; 100_000]);
    let info = tree.info().clone();
    drop((tree, works));
    let works = open(b"one");
    assert_eq!(works.list(), [info]);
    drop(works);
    let works = open(b"two");
    assert!(works.list().is_empty());
    assert!(matches!(works.get(id), Err(Errno::Stale)));
    wait(|| !dir.path().join("staging").join(id.to_string()).exists());
    let next = works.create(None, WorkClass::Run, b"", at(1)).unwrap();
    assert!(next.id() > id, "ids are never used again");
}

#[test]
fn a_dropped_tree_leaves_nothing() {
    let bench = Bench::new();
    let tree = bench.empty();
    let f = tree.file(ROOT, b"f", &[1; 100_000]);
    for i in 0..1200 {
        tree.file(ROOT, format!("{i}").as_bytes(), b"x");
    }
    let keep = bench.empty();
    keep.file(ROOT, b"f", b"x");
    bench.works().drop_tree(tree.id()).unwrap();
    assert_eq!(tree.getattr(f), Err(Errno::Stale));
    assert_eq!(tree.write(&root(5), f, 0, b"x"), Err(Errno::Stale));
    assert!(matches!(
        bench.works().drop_tree(tree.id()),
        Err(Errno::Stale)
    ));
    let rows = |sql: &str| {
        keep.writer
            .with(|c| c.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap())
    };
    wait(|| {
        rows(
            "SELECT (SELECT count(*) FROM node) + (SELECT count(*) FROM added) + (SELECT count(*) FROM content)",
        ) == 4
    });
    wait(|| {
        !bench
            .store
            .dir()
            .join("staging")
            .join(tree.id().to_string())
            .exists()
    });
    assert_eq!(keep.names(ROOT), [b"f"]);
}

/// A kill inside a seal may leave a staged file linked into the blob area.
#[test]
fn a_file_shared_with_the_blobs_is_not_written_to() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let (id, f) = (tree.id(), tree.file(ROOT, b"f", &[1; 100_000]));
    let attr = tree.getattr(f).unwrap();
    let blob = bench.store.dir().join("blobs/blob");
    std::fs::hard_link(tree.area.path((id, f)), &blob).unwrap();
    drop(tree);
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    assert_eq!(
        tree.getattr(f).map(|a| (a.mtime, a.ctime)),
        Ok((attr.mtime, attr.ctime))
    );
    tree.write(&root(9), f, 0, &[2; 10]).unwrap();
    assert!(std::fs::read(&blob).unwrap() == [1; 100_000]);
    assert!(tree.slurp(f)[..11] == [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
}

/// Sixteen threads, one tree: all is there, and after a restart too.
#[test]
fn threads_share_commits_and_lose_nothing() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let id = tree.id();
    std::thread::scope(|scope| {
        for t in 0..16 {
            let tree = &tree;
            scope.spawn(move || {
                for i in 0..100 {
                    let f = tree.file(ROOT, format!("{t}-{i}").as_bytes(), b"x");
                    if i % 3 == 0 {
                        tree.remove(&root(6), ROOT, format!("{t}-{i}").as_bytes())
                            .unwrap();
                        assert_eq!(tree.getattr(f), Err(Errno::Stale));
                    }
                }
            });
        }
    });
    let before = list(&*tree, ROOT, 100);
    assert_eq!(before.len(), 16 * 66);
    drop(tree);
    bench.reopen();
    assert_eq!(list(&*bench.works().get(id).unwrap(), ROOT, 100), before);
}

fn wait(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "not done in time");
        std::thread::yield_now();
    }
}

/// `work.db` cannot grow: everything answered stays, is read, and is found again.
#[test]
fn what_the_database_refuses_waits_in_the_journal() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let id = tree.id();
    tree.file(ROOT, b"before", b"kept");
    tree.writer.refuse(true);
    for i in 0..500 {
        let name = format!("n{i}");
        tree.file(ROOT, name.as_bytes(), &[i as u8; 3000]);
    }
    assert!(tree.writer.settle().is_err(), "it does not fit");
    // Loaded again, from what the database has and what it has not.
    tree.link.failed(0);
    assert_eq!(tree.names(ROOT).len(), 501);
    let f = tree.find(ROOT, b"n77").unwrap().node;
    assert_eq!(tree.slurp(f), [77; 3000]);
    drop(tree);
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    assert_eq!(tree.names(ROOT).len(), 501);
    let f = tree.find(ROOT, b"n499").unwrap().node;
    assert_eq!(tree.slurp(f), [499u32 as u8; 3000]);
    tree.writer.settle().unwrap();
}

/// The journal cut at any byte, as a kill may: every mutation before the cut is there, and
/// nothing of the one it cut.
#[test]
fn a_journal_cut_anywhere_ends_at_a_whole_mutation() {
    let bench = Bench::new();
    let tree = bench.empty();
    let id = tree.id();
    // In the database, so that the journal holds only what comes now.
    tree.writer.settle().unwrap();
    let begin = tree.writer.mark().offset as usize;
    let mut ends = Vec::new();
    for i in 0..5 {
        tree.file(ROOT, format!("f{i}").as_bytes(), b"");
        ends.push(tree.writer.mark().offset as usize);
    }
    let journal = std::fs::read(bench.store.dir().join("work.journal.0")).unwrap();
    // One store for all of them, as one is 256 folders.
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    for cut in (begin..=*ends.last().unwrap()).step_by(7) {
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("work.")
            {
                std::fs::remove_file(path).unwrap();
            }
        }
        {
            let source = bench.store.dir().join("work.db");
            let from = rusqlite::Connection::open(&source).unwrap();
            let to = dir.path().join("work.db");
            from.execute("VACUUM INTO ?1", [to.to_str().unwrap()])
                .unwrap();
            let to = rusqlite::Connection::open(to).unwrap();
            to.execute("DELETE FROM node", []).unwrap();
            to.execute("DELETE FROM added", []).unwrap();
            to.execute(
                "UPDATE about SET value = ?1 WHERE key = 'applied'",
                [[1u64.to_le_bytes(), (begin as u64).to_le_bytes()].concat()],
            )
            .unwrap();
        }
        let mut bytes = journal.clone();
        bytes[cut..].fill(0xa5);
        std::fs::write(dir.path().join("work.journal.0"), bytes).unwrap();
        let works = Works::open_or_create(store.clone()).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let tree = works.get(id).unwrap();
        assert_eq!(tree.names(ROOT).len(), whole, "cut at {cut} of {ends:?}");
        tree.file(ROOT, b"next", b"goes on");
    }
}

/// Who still has a tree of a store that was closed keeps its writer, which then writes nothing:
/// the database is another one's by now.
#[test]
fn a_store_that_was_closed_writes_nothing_more() {
    let mut bench = Bench::new();
    let old = bench.empty();
    let id = old.id();
    old.writer.refuse(true);
    let f = old.file(ROOT, b"f", b"first");
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    tree.write(&root(8), f, 0, b"later").unwrap();
    tree.writer.settle().unwrap();
    old.writer.refuse(false);
    // The old writer tries again within a second, if it does.
    std::thread::sleep(Duration::from_millis(1500));
    tree.file(ROOT, b"g", b"");
    tree.writer.settle().unwrap();
    drop(tree);
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    assert_eq!(tree.slurp(f), b"later");
}
