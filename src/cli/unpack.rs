//! A tree as a directory of the host. Every name is made anew below a directory that nobody else
//! reaches, by descriptors and without following links, so that nothing in the tree leads out.

use super::error::CliError;
use super::export::made_dir;
use super::watched::{Watched, reason};
use crate::control::{Client, ClientError};
use crate::daemon::archive::entry::Kind;
use crate::daemon::archive::{self, ArchiveError, Sink};
use crate::sys::device;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};
use pocker_store::object::Meta;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The directory appears whole or not at all; how many bytes went into it.
pub fn to_dir(client: &Client, snapshot: &str, dir: &Path) -> Result<u64, CliError> {
    let shown = dir.display();
    match std::fs::read_dir(dir).map(|mut names| names.next().is_some()) {
        Ok(false) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(CliError::from_error(format!("cannot write {shown}"), &e)),
        Ok(true) => {
            let why = format!("cannot write {shown}: there is something in it");
            return Err(CliError::new(why).hint("name a new directory"));
        }
    }
    let fail = |e: &dyn std::error::Error| CliError::from_error(format!("cannot write {shown}"), e);
    let beside = made_dir(dir)?;
    // Before there is anything that it could leave.
    super::sys::interrupts();
    let made = tempfile::Builder::new()
        .prefix(".pocker")
        .tempdir_in(beside);
    let made = made.map_err(|e| fail(&e))?;
    let root = File::open(made.path()).map_err(|e| fail(&e))?;
    let (mut reader, mut writer) = io::pipe().map_err(|e| fail(&e))?;
    let (written, unpacked) = std::thread::scope(|scope| {
        let unpacking = scope.spawn(move || {
            let mut sink = HostSink::new(root.into());
            archive::read(&mut reader, &mut sink).and_then(|_| sink.finish())
        });
        let written = client.export_tar(snapshot, &mut Watched::new(&mut writer));
        drop(writer);
        (written, unpacking.join())
    });
    let unpacked = unpacked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let written = reason(match (written, unpacked) {
        // The reader went first, and says why.
        (Err(ClientError::Archive(_)), Err(e)) => Err(fail(&e)),
        (Err(e), _) => Err(e.into()),
        (Ok(_), Err(e)) => Err(fail(&e)),
        (Ok(written), Ok(())) => Ok(written),
    })?;
    std::fs::rename(made.path(), dir).map_err(|e| fail(&e))?;
    // It has another name now.
    let _ = made.keep();
    Ok(written)
}

struct HostSink {
    root: OwnedFd,
    /// The directory that was used last: entries of one come in a row.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Directories get what they should have when all below them is made.
    dirs: Vec<(Vec<u8>, Meta)>,
}

fn at(path: &[u8], e: impl Into<io::Error>) -> ArchiveError {
    ArchiveError::Store {
        path: path.escape_ascii().to_string(),
        source: Box::new(e.into()),
    }
}

fn split(path: &[u8]) -> (&[u8], &OsStr) {
    let at = path.iter().rposition(|b| *b == b'/');
    let (dir, name) = match at {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    (dir, OsStr::from_bytes(name))
}

fn mode(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode as nix::libc::mode_t)
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

impl HostSink {
    fn new(root: OwnedFd) -> HostSink {
        HostSink {
            root,
            last: None,
            dirs: Vec::new(),
        }
    }

    /// A directory that was made here, reached through directories alone.
    fn walk(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut fd = self.root.try_clone()?;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            fd = openat(&fd, OsStr::from_bytes(name), DIRECTORY, Mode::empty())?;
        }
        Ok(fd)
    }

    fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(OwnedFd, &'p OsStr), ArchiveError> {
        let (dir, name) = split(path);
        let cached = self.last.as_ref().filter(|(known, _)| known == dir);
        let fd = match cached {
            Some((_, fd)) => fd.try_clone().map_err(|e| at(path, e))?,
            None => {
                let fd = self.walk(dir).map_err(|e| at(path, e))?;
                let kept = fd.try_clone().map_err(|e| at(path, e))?;
                self.last = Some((dir.to_vec(), kept));
                fd
            }
        };
        Ok((fd, name))
    }

    /// Owner, then mode, which a new owner takes setuid from, then attributes, which it takes too.
    fn attributes(&self, dir: &OwnedFd, name: &OsStr, meta: &Meta, link: bool) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        fchownat(
            dir,
            name,
            Some(uid),
            Some(gid),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
        if !link {
            fchmodat(dir, name, mode(meta.mode), FchmodatFlags::FollowSymlink)?;
        }
        if !meta.xattrs.is_empty() {
            // By the descriptor's own path: there is no call that takes both.
            let base = format!("/proc/self/fd/{}/", dir.as_raw_fd());
            let path = [base.as_bytes(), name.as_bytes()].concat();
            for (key, value) in &meta.xattrs {
                xattr::set(OsStr::from_bytes(&path), OsStr::from_bytes(key), value)?;
            }
        }
        let time = TimeSpec::new(meta.mtime.secs, i64::from(meta.mtime.nanos));
        let flag = UtimensatFlags::NoFollowSymlink;
        Ok(utimensat(dir, name, &time, &time, flag)?)
    }

    fn finish(mut self) -> Result<(), ArchiveError> {
        // Those made last lie deepest.
        for (path, meta) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let done = match path.is_empty() {
                true => self.attributes(&self.root, OsStr::new("."), &meta, false),
                false => {
                    let (dir, name) = self.parent(&path)?;
                    self.attributes(&dir, name, &meta, false)
                }
            };
            done.map_err(|e| at(&path, e))?;
        }
        Ok(())
    }
}

impl Sink for HostSink {
    fn dir(&mut self, path: &[u8], meta: Meta) -> Result<(), ArchiveError> {
        if !path.is_empty() {
            let (dir, name) = self.parent(path)?;
            mkdirat(&dir, name, mode(0o700)).map_err(|e| at(path, e))?;
        }
        self.dirs.push((path.to_vec(), meta));
        Ok(())
    }

    fn file(
        &mut self,
        path: &[u8],
        meta: Meta,
        _size: u64,
        data: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let fd = openat(&dir, name, flags, mode(0o600)).map_err(|e| at(path, e))?;
        io::copy(data, &mut File::from(fd)).map_err(|e| at(path, e))?;
        self.attributes(&dir, name, &meta, false)
            .map_err(|e| at(path, e))
    }

    fn symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), ArchiveError> {
        let (dir, name) = self.parent(path)?;
        symlinkat(OsStr::from_bytes(target), &dir, name).map_err(|e| at(path, e))?;
        self.attributes(&dir, name, &meta, true)
            .map_err(|e| at(path, e))
    }

    fn special(&mut self, path: &[u8], meta: Meta, kind: Kind) -> Result<(), ArchiveError> {
        let (dir, name) = self.parent(path)?;
        let (kind, device) = match kind {
            Kind::Char(rdev) => (SFlag::S_IFCHR, device::make(rdev.major, rdev.minor)),
            Kind::Block(rdev) => (SFlag::S_IFBLK, device::make(rdev.major, rdev.minor)),
            _ => (SFlag::S_IFIFO, 0),
        };
        mknodat(&dir, name, kind, mode(0o600), device).map_err(|e| at(path, e))?;
        self.attributes(&dir, name, &meta, false)
            .map_err(|e| at(path, e))
    }

    fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        let (there, found) = split(target);
        let there = self.walk(there).map_err(|e| at(target, e))?;
        let (dir, name) = self.parent(path)?;
        linkat(&there, found, &dir, name, AtFlags::empty()).map_err(|e| at(path, e))
    }
}
