//! From a handle to its file: down the path that is known, else a search.

use super::super::{Graft, Node, host_status, sys};
use super::table::{DEPTH_MAX, NoWay};
use super::{Found, Id, Names, Search};
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
/// Memory of the names of directories that a search has still to look at.
pub const SEARCH_BYTES: usize = 16 << 20;
/// What one of them takes beside the name.
const DIR_COST: usize = 64;

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
        let mut searched = false;
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
                Err(NoWay::TooDeep) => break,
                Err(NoWay::Unknown(_)) if names.missed_lately(id) => break,
                // One search a call: it is somewhere else again.
                Err(NoWay::Unknown(_)) if searched => return Err(nfsstat3::NFS3ERR_JUKEBOX),
                Err(NoWay::Unknown(_)) => {
                    // Who waits here would keep others waiting.
                    let Some(_one) = names.searching.try_lock() else {
                        return Err(nfsstat3::NFS3ERR_JUKEBOX);
                    };
                    // Another's search may have met it.
                    let unknown = match names.way(self.root_ino, id.ino) {
                        Err(NoWay::Unknown(unknown)) => unknown,
                        _ => continue,
                    };
                    match names.may_search() {
                        Search::Now => {}
                        Search::Later => return Err(nfsstat3::NFS3ERR_JUKEBOX),
                        Search::InVain => break,
                    }
                    searched = true;
                    if !self.search(names, unknown, SEARCH_BYTES)? {
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
    fn search(&self, names: &Names, file: u64, bytes: usize) -> Result<bool> {
        let began = Instant::now();
        let mut going = Going {
            names,
            file,
            left: SEARCH_MAX,
            bytes,
            found: false,
        };
        let done = self.search_all(&mut going);
        let how = match (&done, going.found) {
            (Err(_), _) => Found::Unknown,
            (_, true) => Found::It,
            (_, false) => Found::Nothing,
        };
        names.searched(began.elapsed(), &how);
        done.map(|()| going.found)
    }

    fn search_all(&self, going: &mut Going<'_>) -> Result<()> {
        let top = nix::fcntl::openat(&self.root, ".", READ, Mode::empty()).map_err(host_status)?;
        let mut open = vec![self.level(going, top, (self.root_ino, Vec::new()))?];
        while !going.found && going.left > 0 {
            let Some(level) = open.last_mut() else { break };
            let Some((ino, name)) = level.dirs.pop() else {
                open.pop();
                continue;
            };
            going.bytes += DIR_COST + name.len();
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
            open.push(self.level(going, fd, (ino, name))?);
        }
        if going.found {
            // The way to it, for which there may have been no room.
            for above in open.windows(2) {
                let (ino, name) = &above[1].is;
                going.names.learn(*ino, above[0].is.0, name);
            }
        }
        Ok(())
    }

    /// Lists one directory of a search.
    fn level(&self, going: &mut Going<'_>, fd: OwnedFd, is: (u64, Vec<u8>)) -> Result<Level> {
        let dir = is.0;
        let mut dirs = Vec::new();
        let listed = sys::names(fd.as_fd(), 0, &mut |ino, _, may_be_dir, name| {
            if name == b"." || name == b".." {
                return Ok(true);
            }
            going.left = going.left.saturating_sub(1);
            if ino == going.file && self.is_at(&fd, name, ino) {
                going.found = true;
                going.names.learn(ino, dir, name);
            } else {
                going.names.learn_if_room(ino, dir, name);
            }
            if may_be_dir {
                match going.bytes.checked_sub(DIR_COST + name.len()) {
                    Some(bytes) => going.bytes = bytes,
                    // No further.
                    None => going.left = 0,
                }
                dirs.push((ino, name.to_vec()));
            }
            Ok(going.left > 0)
        });
        match listed {
            Ok(_) => {}
            Err(e) if is_gone(e) => {}
            Err(e) => return Err(host_status(e)),
        }
        Ok(Level { fd, is, dirs })
    }
}

/// A search under way.
struct Going<'a> {
    names: &'a Names,
    file: u64,
    /// Names that it may still look at.
    left: usize,
    /// Memory that it may still take for the directories it has yet to look at.
    bytes: usize,
    found: bool,
}

const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// A directory that a search is in.
struct Level {
    fd: OwnedFd,
    /// Its number, and its name where it is not the root.
    is: (u64, Vec<u8>),
    /// Directories in it that were not looked at yet.
    dirs: Vec<(u64, Vec<u8>)>,
}

#[cfg(test)]
mod tests {
    use super::super::super::super::handle::Codec;
    use super::super::super::Grafts;
    use super::super::table::ALL_MAX;
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    struct World {
        host: tempfile::TempDir,
        kept: tempfile::TempDir,
        grafts: Grafts,
    }

    /// Nothing is known of what is in it.
    fn world() -> World {
        let kept = tempfile::tempdir().expect("a directory");
        let grafts = Grafts::new(Codec::new(&[7; 32]), kept.path().join("grafts"));
        let host = tempfile::tempdir().expect("a directory");
        grafts.be_portable();
        grafts.add(1, host.path(), false).expect("served");
        World { host, kept, grafts }
    }

    impl World {
        fn at(&self, path: &str) -> PathBuf {
            self.host.path().join(path)
        }

        fn file(&self, path: &str) -> u64 {
            fs::write(self.at(path), "").expect("written");
            fs::metadata(self.at(path)).expect("it is there").ino()
        }
    }

    const LATER: u32 = nfsstat3::NFS3ERR_JUKEBOX as u32;
    const STALE: u32 = nfsstat3::NFS3ERR_STALE as u32;

    #[test]
    fn a_search_takes_no_more_memory_than_it_may() {
        let w = world();
        for n in 0..50 {
            fs::create_dir_all(w.at(&format!("d{n:02}/x"))).expect("mkdir");
        }
        let file = w.file("d00/x/f");
        let graft = w.grafts.get(1).expect("it is served");
        let names = graft.names().expect("by path");
        let enough = 50 * (DIR_COST + 3);
        let search = |bytes| graft.search(names, file, bytes).expect("searched");
        assert!(!search(enough - 1));
        assert!(search(enough));
        drop(w.kept);
    }

    #[test]
    fn who_asks_while_a_search_goes_on_or_soon_after_comes_again() {
        let w = world();
        let graft = w.grafts.get(1).expect("it is served");
        let names = graft.names().expect("by path");
        w.file("f");
        let id = names.id(&graft.reach(&graft.root, b"f").expect("f"));
        let find = || {
            graft
                .find(names, &id)
                .map(|node| node.stat.st_ino)
                .map_err(|e| e as u32)
        };
        let other = names.searching.lock();
        assert_eq!(find(), Err(LATER));
        drop(other);
        let long = Duration::from_secs(60);
        names.searched(long, &Found::It);
        assert_eq!(find(), Err(LATER), "one that found another");
        names.searched(long, &Found::Unknown);
        assert_eq!(find(), Err(LATER), "one that failed");
        names.searched(long, &Found::Nothing);
        assert_eq!(find(), Err(STALE), "one that met all there is");
        *names.searched.lock() = None;
        assert_eq!(find(), Ok(id.ino));
    }

    #[test]
    fn what_a_search_found_is_reached_though_the_table_is_full() {
        let w = world();
        w.grafts.tables.fetch_add(2 * ALL_MAX, Ordering::Relaxed);
        fs::create_dir_all(w.at("d/e")).expect("mkdir");
        let file = w.file("d/e/f");
        let graft = w.grafts.get(1).expect("it is served");
        let names = graft.names().expect("by path");
        assert!(graft.search(names, file, SEARCH_BYTES).expect("searched"));
        assert!(names.knows(graft.root_ino, file));
    }
}
