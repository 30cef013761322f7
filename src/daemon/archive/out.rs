//! A tree as a tar archive: sorted, without a clock, the same bytes for the same tree.

use super::entry::{XATTR_KEY, pax_time_text};
use super::{ArchiveError, sayable};
use pocker_store::tree::Tree;
use pocker_store::types::{Attr, Creds, Errno, Kind, Node, ROOT};
use std::collections::HashMap;
use std::io::{Read, Write};

/// Bytes read from a file at a time.
const CHUNK: u32 = 1 << 20;
/// Names longer than this go into a PAX record (ustar's own field).
const USTAR_NAME: usize = 100;

/// Writes the whole tree, the root's own entry first. Sockets have no place in tar.
pub fn write(tree: &dyn Tree, out: &mut dyn Write) -> Result<(), ArchiveError> {
    write_from(tree, ROOT, b"", out)
}

/// Writes the node `top` and all below it; its entries' paths begin with `name`.
pub fn write_from(
    tree: &dyn Tree,
    top: Node,
    name: &[u8],
    out: &mut dyn Write,
) -> Result<(), ArchiveError> {
    let mut writer = Writer::new(tree, out);
    let root = writer.attr(top, name)?;
    writer.one(&root, name)?;
    if root.kind == Kind::Dir {
        writer.below(top, name)?;
    }
    writer.finish()
}

pub(super) struct Writer<'a> {
    tree: &'a dyn Tree,
    out: tar::Builder<&'a mut dyn Write>,
    /// Where a node with several names was written first.
    linked: HashMap<Node, Vec<u8>>,
}

pub(super) fn store_error(path: &[u8], source: Errno) -> ArchiveError {
    ArchiveError::Store {
        path: path.escape_ascii().to_string(),
        source: Box::new(source),
    }
}

impl<'a> Writer<'a> {
    pub fn new(tree: &'a dyn Tree, out: &'a mut dyn Write) -> Writer<'a> {
        Writer {
            tree,
            out: tar::Builder::new(out),
            linked: HashMap::new(),
        }
    }

    pub fn finish(mut self) -> Result<(), ArchiveError> {
        self.out.finish().map_err(ArchiveError::Read)
    }

    fn attr(&self, node: Node, path: &[u8]) -> Result<Attr, ArchiveError> {
        self.tree.getattr(node).map_err(|e| store_error(path, e))
    }

    /// As deep as a tree may be: what is under way is not on the thread's stack.
    fn below(&mut self, dir: Node, path: &[u8]) -> Result<(), ArchiveError> {
        let mut path = path.to_vec();
        let mut under_way = vec![(path.len(), names(self.tree, dir, &path)?.into_iter())];
        while let Some((length, left)) = under_way.last_mut() {
            path.truncate(*length);
            let Some((name, attr)) = left.next() else {
                under_way.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            self.one(&attr, &path)?;
            if attr.kind == Kind::Dir {
                let names = names(self.tree, attr.node, &path)?;
                under_way.push((path.len(), names.into_iter()));
            }
        }
        Ok(())
    }

    /// The entry of a node, without what is below it.
    pub fn one(&mut self, attr: &Attr, path: &[u8]) -> Result<(), ArchiveError> {
        if attr.kind == Kind::Socket {
            return Ok(());
        }
        let mut header = tar::Header::new_ustar();
        header.set_mode(attr.mode);
        header.set_uid(u64::from(attr.uid));
        header.set_gid(u64::from(attr.gid));
        header.set_mtime(u64::try_from(attr.mtime.secs).unwrap_or(0));
        header.set_size(0);
        let mut pax: Vec<(String, Vec<u8>)> = Vec::new();
        if attr.mtime.nanos != 0 || attr.mtime.secs < 0 {
            pax.push(("mtime".into(), pax_time_text(attr.mtime).into_bytes()));
        }
        let mut shown = path.to_vec();
        if attr.kind == Kind::Dir {
            shown = [if path.is_empty() { b"." } else { path }, b"/"].concat();
        }
        if let Some(first) = self.linked.get(&attr.node).cloned() {
            header.set_entry_type(tar::EntryType::Link);
            set_link(&mut header, &mut pax, &first);
            return self.put(header, pax, &shown, &mut std::io::empty());
        }
        if attr.nlink > 1 && attr.kind != Kind::Dir {
            self.linked.insert(attr.node, path.to_vec());
        }
        self.xattrs(attr.node, path, &mut pax)?;
        match attr.kind {
            Kind::Socket => {}
            Kind::Dir => header.set_entry_type(tar::EntryType::Directory),
            Kind::Fifo => header.set_entry_type(tar::EntryType::Fifo),
            Kind::Char | Kind::Block => {
                header.set_entry_type(if attr.kind == Kind::Char {
                    tar::EntryType::Char
                } else {
                    tar::EntryType::Block
                });
                header
                    .set_device_major(attr.rdev.major)
                    .map_err(ArchiveError::Read)?;
                header
                    .set_device_minor(attr.rdev.minor)
                    .map_err(ArchiveError::Read)?;
            }
            Kind::Symlink => {
                header.set_entry_type(tar::EntryType::Symlink);
                let (target, _) = self
                    .tree
                    .readlink(attr.node)
                    .map_err(|e| store_error(path, e))?;
                set_link(&mut header, &mut pax, &target);
            }
            Kind::File => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(attr.size);
                let mut data = FileData {
                    tree: self.tree,
                    node: attr.node,
                    at: 0,
                    left: attr.size,
                    buffer: Vec::new(),
                    used: 0,
                };
                return self.put(header, pax, &shown, &mut data);
            }
        }
        self.put(header, pax, &shown, &mut std::io::empty())
    }

    fn xattrs(
        &self,
        node: Node,
        path: &[u8],
        pax: &mut Vec<(String, Vec<u8>)>,
    ) -> Result<(), ArchiveError> {
        let names = self
            .tree
            .listxattr(node)
            .map_err(|e| store_error(path, e))?;
        for name in names {
            let value = self
                .tree
                .getxattr(node, &name)
                .map_err(|e| store_error(path, e))?;
            let name = sayable(path, &name)?;
            pax.push((format!("{XATTR_KEY}{name}"), value));
        }
        Ok(())
    }

    /// An entry without bytes that is no node of the tree.
    pub fn mark(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.put(header, Vec::new(), path, &mut std::io::empty())
    }

    fn put(
        &mut self,
        header: tar::Header,
        pax: Vec<(String, Vec<u8>)>,
        path: &[u8],
        data: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        put(&mut self.out, header, pax, path, data)
    }
}

/// What a directory holds, sorted.
pub(super) fn names(
    tree: &dyn Tree,
    dir: Node,
    path: &[u8],
) -> Result<Vec<(Vec<u8>, Attr)>, ArchiveError> {
    let mut names = Vec::new();
    tree.readdir(&Creds::ROOT, dir, 0, true, &mut |entry| {
        if entry.name != b"." && entry.name != b".." {
            names.push((entry.name.to_vec(), entry.node, entry.attr));
        }
        true
    })
    .map_err(|e| store_error(path, e))?;
    names.sort_by(|a, b| a.0.cmp(&b.0));
    let whole = |(name, node, attr): (Vec<u8>, Node, Option<Attr>)| {
        let attr = match attr {
            Some(attr) => attr,
            None => tree.getattr(node).map_err(|e| store_error(path, e))?,
        };
        Ok((name, attr))
    };
    names.into_iter().map(whole).collect()
}

/// One entry: what its header cannot say is in `pax`.
pub fn put(
    out: &mut tar::Builder<&mut dyn Write>,
    mut header: tar::Header,
    mut pax: Vec<(String, Vec<u8>)>,
    path: &[u8],
    data: &mut dyn Read,
) -> Result<(), ArchiveError> {
    if !fits(path) {
        pax.push(("path".into(), path.to_vec()));
    }
    let field = header.as_ustar_mut().map(|u| &mut u.name);
    if let Some(field) = field {
        let n = path.len().min(USTAR_NAME);
        field[..n].copy_from_slice(&path[..n]);
    }
    pax.sort();
    if !pax.is_empty() {
        let records = pax.iter().map(|(k, v)| (k.as_str(), v.as_slice()));
        out.append_pax_extensions(records)
            .map_err(ArchiveError::Read)?;
    }
    header.set_cksum();
    out.append(&header, data).map_err(ArchiveError::Read)
}

/// Whether a name goes into ustar's field as it is: short and plain.
fn fits(name: &[u8]) -> bool {
    name.len() < USTAR_NAME && name.is_ascii()
}

pub fn set_link(header: &mut tar::Header, pax: &mut Vec<(String, Vec<u8>)>, target: &[u8]) {
    if !fits(target) {
        pax.push(("linkpath".into(), target.to_vec()));
    }
    if let Some(ustar) = header.as_ustar_mut() {
        let n = target.len().min(USTAR_NAME);
        ustar.linkname[..n].copy_from_slice(&target[..n]);
    }
}

/// A file's bytes, a chunk at a time.
struct FileData<'a> {
    tree: &'a dyn Tree,
    node: Node,
    at: u64,
    /// What its header says and was not read yet.
    left: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Read for FileData<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.used == self.buffer.len() && self.left > 0 {
            self.buffer.clear();
            self.used = 0;
            let count = self.left.min(u64::from(CHUNK)) as u32;
            self.tree
                .read(&Creds::ROOT, self.node, self.at, count, &mut self.buffer)
                .map_err(std::io::Error::other)?;
            if self.buffer.is_empty() {
                // Of a tree that is written to.
                return Err(std::io::Error::other(
                    "a file became shorter while it was read",
                ));
            }
            self.at += self.buffer.len() as u64;
            self.left -= self.buffer.len() as u64;
        }
        let n = out.len().min(self.buffer.len() - self.used);
        out[..n].copy_from_slice(&self.buffer[self.used..self.used + n]);
        self.used += n;
        Ok(n)
    }
}
