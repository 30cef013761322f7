//! Names: READDIR cookies, renames, hard links, what is hidden.

use super::*;
use std::collections::HashSet;

/// A snapshot with `big/f0000` … `f<n>`.
fn big(bench: &Bench, n: usize) -> (Digest, Vec<Vec<u8>>) {
    let tree = bench.empty();
    let dir = tree.dir(ROOT, b"big");
    let names: Vec<Vec<u8>> = (0..n).map(|i| format!("f{i:04}").into_bytes()).collect();
    for name in &names {
        tree.file(dir, name, b"");
    }
    let sealed = bench
        .works()
        .seal(tree.id(), &SealOptions::default())
        .unwrap();
    (sealed.snapshot, names)
}

/// rm -rf: read some, remove them, go on from the cookie. Every name is met once, of
/// the base and added, in large steps and in small.
#[test]
fn a_directory_can_be_removed_while_it_is_read() {
    for batch in [1, 100, 5000] {
        let bench = Bench::new();
        let (snapshot, _) = big(&bench, 1500);
        let tree = bench.clone_of(snapshot);
        let dir = tree.find(ROOT, b"big").unwrap().node;
        for i in 0..300 {
            tree.file(dir, format!("new{i}").as_bytes(), b"");
        }
        let (mut cookie, mut removed) = (2, 0);
        loop {
            let mut names = Vec::new();
            let done = tree
                .readdir(&Creds::ROOT, dir, cookie, false, &mut |e| {
                    if names.len() == batch {
                        return false;
                    }
                    cookie = e.cookie;
                    names.push(e.name.to_vec());
                    true
                })
                .unwrap();
            for name in &names {
                tree.remove(&root(5), dir, name).unwrap();
                removed += 1;
            }
            if done.eof {
                break;
            }
            assert!(!names.is_empty());
        }
        assert_eq!(removed, 1800);
        tree.rmdir(&root(6), ROOT, b"big").unwrap();
    }
}

/// What is there all along is listed once, with one cookie, whatever else comes and goes.
#[test]
fn cookies_stay_while_others_come_and_go() {
    let bench = Bench::new();
    let (snapshot, names) = big(&bench, 1200);
    let tree = bench.clone_of(snapshot);
    let dir = tree.find(ROOT, b"big").unwrap().node;
    tree.file(dir, b"stays", b"");
    let before = list(&*tree, dir, 64);
    let (mut cookie, mut seen, mut turn) = (0, Vec::new(), 0);
    loop {
        let mut taken = 0;
        let done = tree
            .readdir(&Creds::ROOT, dir, cookie, true, &mut |e| {
                taken += 1;
                if taken > 50 {
                    return false;
                }
                cookie = e.cookie;
                seen.push((e.name.to_vec(), e.node, e.cookie));
                true
            })
            .unwrap();
        if done.eof {
            break;
        }
        // Odd names go and some come back; others are new.
        for i in (turn * 90..turn * 90 + 90).filter(|i| i % 2 == 1 && *i < 1200) {
            tree.remove(&root(5), dir, &names[i]).unwrap();
            if i % 3 == 0 {
                tree.file(dir, &names[i], b"again");
            }
        }
        tree.file(dir, format!("new{turn}").as_bytes(), b"");
        turn += 1;
    }
    let all: HashSet<_> = seen.iter().cloned().collect();
    assert_eq!(all.len(), seen.len(), "nothing twice under one cookie");
    let stable = |name: &[u8]| name == b"stays" || name[0] == b'f' && name[4].is_multiple_of(2);
    for entry in before.iter().filter(|e| stable(&e.0)) {
        assert_eq!(seen.iter().filter(|e| e.0 == entry.0).count(), 1);
        assert!(all.contains(entry), "{:?} moved", entry);
    }
}

#[test]
fn rename_replaces_what_it_may() {
    let bench = Bench::new();
    let tree = bench.empty();
    let (a, b) = (tree.dir(ROOT, b"a"), tree.dir(ROOT, b"b"));
    let below = tree.dir(a, b"below");
    let (f, g) = (tree.file(ROOT, b"f", b"f"), tree.file(ROOT, b"g", b"g"));
    let mv = |from, name: &[u8], to, new: &[u8]| tree.rename(&root(5), from, name, to, new);
    assert_eq!(mv(ROOT, b"a", below, b"x"), Err(Errno::Inval));
    assert_eq!(mv(ROOT, b"a", a, b"x"), Err(Errno::Inval));
    assert_eq!(mv(ROOT, b"f", ROOT, b"a"), Err(Errno::IsDir));
    assert_eq!(mv(ROOT, b"a", ROOT, b"f"), Err(Errno::NotDir));
    assert_eq!(mv(ROOT, b"b", ROOT, b"a"), Err(Errno::NotEmpty));
    assert_eq!(mv(a, b"below", ROOT, b"a"), Err(Errno::NotEmpty));
    assert_eq!(mv(ROOT, b"none", ROOT, b"a"), Err(Errno::NoEnt));
    assert_eq!(tree.getattr(ROOT).unwrap().nlink, 4);

    let done = mv(ROOT, b"a", ROOT, b"b").unwrap();
    assert_eq!((done.node.node, done.node.nlink), (a, 3));
    assert_eq!(done.wcc.after, done.to.unwrap().after);
    assert_eq!(tree.getattr(ROOT).unwrap().nlink, 3);
    assert_eq!(tree.getattr(b), Err(Errno::Stale));
    mv(a, b"below", ROOT, b"up").unwrap();
    assert_eq!(tree.find(below, b"..").unwrap().node, ROOT);
    assert_eq!(
        (
            tree.getattr(a).unwrap().nlink,
            tree.getattr(ROOT).unwrap().nlink
        ),
        (2, 4)
    );

    mv(ROOT, b"f", ROOT, b"g").unwrap();
    assert_eq!(tree.getattr(g), Err(Errno::Stale));
    tree.link(&root(6), f, ROOT, b"other").unwrap();
    let same = mv(ROOT, b"g", ROOT, b"other").unwrap();
    assert_eq!((same.node.nlink, same.wcc.before), (2, same.wcc.after));
    assert_eq!(tree.names(ROOT), [&b"b"[..], b"up", b"g", b"other"]);
}

#[test]
fn a_renamed_directory_touches_only_its_own_rows() {
    let bench = Bench::new();
    let (snapshot, names) = big(&bench, 1200);
    let tree = bench.clone_of(snapshot);
    let dir = tree.find(ROOT, b"big").unwrap().node;
    tree.rename(&root(5), ROOT, b"big", ROOT, b"moved").unwrap();
    assert_eq!(tree.names(dir).len(), names.len());
    let rows = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE tree = {}", tree.id());
        tree.writer
            .with(|c| c.query_row(&sql, [], |r| r.get(0)).unwrap())
    };
    let rows = rows("node") + rows("added") + rows("whiteout");
    assert_eq!(
        rows, 4,
        "the root, the directory, its new name, its old one"
    );
}

#[test]
fn hard_links_have_a_limit() {
    let bench = Bench::new();
    let tree = bench.empty();
    let f = tree.file(ROOT, b"f", b"");
    tree.change().unwrap().nodes.get_mut(&f).unwrap().nlink = LINK_MAX - 1;
    tree.link(&root(3), f, ROOT, b"last").unwrap();
    assert_eq!(tree.link(&root(3), f, ROOT, b"more"), Err(Errno::MLink));
    let d = tree.dir(ROOT, b"d");
    assert_eq!(tree.link(&root(3), d, ROOT, b"more"), Err(Errno::Perm));
}

#[test]
fn names_are_bytes_of_a_bounded_length() {
    let bench = Bench::new();
    let tree = bench.empty();
    let longest = [b'\xff'; 255];
    tree.file(ROOT, &longest, b"x");
    assert!(tree.find(ROOT, &longest).is_ok());
    let make = |name: &[u8]| tree.mkdir(&root(2), ROOT, name, &mode(0o755)).map(|_| ());
    assert_eq!(make(&[b'x'; 256]), Err(Errno::NameTooLong));
    for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
        assert_eq!(make(bad), Err(Errno::Inval), "{bad:?}");
    }
    let long = tree.symlink(&root(2), ROOT, b"l", &[b'x'; 5000], &SetAttr::default());
    assert_eq!(long, Err(Errno::NameTooLong));
}

#[test]
fn the_hidden_directory_is_looked_up_but_not_listed() {
    let bench = Bench::new();
    let tree = bench.empty();
    let hidden = tree.dir(ROOT, HIDDEN);
    tree.file(hidden, b"open", b"x");
    tree.dir(tree.dir(ROOT, b"d"), HIDDEN);
    assert_eq!(tree.find(ROOT, HIDDEN).unwrap().node, hidden);
    assert_eq!(tree.names(ROOT), [b"d"]);
    assert_eq!(tree.names(tree.find(ROOT, b"d").unwrap().node), [HIDDEN]);
}

#[test]
fn exclusive_create_finds_the_file_it_made() {
    let mut bench = Bench::new();
    let tree = bench.empty();
    let id = tree.id();
    let create = |tree: &WorkTree, v| {
        tree.create(
            &root(2),
            ROOT,
            b"f",
            Create::Exclusive([v; 8]),
            &SetAttr::default(),
        )
    };
    let made = create(&tree, 1).unwrap();
    assert_eq!(create(&tree, 1).unwrap().node, made.node);
    assert_eq!(create(&tree, 2), Err(Errno::Exist));
    drop(tree);
    bench.reopen();
    let tree = bench.works().get(id).unwrap();
    assert_eq!(create(&tree, 1).unwrap().node, made.node);
    assert_eq!(create(&tree, 2), Err(Errno::Exist));
    let guarded = tree.create(&root(2), ROOT, b"f", Create::Guarded, &mode(0o644));
    assert_eq!(guarded, Err(Errno::Exist));
    let new = SetAttr {
        size: Some(0),
        ..mode(0o600)
    };
    tree.write(&root(3), made.node.node, 0, b"abc").unwrap();
    let truncated = tree
        .create(&root(4), ROOT, b"f", Create::Unchecked, &new)
        .unwrap();
    assert_eq!((truncated.node.size, truncated.wcc.after.node), (0, ROOT));
}
