//! Checks, backups and readers of packed blobs.

use super::packed::{files, read, sound, text, two};
use super::{open, try_open};
use crate::fsck::{BlobFault, Fault, Waste};
use crate::index::Sync;
use crate::types::Digest;
use crate::{FsckOptions, Store};
use std::path::PathBuf;

fn packed(store: &Store) -> (Digest, PathBuf) {
    let path = files(store, "packed").pop().expect("one");
    let name = path.file_name().and_then(|name| name.to_str());
    (name.and_then(|n| n.parse().ok()).expect("a digest"), path)
}

#[test]
fn a_lost_row_comes_back_and_what_no_tree_needs_is_waste() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (old, _) = two(&store);
    store.pack_cold(500, &[], Vec::new()).expect("packed");
    let (digest, path) = packed(&store);
    let frame = std::fs::read(&path).expect("read");
    let drop_row = |tx: &rusqlite::Transaction<'_>| {
        tx.execute("DELETE FROM large_blob WHERE digest = ?1", [&digest.0])
            .map(drop)
    };
    let done = store.index.write("lose a row", Sync::Full, 0, drop_row);
    done.expect("lost");
    // And one that nothing refers to.
    let stray = Digest([0xab; 32]);
    drop(store);
    let folder = dir.path().join("store/packed/ab");
    std::fs::create_dir_all(&folder).expect("mkdir");
    std::fs::write(folder.join(stray.to_string()), &frame).expect("write");
    let store = try_open(dir.path(), false).expect("open");
    let repair = FsckOptions {
        repair: true,
        ..Default::default()
    };
    let report = store.fsck(&repair, &|_| ()).expect("repaired");
    let why = BlobFault::NoRow;
    let row = Fault::Blob { digest, why };
    assert!(report.findings.iter().any(|f| f.fault == row), "{report:?}");
    let wasted = |fault: &Fault| matches!(fault, Fault::Unreferenced { what: Waste::Files, count: 1, bytes } if *bytes > 0);
    assert!(
        report.findings.iter().any(|f| wasted(&f.fault)),
        "{report:?}"
    );
    assert!(!folder.join(stray.to_string()).exists());
    sound(&store);
    assert_eq!(read(&store, &old, "a").expect("read"), text("a"));
}

#[test]
fn a_backup_names_what_rotted_and_goes_on() {
    for cut in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (_, new) = two(&store);
        store.pack_cold(500, &[], Vec::new()).expect("packed");
        let (digest, path) = packed(&store);
        let mut bytes = std::fs::read(&path).expect("read");
        match cut {
            true => bytes.truncate(bytes.len() / 2),
            false => bytes[..4].fill(0),
        }
        std::fs::write(&path, &bytes).expect("write");
        let to = dir.path().join("backup");
        let done = store.backup(&to, &crate::BackupOptions::default());
        let done = done.expect("backup");
        assert_eq!((done.rotted, done.missing), (vec![digest], vec![]));
        let there = dir.path().join("there");
        std::fs::create_dir(&there).expect("mkdir");
        crate::restore(&to, &there.join("store")).expect("restored");
        let restored = try_open(&there, false).expect("open");
        assert_eq!(read(&restored, &new, "c").expect("read"), text("c"));
    }
}

/// One whose frame is on a disk that does not answer: others are read.
#[test]
fn a_packed_blob_that_takes_long_keeps_no_other_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (old, new) = two(&store);
    assert_eq!(
        store
            .pack_cold(5000, &[], Vec::new())
            .expect("packed")
            .blobs,
        3
    );
    let name = crate::object::digest_of(&text("a")).to_string();
    let path = store.dir().join("packed").join(&name[..2]).join(&name);
    let frame = std::fs::read(&path).expect("read");
    std::fs::remove_file(&path).expect("remove");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    std::thread::scope(|scope| {
        let readers = [(); 2].map(|()| scope.spawn(|| read(&store, &old, "a")));
        // Opened for writing when a reader has it open.
        let mut pipe = std::fs::File::options()
            .write(true)
            .open(&path)
            .expect("a reader");
        assert_eq!(read(&store, &new, "c").expect("read"), text("c"));
        std::io::Write::write_all(&mut pipe, &frame).expect("write");
        drop(pipe);
        for reader in readers {
            assert_eq!(reader.join().expect("joined").expect("read"), text("a"));
        }
    });
}
