//! Archives, good and bad.

use super::{meta, open};
use crate::object::Meta;
use crate::tree::Tree;
use crate::types::{Creds, Errno, Kind, ROOT, Time};
use crate::{Ingest, IngestError, IngestLimits, SealedTree, Special};

fn file(ingest: &mut Ingest, path: &[u8], data: &[u8]) -> Result<(), IngestError> {
    ingest.file(path, meta(0o644), data.len() as u64, &mut &data[..])
}

fn kind(tree: &SealedTree, path: &str) -> Result<Kind, Errno> {
    let mut at = ROOT;
    let mut kind = Kind::Dir;
    for name in path.split('/') {
        let found = tree.lookup(&Creds::ROOT, at, name.as_bytes())?;
        (at, kind) = (found.node.node, found.node.kind);
    }
    Ok(kind)
}

#[test]
fn bad_paths_are_typed_errors() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut ingest = open(dir.path()).ingest();
    ingest
        .symlink(b"link", meta(0o777), b"/etc")
        .expect("symlink");
    file(&mut ingest, b"plain", b"x").expect("file");
    ingest.dir(b"dir", meta(0o755)).expect("dir");
    for path in [&b"../x"[..], b"a/../b", b"/etc/passwd", b"a\0b", b"", b"./"] {
        let refused = file(&mut ingest, path, b"x");
        assert!(
            matches!(refused, Err(IngestError::Path { .. })),
            "{}",
            path.escape_ascii()
        );
    }
    let through = file(&mut ingest, b"link/passwd", b"x");
    assert!(matches!(through, Err(IngestError::ThroughSymlink { .. })));
    let through = file(&mut ingest, b"plain/y", b"x");
    assert!(matches!(through, Err(IngestError::ThroughFile { .. })));
    assert!(matches!(
        ingest.hardlink(b"y", b"absent"),
        Err(IngestError::Absent { .. })
    ));
    assert!(matches!(
        ingest.hardlink(b"y", b"link/passwd"),
        Err(IngestError::ThroughSymlink { .. })
    ));
    assert!(matches!(
        ingest.hardlink(b"y", b"dir"),
        Err(IngestError::LinkToDir { .. })
    ));
    assert!(matches!(
        file(&mut ingest, &[b'n'; 256], b""),
        Err(IngestError::Limit { .. })
    ));
    let long = ingest.symlink(b"s", meta(0o777), &[b't'; 4096]);
    assert!(matches!(long, Err(IngestError::Limit { .. })));
    let twice = vec![(b"user.a".to_vec(), vec![]), (b"user.a".to_vec(), vec![])];
    let twice = ingest.dir(
        b"d",
        Meta {
            xattrs: twice,
            ..meta(0o755)
        },
    );
    assert!(matches!(twice, Err(IngestError::Path { .. })));
    let big = vec![(b"user.a".to_vec(), vec![0; 65_537])];
    let big = ingest.dir(
        b"d",
        Meta {
            xattrs: big,
            ..meta(0o755)
        },
    );
    assert!(matches!(big, Err(IngestError::Limit { .. })));
    // What was refused left nothing.
    let tree = ingest.finish(None).expect("finish").tree;
    assert_eq!(tree.counts().entries, 3);
}

#[test]
fn short_input_is_an_error() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut ingest = open(dir.path()).ingest();
    for size in [10_u64, 100_000] {
        let short = ingest.file(b"f", meta(0o644), size, &mut &b"12345"[..]);
        assert!(matches!(short, Err(IngestError::Short { got: 5, .. })));
    }
    // A longer input is read no further than the size.
    let mut input = &b"1234567"[..];
    ingest.file(b"f", meta(0o644), 5, &mut input).expect("file");
    assert_eq!(input, b"67");
}

#[test]
fn limits_hold() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let limits = IngestLimits {
        entries: 3,
        bytes: 10,
        depth: 2,
        ..IngestLimits::default()
    };
    let mut ingest = store.ingest_within(limits);
    assert!(matches!(
        file(&mut ingest, b"a/b/c", b""),
        Err(IngestError::Limit { .. })
    ));
    file(&mut ingest, b"a/b", b"12345678").expect("file");
    let large = file(&mut ingest, b"c", b"123");
    assert!(matches!(
        large,
        Err(IngestError::Limit {
            what: "bytes in all",
            ..
        })
    ));
    let many = ingest.dir(b"d", meta(0o755));
    assert!(matches!(
        many,
        Err(IngestError::Limit {
            what: "entries",
            ..
        })
    ));
}

#[test]
fn later_entries_replace_earlier() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut ingest = open(dir.path()).ingest();
    file(&mut ingest, b"./a/one", b"1").expect("file");
    file(&mut ingest, b"a/two", b"2").expect("file");
    ingest.dir(b"a/", meta(0o711)).expect("keeps its entries");
    ingest.hardlink(b"linked", b"a/one").expect("link");
    ingest
        .hardlink(b"linked", b"linked")
        .expect("to itself: nothing");
    file(&mut ingest, b"a/one", b"changed").expect("replace one name");
    ingest
        .special(b"a/two", meta(0o600), Special::Fifo)
        .expect("another kind");
    file(&mut ingest, b"d/deep/x", b"").expect("file");
    ingest
        .symlink(b"d", meta(0o777), b"a")
        .expect("in place of a directory");
    ingest.dir(b"", meta(0o700)).expect("root");
    ingest.set_meta(b"linked", meta(0o4755)).expect("set");
    let tree = ingest.finish(None).expect("finish").tree;
    assert_eq!(tree.getattr(ROOT).expect("root").mode, 0o700);
    assert_eq!(kind(&tree, "a/one"), Ok(Kind::File));
    assert_eq!(kind(&tree, "a/two"), Ok(Kind::Fifo));
    assert_eq!(kind(&tree, "d"), Ok(Kind::Symlink));
    assert_eq!(tree.counts().nodes, 5);
    let attr = |name: &[u8]| tree.lookup(&Creds::ROOT, ROOT, name).expect("lookup").node;
    assert_eq!((attr(b"linked").nlink, attr(b"linked").mode), (1, 0o4755));
    assert_eq!(attr(b"a").mode, 0o711);
    let mut data = Vec::new();
    tree.read(&Creds::ROOT, attr(b"linked").node, 0, 10, &mut data)
        .expect("read");
    assert_eq!(data, b"1", "the other name keeps the old content");
}

#[test]
fn mtimes_are_clamped() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let mut ingest = store.ingest();
    for (path, secs) in [(&b"old"[..], 5), (b"new", 500)] {
        let meta = Meta {
            mtime: Time { secs, nanos: 9 },
            ..meta(0o755)
        };
        ingest.dir(path, meta).expect("dir");
    }
    let tree = ingest.finish(Some(100)).expect("finish").tree;
    let mtime = |name: &[u8]| {
        tree.lookup(&Creds::ROOT, ROOT, name)
            .expect("lookup")
            .node
            .mtime
    };
    assert_eq!(mtime(b"old"), Time { secs: 5, nanos: 9 });
    assert_eq!(
        mtime(b"new"),
        Time {
            secs: 100,
            nanos: 0
        }
    );
}

#[test]
fn a_dropped_ingest_leaves_no_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let mut ingest = store.ingest();
    file(&mut ingest, b"large", &[1; 60_000]).expect("file");
    let incoming = || {
        std::fs::read_dir(store.blobs.area.incoming())
            .expect("list")
            .count()
    };
    assert_eq!(incoming(), 1);
    drop(ingest);
    assert_eq!(incoming(), 0);
    assert_eq!(super::blob_files(&store), 0);
}

#[test]
fn failing_input_names_the_entry() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the pipe burst"))
        }
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let mut ingest = open(dir.path()).ingest();
    for size in [10, 100_000] {
        let error = ingest
            .file(b"a/b", meta(0o644), size, &mut Broken)
            .expect_err("broken");
        assert!(matches!(error, IngestError::Input { .. }));
        let text = error.to_string();
        assert!(
            text.contains("a/b") && text.contains("the pipe burst"),
            "{text}"
        );
    }
}

#[test]
fn a_full_index_is_a_typed_error_and_harms_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let before = super::two_files(&store, 1);
    let limit = |pages: u32| {
        let set = |tx: &rusqlite::Transaction<'_>| {
            tx.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        };
        store
            .index
            .write("limit", crate::index::Sync::Full, 0, set)
            .expect("limit");
    };
    limit(1);
    let mut ingest = store.ingest();
    let mut refused = None;
    for n in 0..2000_u32 {
        // Noise, so that no packing saves room.
        let noise = |i: u64| (u64::from(n) << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let data: Vec<u8> = (0..1250).flat_map(|i| noise(i).to_be_bytes()).collect();
        if let Err(e) = file(&mut ingest, format!("f{n}").as_bytes(), &data) {
            refused = Some(e);
            break;
        }
    }
    let error = refused.expect("full");
    assert!(
        matches!(error, IngestError::Store(crate::StoreError::Full { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("index.db"), "{error}");
    drop(ingest);
    limit(1 << 30);
    assert_eq!(super::two_files(&store, 1).snapshot, before.snapshot);
    super::two_files(&store, 2);
}

/// Image layers: what a whiteout hides is what lies below, wherever in its layer it stands.
#[test]
fn whiteouts_hide_lower_layers_only() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut ingest = open(dir.path()).ingest();
    for path in [
        &b"etc/a"[..],
        b"etc/b",
        b"opt/x/deep",
        b"opt/y",
        b"was/dir/f",
    ] {
        file(&mut ingest, path, b"old").expect("file");
    }
    ingest.hardlink(b"etc/also", b"etc/b").expect("link");
    ingest
        .symlink(b"lib", meta(0o777), b"usr/lib")
        .expect("link");
    ingest.next_layer();
    file(&mut ingest, b"opt/new", b"new").expect("file");
    file(&mut ingest, b"opt/x/kept", b"new").expect("file");
    ingest.hardlink(b"opt/linked", b"etc/b").expect("link");
    ingest.hide_below(b"opt").expect("opaque");
    ingest.hide(b"etc/a").expect("whiteout");
    ingest.hide(b"opt/new").expect("of its own layer");
    ingest.hide(b"no/such").expect("nothing there");
    // A file where a directory was, and a directory where a link was.
    file(&mut ingest, b"was", b"new").expect("file");
    file(&mut ingest, b"lib/own", b"new").expect("file");
    assert!(ingest.hide(b"").is_err());
    let done = ingest.finish(None).expect("finish");
    let tree = done.tree;
    for (path, found) in [
        ("etc/a", Err(Errno::NoEnt)),
        ("etc/b", Ok(Kind::File)),
        ("opt/x/deep", Err(Errno::NoEnt)),
        ("opt/x/kept", Ok(Kind::File)),
        ("opt/y", Err(Errno::NoEnt)),
        ("opt/new", Ok(Kind::File)),
        ("opt/linked", Ok(Kind::File)),
        ("was", Ok(Kind::File)),
        ("lib", Ok(Kind::Dir)),
        ("lib/own", Ok(Kind::File)),
    ] {
        assert_eq!(kind(&tree, path), found, "{path}");
    }
}

/// A directory that is looked through again and again.
#[test]
fn whiteouts_are_bounded_by_what_they_look_at() {
    let dir = tempfile::tempdir().expect("tempdir");
    let limits = IngestLimits {
        entries: 10_000,
        ..IngestLimits::default()
    };
    let mut ingest = open(dir.path()).ingest_within(limits);
    for n in 0..1000 {
        file(&mut ingest, format!("d/{n}").as_bytes(), b"").expect("file");
    }
    let refused = (0..100).find_map(|_| ingest.hide_below(b"d").err());
    assert!(matches!(refused, Some(IngestError::Limit { .. })));
}
