//! What volumes are beside work trees: kept, durable, and sharing their syncs.

use super::probe::Rng;
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn once(key: u8) -> OpCx<'static> {
    OpCx {
        once: Some([key; 32]),
        ..root(5)
    }
}

#[test]
fn another_boot_keeps_a_volume() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let id = tree.id();
    let small = tree.file(ROOT, b"small", b"in a row");
    let large = tree.file(ROOT, b"large", &[7; 100_000]);
    tree.commit(large).unwrap();
    let before = (tree.getattr(small), tree.getattr(large));
    let info = tree.info().clone();
    drop(tree);
    let bench = Bench::at(bench.close(), Durability::Disk, b"another boot");
    assert_eq!(bench.works().list(), [info]);
    let tree = bench.works().get(id).unwrap();
    assert_eq!((tree.getattr(small), tree.getattr(large)), before);
    assert_eq!(tree.slurp(small), b"in a row");
    assert!(tree.slurp(large) == [7; 100_000]);
    bench.works().drop_tree(id).unwrap();
    drop(tree);
    let bench = Bench::at(bench.close(), Durability::Disk, b"a third");
    assert!(bench.works().list().is_empty());
}

/// Volumes of a program that knows more are refused, not thrown away.
#[test]
fn another_format_is_refused_and_left_alone() {
    let bench = Bench::volumes();
    let id = bench.volume(None).id();
    let dir = bench.close();
    let database = dir.path().join("volumes.db");
    let format = |n: u32| {
        let conn = rusqlite::Connection::open(&database).unwrap();
        let old: u32 = conn
            .query_row("PRAGMA user_version", [], |r| r.get(0))
            .unwrap();
        conn.pragma_update(None, "user_version", n).unwrap();
        old
    };
    let known = format(99);
    let store = open_store(dir.path());
    let refused = Works::volumes(store).err().unwrap();
    assert!(
        matches!(refused, crate::StoreError::Newer { found: 99, .. }),
        "{refused}"
    );
    format(known);
    let bench = Bench::at(dir, Durability::Disk, b"this boot");
    assert!(bench.works().get(id).is_ok());
}

/// Every change but an unstable write is synced before it is answered; what a socket's task
/// may not wait for it does not begin.
#[test]
fn changes_are_synced_and_unstable_writes_are_not() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let journal = || bench.works().sync_stats().journal;
    let f = tree.file(ROOT, b"f", b"");
    let begin = journal();
    assert!(begin > 0);
    tree.write(&root(3), f, 0, b"unstable").unwrap();
    tree.write(&root(3), f, 0, &[1; 100_000]).unwrap();
    assert_eq!(journal(), begin, "UNSTABLE waits for COMMIT");
    tree.commit(f).unwrap();
    assert_eq!(journal(), begin + 1);
    tree.commit(f).unwrap();
    assert_eq!(journal(), begin + 1, "there is nothing to sync");
    type Call = fn(&WorkTree, &OpCx, Node) -> Result<Changed, Errno>;
    let calls: [Call; 10] = [
        |t, cx, _| t.create(cx, ROOT, b"made", Create::Guarded, &mode(0o600)),
        |t, cx, _| t.mkdir(cx, ROOT, b"dir", &mode(0o700)),
        |t, cx, _| t.symlink(cx, ROOT, b"link", b"to", &mode(0o700)),
        |t, cx, _| t.mknod(cx, ROOT, b"fifo", Kind::Fifo, Rdev::default(), &mode(0o600)),
        |t, cx, f| t.link(cx, f, ROOT, b"second"),
        |t, cx, _| t.rename(cx, ROOT, b"second", ROOT, b"third"),
        |t, cx, _| t.remove(cx, ROOT, b"third"),
        |t, cx, _| t.rmdir(cx, ROOT, b"dir"),
        |t, cx, f| t.setattr(cx, f, &mode(0o640), None),
        |t, cx, f| t.setxattr(cx, f, b"user.x", b"y", XattrHow::Either),
    ];
    for (i, call) in calls.into_iter().enumerate() {
        let before = (journal(), tree.getattr(ROOT), tree.getattr(f));
        let hurried = crate::without_waiting(|| call(&tree, &once(i as u8), f));
        assert_eq!(hurried, Err(Errno::Again), "call {i}");
        let now = (journal(), tree.getattr(ROOT), tree.getattr(f));
        assert_eq!(now, before, "call {i} has not begun");
        call(&tree, &once(i as u8), f).unwrap();
        assert_eq!(journal(), before.0 + 1, "call {i}");
    }
    let hurried = crate::without_waiting(|| tree.commit(f));
    assert_eq!(hurried, Err(Errno::Again));
    let hurried = crate::without_waiting(|| tree.write(&root(6), f, 9, b"x"));
    assert!(hurried.is_ok(), "an unstable write waits for nothing");
}

/// A call whose answer was lost finds it after the machine's crash too, where it was answered.
#[test]
fn a_reply_is_as_durable_as_its_change() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let id = tree.id();
    bench.syncs.probe.watch(bench.store.dir(), 77, 2);
    let mut answers = Vec::new();
    for i in 0..60u8 {
        let name = format!("n{}", i / 3);
        let name = name.as_bytes();
        let answer = match i % 3 {
            0 => tree.create(&once(i), ROOT, name, Create::Guarded, &mode(0o600)),
            1 => tree.rename(&once(i), ROOT, name, ROOT, b"x"),
            _ => tree.remove(&once(i), ROOT, b"x"),
        };
        answers.push(answer.unwrap());
        bench.syncs.probe.answered(usize::from(i));
    }
    let images = bench.syncs.probe.images();
    assert!(images.len() > 30, "{} crashes", images.len());
    drop((tree, bench));
    for image in images {
        let bench = Bench::at(image.dir, Durability::Disk, b"the next boot");
        let tree = bench.works().get(id).unwrap();
        let i = image.step as u8;
        let name = format!("n{}", i / 3);
        let name = name.as_bytes();
        let again = match i % 3 {
            0 => tree.create(&once(i), ROOT, name, Create::Guarded, &mode(0o600)),
            1 => tree.rename(&once(i), ROOT, name, ROOT, b"x"),
            _ => tree.remove(&once(i), ROOT, b"x"),
        };
        match image.in_flight {
            true => assert!(again.is_ok(), "call {i}: {again:?}"),
            false => assert_eq!(again, Ok(answers[image.step]), "call {i}"),
        }
        let names: usize = tree.names(ROOT).len();
        assert_eq!(names, usize::from(i % 3 != 2), "call {i} ran once");
    }
}

/// Unstable data may be lost, but what a file shows was written to it, and what was stable
/// stays.
#[test]
fn unstable_data_is_lost_or_there_but_nothing_else() {
    let mut crashes = 0;
    for seed in 1..=4 {
        println!("seed {seed}");
        let mut rng = Rng(seed);
        let bench = Bench::volumes();
        let tree = bench.volume(None);
        let (id, f) = (tree.id(), tree.file(ROOT, b"f", b""));
        bench.syncs.probe.watch(bench.store.dir(), seed, 3);
        // What each byte may be, and the size at least, by step.
        let mut may: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut stable: Vec<u8> = Vec::new();
        let mut now: Vec<u8> = Vec::new();
        let mut versions = vec![now.clone()];
        let mut least = Vec::new();
        for step in 0..80usize {
            match rng.below(4) {
                0 => {
                    tree.commit(f).unwrap();
                    stable = now.clone();
                    versions = vec![now.clone()];
                }
                1 => {
                    // Another file's change syncs the journal, not this file.
                    tree.file(ROOT, format!("{step}").as_bytes(), b"");
                }
                _ => {
                    let at = rng.below(100_000) as usize;
                    let len = 1 + rng.below(40_000) as usize;
                    let byte = 1 + rng.below(255) as u8;
                    now.resize(now.len().max(at + len), 0);
                    now[at..at + len].fill(byte);
                    // In flight it may be there in part.
                    versions.push(now.clone());
                    let cx = root(10 + step as i64);
                    tree.write(&cx, f, at as u64, &vec![byte; len]).unwrap();
                }
            }
            may.push(versions.clone());
            least.push(stable.len());
            bench.syncs.probe.answered(step);
        }
        let images = bench.syncs.probe.images();
        crashes += images.len();
        drop((tree, bench));
        for image in images {
            let bench = Bench::at(image.dir, Durability::Disk, b"the next boot");
            let tree = bench.works().get(id).unwrap();
            let data = tree.slurp(f);
            // In flight, what the step before promised holds, and what this one wrote may be there.
            let before = image.step.saturating_sub(usize::from(image.in_flight));
            assert!(data.len() >= least[before].min(least[image.step]));
            let mut versions = may[before].clone();
            versions.extend(may[image.step].iter().cloned());
            for (at, byte) in data.iter().enumerate() {
                let some = versions
                    .iter()
                    .any(|v| v.get(at).copied().unwrap_or(0) == *byte);
                assert!(some, "step {}, byte {at} is {byte}", image.step);
            }
            let attr = tree.getattr(f).unwrap();
            assert_eq!(attr.size, data.len() as u64);
        }
    }
    assert!(crashes > 50, "{crashes} crashes");
}

/// A large file is whole or gone, whichever side of its REMOVE, of its first large write, or of
/// the first write over a step's data the power fails on.
#[test]
fn large_files_change_as_one() {
    let bench = Bench::volumes();
    let made = bench.volume(None);
    for i in 0..12 {
        made.file(ROOT, format!("base{i}").as_bytes(), &[200 + i; 150_000]);
    }
    let sealed = bench.works().seal(made.id(), &SealOptions::default());
    let tree = bench.volume(Some(sealed.unwrap().snapshot));
    let id = tree.id();
    bench.syncs.probe.watch(bench.store.dir(), 5, 2);
    let name = |kind: &str, i: u8| format!("{kind}{i}").into_bytes();
    for i in 0..12u8 {
        // Stable in its row, then in a file.
        let f = tree.file(ROOT, &name("grown", i), &[i + 1; 10_000]);
        tree.commit(f).unwrap();
        bench.syncs.probe.answered(usize::from(4 * i));
        tree.write(&root(5), f, 10_000, &[i + 1; 90_000]).unwrap();
        tree.file(ROOT, &name("other", i), b"");
        tree.commit(f).unwrap();
        bench.syncs.probe.answered(usize::from(4 * i + 1));
        // A step's file, written to and not made stable.
        let f = tree.find(ROOT, &name("base", i)).unwrap().node;
        tree.write(&root(6), f, 70_000, &[i + 1; 10]).unwrap();
        tree.file(ROOT, &name("another", i), b"");
        bench.syncs.probe.answered(usize::from(4 * i + 2));
        tree.remove(&root(7), ROOT, &name("grown", i)).unwrap();
        bench.syncs.probe.answered(usize::from(4 * i + 3));
    }
    let images = bench.syncs.probe.images();
    assert!(images.len() > 30, "{} crashes", images.len());
    drop((made, tree, bench));
    for image in images {
        let bench = Bench::at(image.dir, Durability::Disk, b"the next boot");
        let tree = bench.works().get(id).unwrap();
        let what = format!("step {}, in flight: {}", image.step, image.in_flight);
        let answered = image.step + usize::from(!image.in_flight);
        for i in 0..12u8 {
            let grown = tree.find(ROOT, &name("grown", i));
            let grown = grown.map(|attr| tree.slurp(attr.node));
            match (answered.saturating_sub(usize::from(4 * i)), grown) {
                (0, _) => {}
                (1, Ok(data)) => assert!(data[..10_000] == [i + 1; 10_000], "{what}"),
                (2 | 3, Ok(data)) => assert!(data == vec![i + 1; 100_000], "{what}"),
                (3.., Err(Errno::NoEnt)) => {}
                (n, found) => panic!("{what}: {n} of four, {:?}", found.map(|d| d.len())),
            }
            let f = tree.find(ROOT, &name("base", i)).unwrap().node;
            let mut data = tree.slurp(f);
            assert_eq!(data.len(), 150_000, "{what}");
            if data[70_000] == i + 1 {
                data[70_000..70_010].fill(200 + i);
            }
            assert!(data == vec![200 + i; 150_000], "{what}: base{i}");
        }
    }
}

/// A truncation that the power fails in was done or was not: what is cut off does not come
/// back as zeros, and what is put behind it later is all that is there.
#[test]
fn a_truncation_is_done_or_not() {
    const FILES: u8 = 12;
    let bench = Bench::volumes();
    let made = bench.volume(None);
    let name = |i: u8| format!("f{i}").into_bytes();
    for i in 0..FILES {
        made.file(ROOT, &name(i), &[200 + i; 150_000]);
    }
    let sealed = bench.works().seal(made.id(), &SealOptions::default());
    let tree = bench.volume(Some(sealed.unwrap().snapshot));
    let id = tree.id();
    let node = |tree: &WorkTree, i: u8| tree.find(ROOT, &name(i)).unwrap().node;
    let size = |size: u64| SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    for i in 0..FILES {
        let f = node(&tree, i);
        tree.write(&root(5), f, 3, &[i; 10]).unwrap();
        tree.commit(f).unwrap();
    }
    bench.syncs.probe.watch(bench.store.dir(), 9, 2);
    for i in 0..FILES {
        let f = node(&tree, i);
        tree.setattr(&root(6), f, &size(100_000), None).unwrap();
        bench.syncs.probe.answered(usize::from(i));
    }
    let images = bench.syncs.probe.images();
    assert!(images.len() > 15, "{} crashes", images.len());
    drop((made, tree, bench));
    let (mut before, mut after) = (0, 0);
    for image in images {
        let bench = Bench::at(image.dir, Durability::Disk, b"the next boot");
        let tree = bench.works().get(id).unwrap();
        for i in 0..FILES {
            let f = node(&tree, i);
            let mut whole = vec![200 + i; 150_000];
            whole[3..13].fill(i);
            let data = tree.slurp(f);
            let what = format!("step {}, in flight: {}", image.step, image.in_flight);
            let answered = image.step + usize::from(!image.in_flight) > usize::from(i);
            if !answered && data.len() == 150_000 {
                before += usize::from(image.step == usize::from(i));
            } else {
                after += usize::from(!answered);
                whole.truncate(100_000);
            }
            assert!(data == whole, "{what}: file {i} has {} bytes", data.len());
            tree.setattr(&root(7), f, &size(160_000), None).unwrap();
            whole.resize(160_000, 0);
            assert!(tree.slurp(f) == whole, "{what}: file {i}, made longer");
        }
    }
    assert!(
        before > 0 && after > 0,
        "{before} were not done, {after} were"
    );
}

/// Of sixteen calls that come while a sync runs one syncs for all, and none is answered before.
#[test]
fn calls_share_syncs() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let begin = bench.works().sync_stats();
    bench.syncs.probe.stick(true);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for t in 0..16 {
            let (tree, answered) = (&tree, &answered);
            scope.spawn(move || {
                tree.file(ROOT, format!("{t}").as_bytes(), b"");
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while tree.names(ROOT).len() < 16 {
            assert!(Instant::now() < deadline, "not all calls were made");
            std::thread::yield_now();
        }
        assert_eq!(answered.load(Ordering::SeqCst), 0);
        bench.syncs.probe.stick(false);
    });
    let end = bench.works().sync_stats();
    assert_eq!(end.calls - begin.calls, 16);
    let syncs = end.journal - begin.journal;
    assert!(
        syncs <= 2,
        "{syncs} syncs: one ran, and one was for the rest"
    );
}

/// Sixteen threads, one volume: all is there, and on the next boot too.
#[test]
fn threads_lose_nothing() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let id = tree.id();
    std::thread::scope(|scope| {
        for t in 0..16 {
            let tree = &tree;
            scope.spawn(move || {
                for i in 0..40 {
                    let name = format!("{t}-{i}");
                    let f = tree.file(ROOT, name.as_bytes(), &[t; 20_000]);
                    match i % 3 {
                        0 => drop(tree.remove(&root(6), ROOT, name.as_bytes()).unwrap()),
                        _ => drop(tree.commit(f).unwrap()),
                    }
                }
            });
        }
    });
    let before = list(&*tree, ROOT, 100);
    assert_eq!(before.len(), 16 * 26);
    drop(tree);
    let bench = Bench::at(bench.close(), Durability::Disk, b"another boot");
    let tree = bench.works().get(id).unwrap();
    assert_eq!(list(&*tree, ROOT, 100), before);
    for (name, node, _) in before {
        let t: u8 = String::from_utf8_lossy(&name)
            .split('-')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(tree.slurp(node) == [t; 20_000]);
    }
}

/// A disk that fails a sync: the call fails, nothing more is promised, and a new start finds
/// what the disk has.
#[test]
fn a_failed_sync_is_told_and_ends_promises() {
    let mut bench = Bench::volumes();
    let tree = bench.volume(None);
    let id = tree.id();
    let f = tree.file(ROOT, b"before", b"kept");
    let verifier = bench.store.write_verifier();
    bench.syncs.probe.broken.store(true, Ordering::Relaxed);
    let failed = tree.mkdir(&root(5), ROOT, b"lost", &mode(0o755));
    assert_eq!(failed, Err(Errno::Io));
    for _ in 0..2 {
        let next = tree.mkdir(&root(5), ROOT, b"next", &mode(0o755));
        assert_eq!(
            next,
            Err(Errno::Io),
            "the disk may have lost the one before"
        );
        assert_eq!(tree.commit(f), Err(Errno::Io));
    }
    assert_eq!(tree.slurp(f), b"kept", "it can still be read");
    // What was written before, unstable, the kernel may have dropped.
    let moved = bench.store.write_verifier();
    assert_ne!(moved, verifier);
    drop(tree);
    bench.reopen();
    assert_eq!(bench.store.write_verifier(), moved);
    let tree = bench.works().get(id).unwrap();
    assert_eq!(tree.slurp(f), b"kept");
    tree.dir(ROOT, b"next");
}

/// A file's sync that fails is told, and the next one is made anew.
#[test]
fn a_files_failed_sync_is_told() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let f = tree.file(ROOT, b"f", b"");
    tree.write(&root(5), f, 0, &[1; 100_000]).unwrap();
    bench.syncs.probe.broken.store(true, Ordering::Relaxed);
    assert_eq!(tree.commit(f), Err(Errno::Io));
    let files = bench.works().sync_stats().files;
    tree.write(&root(5), f, 0, &[2; 100_000]).unwrap();
    tree.commit(f).unwrap();
    assert!(bench.works().sync_stats().files > files);
}

/// Whatever a file was synced for: when that fails the verifier moves, as the kernel may have
/// dropped what an UNSTABLE write was answered for and the next COMMIT would hear nothing of it.
#[test]
fn a_files_failed_sync_moves_the_write_verifier() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let f = tree.file(ROOT, b"f", b"");
    tree.write(&root(5), f, 0, &[1; 100_000]).unwrap();
    tree.commit(f).unwrap();
    let verifier = || tree.area.store.write_verifier();
    let cut = SetAttr {
        size: Some(60_000),
        ..SetAttr::default()
    };
    let mut seen = vec![verifier()];
    type Call<'a> = &'a dyn Fn() -> Result<Changed, Errno>;
    let setattr: Call = &|| tree.setattr(&root(6), f, &cut, None);
    let commit: Call = &|| tree.commit(f);
    for call in [setattr, commit] {
        tree.write(&root(5), f, 0, &[2; 1000]).unwrap();
        assert_eq!(Some(&verifier()), seen.last());
        bench.syncs.probe.broken.store(true, Ordering::Relaxed);
        assert_eq!(call(), Err(Errno::Io));
        assert!(!seen.contains(&verifier()));
        seen.push(verifier());
        tree.commit(f).unwrap();
        assert_eq!(Some(&verifier()), seen.last());
    }
}

/// A helper that died leaves files without a name; in a volume they would stay for ever.
#[test]
fn hidden_files_are_swept() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    assert_eq!(tree.sweep_hidden(at(5)), Ok(0));
    let kept = tree.file(ROOT, b"kept", b"x");
    let hidden = tree.dir(ROOT, HIDDEN);
    for i in 0..300 {
        tree.file(hidden, format!("{i}-1").as_bytes(), b"open");
    }
    let large = tree.file(hidden, b"large", &[1; 100_000]);
    assert_eq!(tree.sweep_hidden(at(6)), Ok(301));
    assert_eq!(tree.names(hidden).len(), 0);
    assert!(!tree.area.path((tree.id(), large)).exists());
    assert_eq!(tree.slurp(kept), b"x");
}

/// A volume's base is in use, and the check finds nothing wrong with either.
#[test]
fn gc_and_fsck_know_volumes() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let f = tree.file(ROOT, b"f", &[3; 100_000]);
    let sealed = bench
        .works()
        .seal(tree.id(), &SealOptions::default())
        .unwrap();
    let tree = bench.volume(Some(sealed.snapshot));
    let f2 = tree.find(ROOT, b"f").unwrap().node;
    let _ = f;
    tree.write(&root(9), f2, 70_000, &[4; 10]).unwrap();
    let bases: Vec<Digest> = bench.works().list().iter().filter_map(|t| t.base).collect();
    assert_eq!(bases, [sealed.snapshot]);
    let kept = bench.store.gc(Default::default(), &bases).unwrap();
    assert_eq!((kept.snapshots, kept.blobs), (0, 0));
    let check = |volumes| {
        let options = crate::FsckOptions {
            repair: true,
            volumes,
            ..Default::default()
        };
        bench.store.fsck(&options, &|_| ()).unwrap()
    };
    let report = check(Some(bench.works()));
    assert_eq!((report.findings, report.checked.volumes), (vec![], 1));
    // Without them, what only they could need is left.
    assert!(
        check(None)
            .findings
            .iter()
            .all(|f| f.outcome != crate::fsck::Outcome::Repaired)
    );
    assert!(tree.slurp(f2)[69_999..70_011] == [3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 3]);
}
