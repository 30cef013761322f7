//! SETATTR (RFC 1813 §3.3.2): chmod, chown, truncate and utimes in one transaction.

use super::clock::{bump, valid};
use super::node::{Content, What};
use super::perm;
use super::staged::{MAX_FILE, Staged};
use super::tree::{ROUNDS, WorkTree};
use super::tx::Tx;
use crate::blob::SMALL;
use crate::patience::may_block;
use crate::types::{Attr, Changed, Creds, Errno, Kind, Node, OpCx, SetAttr, SetTime, Time, Wcc};
use std::sync::Arc;

/// File capabilities: gone with any change of content or owner, as the kernel does.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

impl WorkTree {
    /// `guard`: the ctime the caller saw; another one is `NotSync`.
    pub fn setattr(
        &self,
        cx: &OpCx,
        node: Node,
        new: &SetAttr,
        guard: Option<Time>,
    ) -> Result<Changed, Errno> {
        self.set(cx, node, new, guard, None)
    }

    /// With `dir`, the outcome shows that directory, unchanged, as CREATE's must.
    pub(super) fn set(
        &self,
        cx: &OpCx,
        node: Node,
        new: &SetAttr,
        guard: Option<Time>,
        dir: Option<Node>,
    ) -> Result<Changed, Errno> {
        let _running = self.running()?;
        let touches_file = new.size.is_some() || new.mtime.is_some();
        for _ in 0..ROUNDS {
            let staged = match touches_file {
                true => self
                    .view()?
                    .nodes
                    .get(&node)
                    .and_then(|n| n.staged().cloned()),
                false => None,
            };
            if staged.is_some() {
                may_block()?;
            }
            let _io = staged.as_ref().map(|s| s.io.lock());
            let done = self.mutate_running(cx, |tx| {
                if touches_file && !same(tx, node, staged.as_ref()) {
                    return Ok(None);
                }
                set(tx, cx.creds, node, new, guard, dir).map(Some)
            })?;
            if let Some(changed) = done {
                return Ok(changed);
            }
        }
        Err(Errno::Io)
    }
}

/// The node's content is still the staged file that is locked, or still none.
fn same(tx: &Tx, node: Node, locked: Option<&Arc<Staged>>) -> bool {
    let now = tx.st.nodes.get(&node).and_then(|n| n.staged());
    match (now, locked) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn set(
    tx: &mut Tx,
    who: &Creds,
    node: Node,
    new: &SetAttr,
    guard: Option<Time>,
    dir: Option<Node>,
) -> Result<Changed, Errno> {
    let before = tx.st.attr(node)?;
    if guard.is_some_and(|ctime| ctime != before.ctime) {
        return Err(Errno::NotSync);
    }
    check(who, &before, new)?;
    let shown = match dir {
        Some(dir) => tx.st.attr(dir)?,
        None => before,
    };
    if *new != SetAttr::default() {
        apply(tx, who, &before, new)?;
    }
    Ok(Changed {
        node: tx.st.attr(node)?,
        wcc: Wcc {
            before: shown,
            after: tx.st.attr(shown.node)?,
        },
        to: None,
    })
}

fn check(who: &Creds, attr: &Attr, new: &SetAttr) -> Result<(), Errno> {
    if new.mode.is_some() {
        perm::need_owner(who, attr)?;
    }
    if let Some(uid) = new.uid
        && who.uid != 0
        && (who.uid != attr.uid || uid != attr.uid)
    {
        return Err(Errno::Perm);
    }
    if let Some(gid) = new.gid
        && who.uid != 0
        && (who.uid != attr.uid || (gid != attr.gid && !who.in_group(gid)))
    {
        return Err(Errno::Perm);
    }
    for time in [new.atime, new.mtime].into_iter().flatten() {
        match time {
            SetTime::At(t) if !valid(t) => return Err(Errno::Inval),
            SetTime::At(_) => perm::need_owner(who, attr)?,
            SetTime::Now => perm::need_write(who, attr)?,
        }
    }
    if let Some(size) = new.size {
        match attr.kind {
            Kind::File => {}
            Kind::Dir => return Err(Errno::IsDir),
            _ => return Err(Errno::Inval),
        }
        perm::need_write(who, attr)?;
        if size > MAX_FILE {
            return Err(Errno::FBig);
        }
    }
    Ok(())
}

fn apply(tx: &mut Tx, who: &Creds, before: &Attr, new: &SetAttr) -> Result<(), Errno> {
    let n = before.node;
    let ctime = bump(tx.now, before.ctime);
    let at = |t: SetTime, now| match t {
        SetTime::Now => now,
        SetTime::At(t) => t,
    };
    let file_changes = new.size.is_some() || new.mtime.is_some();
    if file_changes && tx.touch(n)?.staged().is_some() {
        tx.hold_times(n)?;
    }
    // What can fail comes first: the files.
    if let Some(size) = new.size {
        resize(tx, n, size, ctime)?;
    }
    let mtime = new.mtime.map(|t| at(t, tx.now));
    let area = tx.area;
    let now = tx.now;
    let file = tx.touch(n)?;
    if let (Some(staged), Some(mtime)) = (file.staged(), mtime) {
        staged.set_mtime(area, mtime)?;
    }
    let (uid, gid) = (new.uid.unwrap_or(file.uid), new.gid.unwrap_or(file.gid));
    let chowned = new.uid.is_some() || new.gid.is_some();
    let written = new.size.is_some();
    if before.kind != Kind::Dir && (chowned || (written && who.uid != 0)) {
        file.mode = perm::without_set_ids(who, file.mode, file.gid);
    }
    if chowned || written {
        file.xattrs.remove(CAPABILITY);
    }
    (file.uid, file.gid) = (uid, gid);
    if let Some(mode) = new.mode.filter(|_| before.kind != Kind::Symlink) {
        file.mode = perm::settled_mode(who, mode, gid);
    }
    if let Some(atime) = new.atime {
        file.atime = at(atime, now).into();
    }
    if let Some(mtime) = mtime {
        file.set_mtime(mtime);
    }
    file.set_ctime(ctime);
    tx.put(n);
    Ok(())
}

/// Sets a file's size; a staged file's `io` is held.
fn resize(tx: &mut Tx, n: Node, size: u64, time: Time) -> Result<(), Errno> {
    let staged = match tx.st.content(n)? {
        Content::Inline(small) => {
            let bytes = small.to_vec()?;
            return resize_small(tx, n, bytes, size, time);
        }
        // What stays of a small blob, or of a large one, fits the row.
        Content::Blob(base) if size.min(base.size) <= SMALL => {
            let mut bytes = Vec::new();
            let keep = size.min(base.size) as u32;
            tx.area
                .read_blob(&base.digest, base.size, 0, keep, &mut bytes)?;
            return resize_small(tx, n, bytes, size, time);
        }
        Content::Blob(base) if size == base.size => {
            tx.touch(n)?.mtime = time.into();
            return Ok(());
        }
        Content::Blob(base) => {
            let share = tx.st.quota.is_none();
            Staged::over_blob(tx.area, (tx.tree, n), *base, time, time, share)?
        }
        Content::Staged(staged) => {
            staged.truncate(tx.area, size, time, time)?;
            tx.sync(&staged);
            return Ok(());
        }
    };
    resize_staged(tx, n, staged, size, time)
}

fn resize_small(
    tx: &mut Tx,
    n: Node,
    mut bytes: Vec<u8>,
    size: u64,
    time: Time,
) -> Result<(), Errno> {
    if size > SMALL {
        tx.admit_staged(n, bytes.len() as u64)?;
        let staged = Staged::with_bytes(tx.area, (tx.tree, n), &bytes, time, time)?;
        return resize_staged(tx, n, staged, size, time);
    }
    tx.admit_content(n, size)?;
    bytes.resize(size as usize, 0);
    tx.set_small(n, bytes)?;
    tx.touch(n)?.mtime = time.into();
    Ok(())
}

/// A staged file that was made for this, and is the file's content from now on.
fn resize_staged(tx: &mut Tx, n: Node, staged: Staged, size: u64, time: Time) -> Result<(), Errno> {
    staged.truncate(tx.area, size, time, time)?;
    let staged = Arc::new(staged);
    tx.sync(&staged);
    tx.set_content(n, Content::Staged(staged))?;
    tx.touch(n)?.mtime = time.into();
    Ok(())
}

/// A write's or truncation's loss of privilege; true where there is something to lose.
pub(super) fn loses_privilege(who: &Creds, node: &super::node::Node) -> bool {
    let ids = who.uid != 0 && node.mode & (perm::SETUID | perm::SETGID) != 0;
    matches!(node.what, What::File(_))
        && ((ids && perm::without_set_ids(who, node.mode, node.gid) != node.mode)
            || node.xattrs.iter().any(|(name, _)| name == CAPABILITY))
}
