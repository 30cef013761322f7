//! What a caller may do in a graft, where the server cannot take on his identity: decided here, from
//! mode bits, owner and groups, as a local file system would (RFC 1813 §4.4), and then done as root.

// The widths of modes differ.
#![allow(clippy::unnecessary_cast)]

use nix::sys::stat::FileStat;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{Caller, Result};

pub const READ: u32 = 4;
pub const WRITE: u32 = 2;
pub const EXECUTE: u32 = 1;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

const ACCES: nfsstat3 = nfsstat3::NFS3ERR_ACCES;
const PERM: nfsstat3 = nfsstat3::NFS3ERR_PERM;

/// What counts of a file.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub uid: u32,
    pub gid: u32,
    /// The twelve bits.
    pub mode: u32,
    pub dir: bool,
    pub regular: bool,
}

impl File {
    pub fn of(stat: &FileStat) -> File {
        let kind = stat.st_mode & libc::S_IFMT;
        File {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: (stat.st_mode & 0o7777) as u32,
            dir: kind == libc::S_IFDIR,
            regular: kind == libc::S_IFREG,
        }
    }
}

fn is_root(caller: &Caller) -> bool {
    caller.uid == 0
}

fn in_group(caller: &Caller, gid: u32) -> bool {
    caller.gid == gid || caller.gids.contains(&gid)
}

fn owns(caller: &Caller, file: &File) -> bool {
    is_root(caller) || caller.uid == file.uid
}

/// Whether all of `want` is allowed. One class counts: an owner without a bit is not let in by the group's.
pub fn may(caller: &Caller, file: &File, want: u32) -> bool {
    if is_root(caller) {
        return want & EXECUTE == 0 || file.dir || file.mode & 0o111 != 0;
    }
    let class = if caller.uid == file.uid {
        file.mode >> 6
    } else if in_group(caller, file.gid) {
        file.mode >> 3
    } else {
        file.mode
    };
    class & want == want
}

fn need(caller: &Caller, file: &File, want: u32) -> Result<()> {
    match may(caller, file, want) {
        true => Ok(()),
        false => Err(ACCES),
    }
}

/// To look a name up in a directory.
pub fn search(caller: &Caller, dir: &File) -> Result<()> {
    need(caller, dir, EXECUTE)
}

/// To make a name in it.
pub fn make(caller: &Caller, dir: &File) -> Result<()> {
    need(caller, dir, WRITE | EXECUTE)
}

/// To take `file`'s name away from it.
pub fn remove(caller: &Caller, dir: &File, file: &File) -> Result<()> {
    need(caller, dir, WRITE | EXECUTE)?;
    match dir.mode & STICKY == 0 || owns(caller, file) || owns(caller, dir) {
        true => Ok(()),
        false => Err(PERM),
    }
}

/// To move `file` from one directory to another, or within one, over `target` where there is one.
pub fn rename(
    caller: &Caller,
    (from, to, one): (&File, &File, bool),
    file: &File,
    target: Option<&File>,
) -> Result<()> {
    remove(caller, from, file)?;
    match target {
        Some(target) => remove(caller, to, target)?,
        None => make(caller, to)?,
    }
    // Its ".." changes.
    match file.dir && !one {
        true => need(caller, file, WRITE),
        false => Ok(()),
    }
}

/// Who owns what is made in a directory: its maker, and his group or the directory's.
pub fn owner(caller: &Caller, dir: &File, group_of_directory: bool) -> (u32, u32) {
    match group_of_directory || dir.mode & SETGID != 0 {
        true => (caller.uid, dir.gid),
        false => (caller.uid, caller.gid),
    }
}

/// What a mode becomes that the caller sets: a file is made setgid by a member of its group alone.
fn settable(caller: &Caller, gid: u32, mode: u32) -> u32 {
    match is_root(caller) || in_group(caller, gid) {
        true => mode,
        false => mode & !SETGID,
    }
}

/// The mode of what the caller makes; `inherited` is what the system set by itself.
pub fn new_mode(caller: &Caller, gid: u32, mode: u32, inherited: u32) -> u32 {
    settable(caller, gid, mode) | inherited & SETGID
}

/// What a write by another than root leaves of the mode; none where all of it.
pub fn written(caller: &Caller, file: &File) -> Option<u32> {
    let without = match file.mode & 0o010 != 0 {
        true => file.mode & !(SETUID | SETGID),
        // Without the group's execute bit it does not mean that a program is setgid.
        false => file.mode & !SETUID,
    };
    (!is_root(caller) && file.regular && without != file.mode).then_some(without)
}

/// To change size, owner, mode and times. Answers the mode to set: the one that was asked for, as far as
/// the caller may, or what the rest of the change leaves of it.
pub fn change(caller: &Caller, file: &File, new: &sattr3) -> Result<Option<u32>> {
    let mut mode = None;
    if let set_size3::size(_) = new.size {
        if !owns(caller, file) {
            need(caller, file, WRITE)?;
        }
        mode = written(caller, file);
    }
    let mut gid = file.gid;
    let chowns = match (new.uid, new.gid) {
        (set_uid3::Void, set_gid3::Void) => false,
        (uid, group) => {
            if let set_gid3::gid(group) = group {
                gid = group;
            }
            let gives_away = matches!(uid, set_uid3::uid(uid) if uid != file.uid);
            let stays = gid == file.gid || in_group(caller, gid);
            if !is_root(caller) && (!owns(caller, file) || gives_away || !stays) {
                return Err(PERM);
            }
            true
        }
    };
    if chowns {
        mode = mode.or(written(caller, file));
    }
    if let set_mode3::mode(asked) = new.mode {
        if !owns(caller, file) {
            return Err(PERM);
        }
        mode = Some(settable(caller, gid, asked & 0o7777));
    }
    times(caller, file, new)?;
    Ok(mode)
}

fn times(caller: &Caller, file: &File, new: &sattr3) -> Result<()> {
    if owns(caller, file) {
        return Ok(());
    }
    let (atime, mtime) = (&new.atime, &new.mtime);
    if matches!(atime, set_atime::SET_TO_CLIENT_TIME(_))
        || matches!(mtime, set_mtime::SET_TO_CLIENT_TIME(_))
    {
        return Err(PERM);
    }
    match (atime, mtime) {
        (set_atime::DONT_CHANGE, set_mtime::DONT_CHANGE) => Ok(()),
        // To now: what a write would do, and a read.
        _ => need(caller, file, WRITE),
    }
}

/// To change an extended attribute.
pub fn attribute(caller: &Caller, file: &File, name: &[u8]) -> Result<()> {
    match owns(caller, file) && (is_root(caller) || name.starts_with(b"user.")) {
        true => Ok(()),
        false => Err(PERM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, gid: u32, gids: &[u32]) -> Caller {
        Caller {
            uid,
            gid,
            gids: gids.to_vec(),
        }
    }

    fn file(uid: u32, gid: u32, mode: u32) -> File {
        File {
            uid,
            gid,
            mode,
            dir: false,
            regular: true,
        }
    }

    fn dir(uid: u32, gid: u32, mode: u32) -> File {
        File {
            dir: true,
            regular: false,
            ..file(uid, gid, mode)
        }
    }

    fn code<T>(result: Result<T>) -> u32 {
        result.map_or_else(|e| e as u32, |_| 0)
    }

    const THEN: nfstime3 = nfstime3 {
        seconds: 7,
        nseconds: 0,
    };
    const OK: u32 = 0;
    const NO: u32 = ACCES as u32;
    const NEVER: u32 = PERM as u32;

    #[test]
    fn one_class_counts() {
        let me = caller(10, 20, &[30]);
        assert!(may(&me, &file(10, 1, 0o400), READ));
        assert!(!may(&me, &file(10, 20, 0o077), READ));
        assert!(may(&me, &file(1, 20, 0o040), READ) && may(&me, &file(1, 30, 0o040), READ));
        assert!(!may(&me, &file(1, 30, 0o707), READ));
        assert!(may(&me, &file(1, 1, 0o006), READ | WRITE));
        assert!(!may(&me, &file(1, 1, 0o004), READ | WRITE));
        let root = caller(0, 0, &[]);
        assert!(may(&root, &file(10, 1, 0), READ | WRITE));
        assert!(!may(&root, &file(10, 1, 0o666), EXECUTE));
        assert!(may(&root, &file(10, 1, 0o010), EXECUTE) && may(&root, &dir(10, 1, 0), EXECUTE));
    }

    #[test]
    fn names_are_the_directorys_and_where_it_is_sticky_the_files_owners_too() {
        let me = caller(10, 20, &[]);
        let theirs = file(11, 20, 0o777);
        let mine = file(10, 20, 0);
        assert_eq!(code(remove(&me, &dir(1, 1, 0o777), &theirs)), OK);
        assert_eq!(code(remove(&me, &dir(1, 1, 0o1777), &theirs)), NEVER);
        assert_eq!(code(remove(&me, &dir(1, 1, 0o1777), &mine)), OK);
        assert_eq!(code(remove(&me, &dir(10, 1, 0o1700), &theirs)), OK);
        assert_eq!(code(remove(&me, &dir(1, 1, 0o775), &mine)), NO);
        // Writing without searching is no use.
        assert_eq!(code(make(&me, &dir(1, 1, 0o776))), NO);
        let root = caller(0, 0, &[]);
        assert_eq!(code(remove(&root, &dir(1, 1, 0o1000), &theirs)), OK);

        let open = dir(1, 1, 0o777);
        let sticky = dir(1, 1, 0o1777);
        let go = |from, to, one, file: &File, target: Option<&File>| {
            code(rename(&me, (from, to, one), file, target))
        };
        assert_eq!(go(&open, &sticky, false, &theirs, None), OK);
        assert_eq!(go(&open, &sticky, false, &theirs, Some(&theirs)), NEVER);
        assert_eq!(go(&sticky, &open, false, &theirs, None), NEVER);
        let closed = dir(11, 1, 0o755);
        assert_eq!(go(&open, &open, false, &closed, None), NO);
        assert_eq!(go(&open, &open, true, &closed, None), OK);
        assert_eq!(go(&open, &closed, false, &mine, None), NO);
    }

    #[test]
    fn what_is_made_is_its_makers() {
        let me = caller(10, 20, &[30]);
        assert_eq!(owner(&me, &dir(1, 2, 0o777), false), (10, 20));
        assert_eq!(owner(&me, &dir(1, 2, 0o2777), false), (10, 2));
        assert_eq!(owner(&me, &dir(1, 2, 0o777), true), (10, 2));
        // A setgid program of a group that is not his he does not make.
        assert_eq!(new_mode(&me, 2, 0o6755, 0), 0o4755);
        assert_eq!(new_mode(&me, 30, 0o6755, 0), 0o6755);
        assert_eq!(new_mode(&me, 2, 0o755, 0o2700), 0o2755);
    }

    fn set(change: impl FnOnce(&mut sattr3)) -> sattr3 {
        let mut new = sattr3::default();
        change(&mut new);
        new
    }

    #[test]
    fn owners_and_modes_are_changed_by_whom_they_may_be() {
        let me = caller(10, 20, &[30]);
        let root = caller(0, 0, &[]);
        let mine = file(10, 20, 0o6755);
        let chown = |uid: u32| set(|new| new.uid = set_uid3::uid(uid));
        let chgrp = |gid: u32| set(|new| new.gid = set_gid3::gid(gid));
        let chmod = |mode: u32| set(|new| new.mode = set_mode3::mode(mode));
        let asked = |caller: &Caller, file: &File, new: &sattr3| change(caller, file, new);

        assert_eq!(code(asked(&me, &mine, &chown(11))), NEVER);
        assert_eq!(code(asked(&me, &mine, &chgrp(40))), NEVER);
        assert_eq!(code(asked(&me, &file(11, 20, 0o777), &chgrp(30))), NEVER);
        // Setuid and setgid go; without the group's execute bit setgid is something else.
        assert_eq!(asked(&me, &mine, &chgrp(30)).ok(), Some(Some(0o755)));
        assert_eq!(asked(&me, &mine, &chown(10)).ok(), Some(Some(0o755)));
        let locked = file(10, 20, 0o2644);
        assert_eq!(asked(&me, &locked, &chgrp(30)).ok(), Some(None));
        assert_eq!(asked(&root, &mine, &chown(11)).ok(), Some(None));

        assert_eq!(code(asked(&me, &file(11, 20, 0o777), &chmod(0))), NEVER);
        assert_eq!(asked(&me, &mine, &chmod(0o6711)).ok(), Some(Some(0o6711)));
        let others = file(10, 40, 0o755);
        assert_eq!(asked(&me, &others, &chmod(0o6711)).ok(), Some(Some(0o4711)));
        assert_eq!(
            asked(&root, &others, &chmod(0o6711)).ok(),
            Some(Some(0o6711))
        );
        // The group that it gets counts.
        let both = set(|new| (new.gid, new.mode) = (set_gid3::gid(30), set_mode3::mode(0o2755)));
        assert_eq!(asked(&me, &others, &both).ok(), Some(Some(0o2755)));
    }

    #[test]
    fn sizes_and_times() {
        let me = caller(10, 20, &[]);
        let size = set(|new| new.size = set_size3::size(0));
        // An owner may, as the client checked when the file was opened (RFC 1813 §4.4).
        assert_eq!(code(change(&me, &file(10, 20, 0), &size)), OK);
        assert_eq!(code(change(&me, &file(11, 21, 0o755), &size)), NO);
        let program = file(11, 21, 0o6777);
        assert_eq!(change(&me, &program, &size).ok(), Some(Some(0o777)));
        assert_eq!(written(&me, &program), Some(0o777));
        assert_eq!(written(&caller(0, 0, &[]), &program), None);
        assert_eq!(written(&me, &file(11, 21, 0o755)), None);

        let now = set(|new| new.mtime = set_mtime::SET_TO_SERVER_TIME);
        let then = set(|new| new.atime = set_atime::SET_TO_CLIENT_TIME(THEN));
        assert_eq!(code(change(&me, &file(11, 20, 0o660), &now)), OK);
        assert_eq!(code(change(&me, &file(11, 20, 0o640), &now)), NO);
        assert_eq!(code(change(&me, &file(11, 20, 0o660), &then)), NEVER);
        assert_eq!(code(change(&me, &file(10, 20, 0), &then)), OK);
    }

    #[test]
    fn attributes_that_mean_something_to_the_system_are_roots() {
        let me = caller(10, 20, &[]);
        assert_eq!(code(attribute(&me, &file(10, 20, 0), b"user.x")), OK);
        assert_eq!(code(attribute(&me, &file(11, 20, 0o777), b"user.x")), NEVER);
        let name = b"security.capability";
        assert_eq!(code(attribute(&me, &file(10, 20, 0), name)), NEVER);
        assert_eq!(
            code(attribute(&caller(0, 0, &[]), &file(10, 20, 0), name)),
            OK
        );
    }
}
