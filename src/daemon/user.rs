//! The user that a server becomes, and the store that is given to it: what it then reaches is its store, which is all
//! that there is for it (chroot(2)), and the sockets that it has.

use super::{ServerUser, privileges, sys};
use crate::sys::{Attempt, Fault, process};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, User, chdir, chroot, fchown, fchownat, setgid, setgroups, setuid};
use pocker_store::{StoreError, hold};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How deep a store's folders are, and more.
const DEPTH: usize = 16;
/// In the store: a disk of its own may be mounted there.
const BACKUPS: &CStr = c"backups";

/// Says that a server which is another user has the store. It lies beside that, out of this user's reach.
fn note(store: &Path) -> io::Result<PathBuf> {
    let mut note = store.canonicalize()?.into_os_string();
    note.push(".given");
    Ok(note.into())
}

/// Whether the store is another user's by a server's doing: for root it is no place to write in then.
pub fn is_given(store: &Path) -> bool {
    note(store).is_ok_and(|note| std::fs::symlink_metadata(note).is_ok())
}

/// It is root's again, who believes what that user left in it.
pub fn take_back(store: &Path) -> Result<(), GiveError> {
    let _held = hold(store)?;
    let back = || {
        let top = open_top(store)?;
        fchown(&top, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
        std::fs::remove_file(note(store)?)
    };
    let tried = format!("take {} back", store.display());
    back().map_err(|e| Fault::new(format!("{tried}: {e}")).into())
}

/// Why a store did not change hands.
#[derive(Debug)]
pub enum GiveError {
    /// Nobody may have it open.
    Store(StoreError),
    Failed(Fault),
}

impl From<StoreError> for GiveError {
    fn from(e: StoreError) -> GiveError {
        GiveError::Store(e)
    }
}

impl From<Fault> for GiveError {
    fn from(fault: Fault) -> GiveError {
        GiveError::Failed(fault)
    }
}

fn open_top(store: &Path) -> nix::Result<Dir> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Dir::open(store, flags, Mode::empty())
}

/// Held by who opens sockets there, in a folder that is root's alone: a socket found there is a dead server's then.
pub fn alone(socket_dir: &Path) -> io::Result<Option<Flock<File>>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file = File::options();
    let file = file.write(true).create(true).truncate(false).mode(0o600);
    let file = file
        .custom_flags(flags.bits())
        .open(socket_dir.join("serve.lock"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// For good. All sockets are open, the store is given, and there is one thread.
pub fn become_user(store: &Path, user: &ServerUser) -> Result<(), Fault> {
    sys::keep_mounts();
    enter(store, user)?;
    privileges::confine_in_store()
}

/// The store is all there is, and whoever has it owns this process.
pub fn enter(store: &Path, user: &ServerUser) -> Result<(), Fault> {
    // By one of a folder outside the way would lead out again.
    process::close_directories();
    chdir(store).attempt("enter the store")?;
    chroot(".").attempt("chroot")?;
    chdir("/").attempt("enter the store")?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&[gid]).attempt("set the groups")?;
    setgid(gid).attempt("set the group")?;
    setuid(uid).attempt("set the user")
}

/// The user that a store was given to.
pub fn owner(store: &Path) -> io::Result<ServerUser> {
    let meta = std::fs::metadata(store)?;
    let user = User::from_uid(Uid::from_raw(meta.uid()))?;
    Ok(ServerUser {
        name: user.map_or_else(|| meta.uid().to_string(), |user| user.name),
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

/// What root made is the user's, the folder itself last. In one that is the user's already root changes nothing, as it does
/// not know what it would change.
pub fn give(store: &Path, user: &ServerUser) -> Result<(), GiveError> {
    let mut top = open_top(store).attempt(format!("open {}", store.display()))?;
    let stat = fstat(&top).attempt("look at the store")?;
    let (uid, gid) = ids(user);
    if stat.st_uid != user.uid {
        if stat.st_uid != 0 {
            let whose = format!(
                "{} is neither root's nor {}'s, but uid {}'s",
                store.display(),
                user.name,
                stat.st_uid
            );
            return Err(Fault::new(whose).into());
        }
        // A server that is root would go on making files of its own.
        let _held = hold(store)?;
        tracing::info!(user = user.name, "gives the store away");
        for name in names(&mut top).attempt("list the store")? {
            let shown = format!(
                "give {}/{} to {}",
                store.display(),
                name.to_string_lossy(),
                user.name
            );
            give_all(&top, &name, user, (DEPTH, stat.st_dev)).attempt(shown)?;
        }
        give_backups(&top, uid, gid).attempt("give the place for backups away")?;
        noted(store).attempt(format!("note beside {} whose it is", store.display()))?;
        fchown(&top, uid, gid).attempt("give the store away")?;
        return Ok(());
    }
    noted(store).attempt(format!("note beside {} whose it is", store.display()))?;
    give_backups(&top, uid, gid).attempt("give the place for backups away")?;
    Ok(())
}

fn noted(store: &Path) -> nix::Result<()> {
    let errno = |e: io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    nix::fcntl::open(&note(store).map_err(errno)?, flags, mode).map(drop)
}

/// The top of what is mounted there, and no more of it.
fn give_backups(top: &Dir, uid: Option<Uid>, gid: Option<Gid>) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(top, BACKUPS, flags, Mode::empty()) {
        Ok(dir) => fchown(&dir, uid, gid),
        // There are none, or what is there is no place for them.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(()),
        Err(errno) => Err(errno),
    }
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

fn give_all(
    dir: impl AsFd,
    name: &CStr,
    user: &ServerUser,
    (depth, device): (usize, libc::dev_t),
) -> nix::Result<()> {
    let (uid, gid) = ids(user);
    let stat = look(&dir, name)?;
    if !is(&stat, SFlag::S_IFDIR) {
        return fchownat(&dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW);
    }
    if stat.st_dev != device {
        // What is mounted in it: of backups the place alone is given, and nothing else may be.
        return match name == BACKUPS {
            true => Ok(()),
            false => Err(Errno::EXDEV),
        };
    }
    let deeper = (depth.checked_sub(1).ok_or(Errno::ENAMETOOLONG)?, device);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut inner = Dir::openat(&dir, name, flags, Mode::empty())?;
    for name in names(&mut inner)? {
        give_all(&inner, &name, user, deeper)?;
    }
    fchown(&inner, uid, gid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_store_is_given_whole_once_and_nothing_outside_it() {
        assert!(
            nix::unistd::geteuid().is_root(),
            "only root gives anything away"
        );
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in [
            "store",
            "store/blobs",
            "store/blobs/ab",
            "store/backups",
            "out",
        ] {
            fs::create_dir(at(name)).expect("mkdir");
        }
        for name in ["store/index.db", "store/blobs/ab/cd", "out/file"] {
            fs::write(at(name), name).expect("written");
        }
        symlink(at("out/file"), at("store/link")).expect("linked");
        symlink(at("out/file"), at("store.given")).expect("linked");
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
        assert!(give(&at("store"), &user).is_err(), "a link for the note");
        assert_eq!(owner("store"), root, "it is begun anew");
        fs::remove_file(at("store.given")).expect("removed");
        let server = hold(&at("store")).expect("held");
        let busy = give(&at("store"), &user);
        assert!(
            matches!(busy, Err(GiveError::Store(StoreError::InUse { .. }))),
            "{busy:?}"
        );
        assert_eq!(owner("store"), root);
        drop(server);
        give(&at("store"), &user).expect("given");
        let all = [
            "store",
            "store/index.db",
            "store/blobs",
            "store/blobs/ab/cd",
            "store/link",
        ];
        for name in all.iter().chain(&["store/backups"]) {
            assert_eq!(owner(name), its, "{name}");
        }
        assert_eq!((owner("out/file"), owner("out")), (root, root));
        assert!(is_given(&at("store")));
        let whose = super::owner(&at("store")).expect("somebody's");
        assert_eq!((whose.uid, whose.gid), its);

        // What that user may have put there is nothing to root, but for the place of backups itself.
        fs::hard_link(at("out/file"), at("store/two")).expect("linked");
        fs::remove_dir(at("store/backups")).expect("removed");
        symlink(at("out"), at("store/backups")).expect("linked");
        give(&at("store"), &user).expect("given");
        assert_eq!((owner("out/file"), owner("out")), (root, root));
        let other = ServerUser { uid: 1, ..user };
        assert!(give(&at("store"), &other).is_err(), "it is another's");
        let server = hold(&at("store")).expect("held");
        let busy = take_back(&at("store"));
        assert!(
            matches!(busy, Err(GiveError::Store(StoreError::InUse { .. }))),
            "{busy:?}"
        );
        drop(server);
        assert!(owner("store") == its && is_given(&at("store")));
        // By whatever name.
        symlink(at("store"), at("by-link")).expect("linked");
        assert!(is_given(&at("by-link")));
        take_back(&at("by-link")).expect("taken");
        assert!(owner("store") == root && !is_given(&at("store")));
    }

    #[test]
    fn two_servers_do_not_open_the_same_sockets() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = alone(dir.path()).expect("asked").expect("alone");
        assert!(alone(dir.path()).expect("asked").is_none());
        drop(first);
        assert!(alone(dir.path()).expect("asked").is_some());
        symlink("elsewhere", dir.path().join("link")).expect("linked");
        fs::rename(dir.path().join("link"), dir.path().join("serve.lock")).expect("moved");
        assert!(alone(dir.path()).is_err());
    }
}
