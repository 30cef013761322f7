//! The context: the only directory of the host that COPY reads. Every path is walked from its
//! descriptor, name by name; links are followed by hand, so none leads out.

use super::ignore::{self, Ignore};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// As the kernel's own limit on Linux: a chain longer than this is a loop.
const MAX_LINKS: u32 = 40;
/// Each level holds a descriptor while it is walked.
pub const MAX_DEPTH: usize = 128;
const IGNORE_FILE: &str = ".pockerignore";

pub struct Context {
    root: OwnedFd,
    pub ignore: Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Dir,
    Symlink,
    /// A fifo, socket or device.
    Other,
}

pub struct Stat {
    pub kind: NodeKind,
    pub mode: u32,
    pub mtime: i64,
}

/// Why a path of the context can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("no such file in the context")]
    Missing,
    #[error("a link in it leads out of the context")]
    Outside,
    #[error("it goes through something that is not a directory")]
    NotDir,
    #[error("it goes through more than {MAX_LINKS} links")]
    Loop,
    #[error("it is deeper than {MAX_DEPTH} directories")]
    TooDeep,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl std::convert::From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        match errno {
            Errno::ENOENT => Refused::Missing,
            Errno::ENOTDIR => Refused::NotDir,
            Errno::ELOOP => Refused::Loop,
            other => Refused::Io(other.into()),
        }
    }
}

/// Names from the context to a node, without links.
pub type Names = Vec<Vec<u8>>;

pub fn show(names: &[Vec<u8>]) -> String {
    match names.is_empty() {
        true => ".".to_owned(),
        false => String::from_utf8_lossy(&names.join(&b'/')).into_owned(),
    }
}

impl Context {
    pub fn open(path: &Path) -> std::io::Result<Context> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty())?;
        let mut context = Context {
            root,
            ignore: Ignore::default(),
        };
        let name = [IGNORE_FILE.as_bytes().to_vec()];
        match context.open_file(&name) {
            Ok(file) => {
                let mut bytes = Vec::new();
                let read = file.take(ignore::MAX_FILE + 1).read_to_end(&mut bytes)?;
                if read as u64 > ignore::MAX_FILE {
                    return Err(std::io::Error::other(format!(
                        "{IGNORE_FILE} is longer than 1 MiB"
                    )));
                }
                context.ignore = Ignore::parse(&bytes);
            }
            Err(Refused::Missing) => {}
            Err(other) => return Err(std::io::Error::other(format!("{IGNORE_FILE}: {other}"))),
        }
        Ok(context)
    }

    /// Where a path leads when its links are followed, the last one too.
    pub fn resolve(&self, path: &[u8]) -> Result<Names, Refused> {
        let mut pending: VecDeque<Vec<u8>> = components(path);
        let mut open: Vec<(Vec<u8>, OwnedFd)> = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                open.pop().ok_or(Refused::Outside)?;
                continue;
            }
            let here = open.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
            let os = OsStr::from_bytes(&name);
            let stat = fstatat(here, os, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            match kind_of(&stat) {
                NodeKind::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Refused::Loop);
                    }
                    let target = readlinkat(here, os)?.into_vec();
                    if target.starts_with(b"/") {
                        return Err(Refused::Outside);
                    }
                    for part in components(&target).into_iter().rev() {
                        pending.push_front(part);
                    }
                }
                NodeKind::Dir => {
                    if open.len() == MAX_DEPTH {
                        return Err(Refused::TooDeep);
                    }
                    let fd = open_dir(here, os)?;
                    open.push((name, fd));
                }
                _ if pending.is_empty() => {
                    let mut names: Names = open.into_iter().map(|(name, _)| name).collect();
                    names.push(name);
                    return Ok(names);
                }
                _ => return Err(Refused::NotDir),
            }
        }
        Ok(open.into_iter().map(|(name, _)| name).collect())
    }

    /// The directory at `names`, no link followed.
    fn dir(&self, names: &[Vec<u8>]) -> Result<OwnedFd, Refused> {
        let mut here = self.root.try_clone()?;
        for name in names {
            here = open_dir(here.as_fd(), OsStr::from_bytes(name))?;
        }
        Ok(here)
    }

    // The width of these fields differs between systems.
    #[allow(clippy::useless_conversion)]
    pub fn stat(&self, names: &[Vec<u8>]) -> Result<Stat, Refused> {
        let stat = match names.split_last() {
            None => fstat(&self.root)?,
            Some((name, above)) => {
                let dir = self.dir(above)?;
                fstatat(&dir, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW)?
            }
        };
        Ok(Stat {
            kind: kind_of(&stat),
            mode: u32::from(stat.st_mode) & 0o7777,
            mtime: i64::from(stat.st_mtime),
        })
    }

    pub fn link(&self, names: &[Vec<u8>]) -> Result<Vec<u8>, Refused> {
        let (name, above) = names.split_last().ok_or(Refused::Missing)?;
        let dir = self.dir(above)?;
        Ok(readlinkat(&dir, OsStr::from_bytes(name))?.into_vec())
    }

    /// A regular file for reading; a fifo that took its place meanwhile does not block.
    pub fn open_file(&self, names: &[Vec<u8>]) -> Result<File, Refused> {
        let (name, above) = names.split_last().ok_or(Refused::NotDir)?;
        let dir = self.dir(above)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = openat(&dir, OsStr::from_bytes(name), flags, Mode::empty())?;
        if kind_of(&fstat(&fd)?) != NodeKind::File {
            return Err(Refused::Io(std::io::Error::other(
                "it is not a regular file",
            )));
        }
        Ok(File::from(fd))
    }

    /// The names in a directory, sorted, so that one context has one order.
    pub fn list(&self, names: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Refused> {
        let mut dir = Dir::from_fd(self.dir(names)?)?;
        let mut out = Vec::new();
        for entry in dir.iter() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                out.push(name);
            }
        }
        out.sort();
        Ok(out)
    }

    pub fn ignored(&self, names: &[Vec<u8>]) -> bool {
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        self.ignore.ignored(&names)
    }
}

fn open_dir(here: impl AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(here, name, flags, Mode::empty())
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|b| *b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

fn kind_of(stat: &FileStat) -> NodeKind {
    let format = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    match format {
        SFlag::S_IFREG => NodeKind::File,
        SFlag::S_IFDIR => NodeKind::Dir,
        SFlag::S_IFLNK => NodeKind::Symlink,
        _ => NodeKind::Other,
    }
}
