//! Whether what is written of a tree can be read again: known before anything of it is written.

use super::entry::WHITEOUT;
use super::out::store_error;
use super::step::{Into, name_at, walk};
use super::{ArchiveError, PATH_MAX, sayable};
use pocker_store::object::BodyRef;
use pocker_store::tree::Tree;
use pocker_store::types::{Attr, Errno, Kind, Node};
use pocker_store::{DEPTH_MAX, IngestLimits, NameRef, SealedTree};
use std::collections::HashSet;

/// A path has as many names as it has room for, so that its length bounds both.
const _: () = assert!(DEPTH_MAX * 2 == PATH_MAX);

/// Of a whole tree as an archive.
pub fn archive(tree: &SealedTree) -> Result<(), ArchiveError> {
    whole(tree, IngestLimits::default())
}

fn whole(tree: &SealedTree, limits: IngestLimits) -> Result<(), ArchiveError> {
    let mut check = Check::new(tree, false, limits);
    let xattrs = tree.root_meta().xattrs.iter();
    check.one(b"", Kind::Dir, 0, None, xattrs.map(|(name, _)| &name[..]))?;
    let each = tree.each_name(|name: &NameRef<'_>| {
        let entry = &name.entry;
        let size = match entry.body {
            BodyRef::File { size, .. } => size,
            _ => 0,
        };
        let xattrs = entry.xattrs().map(|(name, _)| name);
        let kind = entry.body.kind();
        check
            .one(name.path, kind, size, name.linked, xattrs)
            .map_err(Stopped::By)
    });
    each.map_err(|stopped| match stopped {
        Stopped::By(e) => e,
        Stopped::Read(e) => store_error(b".", e),
    })
}

/// Why a walk ended early.
enum Stopped {
    By(ArchiveError),
    Read(Errno),
}

impl From<Errno> for Stopped {
    fn from(e: Errno) -> Stopped {
        Stopped::Read(e)
    }
}

/// Of the layer that makes `new` of `below`.
pub fn layer(new: &SealedTree, below: Option<&SealedTree>) -> Result<(), ArchiveError> {
    let mut check = Check::new(new, true, IngestLimits::default());
    walk(new, below, &mut check)
}

struct Check<'a> {
    tree: &'a SealedTree,
    /// In a layer some names mean something else.
    layer: bool,
    /// What is left of an archive's bounds.
    entries: Left,
    bytes: Left,
    /// Files of several names, which are written once.
    linked: HashSet<Node>,
}

struct Left {
    what: &'static str,
    most: u64,
    left: u64,
}

impl Left {
    fn of(most: u64, what: &'static str) -> Left {
        Left {
            what,
            most,
            left: most,
        }
    }

    fn take(&mut self, some: u64) -> Result<(), ArchiveError> {
        let (what, most) = (self.what, self.most);
        let left = self.left.checked_sub(some);
        self.left = left.ok_or(ArchiveError::Much { what, most })?;
        Ok(())
    }
}

impl<'a> Check<'a> {
    fn new(tree: &'a SealedTree, layer: bool, limits: IngestLimits) -> Check<'a> {
        Check {
            tree,
            layer,
            entries: Left::of(limits.entries, "files and directories"),
            bytes: Left::of(limits.bytes, "bytes"),
            linked: HashSet::new(),
        }
    }
}

impl Check<'_> {
    /// A name: what it is, how many bytes that has, what stands for it where it has several names.
    fn one<'n>(
        &mut self,
        path: &[u8],
        kind: Kind,
        size: u64,
        linked: Option<Node>,
        mut xattrs: impl Iterator<Item = &'n [u8]>,
    ) -> Result<(), ArchiveError> {
        if kind == Kind::Socket {
            return Ok(());
        }
        // A directory's has a slash behind it.
        fits(path, usize::from(kind == Kind::Dir))?;
        if self.layer && path[name_at(path)..].starts_with(WHITEOUT) {
            return Err(ArchiveError::Entry {
                path: path.escape_ascii().to_string(),
                why: "in an image a name that begins with .wh. says that a file is gone".into(),
            });
        }
        self.entries.take(1)?;
        if linked.is_some_and(|node| !self.linked.insert(node)) {
            return Ok(());
        }
        self.bytes.take(size)?;
        xattrs.try_for_each(|name| sayable(path, name).map(drop))
    }
}

impl Into for Check<'_> {
    fn entry(&mut self, attr: &Attr, path: &[u8]) -> Result<(), ArchiveError> {
        let size = match attr.kind {
            Kind::File => attr.size,
            _ => 0,
        };
        let linked = (attr.nlink > 1 && attr.kind != Kind::Dir).then_some(attr.node);
        let names = self.tree.listxattr(attr.node);
        let names = names.map_err(|e| store_error(path, e))?;
        let names = names.iter().map(|name| &name[..]);
        self.one(path, attr.kind, size, linked, names)
    }

    fn gone(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        self.entries.take(1)?;
        fits(path, WHITEOUT.len())
    }
}

/// Whether a path with so many bytes more can be read.
fn fits(path: &[u8], more: usize) -> Result<(), ArchiveError> {
    match path.len() + more > PATH_MAX {
        true => Err(ArchiveError::long(path)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::ingest::IngestSink;
    use pocker_store::object::Meta;
    use pocker_store::types::{Digest, Time};
    use pocker_store::{Ingest, OpenOptions, Store};
    use std::sync::Arc;

    fn meta(xattrs: &[&str]) -> Meta {
        Meta {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: xattrs
                .iter()
                .map(|n| (n.as_bytes().to_vec(), vec![]))
                .collect(),
        }
    }

    fn store(dir: &std::path::Path) -> Arc<Store> {
        let options = OpenOptions {
            create: true,
            ..Default::default()
        };
        Store::open(dir, options).expect("opened")
    }

    fn tree(store: &Arc<Store>, make: impl FnOnce(&mut Ingest)) -> Arc<SealedTree> {
        let mut ingest = store.ingest_within(IngestLimits {
            depth: usize::MAX,
            ..IngestLimits::default()
        });
        make(&mut ingest);
        ingest.finish(None).expect("finished").tree
    }

    /// Out as an archive, and in again as anybody's.
    fn again(store: &Arc<Store>, tree: &SealedTree) -> Result<Digest, ArchiveError> {
        let mut tar = Vec::new();
        super::super::out::write(tree, &mut tar)?;
        let mut sink = IngestSink::new(store, true);
        super::super::read(&mut &tar[..], &mut sink)?;
        Ok(sink.finish(None)?.snapshot)
    }

    /// What passes comes in again as it was, what does not would not.
    #[test]
    fn as_deep_as_an_archive_may_be_and_no_deeper() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = store(dir.path());
        let deep = |names: usize, end: &str| {
            let path = ["d/".repeat(names - 1), end.to_owned()].concat();
            tree(&store, |ingest| {
                ingest.dir(b"", meta(&[])).expect("the root");
                let made = match end {
                    "f" => ingest.file(path.as_bytes(), meta(&[]), 0, &mut std::io::empty()),
                    _ => ingest.dir(path.as_bytes(), meta(&[])),
                };
                made.expect("made");
            })
        };
        for (names, end, goes) in [
            (1025, "d", true),
            (DEPTH_MAX, "d", true),
            (DEPTH_MAX, "f", true),
            (DEPTH_MAX, "dd", false),
            (DEPTH_MAX + 1, "f", false),
            (DEPTH_MAX + 1, "d", false),
        ] {
            let tree = deep(names, end);
            let came = again(&store, &tree).ok();
            assert_eq!(came == Some(tree.snapshot()), goes, "{names} {end}");
            for checked in [archive(&tree), layer(&tree, None)] {
                let long = matches!(checked, Err(ArchiveError::Long { .. }));
                assert_eq!((checked.is_ok(), long), (goes, !goes), "{names} {end}");
            }
        }
    }

    #[test]
    fn what_tar_cannot_say_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = store(dir.path());
        for (name, goes) in [("user.a", true), ("user.a=b", false)] {
            let tree = tree(&store, |ingest| {
                let file = ingest.file(b"f", meta(&[name]), 0, &mut std::io::empty());
                file.expect("a file");
            });
            assert_eq!(archive(&tree).is_ok(), goes, "{name}");
            assert_eq!(again(&store, &tree).is_ok(), goes, "{name}");
        }
        // In a layer alone it stands for something else.
        let marked = tree(&store, |ingest| {
            let file = ingest.file(b".wh.x", meta(&[]), 0, &mut std::io::empty());
            file.expect("a file");
        });
        assert!(archive(&marked).is_ok() && layer(&marked, None).is_err());
    }

    #[test]
    fn more_than_an_archive_may_hold_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = store(dir.path());
        let tree = tree(&store, |ingest| {
            let file = ingest.file(b"f", meta(&[]), 3, &mut &b"abc"[..]);
            file.expect("a file");
            ingest.hardlink(b"g", b"f").expect("a link");
        });
        // The root, the file and its other name, whose bytes are there once.
        for (entries, bytes, goes) in [(3, 3, true), (2, 3, false), (3, 2, false)] {
            let limits = IngestLimits {
                entries,
                bytes,
                ..IngestLimits::default()
            };
            let checked = whole(&tree, limits);
            let much = matches!(checked, Err(ArchiveError::Much { .. }));
            assert_eq!((checked.is_ok(), much), (goes, !goes), "{entries} {bytes}");
        }
    }
}
