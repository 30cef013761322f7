//! Where system calls on a mount answer otherwise than NFSv3 does: one line each, with
//! its reason. Whatever is not here is answered alike.

use pocker_store::types::{Creds, Errno, Kind};
use pocker_testing::call::What;
use pocker_testing::model::{Id, Model, ROOT_ID};
use pocker_testing::side::{Departure, Turn};

const REMOVED: &str = "a system call names a node by a path: a removed one has none";
const EXCLUSIVE: &str =
    "open(2) of an existing file is judged by that file's mode, so files are made with O_EXCL only";
const MKDIR_BITS: &str = "mkdir(2) takes permission bits and the sticky bit only (vfs_mkdir)";
const MAKE_SETGID: &str = "setgid without group execute survives making a file in a setgid directory of a strange group (mode_strip_sgid)";
const HARDLINKS: &str =
    "fs.protected_hardlinks: only its owner links a file that others may not read and write";
const SAME_FILE: &str = "rename(2) between two names of one file succeeds before any permission is looked at (vfs_rename)";
const ANCESTOR: &str =
    "rename(2) onto an ancestor is ENOTEMPTY before any permission is looked at (lock_rename)";
const NOT_EMPTY: &str = "rename(2) asks for write permission on a directory that moves before the file system sees that its target is not empty";
const NOT_OPENED: &str =
    "open(2) of a symlink fails, and of a FIFO or a device reaches no file system";
const OWNER_WRITES: &str = "open(2) and truncate(2) judge an owner by the mode; over NFS an owner always writes (RFC 1813 4.4)";
const FUSE_SETGID: &str = "FUSE_HANDLE_KILLPRIV_V2 keeps setgid without group execute, as FUSE does not say of which groups a writer is (linux/fuse.h)";
const LINK_MODE: &str = "chmod(2) of a symlink does not exist on Linux";
const NO_OWNER: &str =
    "chown(2) to nobody new still clears setuid and setgid, and the protocol has no such call";
const STICKY_XATTR: &str =
    "user attributes of a sticky directory are its owner's (xattr_permission)";

/// Every line.
pub const ALL: [&str; 14] = [
    REMOVED,
    EXCLUSIVE,
    MKDIR_BITS,
    MAKE_SETGID,
    HARDLINKS,
    SAME_FILE,
    ANCESTOR,
    NOT_EMPTY,
    NOT_OPENED,
    OWNER_WRITES,
    FUSE_SETGID,
    LINK_MODE,
    NO_OWNER,
    STICKY_XATTR,
];

fn says(reason: &'static str, answer: Result<(), Errno>) -> Option<Departure> {
    Some(Departure {
        reason,
        answer: Some(answer),
    })
}

fn not_made(reason: &'static str) -> Option<Departure> {
    Some(Departure {
        reason,
        answer: None,
    })
}

pub fn departs(turn: &Turn<'_>) -> Option<Departure> {
    let (m, who) = (turn.before, &turn.call.who);
    if turn.call.nodes().iter().any(|id| !m.nodes.contains_key(id)) {
        return not_made(REMOVED);
    }
    let ok = turn.outcome.is_ok();
    match &turn.call.what {
        What::Make {
            kind,
            dir,
            name,
            mode,
            guarded,
        } => {
            let there = m.nodes[dir].names.contains_key(name);
            if *kind == Kind::File && !guarded && there && turn.outcome != Err(Errno::Access) {
                return says(EXCLUSIVE, Err(Errno::Exist));
            }
            if ok && *kind == Kind::Dir && mode & 0o6000 != 0 {
                return says(MKDIR_BITS, Ok(()));
            }
            let strange = m.nodes[dir].mode & 0o2000 != 0 && !who.in_group(m.nodes[dir].gid);
            if ok && strange && who.uid != 0 && mode & 0o2010 == 0o2000 {
                return says(MAKE_SETGID, Ok(()));
            }
            None
        }
        What::Link { file, dir, name } => {
            let reached = m.allows(who, *dir, 1) && m.nodes[dir].kind == Kind::Dir;
            let judged = reached && !m.nodes[dir].names.contains_key(name);
            if judged && !may_link(m, who, *file) {
                return says(HARDLINKS, Err(Errno::Perm));
            }
            None
        }
        What::Rename {
            from,
            name,
            to,
            new,
        } => rename(m, turn.outcome, who, (*from, name), (*to, new)),
        What::Write { file, .. } if !matches!(m.nodes[file].kind, Kind::File | Kind::Dir) => {
            not_made(NOT_OPENED)
        }
        What::Write { file, .. } | What::Truncate { file, .. } => {
            let n = &m.nodes[file];
            if owner_without_write(m, who, *file) {
                return says(OWNER_WRITES, Err(Errno::Access));
            }
            let setgid = n.mode & 0o2010 == 0o2000 && turn.after.nodes[file].mode != n.mode;
            if ok && setgid && !who.in_group(n.gid) {
                return says(FUSE_SETGID, Ok(()));
            }
            None
        }
        What::Chmod { node, .. } if m.nodes[node].kind == Kind::Symlink => not_made(LINK_MODE),
        What::Chown {
            uid: None,
            gid: None,
            ..
        } => not_made(NO_OWNER),
        What::SetXattr { node, name, .. } | What::RemoveXattr { node, name } => {
            let n = &m.nodes[node];
            let sticky = n.kind == Kind::Dir && n.mode & 0o1000 != 0;
            if sticky && name.starts_with(b"user.") && who.uid != 0 && who.uid != n.uid {
                return says(STICKY_XATTR, Err(Errno::Perm));
            }
            None
        }
        _ => None,
    }
}

/// One whom the server lets write and the kernel does not.
pub fn owner_without_write(m: &Model, who: &Creds, file: Id) -> bool {
    let n = &m.nodes[&file];
    n.kind == Kind::File && n.uid == who.uid && who.uid != 0 && n.mode & 0o200 == 0
}

/// fs/namei.c, may_linkat.
fn may_link(m: &Model, who: &Creds, file: Id) -> bool {
    let n = &m.nodes[&file];
    let privileged = n.mode & 0o4000 != 0 || n.mode & 0o2010 == 0o2010;
    let safe = n.kind == Kind::File && !privileged && m.allows(who, file, 6);
    safe || who.uid == 0 || who.uid == n.uid || !protected_hardlinks()
}

fn protected_hardlinks() -> bool {
    std::fs::read("/proc/sys/fs/protected_hardlinks").is_ok_and(|value| value == b"1\n")
}

/// What the kernel sees before it asks the file system, in its order.
fn rename(
    m: &Model,
    outcome: Result<Id, Errno>,
    who: &Creds,
    (from, name): (Id, &[u8]),
    (to, new): (Id, &[u8]),
) -> Option<Departure> {
    let id = *m.nodes[&from].names.get(name)?;
    if !m.allows(who, from, 1) || !m.allows(who, to, 1) || outcome == Err(Errno::Inval) {
        return None;
    }
    let target = *m.nodes[&to].names.get(new)?;
    let mut up = from;
    while up != target && up != ROOT_ID {
        up = m.nodes[&up].parent;
    }
    if up == target {
        return says(ANCESTOR, Err(Errno::NotEmpty));
    }
    if target == id {
        return says(SAME_FILE, Ok(()));
    }
    let moves = m.nodes[&id].kind == Kind::Dir && from != to;
    if outcome == Err(Errno::NotEmpty) && moves && !m.allows(who, id, 2) {
        return says(NOT_EMPTY, Err(Errno::Access));
    }
    None
}
