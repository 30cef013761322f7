//! POSIX permission rules, as a file server must apply them.

use crate::types::{Attr, Creds, Errno, Kind, Perm};

pub(super) const SETUID: u32 = 0o4000;
pub(super) const SETGID: u32 = 0o2000;
pub(super) const STICKY: u32 = 0o1000;
const GROUP_EXEC: u32 = 0o010;
const ANY_EXEC: u32 = 0o111;
/// The bits that chmod(2) sets.
pub(super) const MODE_BITS: u32 = 0o7777;

/// What the mode bits alone allow `who`. Root may do anything, but execute
/// only what somebody may execute.
pub fn allowed(who: &Creds, attr: &Attr) -> Perm {
    if who.uid == 0 {
        let exec = attr.kind == Kind::Dir || attr.mode & ANY_EXEC != 0;
        return Perm(if exec { 7 } else { 6 });
    }
    let class = if who.uid == attr.uid {
        attr.mode >> 6
    } else if who.in_group(attr.gid) {
        attr.mode >> 3
    } else {
        attr.mode
    };
    Perm(class & 7)
}

pub(super) fn need(who: &Creds, attr: &Attr, want: Perm) -> Result<(), Errno> {
    if allowed(who, attr).0 & want.0 == want.0 {
        Ok(())
    } else {
        Err(Errno::Access)
    }
}

/// Search permission on what must be a directory.
pub(super) fn need_search(who: &Creds, dir: &Attr) -> Result<(), Errno> {
    need_dir(dir)?;
    need(who, dir, Perm::EXEC)
}

/// What adding or removing a name takes.
pub(super) fn need_change(who: &Creds, dir: &Attr) -> Result<(), Errno> {
    need_dir(dir)?;
    need(who, dir, Perm(Perm::WRITE.0 | Perm::EXEC.0))
}

pub(super) fn need_dir(dir: &Attr) -> Result<(), Errno> {
    if dir.kind == Kind::Dir {
        Ok(())
    } else {
        Err(Errno::NotDir)
    }
}

/// READ: r, x alone (a program is paged in by reads), or ownership, as the
/// file may have been opened before its mode changed (RFC 1813 §4.4).
pub(super) fn need_read(who: &Creds, attr: &Attr) -> Result<(), Errno> {
    let bits = allowed(who, attr).0;
    if who.uid == attr.uid || bits & (Perm::READ.0 | Perm::EXEC.0) != 0 {
        Ok(())
    } else {
        Err(Errno::Access)
    }
}

/// WRITE and truncate: w or ownership (RFC 1813 §4.4).
pub(super) fn need_write(who: &Creds, attr: &Attr) -> Result<(), Errno> {
    if who.uid == attr.uid {
        return Ok(());
    }
    need(who, attr, Perm::WRITE)
}

pub(super) fn need_owner(who: &Creds, attr: &Attr) -> Result<(), Errno> {
    if who.uid == 0 || who.uid == attr.uid {
        Ok(())
    } else {
        Err(Errno::Perm)
    }
}

/// In a sticky directory only the owner of the file or of the directory takes a name away.
pub(super) fn need_unsticky(who: &Creds, dir: &Attr, node: &Attr) -> Result<(), Errno> {
    if dir.mode & STICKY == 0 || who.uid == 0 || who.uid == dir.uid || who.uid == node.uid {
        Ok(())
    } else {
        Err(Errno::Perm)
    }
}

/// The mode that chmod or create leaves: setgid goes where the caller is not
/// of the file's group (chmod(2)).
pub(super) fn settled_mode(who: &Creds, mode: u32, gid: u32) -> u32 {
    let mode = mode & MODE_BITS;
    if who.uid == 0 || who.in_group(gid) {
        mode
    } else {
        mode & !SETGID
    }
}

/// The mode after an ownership change, or a write by one who is not root:
/// setuid goes, and setgid where it means set-group-ID and not mandatory locking.
pub(super) fn without_set_ids(who: &Creds, mode: u32, gid: u32) -> u32 {
    let mut mode = mode & !SETUID;
    if mode & GROUP_EXEC != 0 || (who.uid != 0 && !who.in_group(gid)) {
        mode &= !SETGID;
    }
    mode
}
