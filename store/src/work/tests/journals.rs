//! What a crash of the machine leaves of a volume's journal, which keeps any part of what was
//! not synced: frames behind a lost one do not count, in its file and in the next.

use super::super::journal::{Journal, Mark};
use super::super::rows::Row;
use super::*;
use std::os::unix::fs::FileExt;
use std::path::Path;

fn row(reserved: Node) -> Row {
    Row::Reserved { tree: 1, reserved }
}

fn open(dir: &Path, applied: Mark) -> (Journal, Vec<Row>) {
    Journal::open(dir, Durability::Disk, applied).unwrap()
}

/// The frame at `at` did not reach the disk.
fn lose(dir: &Path, file: usize, at: u64) {
    let path = dir.join(format!("volumes.journal.{file}"));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0xa5; 12], at).unwrap();
}

#[test]
fn what_stood_behind_a_lost_frame_never_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, rows) = open(dir.path(), Mark::default());
    assert_eq!(rows, []);
    let begin = journal.mark();
    journal.append(&[row(1)]).unwrap();
    journal.append(&[row(2)]).unwrap();
    drop(journal);
    lose(dir.path(), 0, begin.offset);
    let (mut journal, rows) = open(dir.path(), begin);
    assert_eq!(rows, []);
    // As long as the lost one: the second would stand right behind it.
    journal.append(&[row(3)]).unwrap();
    drop(journal);
    assert_eq!(open(dir.path(), begin).1, [row(3)]);
}

/// Two rows in one file, of which the database has the first, and a third in the other: up to where
/// it has them, and the end.
fn turned(dir: &Path) -> (Mark, u64) {
    let (mut journal, _) = open(dir, Mark::default());
    journal.turn_after(40);
    journal.append(&[row(1)]).unwrap();
    let applied = journal.mark();
    // Appended while the database took the first.
    journal.append(&[row(2)]).unwrap();
    journal.applied(applied).unwrap();
    assert!(journal.mark().generation > applied.generation, "it turned");
    journal.append(&[row(3)]).unwrap();
    (applied, journal.mark().offset)
}

#[test]
fn a_file_counts_only_behind_the_end_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (applied, _) = turned(dir.path());
    assert_eq!(open(dir.path(), applied).1, [row(2), row(3)]);
    lose(dir.path(), 0, applied.offset);
    let (mut journal, rows) = open(dir.path(), applied);
    assert_eq!(rows, [], "what the third was made on is lost");
    journal.append(&[row(4)]).unwrap();
    drop(journal);
    assert_eq!(open(dir.path(), applied).1, [row(4)]);
}

/// What a failed sync leaves in the page cache counts as written there: read from it and synced
/// it still is not on the disk, and nothing behind it would count after a crash.
#[test]
fn what_is_read_is_written_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let (applied, end) = turned(dir.path());
    let file = |at: usize| {
        let path = dir.path().join(format!("volumes.journal.{at}"));
        std::fs::File::options().write(true).open(path).unwrap()
    };
    // Nothing is behind the last frame that would be wiped.
    file(1).set_len(end).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH;
    for at in 0..2 {
        file(at).set_modified(old).unwrap();
    }
    assert_eq!(open(dir.path(), applied).1, [row(2), row(3)]);
    for at in 0..2 {
        let modified = file(at).metadata().unwrap().modified().unwrap();
        assert_ne!(modified, old, "file {at}");
    }
}

/// Whatever moment of a close a process or machine ends at, nothing of the journal is lost.
#[test]
fn a_close_ends_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Mark::default());
    let begin = journal.mark();
    journal.append(&[row(1)]).unwrap();
    let all = journal.mark();
    let closed = journal.close().unwrap();
    assert!(closed.generation > all.generation);
    drop(journal);
    // The database was not told, and may itself have come back without what it had.
    assert_eq!(open(dir.path(), begin).1, [row(1)]);
    assert_eq!(open(dir.path(), all).1, []);
    // It was told.
    let (mut journal, rows) = open(dir.path(), closed);
    assert_eq!(rows, []);
    journal.shrink().unwrap();
    // Somebody has a tree still.
    journal.append(&[row(2)]).unwrap();
    drop(journal);
    let (mut journal, rows) = open(dir.path(), closed);
    assert_eq!(rows, [row(2)]);
    // Cut in the middle.
    let applied = journal.mark();
    let closed = journal.close().unwrap();
    drop(journal);
    let old = Journal::paths(dir.path(), Durability::Disk)
        .into_iter()
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    std::fs::File::options()
        .write(true)
        .open(old)
        .unwrap()
        .set_len(0)
        .unwrap();
    let (mut journal, rows) = open(dir.path(), closed);
    assert_eq!(rows, [], "of {applied:?}");
    journal.append(&[row(3)]).unwrap();
    drop(journal);
    assert_eq!(open(dir.path(), closed).1, [row(3)]);
}

#[test]
fn what_is_closed_takes_no_space_and_is_as_it_was() {
    for mut bench in [Bench::new(), Bench::volumes()] {
        let size = |bench: &Bench| -> u64 {
            let files = Journal::paths(bench.store.dir(), bench.durability);
            files.iter().map(|f| f.metadata().unwrap().len()).sum()
        };
        let tree = bench.empty();
        let id = tree.id();
        for n in 0..50 {
            tree.file(ROOT, format!("f{n}").as_bytes(), b"some bytes");
        }
        assert!(size(&bench) >= 1 << 20);
        bench.works().close();
        assert!(size(&bench) < 100, "{}", size(&bench));
        // A call that was under way.
        tree.file(ROOT, b"late", b"and yet");
        let names = tree.names(ROOT);
        assert_eq!(names.len(), 51);
        drop(tree);
        for _ in 0..3 {
            bench.reopen();
            let tree = bench.works().get(id).unwrap();
            assert_eq!(tree.names(ROOT), names);
            drop(tree);
            bench.works().close();
            bench.works().close();
            assert!(size(&bench) < 100, "{}", size(&bench));
        }
    }
}
