//! Whatever a tree becomes, its layers laid on one another are that tree.

use super::*;
use crate::control::layers::Framing;
use crate::daemon::archive::{check, layers};
use crate::daemon::ingest::IngestSink;
use pocker_store::object::Meta;
use pocker_store::types::{Digest, Time};
use pocker_store::{OpenOptions, Special, Store};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

const PATHS: [&str; 12] = [
    "a", "b", "c", "c/a", "c/b", "c/c", "c/c/a", "c/c/b", "d", "d/a", "d/b", "e",
];

#[derive(Clone, Debug)]
enum Spec {
    Absent,
    File(u8, u8),
    Dir(u8),
    Symlink(u8),
    Fifo,
    /// Another name of one of the files before it; where there is none, a file.
    Link(u8),
    Socket,
}

fn spec() -> impl Strategy<Value = Spec> {
    prop_oneof![
        3 => Just(Spec::Absent),
        3 => (0..2u8, 0..2u8).prop_map(|(bytes, meta)| Spec::File(bytes, meta)),
        5 => (0..2u8).prop_map(Spec::Dir),
        1 => (0..2u8).prop_map(Spec::Symlink),
        1 => Just(Spec::Fifo),
        5 => any::<u8>().prop_map(Spec::Link),
    ]
}

fn meta(of: u8) -> Meta {
    Meta {
        mode: 0o640 + u32::from(of),
        uid: u32::from(of),
        gid: 7,
        mtime: Time {
            secs: 100 + i64::from(of),
            nanos: 5,
        },
        xattrs: Vec::new(),
    }
}

fn store(dir: &std::path::Path) -> Arc<Store> {
    let options = OpenOptions {
        create: true,
        ..Default::default()
    };
    Store::open(dir, options).expect("opened")
}

fn tree(store: &Arc<Store>, specs: &[Spec]) -> Digest {
    let mut ingest = store.ingest();
    let mut files: Vec<&str> = Vec::new();
    let mut dirs = HashSet::new();
    ingest.dir(b"", meta(1)).expect("the root");
    for (path, spec) in PATHS.into_iter().zip(specs) {
        if path
            .rsplit_once('/')
            .is_some_and(|(dir, _)| !dirs.contains(dir))
        {
            continue;
        }
        let name = path.as_bytes();
        let spec = match spec {
            Spec::Link(_) if files.is_empty() => &Spec::File(0, 0),
            spec => spec,
        };
        let done = match spec {
            Spec::Absent => Ok(()),
            Spec::File(bytes, of) => {
                files.push(path);
                let taken = ingest.file(name, meta(*of), 1, &mut &[*bytes][..]);
                taken.map(drop)
            }
            Spec::Dir(of) => {
                dirs.insert(path);
                ingest.dir(name, meta(*of))
            }
            Spec::Symlink(to) => {
                // A link has no mode of its own.
                let meta = Meta {
                    mode: 0o777,
                    ..meta(0)
                };
                ingest.symlink(name, meta, &[b'x', b'0' + to])
            }
            Spec::Fifo => ingest.special(name, meta(0), Special::Fifo),
            Spec::Socket => ingest.special(name, meta(0), Special::Socket),
            Spec::Link(at) => {
                ingest.hardlink(name, files[usize::from(*at) % files.len()].as_bytes())
            }
        };
        done.expect("taken");
    }
    let done = ingest.finish(None).expect("finished");
    done.snapshot
}

fn layer(store: &Store, new: &Digest, below: Option<&Digest>) -> Vec<u8> {
    let open = |digest: &Digest| store.sealed(digest).expect("sealed");
    let (new, below) = (open(new), below.map(open));
    check::layer(&new, below.as_deref()).expect("it can be written");
    let mut out = Vec::new();
    write(&new, below.as_deref(), &mut out).expect("written");
    out
}

fn laid(store: &Arc<Store>, all: Vec<Vec<u8>>) -> Digest {
    let mut all = all.into_iter();
    let mut framing = Framing::new(Box::new(move || {
        let layer = all.next();
        Ok(layer.map(|bytes| Box::new(std::io::Cursor::new(bytes)) as Box<dyn Read>))
    }));
    let mut sink = IngestSink::new(store, true);
    layers::read(&mut framing, &mut sink).expect("taken");
    sink.finish(None).expect("finished").snapshot
}

fn entries(layer: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(layer);
    let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.expect("an entry");
        let link = entry.link_name().expect("a link");
        let link = link.map_or_else(String::new, |to| format!(" -> {}", to.display()));
        format!("{}{link}", entry.path().expect("a path").display())
    };
    archive.entries().expect("tar").map(entry).collect()
}

#[test]
fn layers_laid_on_one_another_are_the_tree() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path());
    let first = prop::collection::vec(spec(), PATHS.len());
    let changes = |most| prop::collection::vec((0..PATHS.len(), spec()), 0..most);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let ran = runner.run(
        &(first, changes(5), changes(3)),
        |(first, changes, more)| {
            let changed = |mut specs: Vec<Spec>, changes: &[(usize, Spec)]| {
                for (at, to) in changes {
                    specs[*at] = to.clone();
                }
                specs
            };
            let second = changed(first.clone(), &changes);
            let third = changed(second.clone(), &more);
            let trees = [first, second, third].map(|specs| tree(&store, &specs));
            let mut all = vec![layer(&store, &trees[0], None)];
            for pair in trees.windows(2) {
                all.push(layer(&store, &pair[1], Some(&pair[0])));
                prop_assert_eq!(laid(&store, all.clone()), pair[1]);
                // A file's names are all in the layer, or none: no link leads out of it.
                let names = entries(all.last().expect("one"));
                for name in &names {
                    if let Some((_, to)) = name.split_once(" -> ")
                        && !to.starts_with('x')
                    {
                        prop_assert!(names.iter().any(|n| n == to), "{:?}", names);
                    }
                }
                if pair[0] == pair[1] {
                    prop_assert_eq!(names.len(), 0);
                }
            }
            Ok(())
        },
    );
    ran.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_layer_holds_what_changed_and_what_leads_there() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path());
    let mut specs = vec![Spec::Absent; PATHS.len()];
    let at = |path: &str| PATHS.iter().position(|p| *p == path).expect("a path");
    for dir in ["c", "c/c", "d"] {
        specs[at(dir)] = Spec::Dir(0);
    }
    for file in ["a", "b", "c/a", "c/c/a", "d/a", "d/b"] {
        specs[at(file)] = Spec::File(0, 0);
    }
    let first = tree(&store, &specs);
    let said = |specs: &[Spec]| {
        let second = tree(&store, specs);
        let bytes = layer(&store, &second, Some(&first));
        assert!(
            bytes == layer(&store, &second, Some(&first)),
            "the same bytes"
        );
        entries(&bytes)
    };
    assert_eq!(said(&specs), [""; 0]);
    let mut one = specs.clone();
    one[at("c/c/a")] = Spec::File(1, 0);
    assert_eq!(said(&one), ["./", "c/", "c/c/", "c/c/a"]);
    let mut gone = specs.clone();
    gone[at("d")] = Spec::Absent;
    gone[at("c/a")] = Spec::Dir(1);
    gone[at("e")] = Spec::Fifo;
    assert_eq!(said(&gone), ["./", "c/", "c/a/", ".wh.d", "e"]);
    let mut file = specs.clone();
    file[at("d")] = Spec::File(0, 1);
    assert_eq!(said(&file), ["./", "d"]);
    let mut socket = specs.clone();
    socket[at("d")] = Spec::Socket;
    socket[at("e")] = Spec::Socket;
    assert_eq!(said(&socket), ["./", ".wh.d"]);
}

/// A tree of one empty file of these names, and the directories that lead there.
fn named(store: &Arc<Store>, names: &[&[u8]]) -> Digest {
    let mut ingest = store.ingest();
    ingest.dir(b"", meta(1)).expect("the root");
    for (at, name) in names.iter().enumerate() {
        for (end, _) in name.iter().enumerate().filter(|(_, b)| **b == b'/') {
            ingest.dir(&name[..end], meta(0)).expect("a directory");
        }
        match at {
            0 => ingest
                .file(name, meta(0), 0, &mut std::io::empty())
                .map(drop),
            _ => ingest.hardlink(name, names[0]),
        }
        .expect("taken");
    }
    ingest.finish(None).expect("finished").snapshot
}

/// Of so many bytes, in directories.
fn path(length: usize) -> Vec<u8> {
    let path = [[b'd'; 255].as_slice(), b"/"].concat().repeat(17);
    assert_ne!(path[length - 1], b'/');
    path[..length].to_vec()
}

#[test]
fn what_is_gone_may_have_the_longest_name() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path());
    for length in 250..=255 {
        let first = named(&store, &[&vec![b'n'; length]]);
        let second = named(&store, &[]);
        let all = vec![
            layer(&store, &first, None),
            layer(&store, &second, Some(&first)),
        ];
        assert_eq!(laid(&store, all), second, "{length}");
    }
}

/// What nobody could read is refused before anything is written.
#[test]
fn paths_that_no_reader_takes_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path());
    let none = named(&store, &[]);
    let checked = |new: &Digest, below: Option<&Digest>| {
        let open = |digest: &Digest| store.sealed(digest).expect("sealed");
        check::layer(&open(new), below.map(open).as_deref())
    };
    let long = |checked| matches!(checked, Err(ArchiveError::Long { .. }));
    for (length, whole, gone) in [
        (4092, true, true),
        (4095, true, false),
        (4097, false, false),
    ] {
        let tree = named(&store, &[&path(length)]);
        assert_eq!(checked(&tree, None).is_ok(), whole, "{length}");
        assert_eq!(long(checked(&tree, None)), !whole, "{length}");
        // The directory at its top is what is gone: of the file alone, the file.
        assert!(checked(&none, Some(&tree)).is_ok());
        let dir = path(3840 - 1);
        let left = named(&store, &[&[&dir[..], b"/x"].concat()]);
        assert_eq!(checked(&left, Some(&tree)).is_ok(), gone, "{length}");
        assert_eq!(long(checked(&left, Some(&tree))), !gone, "{length}");
    }
    let linked = named(&store, &[b"a", &path(4097)]);
    assert!(long(checked(&none, Some(&linked))));
}

#[test]
fn what_leads_to_links_is_bounded() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = store(dir.path());
    let tree = store
        .sealed(&named(&store, &[b"a/b/c", b"a/d"]))
        .expect("sealed");
    let group = tree.groups().iter().next().expect("one").to_vec();
    let add = |most| Relinked::default().add(&tree, group[0], &group, most);
    // The file, the root, "a" and "a/b".
    add(4).expect("there is room");
    assert!(matches!(add(3), Err(ArchiveError::Refused(_))));
}
