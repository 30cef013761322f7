//! An archive's entries, made below a directory of a host's file system. No link is ever followed
//! there. Among what is there already a file is under its name when it is whole.

use super::body::Body;
use crate::daemon::archive::entry::Kind;
use crate::daemon::archive::{ArchiveError, Sink};
use crate::sys::device;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{
    Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat,
};
use pocker_store::object::Meta;
use pocker_store::types::{Rdev, Time};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use xattr::FileExt as _;

/// Bits that give whoever runs a file its owner's rights.
const SET_ID: u32 = 0o6000;

/// Who owns what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Owner {
    /// As the archive says.
    Kept,
    /// This one, and what is made gives nobody that one's rights.
    Is(u32, u32),
    /// This one, in a tree: its modes are its own.
    InTree(u32, u32),
}

pub struct Below {
    root: OwnedFd,
    owner: Owner,
    /// Nobody else has anything there: a whole tree is made as it is, with its root and its devices.
    fresh: bool,
    /// The directory that was used last: entries of one come in a row.
    last: Option<(Vec<u8>, OwnedFd)>,
    body: Body,
    /// Directories that were made, to get their attributes when nothing is made in them any more.
    made: Vec<(Vec<u8>, Meta)>,
    /// Devices are not made: they are ways to the host's.
    pub devices: u64,
    temporary: u64,
}

impl Below {
    pub fn new(root: OwnedFd, owner: Owner) -> Below {
        Below {
            root,
            owner,
            fresh: false,
            last: None,
            body: Body::default(),
            made: Vec::new(),
            devices: 0,
            temporary: 0,
        }
    }

    /// In an empty directory that nobody else reaches.
    pub fn fresh(root: OwnedFd) -> Below {
        Below {
            fresh: true,
            ..Below::new(root, Owner::Kept)
        }
    }

    /// Once all entries are there.
    pub fn finish(mut self) -> Result<u64, ArchiveError> {
        for (path, meta) in std::mem::take(&mut self.made).into_iter().rev() {
            let done = self
                .dir_at(&path)
                .and_then(|dir| self.finish_open(&File::from(dir), &meta));
            done.map_err(failed(&path))?;
        }
        Ok(self.devices)
    }

    /// The directory at `path`; one that is missing is made, a link is not followed.
    fn dir_at(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            at = match open_dir(&at, name) {
                Err(Errno::ENOENT) => {
                    mkdirat(&at, name, Mode::from_bits_truncate(0o755))?;
                    open_dir(&at, name)?
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(in_the_way(path, name)),
                other => other?,
            };
        }
        Ok(at)
    }

    fn parent<'p>(&mut self, path: &'p [u8]) -> io::Result<(OwnedFd, &'p [u8])> {
        let (dir, name) = split(path);
        let known = self.last.as_ref().filter(|(known, _)| known == dir);
        let fd = match known {
            Some((_, fd)) => fd.try_clone()?,
            None => {
                let fd = self.dir_at(dir)?;
                self.last = Some((dir.to_vec(), fd.try_clone()?));
                fd
            }
        };
        Ok((fd, name))
    }

    fn ids(&self, meta: &Meta) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = match self.owner {
            Owner::Kept => (meta.uid, meta.gid),
            Owner::Is(uid, gid) | Owner::InTree(uid, gid) => (uid, gid),
        };
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    fn mode(&self, meta: &Meta) -> Mode {
        let lost = match self.owner {
            Owner::Is(..) => SET_ID,
            Owner::Kept | Owner::InTree(..) => 0,
        };
        Mode::from_bits_truncate((meta.mode & !lost) as _)
    }

    fn finish_open(&self, file: &File, meta: &Meta) -> io::Result<()> {
        let (uid, gid) = self.ids(meta);
        fchown(file, uid, gid)?;
        fchmod(file, self.mode(meta))?;
        for (name, value) in &meta.xattrs {
            let users = name.starts_with(b"user.");
            if !users && self.owner != Owner::Kept {
                continue;
            }
            match file.set_xattr(OsStr::from_bytes(name), value) {
                // Not every file system has them.
                Err(e) if !self.fresh && e.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
                other => other?,
            }
        }
        let [atime, mtime] = self.times(meta);
        Ok(futimens(file, &atime, &mtime)?)
    }

    /// When it was read is a tree's to say only where all of it is the tree's.
    fn times(&self, meta: &Meta) -> [TimeSpec; 2] {
        let mtime = time(meta.mtime);
        match self.fresh {
            true => [mtime, mtime],
            false => [TimeSpec::UTIME_OMIT, mtime],
        }
    }

    /// Makes something under a name of its own, and then gives it its place.
    fn put(
        &mut self,
        path: &[u8],
        make: impl FnOnce(&mut Below, &OwnedFd, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        if self.fresh {
            return make(self, &dir, name);
        }
        self.temporary += 1;
        let new = format!(".pocker-cp-{}-{}", std::process::id(), self.temporary);
        let new = new.as_bytes();
        let made = make(self, &dir, new).and_then(|()| Ok(renameat(&dir, new, &dir, name)?));
        // Two names of one file are both left by a rename, as rename(2) has it.
        let _ = unlinkat(&dir, new, UnlinkatFlags::NoRemoveDir);
        made
    }

    /// Attributes of what cannot be opened.
    fn finish_at(&self, dir: &OwnedFd, name: &[u8], meta: &Meta, mode: bool) -> io::Result<()> {
        let (uid, gid) = self.ids(meta);
        fchownat(dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if mode {
            // Of a node that this process has just made under a name that nobody knows.
            fchmodat(dir, name, self.mode(meta), FchmodatFlags::FollowSymlink)?;
        }
        if self.fresh && !meta.xattrs.is_empty() {
            // By the descriptor's own path: there is no call that takes both.
            let base = format!("/proc/self/fd/{}/", dir.as_raw_fd());
            let path = [base.as_bytes(), name].concat();
            for (key, value) in &meta.xattrs {
                xattr::set(OsStr::from_bytes(&path), OsStr::from_bytes(key), value)?;
            }
        }
        let [atime, mtime] = self.times(meta);
        let flag = UtimensatFlags::NoFollowSymlink;
        Ok(utimensat(dir, name, &atime, &mtime, flag)?)
    }

    fn make_dir(&mut self, path: &[u8], meta: Meta) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        match mkdirat(&dir, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) => self.made.push((path.to_vec(), meta)),
            Err(Errno::EEXIST) => match open_dir(&dir, name) {
                // It keeps what it has.
                Ok(_) => {}
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(in_the_way(path, name)),
                Err(e) => return Err(e.into()),
            },
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }
}

/// Its directory, and its name there.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn open_dir(at: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    openat(at, name, flags, Mode::empty())
}

fn time(t: Time) -> TimeSpec {
    TimeSpec::new(t.secs as _, t.nanos as _)
}

fn in_the_way(path: &[u8], name: &[u8]) -> io::Error {
    let (path, name) = (path.escape_ascii(), name.escape_ascii());
    io::Error::other(format!(
        "{name} (of {path}) is there and no directory; a link is not followed"
    ))
}

fn failed(path: &[u8]) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.escape_ascii().to_string();
    move |e| ArchiveError::Store {
        path,
        source: Box::new(e),
    }
}

/// What could not be made, in the words of a copy.
#[derive(Debug, thiserror::Error)]
#[error("{path}")]
struct At {
    path: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// A copy's failure, without a word of archives.
pub fn plain(e: ArchiveError) -> Box<dyn std::error::Error + Send + Sync> {
    match e {
        ArchiveError::Store { path, source } => Box::new(At { path, source }),
        e => Box::new(e),
    }
}

impl Sink for Below {
    fn dir(&mut self, path: &[u8], meta: Meta) -> Result<(), ArchiveError> {
        match path.is_empty() {
            true if self.fresh => {
                self.made.push((Vec::new(), meta));
                Ok(())
            }
            // Where everything goes stays as it is.
            true => Ok(()),
            false => self.make_dir(path, meta).map_err(failed(path)),
        }
    }

    fn file(
        &mut self,
        path: &[u8],
        meta: Meta,
        _size: u64,
        data: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let made = self.put(path, |below, dir, name| {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let file = File::from(openat(dir, name, flags, Mode::from_bits_truncate(0o600))?);
            below.body.write(data, &file)?;
            below.finish_open(&file, &meta)
        });
        made.map_err(failed(path))
    }

    fn symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), ArchiveError> {
        let made = self.put(path, |below, dir, name| {
            symlinkat(target, dir, name)?;
            below.finish_at(dir, name, &meta, false)
        });
        made.map_err(failed(path))
    }

    fn special(&mut self, path: &[u8], meta: Meta, kind: Kind) -> Result<(), ArchiveError> {
        if kind != Kind::Fifo && !self.fresh {
            self.devices += 1;
            return Ok(());
        }
        let device = |rdev: Rdev| device::make(rdev.major, rdev.minor);
        let (kind, device) = match kind {
            Kind::Char(rdev) => (SFlag::S_IFCHR, device(rdev)),
            Kind::Block(rdev) => (SFlag::S_IFBLK, device(rdev)),
            _ => (SFlag::S_IFIFO, 0),
        };
        let made = self.put(path, |below, dir, name| {
            mknodat(dir, name, kind, Mode::from_bits_truncate(0o600), device)?;
            below.finish_at(dir, name, &meta, true)
        });
        made.map_err(failed(path))
    }

    fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        let made = self.put(path, |below, dir, name| {
            let (from, old) = split(target);
            let from = below.dir_at(from)?;
            Ok(linkat(&from, old, dir, name, LinkatFlags::empty())?)
        });
        made.map_err(failed(path))
    }
}
