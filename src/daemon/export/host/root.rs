//! The directory that a graft begins at, open before anything is believed of it.

// The widths of fields of struct stat differ.
#![allow(clippy::unnecessary_cast)]

use super::super::handle::HostFile;
use super::sys;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells a directory from every other one of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    device: u64,
    ino: u64,
    /// Its birth or generation; 0 where the file system has none that lasts.
    tag: u64,
}

pub struct Root {
    pub(super) fd: OwnedFd,
    pub(super) stat: FileStat,
    /// Where the kernel gives handles and opens them again.
    pub(super) handle: Option<HostFile>,
    pub(super) tagged: bool,
    mark: Mark,
}

impl Root {
    /// Links on the way are followed: whoever asks is the host's root.
    pub fn open(dir: &Path) -> Result<Root, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(dir, flags, Mode::empty())?;
        let stat = fstat(&fd)?;
        let tagged = sys::tags_hold(fd.as_fd());
        let tag = match tagged {
            true => sys::tag(fd.as_fd(), c"", &stat)?,
            false => 0,
        };
        let mark = Mark {
            device: stat.st_dev as u64,
            ino: stat.st_ino,
            tag,
        };
        Ok(Root {
            handle: handle(&fd, &stat),
            fd,
            stat,
            tagged,
            mark,
        })
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Where it is, whatever links led to it; `asked` is the path it was opened by.
    pub fn real(&self, asked: &Path) -> io::Result<PathBuf> {
        let real = sys::real(self.fd.as_fd(), asked)?;
        let there = std::fs::symlink_metadata(&real)?;
        match (there.dev(), there.ino()) == (self.mark.device, self.mark.ino) {
            true => Ok(real),
            false => Err(io::Error::other("something else took its place meanwhile")),
        }
    }
}

fn handle(root: &OwnedFd, stat: &FileStat) -> Option<HostFile> {
    let file = sys::file_of(root.as_fd()).ok()?;
    let flags = sys::O_PATH | libc::O_NOFOLLOW;
    let opened = sys::open(root.as_fd(), &file, flags).and_then(fstat);
    let same =
        opened.is_ok_and(|opened| (stat.st_ino, stat.st_dev) == (opened.st_ino, opened.st_dev));
    same.then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_directory_that_took_anothers_place_is_told_from_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let real = dir.path().canonicalize().expect("its path");
        let at = |name: &str| real.join(name);
        fs::create_dir(at("a")).expect("made");
        symlink("a", at("link")).expect("a link");
        let root = Root::open(&at("link")).expect("opened");
        assert_eq!(root.real(&at("link")).expect("it is there"), at("a"));
        let mark = serde_json::to_string(&root.mark()).expect("text");
        let mark: Mark = serde_json::from_str(&mark).expect("the same");
        let now = |name: &str| Root::open(&at(name)).expect("opened").mark();
        assert_eq!(now("a"), mark);
        // By another name it is the same.
        fs::rename(at("a"), at("b")).expect("renamed");
        assert_eq!(now("b"), mark);
        symlink("/", at("a")).expect("a link");
        assert_ne!(now("a"), mark);
        fs::remove_dir(at("b")).expect("removed");
        assert!(root.real(&at("link")).is_err(), "it is nowhere");
        // What Linux calls it then may be there.
        fs::create_dir(at("b (deleted)")).expect("made");
        assert!(root.real(&at("link")).is_err(), "it is another");
    }
}
