use super::*;
use crate::sys::fuse::absent::NAMES_MAX;

fn fh(n: u64) -> Fh {
    Fh::new(&n.to_be_bytes()).unwrap()
}

fn attr(fileid: u64, ftype: ftype3, ctime: u32) -> fattr3 {
    fattr3 {
        ftype,
        nlink: 1,
        fileid,
        ctime: nfstime3 {
            seconds: ctime,
            nseconds: 0,
        },
        ..fattr3::default()
    }
}

fn table() -> Table {
    Table::new(fh(7), attr(7, ftype3::NF3DIR, 1), Some(0))
}

fn find(t: &Table, parent: u64, name: &[u8], n: u64, kind: ftype3, fresh: bool) -> u64 {
    let (fh, attr) = (fh(n), attr(n, kind, 10));
    let seen = Seen {
        parent,
        name,
        fh: &fh,
        attr: &attr,
    };
    t.found(&seen, t.now(), fresh)
}

fn file(t: &Table, name: &[u8], n: u64) -> u64 {
    find(t, ROOT, name, n, ftype3::NF3REG, false)
}

fn ctime(t: &Table, ino: u64) -> Option<u32> {
    t.believed_attr(ino).map(|(a, _)| a.ctime.seconds)
}

#[test]
fn a_late_reply_does_not_set_attributes_back() {
    let t = table();
    let ino = file(&t, b"f", 20);
    let sent = t.now();
    t.note(ino, &attr(20, ftype3::NF3REG, 30), sent);
    t.note(ino, &attr(20, ftype3::NF3REG, 20), sent);
    assert_eq!(ctime(&t, ino), Some(30));
    t.invalidate(ino);
    assert_eq!(ctime(&t, ino), None);
    // Sent before what made the attributes doubtful.
    t.note(ino, &attr(20, ftype3::NF3REG, 40), sent);
    assert_eq!(ctime(&t, ino), None);
    t.note(ino, &attr(20, ftype3::NF3REG, 25), t.now());
    assert_eq!(ctime(&t, ino), Some(25));
}

#[test]
fn the_last_name_of_an_open_file_is_hidden_and_no_other() {
    let t = table();
    let ino = file(&t, b"f", 20);
    assert_eq!(t.open(ino).unwrap(), Opened::Yes);
    assert_eq!(t.open_child(ROOT, b"f"), Some(ino));
    assert_eq!(t.begin_removal(ROOT, b"f"), Removal::Hide(ino));
    t.hidden(ROOT, b"f", ino, b"h".to_vec());
    assert_eq!(t.links(ino), Some(0));
    assert_eq!(t.open_child(ROOT, b"f"), None);
    assert_eq!(t.hidden_unused(ino), None);
    // Opened again by its inode, as /proc/PID/fd allows.
    assert_eq!(t.open(ino).unwrap(), Opened::Yes);
    assert_eq!(t.release(ino), None);
    assert_eq!(t.release(ino), Some(b"h".to_vec()));
    assert_eq!(t.release(ino), None);
    assert!(t.open(ino).is_err());

    let linked = file(&t, b"g", 21);
    let two = fattr3 {
        nlink: 2,
        ..attr(21, ftype3::NF3REG, 11)
    };
    t.note(linked, &two, t.now());
    t.open(linked).unwrap();
    assert_eq!(t.begin_removal(ROOT, b"g"), Removal::Remove);
}

#[test]
fn opening_waits_while_the_last_name_goes() {
    let t = table();
    let ino = file(&t, b"f", 20);
    assert_eq!(t.begin_removal(ROOT, b"f"), Removal::Remove);
    assert_eq!(t.open(ino).unwrap(), Opened::Wait);
    t.removed(ROOT, b"f", false);
    assert_eq!(t.open(ino).unwrap(), Opened::Yes);
    t.release(ino);
    t.begin_removal(ROOT, b"f");
    t.removed(ROOT, b"f", true);
    assert!(t.open(ino).is_err());
    // Found under another name after all.
    assert_eq!(file(&t, b"other", 20), ino);
    assert_eq!(t.open(ino).unwrap(), Opened::Yes);
}

#[test]
fn a_file_closed_while_it_is_hidden_is_nobodys_to_release() {
    let t = table();
    let ino = file(&t, b"f", 20);
    t.open(ino).unwrap();
    assert_eq!(t.begin_removal(ROOT, b"f"), Removal::Hide(ino));
    assert_eq!(t.release(ino), None);
    t.hidden(ROOT, b"f", ino, b"h".to_vec());
    assert_eq!(t.hidden_unused(ino), Some(b"h".to_vec()));
    assert_eq!(t.take_hidden(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_reused_fileid_is_another_node_while_the_old_one_is_known() {
    let t = table();
    let old = file(&t, b"f", 20);
    let (new_fh, new_attr) = (fh(99), attr(20, ftype3::NF3REG, 12));
    let seen = Seen {
        parent: ROOT,
        name: b"f",
        fh: &new_fh,
        attr: &new_attr,
    };
    let new = t.found(&seen, t.now(), false);
    assert_ne!(old, new);
    assert_eq!(t.handle(old).unwrap(), fh(20));
    assert_eq!(t.handle(new).unwrap(), new_fh);
    t.forget(old, 1);
    assert_eq!(t.found(&seen, t.now(), false), new);
    t.forget(new, 2);
    assert_eq!(t.found(&seen, t.now(), false), 20);
}

#[test]
fn fileids_that_the_kernel_reads_otherwise_are_shifted() {
    let t = table();
    assert_eq!(t.id(7), ROOT);
    for fileid in [0, 1] {
        assert!(t.id(fileid) > ROOT);
    }
    assert_eq!(t.id(20), 20);
}

#[test]
fn names_are_known_absent_until_they_appear() {
    let t = table();
    assert!(!t.is_absent(ROOT, b"a"));
    t.note_absent(ROOT, b"a", t.gains(ROOT));
    assert!(t.is_absent(ROOT, b"a"));
    let before = t.gains(ROOT);
    file(&t, b"a", 20);
    assert!(!t.is_absent(ROOT, b"a"));
    // An answer from before it appeared.
    t.note_absent(ROOT, b"a", before);
    assert!(!t.is_absent(ROOT, b"a"));
    t.renamed((ROOT, b"a"), (ROOT, b"b"));
    assert!(t.is_absent(ROOT, b"a") && !t.is_absent(ROOT, b"b"));
    t.begin_removal(ROOT, b"b");
    t.removed(ROOT, b"b", true);
    assert!(t.is_absent(ROOT, b"b"));
}

#[test]
fn a_directory_made_here_holds_what_was_put_there() {
    let t = table();
    let dir = find(&t, ROOT, b"d", 30, ftype3::NF3DIR, true);
    assert!(t.is_absent(dir, b"x"));
    let x = find(&t, dir, b"x", 31, ftype3::NF3REG, true);
    assert!(!t.is_absent(dir, b"x"));
    // The kernel may forget it; it is still there.
    t.forget(x, 1);
    assert!(!t.is_absent(dir, b"x") && t.is_absent(dir, b"y"));
    for n in 0..NAMES_MAX as u64 {
        find(&t, dir, &n.to_be_bytes(), 1000 + n, ftype3::NF3REG, true);
    }
    assert!(!t.is_absent(dir, b"y"));
}
