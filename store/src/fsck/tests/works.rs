//! Work trees whose rows or files are not what they should be.

use super::*;
use crate::types::{Create, Node};
use crate::work::tests::{at, mode, root};
use crate::work::{WorkClass, WorkTree};

struct Desk {
    bench: Bench,
    works: Works,
    tree: Arc<WorkTree>,
    dir: Node,
}

impl Desk {
    /// A clone of the bench's tree with something of everything changed.
    fn new() -> Desk {
        let bench = Bench::new();
        let works = Works::open_or_create(bench.store.clone()).expect("works");
        let base = Some(bench.snapshot);
        let tree = works
            .create(base, WorkClass::Run, b"", at(1))
            .expect("create");
        let find = |dir, name| {
            tree.lookup(&Creds::ROOT, dir, name)
                .expect("lookup")
                .node
                .node
        };
        let dir = find(ROOT, b"dir");
        let desk = Desk {
            dir,
            bench,
            works,
            tree: tree.clone(),
        };
        // Of the base: a directory renamed, one file's mode changed.
        let small = find(dir, b"small");
        let mode = mode(0o600);
        tree.setattr(&root(2), small, &mode, None).expect("chmod");
        tree.rename(&root(3), ROOT, b"dir", ROOT, b"moved")
            .expect("rename");
        desk.make(dir, b"tiny", b"x");
        desk.make(dir, b"new", &[9; 30_000]);
        let gone = desk.make(dir, b"gone", &[8; 30_000]);
        tree.remove(&root(4), dir, b"gone").expect("remove");
        assert!(tree.getattr(gone).is_err());
        desk
    }

    fn make(&self, dir: Node, name: &[u8], bytes: &[u8]) -> Node {
        let made = self
            .tree
            .create(&root(2), dir, name, Create::Guarded, &mode(0o644));
        let node = made.expect("create").node.node;
        self.tree.write(&root(3), node, 0, bytes).expect("write");
        node
    }

    fn find(&self, name: &[u8]) -> Node {
        let found = self.tree.lookup(&Creds::ROOT, self.dir, name);
        found.expect("lookup").node.node
    }

    fn fsck(&self, repair: bool) -> FsckReport {
        let options = FsckOptions {
            repair,
            works: Some(&self.works),
            volumes: None,
            cancel: None,
        };
        self.bench.store.fsck(&options, &|_| ()).expect("fsck")
    }

    fn sql(&self, sql: &str, node: Node) {
        self.works.settle();
        let conn = rusqlite::Connection::open(self.bench.store.dir().join("work.db"));
        let changed = conn.expect("open").execute(sql, [node as i64]).expect(sql);
        assert_eq!(changed, 1, "{sql}");
    }

    /// A finding about the tree's node at this path.
    fn found(&self, report: &FsckReport, why: WorkFault, path: Option<&[u8]>) {
        let tree = self.tree.id();
        let fault = Fault::Work { tree, why };
        let finding = report.findings.iter().find(|f| f.fault == fault);
        let finding = finding.unwrap_or_else(|| panic!("{fault:?}: {:#?}", report.findings));
        assert_eq!(finding.places.work_trees, [tree]);
        assert_eq!(finding.places.example.as_deref(), path);
    }
}

#[test]
fn a_whole_work_tree_is_sound() {
    let desk = Desk::new();
    let report = desk.fsck(true);
    sound(&report);
    assert_eq!(report.checked.work_trees, 1);
    let mut out = Vec::new();
    let new = desk.find(b"new");
    desk.tree
        .read(&Creds::ROOT, new, 0, 30_000, &mut out)
        .expect("read");
    assert_eq!(out, [9; 30_000]);
}

#[test]
fn a_staged_file_gone() {
    let desk = Desk::new();
    let node = desk.find(b"new");
    std::fs::remove_file(desk.works.staged_path(desk.tree.id(), node)).expect("remove");
    let report = desk.fsck(true);
    only(&report);
    desk.found(&report, WorkFault::Staged { node }, Some(b"moved/new"));
    assert_eq!(only(&report).severity, Severity::Damage);
}

#[test]
fn staged_files_that_no_node_has() {
    let desk = Desk::new();
    let stray = desk.works.staged_path(desk.tree.id(), 12_345);
    std::fs::write(&stray, b"left").expect("write");
    std::fs::write(stray.with_extension("seal"), b"over").expect("write");
    let why = WorkFault::Unstaged { count: 2, bytes: 8 };
    let report = desk.fsck(false);
    desk.found(&report, why.clone(), None);
    assert_eq!(only(&report).severity, Severity::Note);
    assert!(stray.exists());
    let report = desk.fsck(true);
    desk.found(&report, why, None);
    assert_eq!(only(&report).outcome, Outcome::Repaired);
    assert!(!stray.exists());
    sound(&desk.fsck(false));
    assert!(
        desk.works
            .staged_path(desk.tree.id(), desk.find(b"new"))
            .exists()
    );
}

#[test]
fn a_row_that_does_not_decode() {
    let desk = Desk::new();
    let node = desk.find(b"tiny");
    desk.sql("UPDATE node SET data = x'ff00' WHERE node = ?1", node);
    let report = desk.fsck(true);
    only(&report);
    desk.found(&report, WorkFault::Row { node }, Some(b"moved/tiny"));
    assert!(report.incomplete, "what the row referred to is unknown");
}

#[test]
fn a_content_that_is_lost_or_cut() {
    for (sql, found) in [
        ("DELETE FROM content WHERE node = ?1", 0),
        ("UPDATE content SET data = x'787878' WHERE node = ?1", 3),
    ] {
        let desk = Desk::new();
        let node = desk.find(b"tiny");
        desk.sql(sql, node);
        let report = desk.fsck(true);
        only(&report);
        let says = desk.tree.getattr(node).expect("there").size;
        let why = WorkFault::Content { node, says, found };
        desk.found(&report, why, Some(b"moved/tiny"));
    }
}

#[test]
fn a_name_that_leads_nowhere() {
    let desk = Desk::new();
    let node = desk.find(b"tiny");
    desk.sql("DELETE FROM node WHERE node = ?1", node);
    let report = desk.fsck(true);
    only(&report);
    let dir = desk.dir;
    desk.found(&report, WorkFault::Name { dir, node }, Some(b"moved"));
}

#[test]
fn a_blob_gone() {
    let desk = Desk::new();
    let (node, blob) = (desk.find(b"small"), desk.bench.small());
    let sql = "DELETE FROM small_blob WHERE digest = ?1";
    desk.bench.sql(sql, [&blob.0]);
    let report = desk.fsck(true);
    let why = WorkFault::Blob {
        node,
        blob,
        size: 3,
    };
    desk.found(&report, why, Some(b"moved/small"));
    let missing = Fault::Blob {
        digest: blob,
        why: BlobFault::Missing,
    };
    let finding = report.findings.iter().find(|f| f.fault == missing);
    let places = &finding.expect("in the base as well").places;
    assert_eq!(places.work_trees, [desk.tree.id()], "whose base has it");
    assert_eq!(report.findings.len(), 2);
}

/// A base that is only not listed is mended; one whose object is gone cannot be.
#[test]
fn a_base_gone() {
    let desk = Desk::new();
    let base = desk.bench.snapshot;
    desk.bench
        .sql("DELETE FROM snapshot WHERE digest = ?1", [&base.0]);
    let report = desk.fsck(true);
    desk.found(&report, WorkFault::Base { base }, None);
    let row = Fault::SnapshotRow { snapshot: base };
    assert!(report.findings.iter().any(|f| f.fault == row));
    sound(&desk.fsck(false));
    desk.bench
        .sql("DELETE FROM snapshot WHERE digest = ?1", [&base.0]);
    desk.bench
        .sql("DELETE FROM object WHERE digest = ?1", [&base.0]);
    let report = desk.fsck(true);
    desk.found(&report, WorkFault::Base { base }, None);
    assert!(report.incomplete);
    assert!(
        desk.bench
            .store
            .blobs
            .has(&desk.bench.small())
            .expect("look")
    );
}

/// Only a work tree knows of its base: a check that is not told of work trees removes nothing.
#[test]
fn trees_that_are_not_told_of_lose_nothing() {
    let desk = Desk::new();
    let bench = &desk.bench;
    let base = bench.snapshot;
    let (small, large) = (bench.small(), bench.large());
    bench.sql("DELETE FROM step WHERE key = ?1", [&[1_u8; 32]]);
    bench.sql("DELETE FROM snapshot WHERE digest = ?1", [&base.0]);
    bench.repair();
    for blob in [small, large] {
        assert!(bench.store.blobs.has(&blob).expect("look"));
    }
    let report = desk.fsck(true);
    let row = Fault::SnapshotRow { snapshot: base };
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.fault == row && f.outcome == Outcome::Repaired)
    );
    assert_eq!(bench.read(b"large").expect("read"), [1; 50_000]);
}

#[test]
fn a_node_whose_name_is_gone_and_one_that_miscounts() {
    let desk = Desk::new();
    let (tiny, new) = (desk.find(b"tiny"), desk.find(b"new"));
    desk.tree
        .link(&root(5), new, desk.dir, b"second")
        .expect("link");
    let made = desk.tree.mkdir(&root(5), ROOT, b"made", &mode(0o755));
    let made = made.expect("mkdir").node.node;
    sound(&desk.fsck(false));
    desk.sql("DELETE FROM added WHERE node = ?1", tiny);
    desk.sql("DELETE FROM added WHERE node = ?1", made);
    let second = "DELETE FROM added WHERE node = ?1 AND name = CAST('second' AS BLOB)";
    desk.sql(second, new);
    let report = desk.fsck(true);
    assert_eq!(report.findings.len(), 3, "{:#?}", report.findings);
    let links = |node, says, found| WorkFault::Links { node, says, found };
    desk.found(&report, links(tiny, 1, 0), None);
    desk.found(&report, links(made, 1, 0), None);
    desk.found(&report, links(new, 2, 1), Some(b"moved/new"));
    assert!(
        report
            .findings
            .iter()
            .all(|f| f.severity == Severity::Damage)
    );
}
