//! WRITE (RFC 1813 §3.3.7) and the ways a file's content grows: in its row up to
//! the size of a small blob, then in a staged file.

use super::attrs::{CAPABILITY, loses_privilege};
use super::clock::bump;
use super::node::{Content, Node as Inode};
use super::perm;
use super::rows::Row;
use super::staged::{MAX_FILE, Staged};
use super::state::State;
use super::tree::{ROUNDS, WorkTree};
use super::tx::Tx;
use crate::blob::SMALL;
use crate::patience::may_block;
use crate::types::{Attr, Changed, Errno, Kind, Node, OpCx, Time, Wcc};
use std::sync::Arc;

impl WorkTree {
    /// All of `data`, or an error; the bytes are then safe from a killed server, and in a
    /// volume from a crash of the machine when [`WorkTree::commit`] returns. Writing again
    /// does no harm, so `cx.once` is not looked at.
    pub fn write(&self, cx: &OpCx, node: Node, offset: u64, data: &[u8]) -> Result<Changed, Errno> {
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= MAX_FILE)
            .ok_or(Errno::FBig)?;
        let cx = OpCx { once: None, ..*cx };
        let _running = self.running()?;
        for _ in 0..ROUNDS {
            let staged = {
                let st = self.view()?;
                let attr = writable(&st, &cx, node)?;
                if data.is_empty() {
                    return Ok(changed(attr, attr));
                }
                st.nodes
                    .get(&node)
                    .filter(|n| !loses_privilege(cx.creds, n))
                    .and_then(Inode::staged)
                    .cloned()
            };
            let done = match staged {
                Some(staged) => self.write_staged(&cx, node, &staged, offset, data)?,
                None => {
                    self.mutate_unstable(&cx, |tx| write_row(tx, &cx, node, offset, end, data))?
                }
            };
            if let Some(changed) = done {
                return Ok(changed);
            }
        }
        Err(Errno::Io)
    }

    /// `None` where the file stopped being this staged file.
    fn write_staged(
        &self,
        cx: &OpCx,
        node: Node,
        staged: &Arc<Staged>,
        offset: u64,
        data: &[u8],
    ) -> Result<Option<Changed>, Errno> {
        if staged.base.is_some() || staged.is_disk() {
            self.writer.admit()?;
        }
        let _io = match staged.io.try_lock() {
            Some(io) => io,
            None => {
                may_block()?;
                staged.io.lock()
            }
        };
        let (before, quota) = {
            let st = self.view()?;
            if !is(&st, node, staged) {
                return Ok(None);
            }
            (writable(&st, cx, node)?, st.quota.clone())
        };
        let time = bump(cx.now, before.ctime);
        let len = data.len() as u64;
        let writing = quota
            .map(|quota| {
                quota.hold(staged.may_add(offset, len), || {
                    staged.will_add(&self.area, offset, len)
                })
            })
            .transpose()?;
        let wrote = match staged.write(&self.area, offset, data, time) {
            Ok(wrote) => wrote,
            Err(e) => {
                if let (Some(writing), Ok(st)) = (writing, self.view())
                    && is(&st, node, staged)
                {
                    writing.done(staged.look_again(&self.area));
                }
                return Err(e);
            }
        };
        let after = {
            let st = self.view()?;
            if !is(&st, node, staged) {
                return Ok(None);
            }
            let (chunks, grew) = staged.wrote(&wrote, time);
            if let Some(writing) = writing {
                writing.done(grew);
            }
            let mut rows = match chunks.is_empty() {
                true => Vec::new(),
                false => self.present(staged, &chunks),
            };
            if staged.is_disk()
                && let Some(inode) = st.nodes.get(&node)
            {
                rows.push(Row::node(self.info.id, node, inode));
            }
            if !rows.is_empty() {
                self.keep(&st, rows)?;
            }
            st.attr(node)?
        };
        Ok(Some(changed(before, after)))
    }

    fn present(&self, staged: &Staged, chunks: &[usize]) -> Vec<Row> {
        let st = staged.state();
        chunks
            .iter()
            .map(|chunk| Row::Present {
                tree: self.info.id,
                node: staged.key.1,
                chunk: *chunk,
                bits: st.present.chunk(*chunk),
            })
            .collect()
    }
}

fn changed(before: Attr, after: Attr) -> Changed {
    Changed {
        node: after,
        wcc: Wcc { before, after },
        to: None,
    }
}

fn is(st: &State, node: Node, staged: &Arc<Staged>) -> bool {
    st.nodes
        .get(&node)
        .and_then(|n| n.staged())
        .is_some_and(|s| Arc::ptr_eq(s, staged))
}

fn writable(st: &State, cx: &OpCx, node: Node) -> Result<Attr, Errno> {
    let attr = st.attr(node)?;
    match attr.kind {
        Kind::File => perm::need_write(cx.creds, &attr)?,
        Kind::Dir => return Err(Errno::IsDir),
        _ => return Err(Errno::Inval),
    }
    Ok(attr)
}

/// A write that changes rows: into small content, or before the first one into a
/// staged file, which is then made (`None`: the caller writes to it).
fn write_row(
    tx: &mut Tx,
    cx: &OpCx,
    node: Node,
    offset: u64,
    end: u64,
    data: &[u8],
) -> Result<Option<Changed>, Errno> {
    let before = writable(tx.st, cx, node)?;
    let content = tx.st.content(node)?;
    let time = bump(tx.now, before.ctime);
    let key = (tx.tree, node);
    let small = match &content {
        Content::Staged(_) => None,
        Content::Inline(small) => {
            // With room for what is written, so that it is not moved again.
            let mut copy = Vec::with_capacity(end.min(SMALL).max(small.len()) as usize);
            small.read(0, small.len(), &mut copy)?;
            Some(copy)
        }
        Content::Blob(blob) if blob.size <= SMALL => {
            let mut bytes = Vec::with_capacity(SMALL as usize);
            tx.area
                .read_blob(&blob.digest, blob.size, 0, blob.size as u32, &mut bytes)?;
            Some(bytes)
        }
        Content::Blob(_) => None,
    };
    let share = tx.st.quota.is_none();
    let staged = match (&small, content) {
        (Some(bytes), _) if end <= SMALL => {
            tx.admit_content(node, end.max(bytes.len() as u64))?;
            None
        }
        (Some(bytes), _) => {
            tx.admit_staged(node, bytes.len() as u64)?;
            let (mtime, ctime) = (before.mtime, before.ctime);
            Some(Staged::with_bytes(tx.area, key, bytes, mtime, ctime)?)
        }
        (None, Content::Blob(base)) => {
            let (mtime, ctime) = (before.mtime, before.ctime);
            Some(Staged::over_blob(tx.area, key, *base, mtime, ctime, share)?)
        }
        (None, _) => None,
    };
    strip(tx, cx, node)?;
    match (staged, small) {
        (None, Some(mut bytes)) => {
            if bytes.len() < end as usize {
                bytes.resize(end as usize, 0);
            }
            bytes[offset as usize..end as usize].copy_from_slice(data);
            tx.set_small(node, bytes)?;
            set_times(tx.touch(node)?, time);
            tx.put(node);
            Ok(Some(changed(before, tx.st.attr(node)?)))
        }
        (staged, _) => {
            if let Some(staged) = staged {
                tx.set_content(node, Content::Staged(staged.into()))?;
            }
            tx.put(node);
            Ok(None)
        }
    }
}

/// Takes setuid, setgid and capabilities from a file that is about to change.
fn strip(tx: &mut Tx, cx: &OpCx, node: Node) -> Result<(), Errno> {
    let file = tx.touch(node)?;
    if loses_privilege(cx.creds, file) {
        if cx.creds.uid != 0 {
            file.mode = perm::without_set_ids(cx.creds, file.mode, file.gid);
        }
        file.xattrs.remove(CAPABILITY);
    }
    Ok(())
}

fn set_times(node: &mut Inode, time: Time) {
    node.set_mtime(time);
    node.set_ctime(time);
}
