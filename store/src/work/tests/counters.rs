//! What only counts up: times, whatever the clock does, and numbers past 2^32.

use super::*;
use crate::work::node::What;

/// Changes of every kind by a clock that goes back by an hour each time: what clients take for
/// change counters still goes forward, over restarts and seals too.
#[test]
fn times_go_forward_when_the_clock_goes_back() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let id = tree.id();
    let (small, large, dir) = (
        tree.file(ROOT, b"small", b"x"),
        tree.file(ROOT, b"large", &[1; 100_000]),
        tree.dir(ROOT, b"dir"),
    );
    drop(tree);
    let mut seen = std::collections::HashMap::new();
    let mut hour = 0;
    for round in 0..3 {
        let tree = bench.works().get(id).unwrap();
        let mut changed = |what: &str, n: Node, data: bool, done: Result<Changed, Errno>| {
            let done = done.unwrap_or_else(|e| panic!("{what}: {e}"));
            for wcc in [Some(done.wcc), done.to].into_iter().flatten() {
                assert!(wcc.before.ctime < wcc.after.ctime, "{what}: {wcc:?}");
            }
            let now = tree.getattr(n).unwrap();
            let before = seen.insert(n, (now.ctime, now.mtime));
            if let Some((ctime, mtime)) = before {
                assert!(ctime < now.ctime, "{what}: ctime");
                assert!(!data || mtime < now.mtime, "{what}: mtime");
            }
        };
        let mut back = || {
            hour += 1;
            root(-3600 * hour)
        };
        for (file, name) in [(small, &b"small2"[..]), (large, b"large2")] {
            let write = tree.write(&back(), file, 3, b"more");
            changed("write", file, true, write);
            let size = SetAttr {
                size: Some(50_000 * u64::from(file == large)),
                ..SetAttr::default()
            };
            let truncate = tree.setattr(&back(), file, &size, None);
            changed("truncate", file, true, truncate);
            let chmod = tree.setattr(&back(), file, &mode(0o600), None);
            changed("chmod", file, false, chmod);
            let attr = tree.setxattr(&back(), file, b"user.a", b"v", XattrHow::Either);
            changed("setxattr", file, false, attr);
            let link = tree.link(&back(), file, dir, name);
            changed("link", file, false, link);
            let to = [name, b"!"].concat();
            let rename = tree.rename(&back(), dir, name, dir, &to);
            changed("rename", dir, true, rename);
            let remove = tree.remove(&back(), dir, &to);
            changed("remove", dir, true, remove);
        }
        let made = tree.mkdir(&back(), dir, b"sub", &mode(0o755));
        changed("mkdir", dir, true, made);
        let gone = tree.rmdir(&back(), dir, b"sub");
        changed("rmdir", dir, true, gone);
        let shown = |tree: &WorkTree| [small, large, dir].map(|n| tree.getattr(n).unwrap());
        let before = shown(&tree);
        drop(tree);
        bench.reopen();
        let after = shown(&bench.works().get(id).unwrap());
        for (a, b) in before.iter().zip(&after) {
            let (a, b) = ((a.ctime, a.mtime), (b.ctime, b.mtime));
            assert_eq!(a, b, "reopened in round {round}");
        }
    }
    let options = SealOptions::default();
    let sealed = bench.works().seal(id, &options).unwrap();
    let tree = bench.clone_of(sealed.snapshot);
    let before = tree.find(ROOT, b"large").unwrap();
    let done = tree.write(&root(-1_000_000), before.node, 0, b"x").unwrap();
    assert!(before.ctime < done.node.ctime && before.mtime < done.node.mtime);
}

/// Node numbers and READDIR cookies are 64 bits wherever they go: over 2^32 nothing wraps,
/// meets another, or is lost in a row, a restart or a seal.
#[test]
fn numbers_and_cookies_go_past_two_to_the_32nd() {
    const EDGE: u64 = 1 << 32;
    let mut bench = Bench::new();
    let tree = bench.empty();
    let id = tree.id();
    let dir = tree.dir(ROOT, b"dir");
    tree.file(dir, b"first", b"0");
    {
        let mut st = tree.change().unwrap();
        (st.next, st.reserved) = (EDGE - 3, 0);
        match &mut st.nodes.get_mut(&dir).unwrap().what {
            What::Dir(dir) => dir.next_seq = EDGE - 3,
            _ => unreachable!("a directory"),
        }
    }
    let mut made = Vec::new();
    for i in 0..6 {
        let name = format!("f{i}").into_bytes();
        made.push((name.clone(), tree.file(dir, &name, &name)));
    }
    let sub = tree.dir(dir, b"sub");
    tree.file(sub, b"below", &[7; 20_000]);
    assert_eq!(made[0].1, EDGE - 3);
    assert!(made[5].1 > EDGE && sub > EDGE);
    let check = |tree: &WorkTree| {
        let listed = list(tree, dir, 3);
        let cookies: std::collections::BTreeSet<_> = listed.iter().map(|e| e.2).collect();
        assert_eq!((listed.len(), cookies.len()), (8, 8));
        assert!(listed.iter().any(|e| e.2 > (1 << 40) + EDGE));
        for (name, n) in &made {
            assert_eq!(tree.find(dir, name).unwrap().node, *n);
            assert!(tree.slurp(*n) == *name);
        }
        assert_eq!(tree.find(sub, b"..").unwrap().node, dir);
    };
    check(&tree);
    drop(tree);
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    check(&tree);
    let after = tree.file(dir, b"after", b"");
    assert!(after > EDGE && made.iter().all(|(_, n)| *n != after));
    tree.rename(&root(5), dir, b"f5", sub, b"moved").unwrap();
    tree.remove(&root(6), dir, b"f4").unwrap();
    let options = SealOptions::default();
    let sealed = bench.works().seal(id, &options).unwrap();
    let tree = bench.clone_of(sealed.snapshot);
    let dir = tree.find(ROOT, b"dir").unwrap().node;
    let sub = tree.find(dir, b"sub").unwrap().node;
    assert_eq!(tree.names(sub), [&b"below"[..], b"moved"]);
    assert_eq!(tree.names(dir).len(), 7);
}
