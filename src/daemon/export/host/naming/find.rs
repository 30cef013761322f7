//! From a handle to its file: down the path that is known, else a search.

use super::super::{Graft, Node, host_status, sys};
use super::table::DEPTH_MAX;
use super::{Id, Names};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstat, fstatat};
use pocker_nfs::proto::nfsstat3;
use pocker_nfs::vfs::Result;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// Places that are tried of a file and of the directories above it before it is given up: of
/// files with many links all may have gone.
const TRIES: usize = 64;
/// Names that a search looks at.
pub const SEARCH_MAX: usize = 1 << 20;
/// Directories that a search has open, one in the other.
const SEARCH_DEPTH: usize = 256;

/// The name is not there any more, or is something that has no place in a path.
fn is_gone(e: Errno) -> bool {
    matches!(
        e,
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EMLINK | Errno::ESTALE
    )
}

impl Graft {
    /// The file of a handle, wherever it is in the graft by now.
    pub(in super::super) fn find(&self, names: &Names, id: &Id) -> Result<Node> {
        for _ in 0..TRIES {
            if id.ino == self.root_ino {
                let top = self.top()?;
                return match names.names(id, &top) {
                    true => Ok(top),
                    false => Err(nfsstat3::NFS3ERR_STALE),
                };
            }
            if names.ended(id) {
                break;
            }
            let way = match names.way(self.root_ino, id.ino) {
                Ok(way) => way,
                Err(unknown) => {
                    if names.missed_lately(id) {
                        break;
                    }
                    let _one = names.searching.lock();
                    // Another's search may have met it.
                    if names.way(self.root_ino, id.ino).is_ok() {
                        continue;
                    }
                    if names.searched_lately() {
                        break;
                    }
                    if !self.search(names, unknown)? {
                        names.miss(id);
                        break;
                    }
                    continue;
                }
            };
            if let Some(node) = self.go(names, &way)? {
                if names.names(id, &node) {
                    return Ok(node);
                }
                // A number belongs to one file: that of the handle is no more.
                break;
            }
        }
        Err(nfsstat3::NFS3ERR_STALE)
    }

    /// Goes down a path. Where a step leads elsewhere by now that is noted, and there is no file.
    fn go(&self, names: &Names, way: &[(u64, Box<[u8]>)]) -> Result<Option<Node>> {
        let mut dir = self.root.clone();
        let mut parent = self.root_ino;
        let Some(((last, name), above)) = way.split_last() else {
            return Ok(None);
        };
        for (ino, name) in above {
            match self.step(&dir, name, *ino) {
                Ok(Some(fd)) => dir = Arc::new(fd),
                Ok(None) => return self.elsewhere(names, &dir, parent, *ino, name),
                Err(e) => return Err(host_status(e)),
            }
            parent = *ino;
        }
        match self.reach(&dir, name) {
            Ok(node) if node.stat.st_ino == *last && node.stat.st_dev == self.device => {
                Ok(Some(node))
            }
            Ok(_) => self.elsewhere(names, &dir, parent, *last, name),
            Err(e) if is_gone(e) => self.elsewhere(names, &dir, parent, *last, name),
            Err(e) => Err(host_status(e)),
        }
    }

    /// A directory in another, if it is the one of that number.
    fn step(&self, dir: &OwnedFd, name: &[u8], ino: u64) -> nix::Result<Option<OwnedFd>> {
        let flags = self.look() | OFlag::O_DIRECTORY;
        match nix::fcntl::openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => {
                let stat = fstat(&fd)?;
                Ok((stat.st_ino == ino && stat.st_dev == self.device).then_some(fd))
            }
            Err(e) if is_gone(e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// `file` is not under that name; perhaps it is in the same directory under another.
    fn elsewhere(
        &self,
        names: &Names,
        dir: &Arc<OwnedFd>,
        parent: u64,
        file: u64,
        name: &[u8],
    ) -> Result<Option<Node>> {
        names.forget(file, parent, name);
        let mut found = Vec::new();
        let listed = nix::fcntl::openat(dir, ".", READ, Mode::empty()).and_then(|open| {
            sys::names(open.as_fd(), 0, &mut |ino, _, _, name| {
                if ino == file && name != b"." && name != b".." {
                    found.push(name.to_vec());
                }
                Ok(found.len() < 4)
            })
        });
        match listed {
            Ok(_) => {
                for name in found.iter().filter(|name| self.is_at(dir, name, file)) {
                    names.learn(file, parent, name);
                }
            }
            // The directory itself went.
            Err(e) if is_gone(e) => {}
            Err(e) => return Err(host_status(e)),
        }
        Ok(None)
    }

    /// Whether a listing's number is that of the file itself: above a mount it is not.
    fn is_at(&self, dir: &OwnedFd, name: &[u8], file: u64) -> bool {
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| stat.st_ino == file && stat.st_dev == self.device)
    }

    /// Goes through the graft for the file of a number, and learns on the way as much as there
    /// is room for. Within bounds: what is not found is not in the first million names.
    fn search(&self, names: &Names, file: u64) -> Result<bool> {
        let began = Instant::now();
        let mut left = SEARCH_MAX;
        let mut found = false;
        let mut open: Vec<Level> = Vec::new();
        let top = nix::fcntl::openat(&self.root, ".", READ, Mode::empty()).map_err(host_status)?;
        open.push(self.level(names, top, self.root_ino, file, &mut left, &mut found)?);
        while !found && left > 0 {
            let Some(level) = open.last_mut() else { break };
            let Some((ino, name)) = level.dirs.pop() else {
                open.pop();
                continue;
            };
            if open.len() >= SEARCH_DEPTH.min(DEPTH_MAX) {
                continue;
            }
            let flags = READ | OFlag::O_NOFOLLOW;
            let Some(level) = open.last() else { break };
            let fd = match nix::fcntl::openat(&level.fd, name.as_slice(), flags, Mode::empty()) {
                Ok(fd) => fd,
                // It went, or is none.
                Err(_) => continue,
            };
            let stat = fstat(&fd).map_err(host_status)?;
            if stat.st_dev != self.device || stat.st_ino != ino {
                continue;
            }
            open.push(self.level(names, fd, ino, file, &mut left, &mut found)?);
        }
        if !found && left > 0 {
            names.searched(began.elapsed());
        }
        Ok(found)
    }

    /// Lists one directory of a search.
    fn level(
        &self,
        names: &Names,
        fd: OwnedFd,
        dir: u64,
        file: u64,
        left: &mut usize,
        found: &mut bool,
    ) -> Result<Level> {
        let mut dirs = Vec::new();
        let listed = sys::names(fd.as_fd(), 0, &mut |ino, _, may_be_dir, name| {
            if name == b"." || name == b".." {
                return Ok(true);
            }
            *left = left.saturating_sub(1);
            if ino == file && self.is_at(&fd, name, file) {
                *found = true;
                names.learn(ino, dir, name);
            } else {
                names.learn_if_room(ino, dir, name);
            }
            if may_be_dir {
                dirs.push((ino, name.to_vec()));
            }
            Ok(*left > 0)
        });
        match listed {
            Ok(_) => {}
            Err(e) if is_gone(e) => {}
            Err(e) => return Err(host_status(e)),
        }
        Ok(Level { fd, dirs })
    }
}

const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// A directory that a search is in.
struct Level {
    fd: OwnedFd,
    /// Directories in it that were not looked at yet.
    dirs: Vec<(u64, Vec<u8>)>,
}
