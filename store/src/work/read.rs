//! The reading half: a work tree read as any [`Tree`].

use super::node::{Content, What};
use super::perm;
use super::state::{ADDED, FIRST_BASE, State};
use super::tree::{ROUNDS, WorkTree};
use super::{HIDDEN, names::NAME_MAX};
use crate::tree::{DirDone, DirEntry, Found, ReadDone, Tree};
use crate::types::{Attr, Creds, Errno, Kind, Node, Perm, ROOT};

type Emit<'a> = &'a mut dyn FnMut(DirEntry<'_>) -> bool;

impl Tree for WorkTree {
    fn getattr(&self, node: Node) -> Result<Attr, Errno> {
        self.view()?.attr(node)
    }

    fn lookup(&self, who: &Creds, dir: Node, name: &[u8]) -> Result<Found, Errno> {
        let st = self.view()?;
        let (attr, base) = st.attr_and_base(dir)?;
        perm::need_search(who, &attr)?;
        if name.len() > NAME_MAX {
            return Err(Errno::NameTooLong);
        }
        let node = match name {
            b"." => attr,
            b".." => st.attr(st.parent(dir)?)?,
            _ => st.child(dir, base.as_ref(), name)?.ok_or(Errno::NoEnt)?,
        };
        Ok(Found { node, dir: attr })
    }

    fn readlink(&self, node: Node) -> Result<(Vec<u8>, Attr), Errno> {
        let st = self.view()?;
        let attr = st.attr(node)?;
        match st.load(node)?.what {
            What::Symlink(target) => Ok((target.into(), attr)),
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
        let start = out.len();
        for _ in 0..ROUNDS {
            let (attr, content) = {
                let st = self.view()?;
                let attr = st.attr(node)?;
                match attr.kind {
                    Kind::File => perm::need_read(who, &attr)?,
                    Kind::Dir => return Err(Errno::IsDir),
                    _ => return Err(Errno::Inval),
                }
                (attr, st.content(node)?)
            };
            let end = offset.saturating_add(u64::from(count)).min(attr.size);
            let eof = match content {
                Content::Staged(staged) => {
                    let read = staged.read(&self.area, offset, count, out);
                    if self.is_volume() && !self.is_still(node, &staged)? {
                        out.truncate(start);
                        continue;
                    }
                    read?
                }
                _ if offset >= end => end == attr.size,
                Content::Inline(small) => {
                    small.read(offset, end, out)?;
                    end == attr.size
                }
                Content::Blob(blob) => {
                    let want = (end - offset) as u32;
                    self.area
                        .read_blob(&blob.digest, blob.size, offset, want, out)?;
                    end == attr.size
                }
            };
            return Ok(ReadDone { attr, eof });
        }
        Err(Errno::Io)
    }

    fn readdir(
        &self,
        who: &Creds,
        dir: Node,
        cookie: u64,
        attrs: bool,
        emit: Emit<'_>,
    ) -> Result<DirDone, Errno> {
        let st = self.view()?;
        let attr = st.attr(dir)?;
        perm::need_dir(&attr)?;
        perm::need(who, &attr, Perm::READ)?;
        let eof = list(&st, dir, cookie, attrs, emit)?;
        Ok(DirDone { attr, eof })
    }

    fn getxattr(&self, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let found = self.view()?.load(node)?;
        let at = found.xattrs.iter().find(|(n, _)| n == name);
        at.map(|(_, value)| value.clone()).ok_or(Errno::NoData)
    }

    fn listxattr(&self, node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        let found = self.view()?.load(node)?;
        Ok(found.xattrs.iter().map(|(name, _)| name.clone()).collect())
    }
}

/// The helper's hidden directory: looked up, never listed, never sealed.
pub(super) fn hidden(dir: Node, name: &[u8]) -> bool {
    dir == ROOT && name == HIDDEN
}

/// Emits what comes after `cookie`; true when all of it was taken.
fn list(st: &State, dir: Node, cookie: u64, attrs: bool, emit: Emit<'_>) -> Result<bool, Errno> {
    let attr_of = |n| {
        if attrs {
            st.attr(n).map(Some)
        } else {
            Ok(None)
        }
    };
    for (before, name) in [(1, &b"."[..]), (2, b"..")] {
        if cookie < before {
            let node = if before == 1 { dir } else { st.parent(dir)? };
            let attr = attr_of(node)?;
            if !emit(DirEntry {
                name,
                node,
                cookie: before,
                attr,
            }) {
                return Ok(false);
            }
        }
    }
    if cookie < ADDED && st.in_base(dir) && !list_base(st, dir, cookie, attrs, emit)? {
        return Ok(false);
    }
    let Some(names) = st.names.get(&dir) else {
        return Ok(true);
    };
    let from = cookie
        .checked_sub(ADDED)
        .map_or(0, |seq| seq.saturating_add(1));
    for (seq, name, node) in names.from(from) {
        let attr = attr_of(node)?;
        if !hidden(dir, name)
            && !emit(DirEntry {
                name,
                node,
                cookie: ADDED + seq,
                attr,
            })
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn list_base(
    st: &State,
    dir: Node,
    cookie: u64,
    attrs: bool,
    emit: Emit<'_>,
) -> Result<bool, Errno> {
    let Some(base) = &st.base else {
        return Ok(true);
    };
    let from = (cookie + 1).saturating_sub(FIRST_BASE);
    let mut all = true;
    base.children_from(dir, from, &mut |child| {
        let name = child.entry.name();
        if hidden(dir, name) || st.whited_out(dir, name) {
            return Ok(true);
        }
        let attr = if attrs {
            Some(st.child_attr(child)?)
        } else {
            None
        };
        all = emit(DirEntry {
            name,
            node: child.node,
            cookie: child.index + FIRST_BASE,
            attr,
        });
        Ok(all)
    })?;
    Ok(all)
}
