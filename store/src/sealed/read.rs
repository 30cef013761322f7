//! [`Tree`] for a sealed tree.

use super::SealedTree;
use crate::blob::SMALL;
use crate::error::StoreError;
use crate::object::{BodyRef, EntryRef};
use crate::tree::{DirDone, DirEntry, Found, ReadDone, Tree};
use crate::types::{Attr, Creds, Digest, Errno, Kind, Node, Perm};
use std::fs::File;

/// Cookies of "." and ".."; entry i has i + 3.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// access(2)'s rules. uid 0 passes, but to execute a file some x bit must be set.
fn may(who: &Creds, entry: &EntryRef<'_>, want: Perm) -> bool {
    if who.uid == 0 {
        let dir = entry.body.kind() == Kind::Dir;
        return want != Perm::EXEC || dir || entry.mode & 0o111 != 0;
    }
    let shift = if who.uid == entry.uid {
        6
    } else if who.in_group(entry.gid) {
        3
    } else {
        0
    };
    (entry.mode >> shift) & want.0 == want.0
}

fn need(who: &Creds, entry: &EntryRef<'_>, want: Perm) -> Result<(), Errno> {
    if may(who, entry, want) {
        Ok(())
    } else {
        Err(Errno::Access)
    }
}

/// The content of a file that `who` may READ.
fn readable(who: &Creds, entry: &EntryRef<'_>) -> Result<(Digest, u64), Errno> {
    let (blob, size) = match entry.body {
        BodyRef::File { blob, size } => (blob, size),
        BodyRef::Dir { .. } => return Err(Errno::IsDir),
        _ => return Err(Errno::Inval),
    };
    if who.uid != entry.uid && !may(who, entry, Perm::READ) {
        need(who, entry, Perm::EXEC)?;
    }
    Ok((blob, size))
}

impl SealedTree {
    /// A descriptor, for reading only, of a file that is whole as one file of the store;
    /// `None` where it is so small that it is a row.
    pub fn file(&self, who: &Creds, node: Node) -> Result<Option<File>, Errno> {
        let base = self.base(node)?;
        let (blob, size) = readable(who, &base.entry.view()?)?;
        if size <= SMALL {
            return Ok(None);
        }
        let open = || {
            let file = self.blobs.open(&blob)?;
            match file.metadata() {
                Ok(meta) if meta.len() == size => Ok(file),
                Ok(meta) => Err(StoreError::BlobSize {
                    digest: blob,
                    expected: size,
                    found: meta.len(),
                }),
                Err(e) => Err(StoreError::io(
                    "look at blob",
                    &self.blobs.area.path(&blob),
                    e,
                )),
            }
        };
        open().map(Some).map_err(StoreError::log)
    }
}

impl Tree for SealedTree {
    fn getattr(&self, node: Node) -> Result<Attr, Errno> {
        self.attr(node)
    }

    fn lookup(&self, who: &Creds, dir: Node, name: &[u8]) -> Result<Found, Errno> {
        let base = self.base(dir)?;
        let entry = base.entry.view()?;
        SealedTree::is_dir(&entry)?;
        need(who, &entry, Perm::EXEC)?;
        let dir_attr = self.attr_of(dir, &entry)?;
        let node = match name {
            b"." => dir_attr,
            b".." => self.attr(base.parent)?,
            _ => {
                let child = self.child_of(dir, &base, name)?.ok_or(Errno::NoEnt)?;
                self.attr_of(child.node, &child.entry.view()?)?
            }
        };
        Ok(Found {
            node,
            dir: dir_attr,
        })
    }

    fn readlink(&self, node: Node) -> Result<(Vec<u8>, Attr), Errno> {
        let base = self.base(node)?;
        let entry = base.entry.view()?;
        match entry.body {
            BodyRef::Symlink(target) => Ok((target.to_vec(), self.attr_of(node, &entry)?)),
            _ => Err(Errno::Inval),
        }
    }

    fn read(
        &self,
        who: &Creds,
        node: Node,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<ReadDone, Errno> {
        let base = self.base(node)?;
        let entry = base.entry.view()?;
        let (blob, size) = readable(who, &entry)?;
        let attr = self.attr_of(node, &entry)?;
        self.blobs
            .read_at(&blob, size, offset, count, out)
            .map_err(StoreError::log)?;
        Ok(ReadDone {
            attr,
            eof: offset.saturating_add(u64::from(count)) >= size,
        })
    }

    fn readdir(
        &self,
        who: &Creds,
        dir: Node,
        cookie: u64,
        attrs: bool,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<DirDone, Errno> {
        let base = self.base(dir)?;
        let entry = base.entry.view()?;
        SealedTree::is_dir(&entry)?;
        need(who, &entry, Perm::READ)?;
        let attr = self.attr_of(dir, &entry)?;
        for (name, at, node) in [(&b"."[..], DOT, dir), (b"..", DOT_DOT, base.parent)] {
            if cookie < at {
                let attr = if attrs { Some(self.attr(node)?) } else { None };
                if !emit(DirEntry {
                    name,
                    node,
                    cookie: at,
                    attr,
                }) {
                    return Ok(DirDone {
                        attr: self.attr_of(dir, &entry)?,
                        eof: false,
                    });
                }
            }
        }
        let mut eof = true;
        self.children_from(dir, cookie.saturating_sub(DOT_DOT), &mut |child| {
            let view = child.entry.view()?;
            let attr = if attrs {
                Some(self.attr_of(child.node, &view)?)
            } else {
                None
            };
            let cookie = child.index + DOT_DOT + 1;
            eof = emit(DirEntry {
                name: view.name,
                node: child.node,
                cookie,
                attr,
            });
            Ok(eof)
        })?;
        Ok(DirDone { attr, eof })
    }

    fn getxattr(&self, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let base = self.base(node)?;
        base.entry
            .view()?
            .xattr(name)
            .map(<[u8]>::to_vec)
            .ok_or(Errno::NoData)
    }

    fn listxattr(&self, node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        let base = self.base(node)?;
        Ok(base
            .entry
            .view()?
            .xattrs()
            .map(|(name, _)| name.to_vec())
            .collect())
    }
}
