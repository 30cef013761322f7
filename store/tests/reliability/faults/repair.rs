//! `fsck --repair`, one damage a script: what rotted is in quarantine before it goes, and the
//! same content put again makes everything whole.

use super::points::every_point;
use super::script::Script;
use crate::bench::{ingest, large, prepare, small, text};
use crate::state::Opened;
use pocker_store::fsck::Outcome;
use pocker_store::types::Digest;
use sha2::Digest as _;
use std::path::{Path, PathBuf};

fn digest(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

fn blob(dir: &Path, bytes: &[u8]) -> PathBuf {
    let name = digest(bytes).to_string();
    dir.join("blobs").join(&name[..2]).join(name)
}

fn sql(dir: &Path, sql: &str, params: impl rusqlite::Params) {
    let conn = rusqlite::Connection::open(dir.join("index.db")).expect("open");
    assert_eq!(conn.execute(sql, params).expect(sql), 1);
}

/// Everything found is repaired, or nothing can be done about it.
fn repair(o: &Opened) -> Result<(), String> {
    let report = o.fsck(true).map_err(text)?;
    for finding in report.findings {
        if let Outcome::Failed(why) = finding.outcome {
            return Err(why);
        }
    }
    Ok(())
}

fn heal(o: &Opened) -> Result<(), String> {
    ingest(&o.store, 1).map(drop)
}

/// As [`heal`], where bytes were set aside.
fn heal_with_bytes_kept(o: &Opened) -> Result<(), String> {
    let kept = std::fs::read_dir(o.store.dir().join("quarantine"));
    let kept = kept.map_or(0, Iterator::count);
    assert!(kept > 0, "what rotted is kept");
    heal(o)
}

fn script(name: &'static str, hurt: fn(&Path)) -> Script {
    let mut script = Script::new(name, prepare, &[repair, heal]);
    script.hurt = Some(hurt);
    script
}

#[test]
fn a_large_blob_that_rotted() {
    let mut script = script("repair of a large blob", |dir| {
        let path = blob(dir, &large(1));
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[100] ^= 1;
        std::fs::write(path, bytes).expect("write");
    });
    script.steps[1] = heal_with_bytes_kept;
    every_point(script);
}

#[test]
fn a_small_blob_that_rotted() {
    let mut script = script("repair of a small blob", |dir| {
        let hurt = "UPDATE small_blob SET bytes = ?2, plain = NULL WHERE digest = ?1";
        let mut bytes = small(1);
        bytes[3] ^= 4;
        sql(dir, hurt, (digest(&small(1)).0, bytes));
    });
    script.steps[1] = heal_with_bytes_kept;
    every_point(script);
}

#[test]
fn a_row_whose_file_is_gone() {
    every_point(script("repair of a row without file", |dir| {
        std::fs::remove_file(blob(dir, &large(1))).expect("removed");
    }));
}

#[test]
fn a_file_whose_row_is_gone() {
    every_point(script("repair of a file without row", |dir| {
        let row = "DELETE FROM large_blob WHERE digest = ?1";
        sql(dir, row, [digest(&large(1)).0]);
    }));
}

#[test]
fn a_snapshot_whose_sums_are_wrong() {
    every_point(script("repair of a snapshot's sums", |dir| {
        sql(
            dir,
            "UPDATE snapshot SET nodes = nodes + 1 WHERE ordinal = 1",
            [],
        );
    }));
}
