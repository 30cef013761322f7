//! Unmounting what is pocker's for somebody who is not trusted, and nothing else.
//!
//! The path that is asked for may lead elsewhere at any moment. So its directory is opened, no link followed, and both
//! the look at what is mounted there and the unmount begin at that directory.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounted {
    Done,
    /// Nothing is mounted there.
    Nothing,
    /// Something that is not of pocker's making.
    NotOurs,
}

/// Unmounts what is on top at `target`, a path without links, where pocker mounted it.
pub fn unmount_ours(target: &Path) -> io::Result<Unmounted> {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Ok(Unmounted::NotOurs);
    };
    let dir = match walk(parent) {
        Ok(dir) => dir,
        // What has a link in it is no mount point's path.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(Unmounted::Nothing),
        Err(errno) => return Err(errno.into()),
    };
    imp::in_dir(&dir, name, target)
}

fn walk(path: &Path) -> nix::Result<OwnedFd> {
    let mut at = open("/", imp::DIRECTORY, Mode::empty())?;
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => {
                at = openat(&at, name, imp::DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?;
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(at)
}

#[cfg(target_os = "linux")]
mod imp {
    use super::*;
    use nix::mount::MntFlags;
    use std::os::fd::AsRawFd;

    pub const DIRECTORY: OFlag = OFlag::O_PATH
        .union(OFlag::O_DIRECTORY)
        .union(OFlag::O_CLOEXEC);

    pub fn in_dir(dir: &OwnedFd, name: &OsStr, _target: &Path) -> io::Result<Unmounted> {
        match ours(dir, name)? {
            Ok(top) => off(&top),
            Err(other) => Ok(other),
        }
    }

    /// What pocker mounted there, where that is on top.
    pub fn ours(dir: &OwnedFd, name: &OsStr) -> io::Result<Result<OwnedFd, Unmounted>> {
        let top = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // Its server need not answer: nothing is asked of what is mounted.
        let top = match openat(dir, name, top, Mode::empty()) {
            Ok(top) => top,
            Err(Errno::ENOENT) => return Ok(Err(Unmounted::Nothing)),
            Err(errno) => return Err(errno.into()),
        };
        let id = mount_of(&top)?;
        if id == mount_of(dir)? {
            return Ok(Err(Unmounted::Nothing));
        }
        let all = std::fs::read("/proc/thread-self/mountinfo")?;
        match super::super::is_ours(&all, id) {
            true => Ok(Ok(top)),
            false => Ok(Err(Unmounted::NotOurs)),
        }
    }

    /// That mount and no other: where somebody else has unmounted it by now, what lay below is not touched.
    pub fn off(top: &OwnedFd) -> io::Result<Unmounted> {
        let at = format!("/proc/thread-self/fd/{}", top.as_raw_fd());
        match nix::mount::umount2(at.as_str(), MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL) => Ok(Unmounted::Done),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The number of the mount that `fd` is in (proc(5), fdinfo).
    fn mount_of(fd: &OwnedFd) -> io::Result<u64> {
        let info = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", fd.as_raw_fd()))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        let id = id.and_then(|id| id.trim().parse().ok());
        id.ok_or_else(|| io::Error::other("fdinfo has no mnt_id"))
    }

    /// A busy mount goes with its last user.
    pub fn detach(at: &OsStr) -> Result<(), Errno> {
        let nofollow = MntFlags::UMOUNT_NOFOLLOW;
        match nix::mount::umount2(at, nofollow) {
            Err(Errno::EBUSY) => nix::mount::umount2(at, nofollow | MntFlags::MNT_DETACH),
            // Nothing is mounted there any more.
            Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
            other => other,
        }
    }
}

#[cfg(any(target_os = "openbsd", target_os = "freebsd"))]
mod imp {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    pub const DIRECTORY: OFlag = OFlag::O_RDONLY
        .union(OFlag::O_DIRECTORY)
        .union(OFlag::O_CLOEXEC);

    /// For a process whose working directory nobody else counts on. There is no call that unmounts what a descriptor is
    /// open on: between the look and the unmount the name is looked up once more, in the same directory.
    pub fn in_dir(dir: &OwnedFd, name: &OsStr, target: &Path) -> io::Result<Unmounted> {
        nix::unistd::fchdir(dir)?;
        let done = by_name(name, target);
        let _ = nix::unistd::chdir("/");
        done
    }

    fn by_name(name: &OsStr, target: &Path) -> io::Result<Unmounted> {
        let path = CString::new(name.as_bytes())?;
        // SAFETY: statfs is plain data, valid when all zero.
        let mut fs: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path ends in NUL, and the kernel fills one statfs.
        let asked = Errno::result(unsafe { libc::statfs(path.as_ptr(), &raw mut fs) });
        match asked {
            Ok(_) => {}
            Err(Errno::ENOENT) => return Ok(Unmounted::Nothing),
            Err(errno) => return Err(errno.into()),
        }
        if super::super::text(&fs.f_mntonname) != target.as_os_str().as_bytes() {
            return Ok(Unmounted::Nothing);
        }
        if !super::super::is_ours(&fs) {
            return Ok(Unmounted::NotOurs);
        }
        super::super::unmount_at(&path)?;
        Ok(Unmounted::Done)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "openbsd", target_os = "freebsd")))]
mod imp {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    pub const DIRECTORY: OFlag = OFlag::O_RDONLY
        .union(OFlag::O_DIRECTORY)
        .union(OFlag::O_CLOEXEC);

    /// By its path, and whatever it is: these systems are not told apart here.
    pub fn in_dir(_dir: &OwnedFd, _name: &OsStr, target: &Path) -> io::Result<Unmounted> {
        let there = super::super::mounted()?;
        if !there.iter().any(|at| at == target.as_os_str().as_bytes()) {
            return Ok(Unmounted::Nothing);
        }
        let target = target.to_str().ok_or(Errno::EINVAL)?;
        super::super::unmount(target)?;
        Ok(Unmounted::Done)
    }
}

#[cfg(target_os = "linux")]
pub(super) use imp::detach;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tmpfs(at: &Path) {
        let tmpfs = Some("tmpfs");
        mount(tmpfs, at, tmpfs, MsFlags::empty(), None::<&str>).expect("mounted");
    }

    fn fuse_of_ours(fuse: &fs::File, at: &Path) {
        let fd = std::os::fd::AsRawFd::as_raw_fd(fuse);
        let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
        let (source, kind) = (Some("pocker"), Some("fuse.pocker"));
        mount(source, at, kind, MsFlags::empty(), Some(options.as_str())).expect("mounted");
    }

    #[test]
    fn only_what_lies_at_the_path_itself_is_looked_at() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().expect("a directory");
        let in_mounts_of_its_own = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("unshared");
            let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            mount(none, "/", none, private, none).expect("private");
            let at = |name: &str| temp.path().join(name);
            fs::create_dir_all(at("dir/point")).expect("mkdir");
            symlink("dir", at("link")).expect("linked");
            let try_it = |name: &str| unmount_ours(&at(name)).expect("looked");
            assert_eq!(try_it("dir/point"), Unmounted::Nothing);
            assert_eq!(try_it("dir/missing"), Unmounted::Nothing);
            tmpfs(&at("dir/point"));
            assert_eq!(try_it("dir/point"), Unmounted::NotOurs);
            assert_eq!(try_it("link/point"), Unmounted::Nothing);
            assert!(unmount_ours(&at("dir/../dir/point")).is_err());
            let device = || fs::File::options().read(true).write(true).open("/dev/fuse");
            if let (Ok(fuse), Ok(another)) = (device(), device()) {
                // Nobody answers it.
                fuse_of_ours(&fuse, &at("dir/point"));
                assert_eq!(try_it("link/point"), Unmounted::Nothing);
                assert_eq!(try_it("dir/point"), Unmounted::Done);
                // What was below it.
                assert_eq!(try_it("dir/point"), Unmounted::NotOurs);
                // Somebody else was faster: what was below it stays.
                fuse_of_ours(&another, &at("dir/point"));
                let dir = walk(&at("dir")).expect("opened");
                let top = imp::ours(&dir, OsStr::new("point")).expect("looked");
                let top = top.expect("it is there");
                detach(at("dir/point").as_os_str()).expect("unmounted");
                assert_eq!(imp::off(&top).expect("gone"), Unmounted::Done);
                assert_eq!(try_it("dir/point"), Unmounted::NotOurs);
            }
            // The directory that was opened is the one where it is unmounted, wherever it is by then.
            let dir = walk(&at("dir")).expect("opened");
            fs::rename(at("dir"), at("aside")).expect("renamed");
            fs::create_dir_all(at("dir/point")).expect("mkdir");
            tmpfs(&at("dir/point"));
            fs::write(at("dir/point/of-others"), "").expect("written");
            let mut path = std::ffi::OsString::from("/proc/self/fd/");
            path.push(std::os::fd::AsRawFd::as_raw_fd(&dir).to_string());
            path.push("/point");
            detach(&path).expect("unmounted");
            assert!(at("dir/point/of-others").exists());
            let left = imp::in_dir(&dir, OsStr::new("point"), &at("dir/point"));
            assert_eq!(left.expect("looked"), Unmounted::Nothing);
        };
        std::thread::scope(|scope| {
            scope.spawn(in_mounts_of_its_own).join().expect("it ends");
        });
    }
}
