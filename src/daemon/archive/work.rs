//! An archive applied to a work tree (COPY): merged into what is there, every path
//! resolved inside the tree's own root, symlinks included.

use super::entry::Kind as TarKind;
use super::{ArchiveError, Sink};
use crate::daemon::clock;
use pocker_store::object::Meta;
use pocker_store::tree::Tree;
use pocker_store::types::{
    Attr, Create, Creds, Errno, Kind, Node, OpCx, ROOT, Rdev, SetAttr, SetTime, Time,
};
use pocker_store::work::{WorkTree, XattrHow};
use std::io::Read;
use std::sync::Arc;

/// Symlinks followed in one path before it counts as a loop (as Linux has it).
const LINKS_MAX: usize = 40;
/// Bytes written at a time.
const CHUNK: usize = 256 << 10;
/// What is all zeros at this grain stays a hole: a work tree keeps track of a file by as much.
const GRAIN: usize = 64 << 10;
static ZEROS: [u8; GRAIN] = [0; GRAIN];

/// Writes entries below one directory of a work tree.
pub struct WorkSink {
    tree: Arc<WorkTree>,
    base: Node,
    /// Directories and their times, which whatever is made in them moves.
    dirs: Vec<(Node, Time)>,
}

fn store_error(path: &[u8], source: Errno) -> ArchiveError {
    ArchiveError::Store {
        path: path.escape_ascii().to_string(),
        source: Box::new(source),
    }
}

static ROOT_CREDS: Creds = Creds::ROOT;

fn cx() -> OpCx<'static> {
    OpCx {
        creds: &ROOT_CREDS,
        now: clock::now(),
        once: None,
    }
}

impl WorkSink {
    /// `dest` is an absolute path in the tree; missing directories are made.
    pub fn new(tree: Arc<WorkTree>, dest: &[u8]) -> Result<WorkSink, ArchiveError> {
        let mut sink = WorkSink {
            tree,
            base: ROOT,
            dirs: Vec::new(),
        };
        sink.base = sink
            .directory(ROOT, dest)
            .map_err(|e| store_error(dest, e))?;
        Ok(sink)
    }

    /// Once all entries are there.
    pub fn finish(self) -> Result<(), ArchiveError> {
        for (dir, mtime) in self.dirs {
            let new = SetAttr {
                mtime: Some(SetTime::At(mtime)),
                ..SetAttr::default()
            };
            match self.tree.setattr(&cx(), dir, &new, None) {
                // A later entry took its place.
                Ok(_) | Err(Errno::Stale) => {}
                Err(e) => return Err(store_error(b"", e)),
            }
        }
        Ok(())
    }

    /// The directory at `path` from `from`, made where missing.
    fn directory(&self, from: Node, path: &[u8]) -> Result<Node, Errno> {
        let mut todo: Vec<Vec<u8>> = components(path);
        let mut at = if path.starts_with(b"/") { ROOT } else { from };
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match self.tree.lookup(&Creds::ROOT, at, &name) {
                Ok(found) if found.node.kind == Kind::Dir => at = found.node.node,
                Ok(found) if found.node.kind == Kind::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::Inval);
                    }
                    let (target, _) = self.tree.readlink(found.node.node)?;
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    todo.extend(components(&target));
                }
                Ok(_) => return Err(Errno::NotDir),
                Err(Errno::NoEnt) => {
                    let new = SetAttr {
                        mode: Some(0o755),
                        ..SetAttr::default()
                    };
                    at = self.tree.mkdir(&cx(), at, &name, &new)?.node.node;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(at)
    }

    /// The directory an entry goes into, and its name there.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(Node, &'p [u8]), Errno> {
        match path.iter().rposition(|b| *b == b'/') {
            Some(at) => Ok((self.directory(self.base, &path[..at])?, &path[at + 1..])),
            None => Ok((self.base, path)),
        }
    }

    /// Makes room for an entry that is no directory.
    fn clear(&self, dir: Node, name: &[u8]) -> Result<(), Errno> {
        match self.tree.lookup(&Creds::ROOT, dir, name) {
            Ok(found) if found.node.kind == Kind::Dir => Err(Errno::IsDir),
            Ok(_) => self.tree.remove(&cx(), dir, name).map(drop),
            Err(Errno::NoEnt) => Ok(()),
            Err(other) => Err(other),
        }
    }

    fn set(&self, node: Node, meta: &Meta, mode: bool) -> Result<(), Errno> {
        for (name, value) in &meta.xattrs {
            self.tree
                .setxattr(&cx(), node, name, value, XattrHow::Either)?;
        }
        let new = SetAttr {
            mode: mode.then_some(meta.mode),
            uid: Some(meta.uid),
            gid: Some(meta.gid),
            mtime: Some(SetTime::At(meta.mtime)),
            ..SetAttr::default()
        };
        self.tree.setattr(&cx(), node, &new, None).map(drop)
    }

    fn store_file(
        &self,
        path: &[u8],
        data: &mut dyn Read,
    ) -> Result<Result<Attr, Errno>, std::io::Error> {
        let made = self.parent(path).and_then(|(dir, name)| {
            self.clear(dir, name)?;
            self.tree
                .create(&cx(), dir, name, Create::Guarded, &SetAttr::default())
        });
        let node = match made {
            Ok(made) => made.node,
            Err(e) => return Ok(Err(e)),
        };
        let mut buffer = vec![0; CHUNK];
        let (mut at, mut end) = (0, 0);
        loop {
            let got = super::fill(data, &mut buffer)?;
            if got == 0 {
                break;
            }
            for (from, to) in runs(&buffer[..got]) {
                let at = at + from as u64;
                if let Err(e) = self.tree.write(&cx(), node.node, at, &buffer[from..to]) {
                    return Ok(Err(e));
                }
                end = at + (to - from) as u64;
            }
            at += got as u64;
        }
        // A hole at the end is only there once the length says so.
        let new = SetAttr {
            size: (end < at).then_some(at),
            ..SetAttr::default()
        };
        Ok(match new.size {
            Some(_) => self
                .tree
                .setattr(&cx(), node.node, &new, None)
                .map(|_| node),
            None => Ok(node),
        })
    }
}

/// Where bytes are that are not all zeros.
fn runs(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, piece) in bytes.chunks(GRAIN).enumerate() {
        let (from, to) = (at * GRAIN, at * GRAIN + piece.len());
        match runs.last_mut() {
            _ if *piece == ZEROS[..piece.len()] => {}
            Some(last) if last.1 == from => last.1 = to,
            _ => runs.push((from, to)),
        }
    }
    runs
}

/// Components in reverse, ready to be popped. ".." cannot leave the root: LOOKUP sees to it.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/')
        .rev()
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

impl Sink for WorkSink {
    fn dir(&mut self, path: &[u8], meta: Meta) -> Result<(), ArchiveError> {
        if path.is_empty() {
            // The destination itself stays as it is.
            return Ok(());
        }
        let made = self.directory(self.base, path).and_then(|node| {
            self.set(node, &meta, true)?;
            self.dirs.push((node, meta.mtime));
            Ok(())
        });
        made.map_err(|e| store_error(path, e))
    }

    fn file(
        &mut self,
        path: &[u8],
        meta: Meta,
        _size: u64,
        data: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let stored = self.store_file(path, data).map_err(ArchiveError::Read)?;
        stored
            .and_then(|attr| self.set(attr.node, &meta, true))
            .map_err(|e| store_error(path, e))
    }

    fn symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), ArchiveError> {
        let made = self.parent(path).and_then(|(dir, name)| {
            self.clear(dir, name)?;
            let made = self
                .tree
                .symlink(&cx(), dir, name, target, &SetAttr::default())?;
            self.set(made.node.node, &meta, false)
        });
        made.map_err(|e| store_error(path, e))
    }

    fn special(&mut self, path: &[u8], meta: Meta, kind: TarKind) -> Result<(), ArchiveError> {
        let (kind, rdev) = match kind {
            TarKind::Fifo => (Kind::Fifo, Rdev::default()),
            TarKind::Char(rdev) => (Kind::Char, rdev),
            TarKind::Block(rdev) => (Kind::Block, rdev),
            _ => return Err(store_error(path, Errno::Inval)),
        };
        let made = self.parent(path).and_then(|(dir, name)| {
            self.clear(dir, name)?;
            let made = self
                .tree
                .mknod(&cx(), dir, name, kind, rdev, &SetAttr::default())?;
            self.set(made.node.node, &meta, true)
        });
        made.map_err(|e| store_error(path, e))
    }

    fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        let linked = self.parent(target).and_then(|(dir, name)| {
            let found = self.tree.lookup(&Creds::ROOT, dir, name)?;
            let (dir, name) = self.parent(path)?;
            self.clear(dir, name)?;
            self.tree.link(&cx(), found.node.node, dir, name).map(drop)
        });
        linked.map_err(|e| store_error(path, e))
    }
}
