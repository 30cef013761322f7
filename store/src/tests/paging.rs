//! Directories of several pages.

use super::open;
use crate::StoreError;
use crate::object::{Body, DirObject, Entry, ObjectSink, digest_of, edit_dir, limits, put_dir};
use crate::tree::Tree;
use crate::types::{Creds, Digest, ROOT};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Objects in memory, counting.
#[derive(Default)]
struct Sink {
    objects: HashMap<Digest, Vec<u8>>,
    puts: usize,
    loads: usize,
}

impl ObjectSink for Sink {
    fn put_object(&mut self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        self.puts += 1;
        let digest = digest_of(&bytes);
        self.objects.insert(digest, bytes);
        Ok(digest)
    }

    fn dir_object(&mut self, digest: &Digest) -> Result<DirObject, StoreError> {
        self.loads += 1;
        Ok(DirObject::parse(self.objects[digest].clone())?)
    }
}

fn entry(name: &[u8], uid: u32, xattr: usize) -> Entry {
    let mut meta = super::meta(0o644);
    meta.uid = uid;
    if xattr > 0 {
        meta.xattrs.push((b"user.x".to_vec(), vec![7; xattr]));
    }
    Entry {
        name: name.to_vec(),
        meta,
        body: Body::File {
            blob: Digest([1; 32]),
            size: 10,
        },
    }
}

fn numbered(n: u32) -> Vec<u8> {
    format!("{:06}", n.wrapping_mul(2_654_435_761) % 1_000_000).into_bytes()
}

fn all(sink: &mut Sink, dir: &Digest) -> Vec<Entry> {
    match sink.dir_object(dir).expect("dir") {
        DirObject::Page(p) => (0..p.len())
            .map(|s| p.entry(s).expect("slot").to_entry())
            .collect(),
        DirObject::Index(i) => (0..i.len()).flat_map(|p| all(sink, &i.digest(p))).collect(),
    }
}

#[test]
fn three_thousand_entries() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let mut ingest = store.ingest();
    let mut names: Vec<Vec<u8>> = (0..3000).map(numbered).collect();
    for name in &names {
        let path = [b"big/", &name[..]].concat();
        ingest
            .file(&path, super::meta(0o644), name.len() as u64, &mut &name[..])
            .expect("file");
    }
    let tree = ingest.finish(None).expect("finish").tree;
    names.sort();
    names.dedup();
    let big = tree
        .lookup(&Creds::ROOT, ROOT, b"big")
        .expect("lookup")
        .node
        .node;
    let mut seen = Vec::new();
    let mut cookie = 0;
    loop {
        let mut room = 500;
        let done = tree
            .readdir(&Creds::ROOT, big, cookie, false, &mut |e| {
                if room == 0 {
                    return false;
                }
                room -= 1;
                cookie = e.cookie;
                seen.push((e.name.to_vec(), e.node));
                true
            })
            .expect("readdir");
        if done.eof {
            break;
        }
    }
    let listed: Vec<_> = seen[2..].iter().map(|(n, _)| n.clone()).collect();
    assert_eq!(listed, names);
    for (name, node) in &seen[2..] {
        assert_eq!(
            tree.lookup(&Creds::ROOT, big, name)
                .expect("lookup")
                .node
                .node,
            *node
        );
        assert_eq!(tree.base(*node).expect("base").entry.name(), name);
        let mut data = Vec::new();
        tree.read(&Creds::ROOT, *node, 0, 100, &mut data)
            .expect("read");
        assert_eq!(&data, name);
    }
    assert!(tree.lookup(&Creds::ROOT, big, b"zzz").is_err());
    assert!(tree.lookup(&Creds::ROOT, big, b"!").is_err());
}

#[test]
fn one_change_costs_one_page() {
    let mut sink = Sink::default();
    let mut names: Vec<_> = (0..20_000).map(numbered).collect();
    names.sort();
    names.dedup();
    let (dir, _) = put_dir(&mut sink, names.iter().map(|n| entry(n, 0, 0))).expect("put");
    (sink.puts, sink.loads) = (0, 0);
    let changes = BTreeMap::from([(names[7000].clone(), Some(entry(&names[7000], 9, 0)))]);
    let (_, counts) = edit_dir(&mut sink, &dir, &changes).expect("edit");
    assert_eq!(counts.entries, names.len() as u64);
    assert_eq!((sink.puts, sink.loads), (2, 2), "a page and the index");
    (sink.puts, sink.loads) = (0, 0);
    let changes = BTreeMap::from([(b"500000x".to_vec(), Some(entry(b"500000x", 9, 0)))]);
    edit_dir(&mut sink, &dir, &changes).expect("edit");
    assert!(
        sink.puts <= 4 && sink.loads <= 4,
        "{} puts, {} loads",
        sink.puts,
        sink.loads
    );
}

#[test]
fn exactly_a_page_is_one() {
    for (count, pages) in [
        (limits::PAGE_ENTRIES, false),
        (limits::PAGE_ENTRIES + 1, true),
    ] {
        let mut sink = Sink::default();
        let mut names: Vec<_> = (0..count as u32)
            .map(|n| format!("{n:05}").into_bytes())
            .collect();
        names.sort();
        let (dir, _) = put_dir(&mut sink, names.iter().map(|n| entry(n, 0, 0))).expect("put");
        let object = sink.dir_object(&dir).expect("dir");
        assert_eq!(
            matches!(object, DirObject::Index(_)),
            pages,
            "{count} entries"
        );
    }
}

#[test]
fn unsorted_entries_are_refused() {
    let mut sink = Sink::default();
    assert!(put_dir(&mut sink, [entry(b"b", 0, 0), entry(b"a", 0, 0)]).is_err());
    assert!(put_dir(&mut sink, [entry(b"a", 0, 0), entry(b"a", 0, 0)]).is_err());
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
        assert!(
            put_dir(&mut sink, [entry(name, 0, 0)]).is_err(),
            "{}",
            name.escape_ascii()
        );
    }
    let mut unsorted = entry(b"a", 0, 0);
    unsorted.meta.xattrs = vec![(b"user.b".to_vec(), vec![]), (b"user.a".to_vec(), vec![])];
    assert!(put_dir(&mut sink, [unsorted]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Whatever the history: editing gives the very bytes that making it anew gives.
    #[test]
    fn edit_is_as_put(
        base in proptest::collection::btree_map(0_u32..6000, (0_u32..3, 0_usize..2), 0..3500),
        changes in proptest::collection::btree_map(0_u32..6000, any::<Option<u32>>(), 0..4),
        cut in any::<Option<(u32, u32)>>(),
        heads in proptest::collection::vec(any::<usize>(), 0..3),
        large in prop_oneof![9 => Just(1_usize), 1 => Just(5_000)],
    ) {
        let mut sink = Sink::default();
        let mut model: BTreeMap<Vec<u8>, Entry> = base
            .iter()
            .map(|(n, (uid, x))| (numbered(*n), entry(&numbered(*n), *uid, x * large)))
            .collect();
        let (dir, counts) = put_dir(&mut sink, model.values().cloned()).expect("put");
        prop_assert_eq!(counts.entries, model.len() as u64);
        let mut edits: BTreeMap<Vec<u8>, Option<Entry>> = changes
            .iter()
            .map(|(n, uid)| (numbered(*n), uid.map(|uid| entry(&numbered(*n), uid, 0))))
            .collect();
        if let Some((a, b)) = cut {
            // A whole range goes, pages and all.
            let (a, b) = (numbered(a % 6000), numbered(b % 6000));
            for name in model.range(a.clone().min(b.clone())..a.max(b)).map(|(n, _)| n) {
                edits.entry(name.clone()).or_insert(None);
            }
        }
        if let DirObject::Index(index) = sink.dir_object(&dir).expect("dir") {
            // The name that a page begins with goes: the page before may have to go on.
            for pick in heads {
                edits.insert(index.first_name(pick % index.len()).to_vec(), None);
            }
        }
        for (name, new) in &edits {
            match new {
                Some(entry) => model.insert(name.clone(), entry.clone()),
                None => model.remove(name),
            };
        }
        let edited = edit_dir(&mut sink, &dir, &edits).expect("edit");
        let made = put_dir(&mut sink, model.values().cloned()).expect("put");
        prop_assert_eq!(edited, made);
        prop_assert_eq!(all(&mut sink, &made.0), model.into_values().collect::<Vec<_>>());
        let object = sink.dir_object(&made.0).expect("dir");
        prop_assert_eq!(object.counts(), made.1);
    }
}
