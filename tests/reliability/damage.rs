//! What `pocker` says of stores that cannot be served, and what goes on where one tree is hurt.

use crate::support::{Done, World, until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::Path;

/// A store that was served and is closed.
fn closed() -> World {
    let w = World::new();
    w.create("box", "EXEC echo kept >/kept\nRUN cat /kept\n")
        .ok();
    w.pocker(&["volume", "create", "data"]).ok();
    stopped(&w);
    w
}

/// The server has closed its store, too, which it writes to till then.
fn stopped(w: &World) {
    w.pocker(&["serve", "--stop"]).ok();
    let lock = w.path("store/lock");
    until("the store is closed", || {
        std::fs::read(&lock).is_ok_and(|pid| pid.is_empty())
    });
}

/// What a command says, without the names that are new each time.
fn said(w: &World, done: &Done) -> String {
    done.err
        .replace(w.dir.path().to_str().expect("text"), "WORLD")
}

fn garbage(path: &Path) {
    let len = path.metadata().expect("it is there").len() as usize;
    let bytes: Vec<u8> = b"no database ".iter().copied().cycle().take(len).collect();
    std::fs::write(path, bytes).expect("write");
}

/// Refused with this, and everything is left as it is.
#[track_caller]
fn refused(w: &World, files: &[&str]) -> String {
    let read = |name: &&str| std::fs::read(w.path("store").join(name)).unwrap_or_default();
    let before: Vec<_> = files.iter().map(read).collect();
    let done = w.pocker(&["ls"]);
    assert_ne!(done.status, 0, "{}", done.out);
    assert!(
        before == files.iter().map(read).collect::<Vec<_>>(),
        "touched"
    );
    said(w, &done)
}

#[test]
fn an_index_that_is_garbage() {
    let w = closed();
    garbage(&w.path("store/index.db"));
    insta::assert_snapshot!(refused(&w, &["index.db"]));
}

#[test]
fn an_index_that_is_gone() {
    let w = closed();
    std::fs::remove_file(w.path("store/index.db")).expect("removed");
    insta::assert_snapshot!(refused(&w, &[]));
}

#[test]
fn a_newer_format_and_an_unknown_feature() {
    let w = closed();
    let db = rusqlite::Connection::open(w.path("store/index.db")).expect("open");
    db.execute("INSERT INTO feature VALUES ('zstd-blobs', 1)", [])
        .expect("put");
    drop(db);
    let feature = refused(&w, &["index.db"]);
    let db = rusqlite::Connection::open(w.path("store/index.db")).expect("open");
    db.pragma_update(None, "user_version", 99).expect("set");
    drop(db);
    insta::assert_snapshot!(format!("{feature}\n{}", refused(&w, &["index.db"])));
}

#[test]
fn an_index_that_another_program_has_locked() {
    let w = closed();
    let db = rusqlite::Connection::open(w.path("store/index.db")).expect("open");
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")
        .expect("set");
    db.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    let text = refused(&w, &[]);
    drop(db);
    // And when it is gone, all is well.
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
    insta::assert_snapshot!(text);
}

#[test]
fn volumes_that_are_garbage() {
    let w = closed();
    garbage(&w.path("store/volumes.db"));
    insta::assert_snapshot!(refused(&w, &["volumes.db", "index.db"]));
}

/// Build and run trees are of one boot; all else is served, and the file is kept.
#[test]
fn work_trees_that_are_garbage() {
    let w = closed();
    garbage(&w.path("store/work.db"));
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
    assert!(w.path("store/quarantine/work.db").exists());
    let log = std::fs::read_to_string(w.path("s/serve.log")).expect("a log");
    assert!(log.contains("work.db is damaged"), "{log}");
    w.pocker(&["fsck"]).ok();
}

#[test]
fn a_read_only_bind_mount() {
    let w = closed();
    let (store, none) = (w.path("store"), None::<&str>);
    mount(Some(&store), &store, none, MsFlags::MS_BIND, none).expect("bind");
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, &store, none, flags, none).expect("remount");
    let text = refused(&w, &["index.db"]);
    umount2(&store, MntFlags::MNT_DETACH).expect("umount");
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
    insta::assert_snapshot!(text);
}

/// A file that is gone is an error to who reads it, and to nobody else.
#[test]
fn one_tree_is_hurt_and_others_are_not() {
    let w = World::new();
    w.create("box", "EXEC echo kept >/kept\nRUN cat /kept\n")
        .ok();
    w.create(
        "hurt",
        "EXEC dd if=/dev/urandom of=/large bs=64k count=4 2>/dev/null\nRUN cat /large\n",
    )
    .ok();
    stopped(&w);
    let mut gone = None;
    for sub in std::fs::read_dir(w.path("store/blobs")).expect("blobs") {
        for file in std::fs::read_dir(sub.expect("an entry").path()).expect("a folder") {
            let file = file.expect("a file");
            if file.metadata().expect("stat").len() == 256 << 10 {
                std::fs::remove_file(file.path()).expect("removed");
                gone = Some(file.file_name().into_string().expect("a digest"));
            }
        }
    }
    let gone = gone.expect("the large file's blob");
    w.pocker(&["run", "hurt"]).fails(&["Input/output error"]);
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
    let done = w.pocker(&["fsck"]);
    assert_eq!(done.status, 4);
    for word in [&*gone, "in hurt", "at /large"] {
        assert!(done.out.contains(word), "no {word:?} in:\n{}", done.out);
    }
    assert!(!done.out.contains("box"), "{}", done.out);
    w.pocker(&["fsck", "--repair"]);
    w.pocker(&["create", "--no-cache", "-f", "hurt.pockerfile", "hurt"])
        .ok();
    w.pocker(&["run", "hurt"]).ok();
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
}
