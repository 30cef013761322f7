//! Operations that add and remove names: CREATE, MKDIR, SYMLINK, MKNOD, LINK,
//! REMOVE, RMDIR (RFC 1813 §3.3.8–3.3.13, §3.3.15).

use super::HIDDEN;
use super::node::{Content, Node as Inode, What};
use super::perm;
use super::small::Small;
use super::staged::{MAX_FILE, Staged};
use super::tree::WorkTree;
use super::tx::Tx;
use crate::blob::SMALL;
use crate::types::{
    Attr, Changed, Create, Creds, Errno, Kind, Node, OpCx, ROOT, Rdev, SetAttr, SetTime, Time, Wcc,
};
use std::sync::Arc;

/// NAME_MAX everywhere that matters.
pub const NAME_MAX: usize = 255;
/// A symlink's target; PATH_MAX of every client less its NUL.
pub const TARGET_MAX: usize = 4095;
/// Names of one file: ext4's limit, which software has met.
pub const LINK_MAX: u32 = 65_000;

const DEFAULT_FILE: u32 = 0o644;
const DEFAULT_DIR: u32 = 0o755;
const SYMLINK_MODE: u32 = 0o777;
/// What EXCLUSIVE makes; the client sends the real attributes next.
const EXCLUSIVE_MODE: u32 = 0o600;

/// What the wire allows as a name for anything new.
pub(super) fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.len() > NAME_MAX {
        return Err(Errno::NameTooLong);
    }
    if name.is_empty()
        || name == b"."
        || name == b".."
        || name.iter().any(|b| matches!(b, 0 | b'/'))
    {
        return Err(Errno::Inval);
    }
    Ok(())
}

impl WorkTree {
    /// UNCHECKED on an existing file sets its size only, as servers do.
    pub fn create(
        &self,
        cx: &OpCx,
        dir: Node,
        name: &[u8],
        how: Create,
        new: &SetAttr,
    ) -> Result<Changed, Errno> {
        check_name(name)?;
        for _ in 0..super::tree::ROUNDS {
            if let Some(size) = new.size
                && let Some(node) = self.existing(cx.creds, dir, name, how)?
            {
                let only = SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                };
                return self.set(cx, node, &only, None, Some(dir));
            }
            let running = self.running()?;
            let made = self.mutate_running(cx, |tx| create(tx, cx, dir, name, how, new))?;
            drop(running);
            if let Some(changed) = made {
                return Ok(changed);
            }
        }
        Err(Errno::Io)
    }

    /// The regular file that an UNCHECKED create would truncate.
    fn existing(
        &self,
        who: &Creds,
        dir: Node,
        name: &[u8],
        how: Create,
    ) -> Result<Option<Node>, Errno> {
        let st = self.view()?;
        perm::need_search(who, &st.attr(dir)?)?;
        let found = st.find(dir, name)?;
        Ok(match found {
            Some(t) if how == Create::Unchecked && st.kind(t.node)? == Kind::File => Some(t.node),
            _ => None,
        })
    }

    pub fn mkdir(
        &self,
        cx: &OpCx,
        dir: Node,
        name: &[u8],
        new: &SetAttr,
    ) -> Result<Changed, Errno> {
        check_name(name)?;
        self.mutate(cx, |tx| {
            let parent = vacant(tx, cx.creds, dir, name)?;
            make(
                tx,
                cx.creds,
                &parent,
                name,
                What::dir(dir, 0),
                DEFAULT_DIR,
                new,
            )
        })
    }

    pub fn symlink(
        &self,
        cx: &OpCx,
        dir: Node,
        name: &[u8],
        target: &[u8],
        new: &SetAttr,
    ) -> Result<Changed, Errno> {
        check_name(name)?;
        if target.len() > TARGET_MAX {
            return Err(Errno::NameTooLong);
        }
        if target.is_empty() || target.contains(&0) {
            return Err(Errno::Inval);
        }
        let new = SetAttr { mode: None, ..*new };
        self.mutate(cx, |tx| {
            let parent = vacant(tx, cx.creds, dir, name)?;
            let what = What::Symlink(target.into());
            make(tx, cx.creds, &parent, name, what, SYMLINK_MODE, &new)
        })
    }

    /// FIFOs, sockets and, by root, devices.
    pub fn mknod(
        &self,
        cx: &OpCx,
        dir: Node,
        name: &[u8],
        kind: Kind,
        rdev: Rdev,
        new: &SetAttr,
    ) -> Result<Changed, Errno> {
        check_name(name)?;
        let what = match kind {
            Kind::Fifo => What::Fifo,
            Kind::Socket => What::Socket,
            Kind::Char => What::Char(rdev),
            Kind::Block => What::Block(rdev),
            Kind::File | Kind::Dir | Kind::Symlink => return Err(Errno::Inval),
        };
        self.mutate(cx, |tx| {
            let parent = vacant(tx, cx.creds, dir, name)?;
            if matches!(kind, Kind::Char | Kind::Block) && cx.creds.uid != 0 {
                return Err(Errno::Perm);
            }
            make(tx, cx.creds, &parent, name, what, DEFAULT_FILE, new)
        })
    }

    pub fn link(&self, cx: &OpCx, node: Node, dir: Node, name: &[u8]) -> Result<Changed, Errno> {
        check_name(name)?;
        self.mutate(cx, |tx| {
            let attr = tx.st.attr(node)?;
            let before = vacant(tx, cx.creds, dir, name)?;
            if attr.kind == Kind::Dir {
                return Err(Errno::Perm);
            }
            if attr.nlink >= LINK_MAX {
                return Err(Errno::MLink);
            }
            tx.admit(0, 1)?;
            let now = tx.now;
            tx.touch(dir)?;
            let file = tx.touch(node)?;
            file.nlink += 1;
            file.set_ctime(super::clock::bump(now, attr.ctime));
            tx.put(node);
            tx.add_name(dir, name, node)?;
            tx.dir_changed(dir)?;
            Ok(Changed {
                node: tx.st.attr(node)?,
                wcc: tx.wcc(before)?,
                to: None,
            })
        })
    }

    pub fn remove(&self, cx: &OpCx, dir: Node, name: &[u8]) -> Result<Changed, Errno> {
        self.take_name(cx, dir, name, |_, attr| {
            if attr.kind == Kind::Dir {
                Err(Errno::IsDir)
            } else {
                Ok(())
            }
        })
    }

    pub fn rmdir(&self, cx: &OpCx, dir: Node, name: &[u8]) -> Result<Changed, Errno> {
        self.take_name(cx, dir, name, |tx, attr| {
            perm::need_dir(attr)?;
            if tx.st.entries(attr.node)? == 0 {
                Ok(())
            } else {
                Err(Errno::NotEmpty)
            }
        })
    }

    fn take_name(
        &self,
        cx: &OpCx,
        dir: Node,
        name: &[u8],
        fits: impl FnOnce(&Tx, &Attr) -> Result<(), Errno>,
    ) -> Result<Changed, Errno> {
        check_name(name)?;
        self.mutate_away(cx, |tx| {
            let before = tx.st.attr(dir)?;
            perm::need_search(cx.creds, &before)?;
            let target = tx.st.find(dir, name)?.ok_or(Errno::NoEnt)?;
            let attr = tx.st.attr(target.node)?;
            perm::need_change(cx.creds, &before)?;
            perm::need_unsticky(cx.creds, &before, &attr)?;
            fits(tx, &attr)?;
            tx.touch(dir)?;
            tx.touch(target.node)?;
            tx.may_unname(target.node)?;
            tx.drop_name(dir, name, &target)?;
            if attr.kind == Kind::Dir {
                tx.add_subdirs(dir, -1)?;
            }
            tx.dir_changed(dir)?;
            let node = tx.unname(target.node)?;
            Ok(Changed {
                node,
                wcc: tx.wcc(before)?,
                to: None,
            })
        })
    }
}

/// The directory, where `who` may add `name` and it is not there yet.
fn vacant(tx: &Tx, who: &Creds, dir: Node, name: &[u8]) -> Result<Attr, Errno> {
    let attr = tx.st.attr(dir)?;
    perm::need_search(who, &attr)?;
    if tx.st.find(dir, name)?.is_some() {
        return Err(Errno::Exist);
    }
    perm::need_change(who, &attr)?;
    Ok(attr)
}

/// `None` where a file came to be there that the caller must truncate instead.
fn create(
    tx: &mut Tx,
    cx: &OpCx,
    dir: Node,
    name: &[u8],
    how: Create,
    new: &SetAttr,
) -> Result<Option<Changed>, Errno> {
    let parent = tx.st.attr(dir)?;
    perm::need_search(cx.creds, &parent)?;
    if let Some(t) = tx.st.find(dir, name)? {
        let attr = tx.st.attr(t.node)?;
        return match how {
            Create::Unchecked if attr.kind == Kind::File && new.size.is_some() => Ok(None),
            Create::Unchecked if attr.kind == Kind::File => Ok(Some(unchanged(attr, parent))),
            Create::Unchecked if attr.kind == Kind::Dir => Err(Errno::IsDir),
            Create::Exclusive(v)
                if tx
                    .st
                    .nodes
                    .get(&t.node)
                    .is_some_and(|n| n.verifier == Some(v)) =>
            {
                Ok(Some(unchanged(attr, parent)))
            }
            _ => Err(Errno::Exist),
        };
    }
    perm::need_change(cx.creds, &parent)?;
    let mode = match how {
        Create::Exclusive(_) => EXCLUSIVE_MODE,
        _ => DEFAULT_FILE,
    };
    let what = What::File(Content::Inline(Small::default()));
    let changed = make(tx, cx.creds, &parent, name, what, mode, new)?;
    if let Create::Exclusive(v) = how {
        tx.touch(changed.node.node)?.verifier = Some(v);
        tx.put(changed.node.node);
    }
    Ok(Some(changed))
}

fn unchanged(node: Attr, dir: Attr) -> Changed {
    Changed {
        node,
        wcc: Wcc {
            before: dir,
            after: dir,
        },
        to: None,
    }
}

/// A new node under `name`. The caller has checked that `parent` may change.
fn make(
    tx: &mut Tx,
    who: &Creds,
    parent: &Attr,
    name: &[u8],
    what: What,
    mode: u32,
    new: &SetAttr,
) -> Result<Changed, Errno> {
    let owned = ownership(who, parent, what.kind(), mode, new)?;
    admit(tx, parent.node, name, &what, new.size)?;
    let now = tx.now;
    let is_dir = what.kind() == Kind::Dir;
    let at = |t: Option<SetTime>| match t {
        Some(SetTime::At(t)) => t,
        _ => now,
    };
    tx.touch(parent.node)?;
    let number = tx.number();
    let times = [at(new.atime), at(new.mtime), now];
    let mut node = Inode::new(owned, if is_dir { 2 } else { 1 }, times, what);
    let size = match node.what {
        What::File(_) => new.size.unwrap_or(0),
        _ => 0,
    };
    if size > SMALL {
        node.what = What::File(hole(tx, number, size, node.mtime.into())?);
    }
    tx.insert(number, node);
    if (1..=SMALL).contains(&size) {
        tx.set_small(number, vec![0; size as usize])?;
    }
    tx.add_name(parent.node, name, number)?;
    if is_dir {
        tx.add_subdirs(parent.node, 1)?;
    }
    tx.dir_changed(parent.node)?;
    Ok(Changed {
        node: tx.st.attr(number)?,
        wcc: tx.wcc(*parent)?,
        to: None,
    })
}

/// Whether the tree may have another node. Where the helper keeps what lost its name while it
/// was open must be there however full the tree is.
fn admit(tx: &Tx, dir: Node, name: &[u8], what: &What, size: Option<u64>) -> Result<(), Errno> {
    if dir == ROOT && name == HIDDEN {
        return Ok(());
    }
    let bytes = match what {
        What::Symlink(target) => target.len() as u64,
        What::File(_) => size.filter(|size| *size <= SMALL).unwrap_or(0),
        _ => 0,
    };
    tx.admit(bytes, 1)
}

/// A new file to which CREATE gave a size that fits no row: a hole in a staged file.
fn hole(tx: &mut Tx, number: Node, size: u64, mtime: Time) -> Result<Content, Errno> {
    if size > MAX_FILE {
        return Err(Errno::FBig);
    }
    let staged = Staged::with_bytes(tx.area, (tx.tree, number), &[], mtime, tx.now)?;
    staged.truncate(tx.area, size, mtime, tx.now)?;
    let staged = Arc::new(staged);
    tx.sync(&staged);
    Ok(Content::Staged(staged))
}

/// Mode, uid and gid of a new node: its maker's, in the directory's group where that is setgid.
fn ownership(
    who: &Creds,
    parent: &Attr,
    kind: Kind,
    mode: u32,
    new: &SetAttr,
) -> Result<(u32, u32, u32), Errno> {
    let inherits = parent.mode & perm::SETGID != 0;
    let given = if inherits { parent.gid } else { who.gid };
    let (uid, gid) = (new.uid.unwrap_or(who.uid), new.gid.unwrap_or(given));
    if who.uid != 0 && (uid != who.uid || (gid != given && !who.in_group(gid))) {
        return Err(Errno::Perm);
    }
    for time in [new.atime, new.mtime].into_iter().flatten() {
        if matches!(time, SetTime::At(t) if !super::clock::valid(t)) {
            return Err(Errno::Inval);
        }
    }
    let mut mode = perm::settled_mode(who, new.mode.unwrap_or(mode), gid);
    if kind == Kind::Dir && inherits {
        mode |= perm::SETGID;
    }
    Ok((mode, uid, gid))
}
