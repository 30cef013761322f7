//! Where a graft's files lie, for a kernel that asks.
//!
//! Landlock looks at the directories above a file that is opened. One that is opened by its handle may have none: the
//! kernel knows a directory's place always, another file's only as long as it remembers a name of it. So names are kept
//! here as they are given out, and what has none is looked for in the graft; once it was opened by its name the
//! kernel knows it again.

use super::super::handle::HostFile;
use super::{Graft, sys};
use lru::LruCache;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Files whose names are kept, of all grafts together.
const NAMES_MAX: usize = 131_072;
/// Names that are looked at for one file whose own is not known.
const LOOKED_AT_MAX: usize = 262_144;

/// A file's directory, and its name there when that was last seen.
type Place = (HostFile, Box<[u8]>);

pub struct Places {
    names: Mutex<LruCache<(u64, HostFile), Place>>,
    /// One at a time: others may find what they want learnt by then.
    looking: Mutex<()>,
}

impl Places {
    pub fn new() -> Places {
        Places {
            names: Mutex::new(LruCache::unbounded()),
            looking: Mutex::new(()),
        }
    }

    fn learn(&self, graft: u64, file: HostFile, place: Place) {
        let mut names = self.names.lock();
        names.put((graft, file), place);
        if names.len() > NAMES_MAX {
            names.pop_lru();
        }
    }
}

impl Graft {
    /// `file` was just found, or put, there.
    pub fn seen(&self, file: &HostFile, stat: &FileStat, dir: BorrowedFd, name: &[u8]) {
        let Some(places) = &self.places else { return };
        if is_dir(stat) {
            return;
        }
        if let Ok(dir) = sys::file_of(dir) {
            places.learn(self.id, *file, (dir, name.into()));
        }
    }

    /// The same where only the name is known.
    pub fn moved(&self, dir: BorrowedFd, name: &[u8]) {
        if self.places.is_none() {
            return;
        }
        let Ok(found) = step(dir, name) else { return };
        if let (Ok(file), Ok(stat)) = (sys::file_of(found.as_fd()), fstat(&found)) {
            self.seen(&file, &stat, dir, name);
        }
    }

    /// A file's data. It was seen to be a regular file.
    pub fn data(&self, file: &HostFile, flags: libc::c_int) -> Result<OwnedFd, Errno> {
        let open = |flags| sys::open(self.root.as_fd(), file, flags);
        match (open(flags), &self.places) {
            (Err(Errno::EACCES), Some(places)) => {
                let stat = fstat(&open(sys::O_PATH)?)?;
                let found = self.find(places, file, &stat)?;
                let flags = OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC;
                // Exactly this file, and by a way that the kernel can follow upwards.
                let path = sys::path_of(found.as_fd());
                nix::fcntl::open(path.as_str(), flags, Mode::empty())
            }
            (opened, _) => opened,
        }
    }

    fn find(&self, places: &Places, file: &HostFile, stat: &FileStat) -> Result<OwnedFd, Errno> {
        if let Some(found) = self.known(places, file) {
            return Ok(found);
        }
        let _one = places.looking.lock();
        if let Some(found) = self.known(places, file) {
            return Ok(found);
        }
        if stat.st_nlink == 0 {
            return Err(Errno::ESTALE);
        }
        let (found, place) = self.look_for(file, stat)?;
        places.learn(self.id, *file, place);
        Ok(found)
    }

    /// By the name that is kept, where it is still that file's.
    fn known(&self, places: &Places, file: &HostFile) -> Option<OwnedFd> {
        let (dir, name) = places.names.lock().get(&(self.id, *file))?.clone();
        let dir = sys::open(self.root.as_fd(), &dir, sys::O_PATH).ok()?;
        let found = step(dir.as_fd(), &name).ok()?;
        (sys::file_of(found.as_fd()).ok()? == *file).then_some(found)
    }

    /// In all of the graft, nearest first.
    fn look_for(&self, file: &HostFile, stat: &FileStat) -> Result<(OwnedFd, Place), Errno> {
        let mut left = VecDeque::from([self.root_file]);
        let mut names = 0;
        while let Some(at) = left.pop_front() {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            // One that was removed meanwhile, or leads out.
            let Ok(open) = sys::open(self.root.as_fd(), &at, flags) else {
                continue;
            };
            let dir = open.try_clone().map_err(|_| Errno::EMFILE)?;
            for entry in Dir::from_fd(open)?.iter() {
                let entry = entry?;
                names += 1;
                if names > LOOKED_AT_MAX {
                    tracing::warn!(
                        graft = self.id,
                        "a file's name was forgotten, and is not among {LOOKED_AT_MAX} of its graft"
                    );
                    return Err(Errno::EACCES);
                }
                let name = entry.file_name();
                if entry.ino() == stat.st_ino {
                    let Ok(found) = step(dir.as_fd(), name.to_bytes()) else {
                        continue;
                    };
                    if sys::file_of(found.as_fd()) == Ok(*file) {
                        return Ok((found, (at, name.to_bytes().into())));
                    }
                }
                if self.is_below(dir.as_fd(), name, entry.file_type())
                    && let Ok(below) = step(dir.as_fd(), name.to_bytes())
                    && let Ok(below) = sys::file_of(below.as_fd())
                {
                    left.push_back(below);
                }
            }
        }
        Err(Errno::ESTALE)
    }

    /// Whether a name is that of a directory to look into, of the same file system.
    fn is_below(&self, dir: BorrowedFd, name: &CStr, kind: Option<Type>) -> bool {
        if [c".", c".."].contains(&name) || kind.is_some_and(|kind| kind != Type::Directory) {
            return false;
        }
        let found = step(dir, name.to_bytes()).and_then(fstat);
        found.is_ok_and(|stat| is_dir(&stat) && stat.st_dev == self.device)
    }
}

/// A name's file, whatever it is.
fn step(dir: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlag::from_bits_retain(sys::O_PATH) | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

fn is_dir(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
