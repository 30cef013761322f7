//! What fuzzing runs of the objects (`fuzz/`): panics where something does not hold.

use super::*;
use crate::error::StoreError;

/// Heap that an object may take: its bytes, its entries copied out to be encoded again (an
/// entry of 37 bytes is 150 in memory), and hard links, three numbers for each.
pub fn objects_bound(data: &[u8]) -> usize {
    (64 << 10) + 24 * data.len()
}

/// What is an object is so in one way only: encoded again it has the same bytes, and so the
/// same name; and what is asked of it agrees with what was parsed.
pub fn objects(data: &[u8]) {
    let valid = validate(data).is_ok();
    match wire::kind_of(data) {
        Ok(wire::SNAPSHOT) => {
            let Ok(snapshot) = SnapshotData::parse(data) else {
                return assert!(!valid);
            };
            assert!(valid);
            let again = snapshot.encode();
            assert_eq!(again.as_deref(), Ok(data), "encoded again");
            groups(&snapshot);
        }
        Ok(wire::PAGE | wire::INDEX) => match DirObject::parse(data.to_vec()) {
            Err(_) => assert!(!valid),
            Ok(DirObject::Page(found)) => {
                assert!(valid);
                page(&found, data);
            }
            Ok(DirObject::Index(found)) => {
                assert!(valid);
                index(&found, data);
            }
        },
        _ => assert!(!valid, "an object of no kind"),
    }
}

/// Keeps the last object.
struct Last(Vec<u8>);

impl ObjectSink for Last {
    fn put_object(&mut self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = digest_of(&bytes);
        self.0 = bytes;
        Ok(digest)
    }
    fn dir_object(&mut self, _: &Digest) -> Result<DirObject, StoreError> {
        panic!("one page needs no other")
    }
}

fn page(page: &Page, data: &[u8]) {
    let mut sink = Last(Vec::new());
    let entries = (0..page.len()).filter_map(|slot| page.entry(slot).map(|e| e.to_entry()));
    match put_dir(&mut sink, entries) {
        Ok((digest, counts)) => {
            assert_eq!(digest, digest_of(data));
            assert_eq!(counts, page.counts());
            assert_eq!(sink.0, data, "encoded again");
        }
        Err(e) => panic!("its entries are no directory: {e}"),
    }
    let mut before = 0;
    for slot in 0..page.len() {
        let Some(entry) = page.entry(slot) else {
            panic!("no entry in slot {slot}")
        };
        assert_eq!(entry.name, page.name(slot));
        assert!(name_ok(entry.name));
        assert_eq!(page.find(entry.name), Ok(slot));
        assert_eq!(page.nodes_before(slot), before);
        assert_eq!(page.slot_of(before), Some(slot));
        before += entry.body.nodes();
        assert_eq!(page.slot_of(before - 1), Some(slot));
        for (name, value) in entry.xattrs() {
            assert_eq!(entry.xattr(name), Some(value));
        }
    }
    assert_eq!(page.slot_of(before), None);
    assert!(page.entry(page.len()).is_none());
}

fn index(index: &DirIndex, data: &[u8]) {
    let pages: Vec<PageRef> = (0..index.len()).map(|at| index.page(at)).collect();
    let (again, counts) = DirIndex::encode(&pages);
    assert_eq!(counts, index.counts());
    assert_eq!(again, data, "encoded again");
    for (at, page) in pages.iter().enumerate() {
        assert_eq!(index.page_of_name(&page.first), at);
        let entries = index.entries_before(at);
        assert_eq!(index.page_of_index(entries), Some(at));
        assert_eq!(
            index.page_of_index(entries + page.counts.entries - 1),
            Some(at)
        );
        assert_eq!(index.page_of_node(index.nodes_before(at)), Some(at));
    }
    assert_eq!(index.page_of_index(counts.entries), None);
    assert_eq!(index.page_of_node(counts.nodes), None);
}

fn groups(snapshot: &SnapshotData) {
    let last = snapshot.last_number();
    for group in snapshot.groups.iter() {
        assert!(group.len() >= 2);
        for node in group {
            assert!((crate::types::ROOT + 1..=last).contains(node));
            assert_eq!(snapshot.groups.of(*node), Some(group));
            assert_eq!(snapshot.groups.canonical(*node), group[0]);
        }
    }
    let mut lists: Vec<_> = snapshot.groups.iter().map(<[_]>::to_vec).collect();
    lists.reverse();
    assert_eq!(Groups::new(lists, last).as_ref(), Ok(&snapshot.groups));
}

/// Objects that hold something of every kind, for the corpus.
pub fn object_seeds() -> Vec<Vec<u8>> {
    struct All(Vec<Vec<u8>>);
    impl ObjectSink for All {
        fn put_object(&mut self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
            let digest = digest_of(&bytes);
            self.0.push(bytes);
            Ok(digest)
        }
        fn dir_object(&mut self, digest: &Digest) -> Result<DirObject, StoreError> {
            let bytes = self.0.iter().find(|b| digest_of(b) == *digest).cloned();
            Ok(DirObject::parse(bytes.unwrap_or_default())?)
        }
    }
    let meta = |xattrs: Xattrs| Meta {
        mode: 0o4755,
        uid: 1000,
        gid: 50,
        mtime: crate::types::Time {
            secs: 1_700_000_000,
            nanos: 999_999_999,
        },
        xattrs,
    };
    let named = |name: &str, body, xattrs| Entry {
        name: name.as_bytes().to_vec(),
        meta: meta(xattrs),
        body,
    };
    let rdev = Rdev { major: 8, minor: 1 };
    let blob = digest_of(b"blob");
    let xattrs = vec![
        (b"security.capability".to_vec(), vec![1; 20]),
        (b"user.empty".to_vec(), Vec::new()),
    ];
    let mut sink = All(Vec::new());
    let mut put = |entries: Vec<Entry>| match put_dir(&mut sink, entries) {
        Ok(put) => put,
        Err(e) => panic!("{e}"),
    };
    put(Vec::new());
    let file = |n: u32| named(&format!("{n:05}"), Body::File { blob, size: 9 }, Vec::new());
    // Four pages: an index, of which only that is worth a place in the corpus.
    put((0..1100).map(file).collect());
    let (digest, counts) = put(vec![named("only", Body::Fifo, xattrs.clone())]);
    let (digest, counts) = put(vec![
        named("block", Body::Block(rdev), Vec::new()),
        named("char", Body::Char(rdev), Vec::new()),
        named("dir", Body::Dir { digest, counts }, xattrs.clone()),
        named("fifo", Body::Fifo, Vec::new()),
        named("file", Body::File { blob, size: 4 }, xattrs.clone()),
        named("link", Body::Symlink(b"../target".to_vec()), Vec::new()),
        named("socket", Body::Socket, Vec::new()),
    ]);
    let Ok(groups) = Groups::new(vec![vec![2, 5], vec![3, 4, 7]], 8) else {
        panic!("groups of a tree of eight")
    };
    let snapshot = SnapshotData {
        root_meta: meta(xattrs),
        root_dir: digest,
        counts,
        groups,
    };
    put(vec![
        named("a", Body::Fifo, Vec::new()),
        named("b", Body::Fifo, Vec::new()),
    ]);
    let mut all = sink.0;
    // The same name twice: no directory. It stands before the number of xattrs, at the end.
    let mut twice = all[all.len() - 1].clone();
    let at = twice.len() - 3;
    twice[at] = b'a';
    all.push(twice);
    all.retain(|bytes| bytes.len() < 4 << 10);
    match snapshot.encode() {
        Ok(bytes) => all.push(bytes),
        Err(e) => panic!("{e}"),
    }
    all
}
