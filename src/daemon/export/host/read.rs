//! Calls that leave a graft as it is.

use super::super::handle::HostFile;
use super::{Graft, Grafts, Node, host_status, sys};
use nix::fcntl::OFlag;
use nix::unistd::AccessFlags;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use std::os::fd::AsFd;

impl Grafts {
    pub fn getattr(&self, graft: u64, file: &HostFile) -> Result<fattr3> {
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(file)?;
        Ok(graft.attr(&node.stat))
    }

    pub fn lookup(&self, cx: &Cx, graft: u64, dir: &HostFile, name: &[u8]) -> Result<Found> {
        let graft = self.get(graft)?;
        let _still = graft.still();
        let dir = graft.open(dir)?;
        let node = match name {
            b"." => graft.child(cx, &dir, b".")?,
            b".." => graft.parent(cx, &dir)?,
            name => graft.child(cx, &dir, name)?,
        };
        Ok(Found {
            fh: self.handle(&graft, &node)?,
            attr: graft.attr(&node.stat),
            dir: graft.attr(&dir.stat),
        })
    }

    pub fn access(&self, cx: &Cx, graft: u64, file: &HostFile, want: u32) -> Result<(u32, fattr3)> {
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(file)?;
        let mut granted = 0;
        if graft.may(cx, &node, AccessFlags::R_OK)? {
            granted |= access::READ;
        }
        if !graft.read_only && graft.may(cx, &node, AccessFlags::W_OK)? {
            granted |= access::MODIFY | access::EXTEND;
            if node.is(libc::S_IFDIR) {
                granted |= access::DELETE;
            }
        }
        if graft.may(cx, &node, AccessFlags::X_OK)? {
            granted |= if node.is(libc::S_IFDIR) {
                access::LOOKUP
            } else {
                access::EXECUTE
            };
        }
        Ok((granted & want, graft.attr(&node.stat)))
    }

    pub fn readlink(&self, graft: u64, file: &HostFile) -> Result<(Vec<u8>, fattr3)> {
        use std::os::unix::ffi::OsStringExt;
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(file)?;
        if !node.is(libc::S_IFLNK) {
            return Err(nfsstat3::NFS3ERR_INVAL);
        }
        let target = node.read_link().map_err(host_status)?;
        Ok((target.into_vec(), graft.attr(&node.stat)))
    }

    pub fn read(
        &self,
        cx: &Cx,
        graft: u64,
        file: &HostFile,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<ReadDone> {
        let graft = self.get(graft)?;
        let still = graft.still();
        let mut node = graft.open(file)?;
        regular(&node)?;
        let readable = Graft::owns(cx, &node)
            || graft.may(cx, &node, AccessFlags::R_OK)?
            || graft.may(cx, &node, AccessFlags::X_OK)?;
        if !readable {
            return Err(nfsstat3::NFS3ERR_ACCES);
        }
        let data = node.data(OFlag::O_RDONLY).map_err(host_status)?;
        drop(still);
        let start = out.len();
        let at = i64::try_from(offset).map_err(|_| nfsstat3::NFS3ERR_INVAL)?;
        out.resize(start + count as usize, 0);
        let mut got = 0;
        while got < count as usize {
            match nix::sys::uio::pread(&data, &mut out[start + got..], at + got as i64) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(host_status(e)),
            }
        }
        out.truncate(start + got);
        node.refresh_by(&data)?;
        let attr = graft.attr(&node.stat);
        Ok(ReadDone {
            attr,
            eof: offset + got as u64 >= attr.size,
        })
    }

    pub fn readdir(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        cookie: u64,
        plus: bool,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone> {
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(dir)?;
        if !node.is(libc::S_IFDIR) {
            return Err(nfsstat3::NFS3ERR_NOTDIR);
        }
        if !graft.may(cx, &node, AccessFlags::R_OK)? {
            return Err(nfsstat3::NFS3ERR_ACCES);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open = nix::fcntl::openat(node.dir()?, ".", flags, nix::sys::stat::Mode::empty())
            .map_err(host_status)?;
        let eof = sys::names(open.as_fd(), cookie, &mut |ino, next, _, name| {
            // The root's ".." is the root: what is outside has no number in here.
            let outside = name == b".." && node.stat.st_ino == graft.root_ino;
            let fileid = if outside { graft.root_ino } else { ino };
            let found = if plus && name != b".." {
                self.entry(cx, &graft, &node, name)
            } else {
                None
            };
            Ok(emit(Entry {
                fileid,
                name,
                cookie: next,
                plus: found,
            }))
        })
        .map_err(host_status)?;
        Ok(DirDone {
            attr: graft.attr(&node.stat),
            eof,
        })
    }

    /// An entry's handle and attributes; a name that went away meanwhile has none.
    fn entry(&self, cx: &Cx, graft: &Graft, dir: &Node, name: &[u8]) -> Option<(Fh, fattr3)> {
        let node = graft.child(cx, dir, name).ok()?;
        let fh = self.handle(graft, &node).ok()?;
        Some((fh, graft.attr(&node.stat)))
    }

    pub fn fsstat(&self, graft: u64, file: &HostFile) -> Result<(FsStat, fattr3)> {
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(file)?;
        let fs = nix::sys::statvfs::fstatvfs(graft.root.as_fd()).map_err(host_status)?;
        let unit = fs.fragment_size();
        let stat = FsStat {
            total_bytes: fs.blocks() * unit,
            free_bytes: fs.blocks_free() * unit,
            avail_bytes: fs.blocks_available() * unit,
            total_files: fs.files(),
            free_files: fs.files_free(),
            avail_files: fs.files_available(),
        };
        Ok((stat, graft.attr(&node.stat)))
    }

    /// The limits of the directory's own file system, where it says them.
    pub fn fsinfo(&self, graft: u64, file: &HostFile, io_max: u32) -> Result<(FsInfo, fattr3)> {
        use nix::unistd::{PathconfVar, fpathconf};
        /// POSIX's least: every file system has as many.
        const LEAST_LINKS: u32 = 8;
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(file)?;
        let links = fpathconf(graft.root.as_fd(), PathconfVar::LINK_MAX).map_err(host_status)?;
        let info = FsInfo {
            io_max,
            // What a signed 64-bit offset reaches; a file system with less says EFBIG.
            max_file_size: i64::MAX as u64,
            // None is no limit.
            link_max: links.map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(LEAST_LINKS)),
        };
        Ok((info, graft.attr(&node.stat)))
    }

    pub fn getxattr(&self, graft: u64, file: &HostFile, name: &[u8]) -> Result<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(file)?;
        let (path, _held) = node.path()?;
        xattr::get_deref(path, std::ffi::OsStr::from_bytes(name))
            .map_err(io_status)?
            .ok_or(nfsstat3::NFS3ERR_NOENT)
    }

    pub fn listxattr(&self, graft: u64, file: &HostFile) -> Result<Vec<Vec<u8>>> {
        use std::os::unix::ffi::OsStringExt;
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(file)?;
        let (path, _held) = node.path()?;
        let names = xattr::list_deref(path).map_err(io_status)?;
        Ok(names.map(OsStringExt::into_vec).collect())
    }
}

pub(super) fn regular(node: &Node) -> Result<()> {
    match node.stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Ok(()),
        libc::S_IFDIR => Err(nfsstat3::NFS3ERR_ISDIR),
        _ => Err(nfsstat3::NFS3ERR_INVAL),
    }
}

pub(super) fn io_status(e: std::io::Error) -> nfsstat3 {
    let errno = e
        .raw_os_error()
        // Of a system that has no attributes.
        .map_or(nix::errno::Errno::EOPNOTSUPP, nix::errno::Errno::from_raw);
    match errno {
        super::sys::NO_ATTRIBUTE => nfsstat3::NFS3ERR_NOENT,
        other => host_status(other),
    }
}
