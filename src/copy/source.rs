//! Files of the host as an archive. Every path is walked from a descriptor, name by name, so that
//! no link leads elsewhere while somebody changes the directory.

use super::Source;
use crate::daemon::archive::entry::{XATTR_KEY, pax_time_text};
use crate::daemon::archive::{ArchiveError, out};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use pocker_store::types::Time;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use xattr::FileExt as _;

/// Each level holds a descriptor while it is walked.
const DEPTH_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct SourceError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// A file or directory of the host, found.
pub struct Host {
    path: PathBuf,
    /// The directory that has it, and its name there.
    dir: OwnedFd,
    name: Vec<u8>,
    stat: FileStat,
    contents: bool,
}

impl Host {
    /// `follow`: where it is a link itself, what that leads to.
    pub fn open(path: &Path, follow: bool) -> Result<Host, SourceError> {
        let fail = |source: io::Error| SourceError {
            path: path.to_path_buf(),
            source,
        };
        let bytes = path.as_os_str().as_bytes();
        let contents = bytes == b"." || bytes.ends_with(b"/.");
        let slash = contents || bytes.ends_with(b"/");
        let at = match path.file_name() {
            Some(name) if !(follow || slash) => {
                let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
                let parent = std::fs::canonicalize(parent.unwrap_or(Path::new(".")));
                parent.map_err(fail)?.join(name)
            }
            _ => std::fs::canonicalize(path).map_err(fail)?,
        };
        let parent = at.parent().unwrap_or(Path::new("/"));
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(parent, flags, Mode::empty()).map_err(|e| fail(e.into()))?;
        let name = at.file_name().unwrap_or(OsStr::new("."));
        let stat = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| fail(e.into()))?;
        if slash && kind(&stat) != SFlag::S_IFDIR {
            return Err(fail(nix::errno::Errno::ENOTDIR.into()));
        }
        Ok(Host {
            path: path.to_path_buf(),
            contents: contents || at.parent().is_none(),
            name: name.as_bytes().to_vec(),
            dir,
            stat,
        })
    }

    pub fn source(&self) -> Source {
        // What it is called is what was said, where that is a name.
        let said = self.path.file_name().map(OsStrExt::as_bytes);
        Source {
            is_dir: kind(&self.stat) == SFlag::S_IFDIR,
            name: match self.contents {
                true => Vec::new(),
                false => said.unwrap_or(&self.name).to_vec(),
            },
        }
    }

    /// As tar, its entries' paths beginning with `name`; owned by `owner`, or as they are.
    pub fn write(
        &self,
        name: &[u8],
        owner: Option<(u32, u32)>,
        to: &mut dyn Write,
    ) -> Result<(), SourceError> {
        let mut writer = Writer {
            out: tar::Builder::new(to),
            owner,
            linked: HashMap::new(),
            path: self.path.clone(),
        };
        let done = writer
            .node(&self.dir, &self.name, name, &self.stat, 0)
            .and_then(|()| writer.out.finish());
        done.map_err(|source| SourceError {
            path: writer.path,
            source,
        })
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

struct Writer<'a> {
    out: tar::Builder<&'a mut dyn Write>,
    owner: Option<(u32, u32)>,
    /// Where a file with several names was written first, by device and number.
    linked: HashMap<(libc::dev_t, libc::ino_t), Vec<u8>>,
    /// What is being read.
    path: PathBuf,
}

type Pax = Vec<(String, Vec<u8>)>;

impl Writer<'_> {
    fn node(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        shown: &[u8],
        stat: &FileStat,
        depth: usize,
    ) -> io::Result<()> {
        let (mut header, mut pax) = self.header(stat);
        let number = (stat.st_dev, stat.st_ino);
        let kind = kind(stat);
        if kind != SFlag::S_IFDIR && stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&number) {
                header.set_entry_type(tar::EntryType::Link);
                out::set_link(&mut header, &mut pax, first);
                return self.put(header, pax, shown, &mut io::empty());
            }
            self.linked.insert(number, shown.to_vec());
        }
        match kind {
            SFlag::S_IFDIR => self.dir(dir, name, shown, (header, pax), depth),
            SFlag::S_IFREG => {
                let flags =
                    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let file = File::from(openat(dir, name, flags, Mode::empty())?);
                // The one that is open is the one that is copied.
                let stat = fstat(&file)?;
                if self::kind(&stat) != SFlag::S_IFREG {
                    return Err(io::Error::other("it changed while it was read"));
                }
                let (mut header, mut pax) = self.header(&stat);
                xattrs(&file, &mut pax)?;
                header.set_entry_type(tar::EntryType::Regular);
                let size = stat.st_size as u64;
                header.set_size(size);
                let mut data = Whole { file, left: size };
                self.put(header, pax, shown, &mut data)
            }
            SFlag::S_IFLNK => {
                header.set_entry_type(tar::EntryType::Symlink);
                let target = readlinkat(dir, name)?;
                out::set_link(&mut header, &mut pax, target.as_bytes());
                self.put(header, pax, shown, &mut io::empty())
            }
            SFlag::S_IFIFO => {
                header.set_entry_type(tar::EntryType::Fifo);
                self.put(header, pax, shown, &mut io::empty())
            }
            // Devices are the host's, and sockets have no place in tar.
            _ => Ok(()),
        }
    }

    fn dir(
        &mut self,
        at: &OwnedFd,
        name: &[u8],
        shown: &[u8],
        (mut header, mut pax): (tar::Header, Pax),
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            let why = format!("it is deeper than {DEPTH_MAX} directories");
            return Err(io::Error::other(why));
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(at, name, flags, Mode::empty())?;
        let own = dir.as_fd().try_clone_to_owned()?;
        header.set_entry_type(tar::EntryType::Directory);
        let file = File::from(own);
        xattrs(&file, &mut pax)?;
        let own = OwnedFd::from(file);
        let path = [if shown.is_empty() { b"." } else { shown }, b"/"].concat();
        self.put(header, pax, &path, &mut io::empty())?;
        if crate::sys::os::is_made_up(&own) {
            return Ok(());
        }
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort();
        for name in names {
            let below = match shown.is_empty() {
                true => name.clone(),
                false => [shown, b"/", &name].concat(),
            };
            self.path.push(OsStr::from_bytes(&name));
            match fstatat(&own, &name[..], AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => self.node(&own, &name, &below, &stat, depth + 1)?,
                // It went since it was listed.
                Err(nix::errno::Errno::ENOENT) => {}
                Err(e) => return Err(e.into()),
            }
            self.path.pop();
        }
        Ok(())
    }

    fn header(&self, stat: &FileStat) -> (tar::Header, Pax) {
        let mut header = tar::Header::new_ustar();
        let (uid, gid) = self.owner.unwrap_or((stat.st_uid, stat.st_gid));
        header.set_mode((stat.st_mode & 0o7777) as _);
        header.set_uid(u64::from(uid));
        header.set_gid(u64::from(gid));
        header.set_size(0);
        let mtime = Time {
            secs: stat.st_mtime,
            nanos: stat.st_mtime_nsec as u32,
        };
        header.set_mtime(u64::try_from(mtime.secs).unwrap_or(0));
        let mut pax = Pax::new();
        if mtime.nanos != 0 || mtime.secs < 0 {
            pax.push(("mtime".into(), pax_time_text(mtime).into_bytes()));
        }
        (header, pax)
    }

    fn put(
        &mut self,
        header: tar::Header,
        pax: Pax,
        path: &[u8],
        data: &mut dyn Read,
    ) -> io::Result<()> {
        out::put(&mut self.out, header, pax, path, data).map_err(|e| match e {
            ArchiveError::Read(e) => e,
            e => io::Error::other(e),
        })
    }
}

/// Those that tar can carry.
fn xattrs(file: &File, pax: &mut Pax) -> io::Result<()> {
    let names = match file.list_xattr() {
        Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EOPNOTSUPP as i32) => return Ok(()),
        names => names?,
    };
    for name in names {
        if let Some(text) = name.to_str()
            && let Some(value) = file.get_xattr(&name)?
        {
            pax.push((format!("{XATTR_KEY}{text}"), value));
        }
    }
    Ok(())
}

/// As many bytes as a header said.
struct Whole {
    file: File,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = to
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.file.read(&mut to[..most])?;
        if got == 0 && most > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= got as u64;
        Ok(got)
    }
}
