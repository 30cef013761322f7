//! A file of a graft while a call has it, and what is done to it without data.

use super::{Graft, sys};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, UtimensatFlags, fstat, fstatat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags};
use pocker_nfs::proto::nfsstat3;
use pocker_nfs::vfs::Result;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

pub struct Node {
    pub stat: FileStat,
    /// What tells it from the next file of its number; 0 where nothing does.
    pub tag: u64,
    at: At,
}

/// How it is reached.
enum At {
    /// A descriptor that is good for everything but data (O_PATH), a symlink's too.
    Itself(OwnedFd),
    /// Its directory and a name in it: no device is opened, no link followed. A directory is open itself.
    Named {
        dir: Arc<OwnedFd>,
        name: Vec<u8>,
        fd: Option<Arc<OwnedFd>>,
    },
}

const READ_DIR: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

impl Graft {
    /// How a directory on the way to a file is opened.
    pub fn look(&self) -> OFlag {
        let path = match self.checks {
            true => OFlag::O_RDONLY | OFlag::O_NONBLOCK,
            false => OFlag::from_bits_retain(sys::O_PATH),
        };
        path | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
    }

    pub fn node_of(&self, fd: OwnedFd) -> nix::Result<Node> {
        let stat = fstat(&fd)?;
        let tag = match self.tagged() {
            true => sys::tag(fd.as_fd(), c"", &stat)?,
            false => 0,
        };
        Ok(Node {
            stat,
            tag,
            at: At::Itself(fd),
        })
    }

    /// What has that name in a directory, wherever it lies.
    pub fn reach(&self, dir: &Arc<OwnedFd>, name: &[u8]) -> nix::Result<Node> {
        if !self.checks {
            let fd = nix::fcntl::openat(dir, name, self.look(), Mode::empty())?;
            return self.node_of(fd);
        }
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let fd = match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => {
                let fd = nix::fcntl::openat(dir, name, READ_DIR, Mode::empty())?;
                same(&stat, &fstat(&fd)?)?;
                Some(Arc::new(fd))
            }
            _ => None,
        };
        let tag = match self.tagged() {
            true => {
                let name = std::ffi::CString::new(name).map_err(|_| Errno::EINVAL)?;
                sys::tag(dir.as_fd(), &name, &stat)?
            }
            false => 0,
        };
        let (dir, name) = (dir.clone(), name.to_vec());
        Ok(Node {
            stat,
            tag,
            at: At::Named { dir, name, fd },
        })
    }

    /// A name in a directory that a call has.
    pub fn reach_in(&self, dir: &Node, name: &[u8]) -> nix::Result<Node> {
        match &dir.at {
            At::Itself(fd) => {
                let fd = nix::fcntl::openat(fd, name, self.look(), Mode::empty())?;
                self.node_of(fd)
            }
            At::Named { fd: Some(fd), .. } => self.reach(fd, name),
            At::Named { fd: None, .. } => Err(Errno::ENOTDIR),
        }
    }

    /// The directory that a directory was found in, where that is how it was found.
    pub fn above(&self, dir: &Node) -> Option<nix::Result<Node>> {
        match &dir.at {
            At::Named { dir, .. } => Some(self.reach(dir, b".")),
            At::Itself(_) => None,
        }
    }
}

/// It is still the same file.
fn same(a: &FileStat, b: &FileStat) -> nix::Result<()> {
    match (a.st_ino, a.st_dev) == (b.st_ino, b.st_dev) {
        true => Ok(()),
        false => Err(Errno::ESTALE),
    }
}

impl Node {
    pub fn is(&self, kind: libc::mode_t) -> bool {
        self.stat.st_mode & libc::S_IFMT == kind
    }

    pub fn refresh(&mut self) -> Result<()> {
        let stat = match &self.at {
            At::Itself(fd) => fstat(fd),
            At::Named { fd: Some(fd), .. } => fstat(fd),
            At::Named { dir, name, .. } => {
                let stat = fstatat(dir, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW);
                stat.and_then(|stat| same(&self.stat, &stat).map(|()| stat))
            }
        };
        self.stat = stat.map_err(super::host_status)?;
        Ok(())
    }

    /// The same by a descriptor of its data, whatever became of its name.
    pub fn refresh_by(&mut self, data: &OwnedFd) -> Result<()> {
        self.stat = fstat(data).map_err(super::host_status)?;
        Ok(())
    }

    /// A descriptor to name things in it.
    pub fn dir(&self) -> Result<BorrowedFd<'_>> {
        match &self.at {
            At::Itself(fd) => Ok(fd.as_fd()),
            At::Named { fd: Some(fd), .. } => Ok(fd.as_fd()),
            At::Named { .. } => Err(nfsstat3::NFS3ERR_NOTDIR),
        }
    }

    /// A descriptor that names it wherever it is, if it is held by one.
    pub fn itself(&self) -> Option<BorrowedFd<'_>> {
        match &self.at {
            At::Itself(fd) => Some(fd.as_fd()),
            At::Named { .. } => None,
        }
    }

    /// Opens a regular file or directory for its data.
    pub fn data(&self, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC;
        match &self.at {
            At::Itself(fd) => {
                let path = sys::path_of(fd.as_fd());
                nix::fcntl::open(path.as_str(), flags, Mode::empty())
            }
            At::Named { dir, name, .. } => {
                let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
                let fd = nix::fcntl::openat(dir, name.as_slice(), flags, Mode::empty())?;
                same(&self.stat, &fstat(&fd)?)?;
                Ok(fd)
            }
        }
    }

    /// A descriptor of a file that is reached by name, where such a file can be opened.
    fn held(&self) -> nix::Result<Option<OwnedFd>> {
        match self.stat.st_mode & libc::S_IFMT {
            libc::S_IFREG | libc::S_IFDIR | libc::S_IFIFO => self.data(OFlag::O_RDONLY).map(Some),
            _ => Ok(None),
        }
    }

    pub fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> nix::Result<()> {
        match &self.at {
            At::Itself(fd) => sys::chown(fd.as_fd(), uid, gid),
            At::Named { dir, name, .. } => match self.held()? {
                Some(fd) => nix::unistd::fchown(&fd, uid, gid),
                None => {
                    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
                    nix::unistd::fchownat(dir, name.as_slice(), uid, gid, flags)
                }
            },
        }
    }

    pub fn chmod(&self, mode: Mode) -> nix::Result<()> {
        match &self.at {
            At::Itself(fd) => {
                let path = sys::path_of(fd.as_fd());
                let follow = FchmodatFlags::FollowSymlink;
                nix::sys::stat::fchmodat(AT_FDCWD, path.as_str(), mode, follow)
            }
            At::Named { dir, name, .. } => match self.held()? {
                Some(fd) => nix::sys::stat::fchmod(&fd, mode),
                None => {
                    let flags = FchmodatFlags::NoFollowSymlink;
                    nix::sys::stat::fchmodat(dir, name.as_slice(), mode, flags)
                }
            },
        }
    }

    pub fn set_times(&self, atime: &TimeSpec, mtime: &TimeSpec) -> nix::Result<()> {
        match &self.at {
            At::Itself(fd) => {
                let path = sys::path_of(fd.as_fd());
                let follow = UtimensatFlags::FollowSymlink;
                nix::sys::stat::utimensat(AT_FDCWD, path.as_str(), atime, mtime, follow)
            }
            At::Named { dir, name, .. } => match self.held()? {
                Some(fd) => nix::sys::stat::futimens(&fd, atime, mtime),
                None => {
                    let flags = UtimensatFlags::NoFollowSymlink;
                    nix::sys::stat::utimensat(dir, name.as_slice(), atime, mtime, flags)
                }
            },
        }
    }

    pub fn read_link(&self) -> nix::Result<std::ffi::OsString> {
        match &self.at {
            At::Itself(fd) => nix::fcntl::readlinkat(fd, ""),
            At::Named { dir, name, .. } => nix::fcntl::readlinkat(dir, name.as_slice()),
        }
    }

    /// Gives it one more name.
    pub fn link(&self, to: BorrowedFd<'_>, new: &[u8]) -> nix::Result<()> {
        match &self.at {
            At::Itself(fd) => {
                let path = sys::path_of(fd.as_fd());
                let follow = LinkatFlags::AT_SYMLINK_FOLLOW;
                nix::unistd::linkat(AT_FDCWD, path.as_str(), to, new, follow)
            }
            At::Named { dir, name, .. } => {
                let none = LinkatFlags::empty();
                nix::unistd::linkat(dir, name.as_slice(), to, new, none)?;
                let stat = fstatat(to, new, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                same(&self.stat, &stat).inspect_err(|_| {
                    // What took its place meanwhile is not what was asked for.
                    let _ = nix::unistd::unlinkat(to, new, UnlinkatFlags::NoRemoveDir);
                })
            }
        }
    }

    /// A path that reaches it as long as what comes with it lives.
    pub fn path(&self) -> Result<(String, Option<OwnedFd>)> {
        match &self.at {
            At::Itself(fd) => Ok((sys::path_of(fd.as_fd()), None)),
            At::Named { .. } => {
                let fd = self.held().map_err(super::host_status)?;
                let fd = fd.ok_or(nfsstat3::NFS3ERR_NOTSUPP)?;
                Ok((sys::path_of(fd.as_fd()), Some(fd)))
            }
        }
    }
}
