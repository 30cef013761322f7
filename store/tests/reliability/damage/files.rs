//! The store's files: `index.db` and the databases and journals of work trees and volumes.

use super::{blob, seen, sql, whole};
use crate::bench::{create, find, large, named};
use crate::state::Opened;
use pocker_testing::image::{Empty, copy, folder};
use std::path::Path;

fn garbage(dir: &Path, name: &str) {
    let path = dir.join(name);
    let len = path.metadata().expect("it is there").len() as usize;
    let bytes: Vec<u8> = b"no database at all "
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect();
    std::fs::write(path, bytes).expect("write");
}

fn cut(dir: &Path, name: &str) {
    let file = std::fs::File::options()
        .write(true)
        .open(dir.join(name))
        .expect("open");
    let len = file.metadata().expect("stat").len();
    file.set_len(len / 2).expect("cut");
}

/// What it had then is there, and blobs that came since are not lost by it.
#[test]
fn an_old_copy_of_the_index() {
    insta::assert_snapshot!(seen(|dir| {
        let old = folder();
        std::fs::copy(dir.join("index.db"), old.path().join("index.db")).expect("copied");
        let opened = Opened::at(dir).expect("a store");
        named(&opened.store, "newer", 5).expect("a pocker");
        drop(opened);
        assert!(blob(dir, &large(5)).exists());
        std::fs::copy(old.path().join("index.db"), dir.join("index.db")).expect("copied");
    }));
}

#[test]
fn garbage_for_the_index() {
    insta::assert_snapshot!(seen(|dir| garbage(dir, "index.db")));
}

#[test]
fn half_of_the_index() {
    insta::assert_snapshot!(seen(|dir| cut(dir, "index.db")));
}

#[test]
fn nothing_of_the_index() {
    insta::assert_snapshot!(seen(|dir| {
        std::fs::write(dir.join("index.db"), "").expect("write");
    }));
}

#[test]
fn no_index() {
    insta::assert_snapshot!(seen(|dir| {
        std::fs::remove_file(dir.join("index.db")).expect("removed");
    }));
}

#[test]
fn another_programs_index() {
    insta::assert_snapshot!(seen(|dir| {
        std::fs::remove_file(dir.join("index.db")).expect("removed");
        let conn = rusqlite::Connection::open(dir.join("index.db")).expect("open");
        conn.execute("CREATE TABLE theirs (x)", []).expect("made");
    }));
}

#[test]
fn a_newer_format() {
    insta::assert_snapshot!(seen(|dir| {
        let conn = rusqlite::Connection::open(dir.join("index.db")).expect("open");
        conn.pragma_update(None, "user_version", 99).expect("set");
    }));
}

#[test]
fn an_unknown_feature() {
    insta::assert_snapshot!(seen(|dir| {
        sql(
            dir,
            "index.db",
            "INSERT INTO feature VALUES ('zstd-blobs', 1)",
            1,
        );
    }));
}

#[test]
fn a_newer_format_of_volumes() {
    insta::assert_snapshot!(seen(|dir| {
        let conn = rusqlite::Connection::open(dir.join("volumes.db")).expect("open");
        conn.pragma_update(None, "user_version", 99).expect("set");
    }));
}

/// Work trees are thrown away with it, and it is kept; volumes and all else stay.
#[test]
fn garbage_for_work_db() {
    insta::assert_snapshot!(seen(|dir| garbage(dir, "work.db")));
}

#[test]
fn garbage_for_volumes_db() {
    insta::assert_snapshot!(seen(|dir| garbage(dir, "volumes.db")));
}

/// A row of a volume that makes no sense: one volume suffers, no other one.
#[test]
fn a_row_of_a_volume() {
    insta::assert_snapshot!(seen(|dir| {
        let settle = Opened::at(dir).expect("a store");
        settle.fsck(false).expect("fsck");
        drop(settle);
        let text = "UPDATE node SET data = x'ff00' WHERE (tree, node) = \
                    (SELECT tree, max(node) FROM node WHERE tree = (SELECT min(tree) FROM node))";
        sql(dir, "volumes.db", text, 1);
    }));
}

/// A file of a few bytes, which are a row: that file cannot be read, all others can.
#[test]
fn the_content_of_a_file_of_a_volume_gone() {
    insta::assert_snapshot!(seen(|dir| {
        let settle = Opened::at(dir).expect("a store");
        settle.fsck(false).expect("fsck");
        drop(settle);
        let text = "DELETE FROM content WHERE tree = (SELECT min(tree) FROM node)";
        sql(dir, "volumes.db", text, 1);
    }));
}

#[test]
fn a_staged_file_of_a_volume_gone() {
    insta::assert_snapshot!(seen(|dir| {
        let trees = std::fs::read_dir(dir.join("volumes")).expect("list");
        let mut trees: Vec<_> = trees.map(|e| e.expect("an entry").path()).collect();
        trees.sort();
        for file in std::fs::read_dir(&trees[0]).expect("list") {
            std::fs::remove_file(file.expect("an entry").path()).expect("removed");
        }
    }));
}

/// A bit in the middle of a journal: what comes behind is left out, told, and kept in quarantine.
#[test]
fn a_flipped_bit_in_a_journal() {
    for (journal, label) in [("work.journal.0", "work"), ("volumes.journal.0", "volumes")] {
        let folder = folder();
        let dir = folder.path().join("store");
        whole(&dir);
        let opened = Opened::at(&dir).expect("a store");
        opened.fsck(false).expect("the databases hold everything");
        let works = match label {
            "work" => &opened.works,
            _ => &opened.volumes,
        };
        let tree = find(works, "one").expect("a tree");
        for name in ["first", "second", "third"] {
            create(&tree, name).expect("made");
        }
        // As a kill leaves it: the rows are in the journal alone.
        let image = folder.path().join("image");
        copy(&dir, &image, Empty::Left);
        drop((tree, opened));
        let mut bytes = std::fs::read(image.join(journal)).expect("read");
        let at = bytes
            .windows(6)
            .position(|part| part == b"second")
            .expect("it is there");
        bytes[at] ^= 1;
        std::fs::write(image.join(journal), &bytes).expect("write");
        let opened = Opened::at(&image).expect("a store");
        let works = match label {
            "work" => &opened.works,
            _ => &opened.volumes,
        };
        let tree = find(works, "one").expect("a tree");
        let there = |name| crate::bench::node(&tree, name).is_some();
        let found = ["large-file", "first", "second", "third"].map(there);
        assert_eq!(found, [true, true, false, false], "{journal}");
        let kept = std::fs::read(image.join("quarantine").join(journal)).expect("kept");
        assert!(kept == bytes, "{journal} is kept as it was");
        assert!(opened.fsck(false).expect("fsck").is_sound(), "{journal}");
    }
}
