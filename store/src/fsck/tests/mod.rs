//! Stores that are damaged in one way each, and what a check makes of them.

mod blobs;
mod live;
mod lost;
mod objects;
mod references;
mod waste;
mod works;

use super::*;
use crate::object::{Body, digest_of};
use crate::tests::{open, step, two_files};
use crate::tree::Tree;
use crate::types::{Creds, Digest, Errno, ROOT};
use crate::{Pocker, SealedTree};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store with one pocker, its one step, and that step's tree: dir/small and dir/large.
struct Bench {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    snapshot: Digest,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = open(dir.path());
        let snapshot = two_files(&store, 1).snapshot;
        let bench = Bench {
            _dir: dir,
            store,
            snapshot,
        };
        bench.name(1, snapshot);
        bench
    }

    /// A step with this key, and a pocker that names it.
    fn name(&self, key: u8, snapshot: Digest) {
        self.store.put_step(step(key, snapshot)).expect("step");
        let pocker = Pocker {
            name: vec![b'p', key],
            steps: vec![Digest([key; 32])],
            config: Vec::new(),
            created: 1,
        };
        self.store.put_pocker(&pocker).expect("pocker");
    }

    /// Changes one row of the index behind the store's back.
    fn sql(&self, sql: &str, params: impl rusqlite::Params) {
        let conn = rusqlite::Connection::open(self.store.dir().join("index.db")).expect("open");
        assert_eq!(conn.execute(sql, params).expect(sql), 1, "{sql}");
    }

    fn check(&self) -> FsckReport {
        check(&self.store)
    }

    fn repair(&self) -> FsckReport {
        let options = FsckOptions {
            repair: true,
            ..FsckOptions::default()
        };
        self.store.fsck(&options, &|_| ()).expect("fsck")
    }

    fn tree(&self) -> Arc<SealedTree> {
        self.store.sealed(&self.snapshot).expect("sealed")
    }

    fn body(&self, path: &[&[u8]]) -> Body {
        let tree = self.tree();
        let node = path.iter().fold(ROOT, |node, name| {
            let found = tree.lookup(&Creds::ROOT, node, name).expect("lookup");
            found.node.node
        });
        let entry = tree.base(node).expect("base").entry;
        entry.body().expect("body")
    }

    fn large(&self) -> Digest {
        match self.body(&[b"dir", b"large"]) {
            Body::File { blob, .. } => blob,
            other => panic!("{other:?}"),
        }
    }

    fn small(&self) -> Digest {
        digest_of(&[1; 3])
    }

    fn dir_object(&self) -> Digest {
        match self.body(&[b"dir"]) {
            Body::Dir { digest, .. } => digest,
            other => panic!("{other:?}"),
        }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.store.blobs.area.path(digest)
    }

    /// The bytes of dir/`name`.
    fn read(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let tree = self.tree();
        let dir = tree.lookup(&Creds::ROOT, ROOT, b"dir")?.node.node;
        let file = tree.lookup(&Creds::ROOT, dir, name)?.node.node;
        let mut out = Vec::new();
        tree.read(&Creds::ROOT, file, 0, 60_000, &mut out)?;
        Ok(out)
    }

    fn quarantined(&self) -> Vec<(String, Vec<u8>)> {
        let Ok(files) = std::fs::read_dir(self.store.dir().join("quarantine")) else {
            return Vec::new();
        };
        let read = |file: std::io::Result<std::fs::DirEntry>| {
            let file = file.expect("list");
            let name = file.file_name().into_string().expect("name");
            (name, std::fs::read(file.path()).expect("read"))
        };
        let mut all: Vec<_> = files.map(read).collect();
        all.sort();
        all
    }
}

fn check(store: &Store) -> FsckReport {
    store.fsck(&FsckOptions::default(), &|_| ()).expect("fsck")
}

fn sound(report: &FsckReport) {
    assert_eq!(report.findings, [], "nothing is wrong");
    assert!(!report.incomplete && report.is_sound() && report.more == 0);
}

/// The one finding.
fn only(report: &FsckReport) -> &Finding {
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    &report.findings[0]
}

/// In the bench's tree and step, at this path.
fn placed(finding: &Finding, bench: &Bench, path: &[u8]) {
    assert_eq!(finding.places.snapshots, [bench.snapshot]);
    assert_eq!(finding.places.steps, [Digest([1; 32])]);
    assert_eq!(finding.places.example.as_deref(), Some(path));
    assert_eq!(finding.severity, Severity::Damage);
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("write");
}

#[test]
fn a_whole_store_is_sound() {
    let bench = Bench::new();
    let report = bench.check();
    sound(&report);
    let checked = report.checked;
    assert_eq!(
        (checked.snapshots, checked.steps, checked.pockers),
        (1, 1, 1)
    );
    assert_eq!((checked.objects, checked.blobs), (3, 2));
    assert!(checked.bytes > 50_003);
    sound(&bench.repair());
    assert!(bench.quarantined().is_empty());
    assert_eq!(bench.read(b"large").expect("read"), [1; 50_000]);
}
