//! The user that a server becomes, and the store that is given to it: what it then reaches is its store, which is all
//! that there is for it (chroot(2)), and the sockets that it has.

use super::{ServeOptions, ServerUser, privileges, sys};
use crate::sys::{Attempt, Fault};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{Gid, Uid, chdir, chroot, fchown, fchownat, setgid, setgroups, setuid};
use pocker_store::GIVEN;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::Path;

/// How deep a store's folders are, and more.
const DEPTH: usize = 16;
/// The grafter's part of a store stays its own.
const NOT_GIVEN: &CStr = c"grafts";

/// Whether all of the store is that user's. Asked before its lock is taken, after which nobody knows.
pub fn is_given(store: &Path, user: &ServerUser) -> bool {
    let owner = std::fs::read_to_string(store.join(GIVEN));
    owner.is_ok_and(|owner| owner == said(user))
}

fn said(user: &ServerUser) -> String {
    format!("{}:{}\n", user.uid, user.gid)
}

/// For good. The store's lock is held, all sockets are open, and there is one thread.
pub fn become_user(options: &ServeOptions, user: &ServerUser, given: bool) -> Result<(), Fault> {
    let store = &options.store;
    if !given {
        give(store, user)?;
    }
    let noted = std::fs::write(store.join(GIVEN), said(user));
    noted.map_err(|e| Fault::new(format!("note whose {} is: {e}", store.display())))?;
    sys::keep_mounts();
    // What was outside is not there any more.
    chdir(store).attempt("enter the store")?;
    chroot(".").attempt("chroot")?;
    chdir("/").attempt("enter the store")?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&[gid]).attempt("set the groups")?;
    setgid(gid).attempt("set the group")?;
    setuid(uid).attempt("set the user")?;
    privileges::confine_in_store()
}

/// What root made is the user's. Nobody but root was in it since it was last: files with more names are the store's own.
fn give(store: &Path, user: &ServerUser) -> Result<(), Fault> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let shown = format!("open {}", store.display());
    let mut top = Dir::open(store, flags, Mode::empty()).attempt(shown)?;
    for name in names(&mut top).attempt("list the store")? {
        if name.as_c_str() == NOT_GIVEN {
            continue;
        }
        let shown = || {
            format!(
                "give {}/{} to {}",
                store.display(),
                name.to_string_lossy(),
                user.name
            )
        };
        give_all(&top, &name, user, DEPTH).attempt(shown())?;
    }
    let (uid, gid) = ids(user);
    fchown(&top, uid, gid).attempt("give the store away")
}

fn ids(user: &ServerUser) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
}

fn names(dir: &mut Dir) -> nix::Result<Vec<CString>> {
    let all = dir.iter().map(|entry| Ok(entry?.file_name().to_owned()));
    let all: Vec<CString> = all.collect::<nix::Result<_>>()?;
    let dots = |name: &CString| [&b"."[..], b".."].contains(&name.as_bytes());
    Ok(all.into_iter().filter(|name| !dots(name)).collect())
}

fn look(dir: impl AsFd, name: &CStr) -> nix::Result<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

fn give_all(dir: impl AsFd, name: &CStr, user: &ServerUser, depth: usize) -> nix::Result<()> {
    let (uid, gid) = ids(user);
    if !is(&look(&dir, name)?, SFlag::S_IFDIR) {
        return fchownat(&dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW);
    }
    let depth = depth.checked_sub(1).ok_or(nix::errno::Errno::ELOOP)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut inner = Dir::openat(&dir, name, flags, Mode::empty())?;
    for name in names(&mut inner)? {
        give_all(&inner, &name, user, depth)?;
    }
    fchown(&inner, uid, gid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_store_is_given_whole_but_for_what_is_the_grafters() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in [
            "store",
            "store/blobs",
            "store/blobs/ab",
            "store/grafts",
            "out",
        ] {
            fs::create_dir(at(name)).expect("mkdir");
        }
        for name in [
            "store/index.db",
            "store/blobs/ab/cd",
            "store/grafts/1",
            "out/file",
        ] {
            fs::write(at(name), name).expect("written");
        }
        symlink(at("out/file"), at("store/link")).expect("linked");
        let user = ServerUser {
            name: "somebody".into(),
            uid: 4321,
            gid: 4322,
        };
        let owner = |name: &str| {
            let meta = fs::symlink_metadata(at(name)).expect("there");
            (meta.uid(), meta.gid())
        };
        let (root, its) = ((0, 0), (4321, 4322));
        give(&at("store"), &user).expect("given");
        for name in [
            "store",
            "store/index.db",
            "store/blobs",
            "store/blobs/ab/cd",
            "store/link",
        ] {
            assert_eq!(owner(name), its, "{name}");
        }
        for name in ["store/grafts", "store/grafts/1", "out/file", "out"] {
            assert_eq!(owner(name), root, "{name}");
        }
        assert!(!is_given(&at("store"), &user), "root may make more");
        fs::write(at("store/given"), said(&user)).expect("written");
        assert!(is_given(&at("store"), &user));
        let other = ServerUser { uid: 1, ..user };
        assert!(!is_given(&at("store"), &other));
        // Who has it locked as root may make more.
        let lock = pocker_store::lock(&at("store"), true).expect("locked");
        assert!(!at("store/given").exists());
        drop(lock);
    }
}
