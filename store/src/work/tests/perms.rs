//! Who may do what.

use super::*;

fn owner() -> Creds {
    user(1001, 1001, &[50])
}

fn member() -> Creds {
    user(1002, 1002, &[1001])
}

fn other() -> Creds {
    user(1003, 1003, &[])
}

fn chown(uid: u32, gid: u32) -> SetAttr {
    SetAttr {
        uid: Some(uid),
        gid: Some(gid),
        ..SetAttr::default()
    }
}

/// A tree with `d/f`, both of 1001:1001 and of the given modes.
fn fixture(bench: &Bench, dir: u32, file: u32) -> (Arc<WorkTree>, Node, Node) {
    let tree = bench.empty();
    let d = tree.dir(ROOT, b"d");
    let f = tree.file(d, b"f", b"data");
    for (n, bits) in [(f, file), (d, dir)] {
        tree.setattr(&root(3), n, &chown(1001, 1001), None).unwrap();
        tree.setattr(&root(3), n, &mode(bits), None).unwrap();
    }
    (tree, d, f)
}

/// Each operation under each class, with each single bit: what POSIX and a file server's
/// two exceptions (the owner reads and writes, x alone reads) say.
#[test]
fn the_permission_matrix() {
    let bench = Bench::new();
    for (who, shift) in [(owner(), 6), (member(), 3), (other(), 0)] {
        for bits in 0..8 {
            let (tree, d, f) = fixture(&bench, 0o777, bits << shift);
            let own = shift == 6;
            let read = tree.read(&who, f, 0, 10, &mut Vec::new()).is_ok();
            assert_eq!(read, own || bits & 5 != 0, "read {bits:o} << {shift}");
            let write = tree.write(&cx(&who, 5), f, 0, b"x").is_ok();
            assert_eq!(write, own || bits & 2 != 0, "write {bits:o} << {shift}");
            assert_eq!(tree.access(&who, f).unwrap().0, Perm(bits));
            let xattr = tree
                .setxattr(&cx(&who, 5), f, b"user.x", b"", XattrHow::Either)
                .is_ok();
            assert_eq!(xattr, bits & 2 != 0, "setxattr {bits:o} << {shift}");
            assert!(tree.slurp(f).len() == 4 && tree.write(&root(5), f, 0, b"x").is_ok());
            bench.works().drop_tree(tree.id()).unwrap();

            let (tree, _, _) = fixture(&bench, bits << shift, 0o777);
            let look = tree.lookup(&who, d, b"f").map(|_| ());
            let allowed = |yes| if yes { Ok(()) } else { Err(Errno::Access) };
            assert_eq!(look, allowed(bits & 1 != 0), "lookup {bits:o} << {shift}");
            let list = tree.readdir(&who, d, 0, false, &mut |_| true).map(|_| ());
            assert_eq!(list, allowed(bits & 4 != 0), "readdir {bits:o} << {shift}");
            let made = tree
                .mkdir(&cx(&who, 5), d, b"new", &mode(0o755))
                .map(|_| ());
            assert_eq!(made, allowed(bits & 3 == 3), "mkdir {bits:o} << {shift}");
            let gone = tree.remove(&cx(&who, 5), d, b"f").map(|_| ());
            assert_eq!(gone, allowed(bits & 3 == 3), "remove {bits:o} << {shift}");
            bench.works().drop_tree(tree.id()).unwrap();
        }
    }
    assert_eq!(
        fixture(&bench, 0, 0)
            .0
            .access(&Creds::ROOT, ROOT + 2)
            .unwrap()
            .0,
        Perm(6)
    );
}

#[test]
fn sticky_directories_keep_others_files() {
    let bench = Bench::new();
    let (tree, d, _) = fixture(&bench, 0o1777, 0o666);
    let none = Err(Errno::Perm);
    assert_eq!(tree.remove(&cx(&other(), 5), d, b"f").map(|_| ()), none);
    assert_eq!(
        tree.rename(&cx(&other(), 5), d, b"f", d, b"g").map(|_| ()),
        none
    );
    tree.create(&cx(&other(), 5), d, b"mine", Create::Guarded, &mode(0o644))
        .unwrap();
    assert_eq!(
        tree.rename(&cx(&other(), 5), d, b"mine", d, b"f")
            .map(|_| ()),
        none
    );
    assert_eq!(tree.remove(&cx(&member(), 5), d, b"mine").map(|_| ()), none);
    tree.rename(&cx(&other(), 5), d, b"mine", d, b"still mine")
        .unwrap();
    // The directory's owner may.
    tree.remove(&cx(&owner(), 5), d, b"still mine").unwrap();
}

#[test]
fn setgid_directories_hand_down_their_group() {
    let bench = Bench::new();
    let (tree, d, _) = fixture(&bench, 0o2777, 0o644);
    let who = other();
    let f = tree
        .create(&cx(&who, 5), d, b"new", Create::Guarded, &mode(0o2755))
        .unwrap()
        .node;
    assert_eq!(
        (f.uid, f.gid, f.mode),
        (1003, 1001, 0o755),
        "setgid is not for non-members"
    );
    let sub = tree
        .mkdir(&cx(&who, 5), d, b"sub", &mode(0o755))
        .unwrap()
        .node;
    assert_eq!((sub.gid, sub.mode), (1001, 0o2755));
    let plain = tree
        .mkdir(&cx(&who, 5), sub.node, b"s", &mode(0o700))
        .unwrap()
        .node;
    assert_eq!((plain.gid, plain.mode), (1001, 0o2700));
    let link = tree
        .symlink(&cx(&who, 5), d, b"l", b"to", &mode(0))
        .unwrap()
        .node;
    assert_eq!((link.gid, link.mode), (1001, 0o777));
}

#[test]
fn privileges_go_with_what_they_were_given_for() {
    let bench = Bench::new();
    let caps = b"security.capability";
    let fresh = |bits| {
        let (tree, _, f) = fixture(&bench, 0o777, bits);
        tree.setxattr(&root(4), f, caps, b"cap", XattrHow::Either)
            .unwrap();
        (tree, f)
    };
    let bits = |tree: &WorkTree, f| {
        (
            tree.getattr(f).unwrap().mode,
            tree.getxattr(f, caps).is_ok(),
        )
    };
    let truncate = SetAttr {
        size: Some(1),
        ..SetAttr::default()
    };

    let (tree, f) = fresh(0o6777);
    tree.write(&cx(&other(), 5), f, 0, b"x").unwrap();
    assert_eq!(bits(&tree, f), (0o777, false));
    let (tree, f) = fresh(0o6777);
    tree.setattr(&cx(&other(), 5), f, &truncate, None).unwrap();
    assert_eq!(bits(&tree, f), (0o777, false));
    let (tree, f) = fresh(0o6777);
    tree.setattr(&root(5), f, &chown(0, 0), None).unwrap();
    assert_eq!(bits(&tree, f), (0o777, false));
    // Root writes as with CAP_FSETID; capabilities go all the same.
    let (tree, f) = fresh(0o6777);
    tree.write(&root(5), f, 0, b"x").unwrap();
    assert_eq!(bits(&tree, f), (0o6777, false));
    // A large file as well, and mandatory locking's bit is not setgid.
    let (tree, f) = fresh(0o644);
    tree.write(&root(5), f, 0, &[1; 50_000]).unwrap();
    tree.setattr(&root(5), f, &mode(0o6766), None).unwrap();
    tree.write(&cx(&user(1002, 1001, &[]), 6), f, 0, b"x")
        .unwrap();
    assert_eq!(bits(&tree, f).0, 0o2766);
}

#[test]
fn owners_change_what_is_theirs() {
    let bench = Bench::new();
    let (tree, _, f) = fixture(&bench, 0o777, 0o666);
    let set = |who: &Creds, new: SetAttr| {
        tree.setattr(&cx(who, 5), f, &new, None)
            .map(|c| c.node.mode)
    };
    assert_eq!(set(&other(), mode(0o777)), Err(Errno::Perm));
    assert_eq!(set(&owner(), mode(0o2755)), Ok(0o2755));
    let gid = |gid| SetAttr {
        gid: Some(gid),
        ..SetAttr::default()
    };
    assert_eq!(set(&owner(), gid(1002)), Err(Errno::Perm));
    assert_eq!(set(&owner(), gid(50)), Ok(0o755));
    assert_eq!(set(&other(), gid(1003)), Err(Errno::Perm));
    assert_eq!(set(&owner(), chown(1002, 50)), Err(Errno::Perm));
    let times = |t| SetAttr {
        mtime: Some(t),
        ..SetAttr::default()
    };
    assert_eq!(set(&other(), times(SetTime::Now)), Err(Errno::Access));
    set(&Creds::ROOT, mode(0o666)).unwrap();
    assert!(set(&other(), times(SetTime::Now)).is_ok());
    assert_eq!(set(&other(), times(SetTime::At(at(9)))), Err(Errno::Perm));
    assert!(set(&owner(), times(SetTime::At(at(9)))).is_ok());
    assert_eq!(tree.getattr(f).unwrap().mtime, at(9));
    let dev = tree.mknod(
        &cx(&owner(), 5),
        ROOT + 1,
        b"dev",
        Kind::Char,
        Rdev::default(),
        &mode(0o666),
    );
    assert_eq!(dev, Err(Errno::Perm));
    let trusted = tree.setxattr(&cx(&owner(), 5), f, b"trusted.x", b"", XattrHow::Either);
    assert_eq!(trusted, Err(Errno::Perm));
}

#[test]
fn a_guard_stops_a_setattr_that_comes_late() {
    let bench = Bench::new();
    let (tree, _, f) = fixture(&bench, 0o777, 0o666);
    let seen = tree.getattr(f).unwrap().ctime;
    // The clock stands still; ctime does not.
    let done = tree.setattr(&root(3), f, &mode(0o600), Some(seen)).unwrap();
    assert!(done.node.ctime > seen);
    assert_eq!(
        tree.setattr(&root(3), f, &mode(0o666), Some(seen)),
        Err(Errno::NotSync)
    );
    assert_eq!(tree.getattr(f).unwrap().mode, 0o600);
}

#[test]
fn xattrs_are_set_as_asked_and_bounded() {
    let bench = Bench::new();
    let tree = bench.empty();
    let f = tree.file(ROOT, b"f", b"");
    let set =
        |name: &[u8], value: &[u8], how| tree.setxattr(&root(3), f, name, value, how).map(|_| ());
    assert_eq!(set(b"user.b", b"1", XattrHow::Replace), Err(Errno::NoData));
    set(b"user.b", b"1", XattrHow::Create).unwrap();
    assert_eq!(set(b"user.b", b"2", XattrHow::Create), Err(Errno::Exist));
    set(b"user.b", b"2", XattrHow::Replace).unwrap();
    set(b"user.a", b"", XattrHow::Either).unwrap();
    assert_eq!(tree.listxattr(f).unwrap(), [b"user.a", b"user.b"]);
    assert_eq!(tree.getxattr(f, b"user.b").unwrap(), b"2");
    assert_eq!(
        set(b"user.big", &[0; XATTR_TOTAL_MAX], XattrHow::Either),
        Err(Errno::NoSpc)
    );
    assert_eq!(
        set(&[b'x'; 256], b"", XattrHow::Either),
        Err(Errno::NameTooLong)
    );
    tree.removexattr(&root(3), f, b"user.b").unwrap();
    assert_eq!(
        tree.removexattr(&root(3), f, b"user.b").map(|_| ()),
        Err(Errno::NoData)
    );
}
