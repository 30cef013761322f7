//! Stores that are damaged in one way each. A snapshot has what is seen then: whether the store
//! opens, what cannot be read any more (all else must be as it was), what a check says, which
//! of it is repaired, what is left then, and what a build of the same content brings back.

mod blobs;
mod files;
mod rows;

use crate::bench::{named, prepare};
use crate::state::{Opened, State};
use pocker_store::FsckReport;
use pocker_store::fsck::{Finding, Outcome};
use pocker_testing::image::folder;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Digits of a digest that a snapshot shows.
const SHOWN: usize = 8;

/// A store with two pockers that share nothing, two work trees and two volumes on the first.
fn whole(dir: &Path) -> State {
    let opened = Opened::at(dir).expect("a store");
    prepare(&opened);
    named(&opened.store, "other", 2).expect("a pocker");
    opened.state()
}

/// The store's blob with these bytes.
fn blob(dir: &Path, bytes: &[u8]) -> PathBuf {
    let name = digest(bytes);
    dir.join("blobs").join(&name[..2]).join(name)
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// Changes one row, or so many, of a database of the store.
fn sql(dir: &Path, database: &str, sql: &str, rows: usize) {
    let conn = rusqlite::Connection::open(dir.join(database)).expect("open");
    assert_eq!(conn.execute(sql, []).expect(sql), rows, "{sql}");
}

/// What is seen of a store that `hurt` has changed.
fn seen(hurt: impl FnOnce(&Path)) -> String {
    let folder = folder();
    let dir = folder.path().join("store");
    let before = whole(&dir);
    hurt(&dir);
    let mut out = String::new();
    match Opened::at(&dir) {
        Err(e) => writeln!(out, "does not open: {e}").expect("text"),
        Ok(opened) => live(&opened, &before, &mut out),
    }
    let dir = dir.to_str().expect("text");
    shorten(&out.replace(dir, "STORE"))
}

fn live(opened: &Opened, before: &State, out: &mut String) {
    changed(before, &opened.state(), out);
    let found = opened.fsck(false);
    told("fsck", &found, out);
    let repaired = opened.fsck(true);
    told("fsck --repair", &repaired, out);
    told("fsck", &opened.fsck(false), out);
    if found.is_ok_and(|report| report.findings.is_empty()) {
        return;
    }
    // What a build without the steps concerned does.
    for (name, key) in [("base", 1), ("other", 2)] {
        if let Err(e) = named(&opened.store, name, key) {
            writeln!(out, "building {name} again: {e}").expect("text");
        }
    }
    out.push_str("built again\n");
    changed(before, &opened.state(), out);
    told("fsck", &opened.fsck(false), out);
}

/// What is not as it was.
fn changed(before: &State, now: &State, out: &mut String) {
    let was = |name: &str| before.get(name).map_or("not there", String::as_str);
    let mut same = true;
    let names: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
    for name in names {
        let is = now.get(name).map_or("not there", String::as_str);
        if is != was(name) {
            same = false;
            writeln!(out, "  {name}: {}", last(is, was(name))).expect("text");
        }
    }
    if same {
        out.push_str("  all is as it was\n");
    }
}

/// The end of a line, where it says why bytes cannot be had, or that they are others.
fn last<'a>(is: &'a str, was: &str) -> &'a str {
    match is.rsplit(' ').next() {
        _ if is == "not there" || was == "not there" || is.contains("not in the store") => is,
        Some(word) if word.len() == 64 => "other bytes",
        Some(word) => word,
        None => is,
    }
}

fn told(what: &str, report: &Result<FsckReport, pocker_store::StoreError>, out: &mut String) {
    let report = match report {
        Ok(report) => report,
        Err(e) => return writeln!(out, "{what}: {e}").expect("text"),
    };
    let sound = match report.unrepaired().next() {
        None => "sound",
        Some(_) => "NOT SOUND",
    };
    let unknown = if report.incomplete {
        ", incomplete"
    } else {
        ""
    };
    writeln!(out, "{what}: {sound}{unknown}").expect("text");
    for finding in &report.findings {
        one(finding, out);
    }
}

fn one(finding: &Finding, out: &mut String) {
    let places = &finding.places;
    writeln!(out, "  {:?}: {}", finding.severity, finding.fault).expect("text");
    if !places.is_empty() {
        let at = places.example.as_deref().unwrap_or_default().escape_ascii();
        let (snapshots, steps) = (places.snapshots.len(), &places.steps);
        let trees = &places.work_trees;
        writeln!(
            out,
            "    at /{at} in {snapshots} snapshots, steps {steps:?}, trees {trees:?}"
        )
        .expect("text");
    }
    match &finding.outcome {
        Outcome::Found => writeln!(out, "    may be repaired by: {:?}", finding.repair),
        outcome => writeln!(out, "    {outcome:?}"),
    }
    .expect("text");
}

/// Cuts every digest.
fn shorten(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) {
            run.push(c);
            continue;
        }
        let shown = if run.len() == 64 { &run[..SHOWN] } else { &run };
        out.push_str(shown);
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}
