//! Calls that change a graft. Each acts as its caller on the host's file system.

use super::super::handle::HostFile;
use super::once::Outcome;
use super::read::{io_status, regular};
use super::{Graft, Grafts, Name, Node, host_status, sys};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, LinkatFlags, UnlinkatFlags};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use std::os::fd::AsFd;

/// Attributes before a change, for its `Wcc`.
fn before(graft: &Graft, node: &Node) -> wcc_attr {
    let attr = graft.attr(&node.stat);
    wcc_attr {
        size: attr.size,
        mtime: attr.mtime,
        ctime: attr.ctime,
    }
}

fn after(graft: &Graft, before: wcc_attr, node: &mut Node) -> Result<Wcc> {
    node.refresh()?;
    Ok(Wcc {
        before,
        after: graft.attr(&node.stat),
    })
}

fn same(a: nfstime3, b: nfstime3) -> bool {
    (a.seconds, a.nseconds) == (b.seconds, b.nseconds)
}

fn spec(t: nfstime3) -> TimeSpec {
    TimeSpec::new(i64::from(t.seconds), i64::from(t.nseconds.min(999_999_999)))
}

/// The times of a file that keeps an EXCLUSIVE create's verifier until the
/// SETATTR that RFC 1813 §3.3.8 asks for: there is no other room in a host's inode.
fn verifier_times(verifier: [u8; 8]) -> (TimeSpec, TimeSpec) {
    let word = |at: usize| {
        let mut w = [0; 4];
        w.copy_from_slice(&verifier[at..at + 4]);
        i64::from(u32::from_be_bytes(w) & 0x7fff_ffff)
    };
    (TimeSpec::new(word(0), 0), TimeSpec::new(word(4), 0))
}

impl Grafts {
    pub fn setattr(
        &self,
        cx: &Cx,
        graft: u64,
        file: &HostFile,
        new: &sattr3,
        guard: Option<nfstime3>,
    ) -> Result<Wcc> {
        let (graft, mut node) = self.open(graft, file)?;
        graft.writable()?;
        if let Some(Outcome::Changed(wcc)) = graft.once.lock().get(cx.once) {
            return Ok(wcc);
        }
        let old = before(&graft, &node);
        if guard.is_some_and(|seen| !same(seen, old.ctime)) {
            return Err(nfsstat3::NFS3ERR_NOT_SYNC);
        }
        apply(cx, &graft, &node, new)?;
        let wcc = after(&graft, old, &mut node)?;
        graft.once.lock().put(cx.once, Outcome::Changed(wcc));
        Ok(wcc)
    }

    pub fn write(
        &self,
        cx: &Cx,
        graft: u64,
        file: &HostFile,
        offset: u64,
        data: &[u8],
        stable: Stable,
    ) -> Result<Written> {
        let (graft, mut node) = self.open(graft, file)?;
        graft.writable()?;
        regular(&node)?;
        let old = before(&graft, &node);
        if !Graft::owns(cx, &node) && !graft.may(cx, &node, AccessFlags::W_OK)? {
            return Err(nfsstat3::NFS3ERR_ACCES);
        }
        let open = graft.data(file, libc::O_WRONLY).map_err(host_status)?;
        let at = i64::try_from(offset).map_err(|_| nfsstat3::NFS3ERR_FBIG)?;
        // As the caller: a write by anybody but root takes setuid away (write(2)).
        let acting = graft.act_as(cx)?;
        let mut put = 0;
        while put < data.len() {
            match nix::sys::uio::pwrite(&open, &data[put..], at + put as i64) {
                Ok(n) => put += n,
                Err(Errno::EINTR) => {}
                Err(e) if put == 0 => return Err(host_status(e)),
                Err(_) => break,
            }
        }
        drop(acting);
        if stable != Stable::Unstable {
            nix::unistd::fdatasync(&open).map_err(host_status)?;
        }
        let wcc = after(&graft, old, &mut node)?;
        Ok(Written {
            count: put as u32,
            committed: stable,
            wcc,
        })
    }

    pub fn commit(&self, graft: u64, file: &HostFile) -> Result<Wcc> {
        let (graft, mut node) = self.open(graft, file)?;
        let old = before(&graft, &node);
        if node.is(libc::S_IFREG) && !graft.read_only {
            let open = graft.data(file, libc::O_RDONLY).map_err(host_status)?;
            nix::unistd::fdatasync(&open).map_err(host_status)?;
        }
        after(&graft, old, &mut node)
    }

    /// The frame of every call that makes a name: `make` acts as the caller.
    fn make(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        attr: Option<&sattr3>,
        make: impl FnOnce(&Node) -> std::result::Result<(), Errno>,
    ) -> Result<Made> {
        let (graft, mut dir) = self.open(graft, dir)?;
        graft.writable()?;
        if let Some(Outcome::Made(made)) = graft.once.lock().get(cx.once) {
            return Ok(made);
        }
        let old = before(&graft, &dir);
        let acting = graft.act_as(cx)?;
        make(&dir).map_err(host_status)?;
        drop(acting);
        let mut node = graft.child(cx, &dir, name)?;
        if let Some(attr) = attr {
            apply(cx, &graft, &node, attr)?;
            node.refresh()?;
        }
        let made = Made {
            fh: self.handle(&graft, &node, &dir, name)?,
            attr: graft.attr(&node.stat),
            dir: after(&graft, old, &mut dir)?,
        };
        graft.once.lock().put(cx.once, Outcome::Made(made));
        Ok(made)
    }

    pub fn create(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        how: &CreateHow,
    ) -> Result<Made> {
        let base = OFlag::O_CREAT
            | OFlag::O_WRONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_CLOEXEC;
        // Before what an UNCHECKED one does to the file that it finds.
        let known = self.get(graft)?.once.lock().get(cx.once);
        if let Some(Outcome::Made(made)) = known {
            return Ok(made);
        }
        match how {
            CreateHow::Unchecked(attr) => {
                let mode = mode_of(attr, 0o644);
                let fresh = std::cell::Cell::new(false);
                let made =
                    self.make(cx, graft, dir, name, None, |dir| {
                        match nix::fcntl::openat(&dir.fd, name, base | OFlag::O_EXCL, mode) {
                            Ok(_) => {
                                fresh.set(true);
                                Ok(())
                            }
                            Err(Errno::EEXIST) => Ok(()),
                            Err(e) => Err(e),
                        }
                    })?;
                self.settle(cx, made, attr, fresh.get())
            }
            CreateHow::Guarded(attr) => {
                let mode = mode_of(attr, 0o644);
                self.make(cx, graft, dir, name, Some(attr), |dir| {
                    nix::fcntl::openat(&dir.fd, name, base | OFlag::O_EXCL, mode).map(drop)
                })
            }
            CreateHow::Exclusive(verifier) => {
                let (atime, mtime) = verifier_times(*verifier);
                self.make(cx, graft, dir, name, None, |dir| {
                    match nix::fcntl::openat(&dir.fd, name, base | OFlag::O_EXCL, Mode::empty()) {
                        Ok(fd) => nix::sys::stat::futimens(&fd, &atime, &mtime),
                        Err(Errno::EEXIST) => {
                            let found = nix::sys::stat::fstatat(
                                &dir.fd,
                                name,
                                AtFlags::AT_SYMLINK_NOFOLLOW,
                            )?;
                            let ours = found.st_mode & libc::S_IFMT == libc::S_IFREG
                                && found.st_atime == atime.tv_sec()
                                && found.st_mtime == mtime.tv_sec();
                            if ours { Ok(()) } else { Err(Errno::EEXIST) }
                        }
                        Err(e) => Err(e),
                    }
                })
            }
        }
    }

    /// UNCHECKED create of an existing name only sets its size (RFC 1813 §3.3.8).
    fn settle(&self, cx: &Cx, mut made: Made, attr: &sattr3, fresh: bool) -> Result<Made> {
        let Ok(Name::Host { graft, file }) = self.codec.decode(&made.fh) else {
            return Ok(made);
        };
        let (graft, mut node) = self.open(graft, &file)?;
        let new = if fresh {
            *attr
        } else {
            sattr3 {
                size: attr.size,
                ..sattr3::default()
            }
        };
        apply(cx, &graft, &node, &new)?;
        node.refresh()?;
        made.attr = graft.attr(&node.stat);
        graft.once.lock().put(cx.once, Outcome::Made(made));
        Ok(made)
    }

    pub fn mkdir(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        attr: &sattr3,
    ) -> Result<Made> {
        let mode = mode_of(attr, 0o755);
        self.make(cx, graft, dir, name, Some(attr), |dir| {
            nix::sys::stat::mkdirat(&dir.fd, name, mode)
        })
    }

    pub fn symlink(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        target: &[u8],
        attr: &sattr3,
    ) -> Result<Made> {
        // A symlink's mode is the system's own; its owner may be given.
        let attr = sattr3 {
            mode: set_mode3::Void,
            ..*attr
        };
        self.make(cx, graft, dir, name, Some(&attr), |dir| {
            nix::unistd::symlinkat(target, &dir.fd, name)
        })
    }

    pub fn mknod(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        kind: NodeKind,
        attr: &sattr3,
    ) -> Result<Made> {
        let kind = match kind {
            NodeKind::Fifo => SFlag::S_IFIFO,
            NodeKind::Socket => SFlag::S_IFSOCK,
            // A device made through a graft would be a device of the host.
            NodeKind::Char(_) | NodeKind::Block(_) => return Err(nfsstat3::NFS3ERR_PERM),
        };
        let mode = mode_of(attr, 0o644);
        self.make(cx, graft, dir, name, Some(attr), |dir| {
            nix::sys::stat::mknodat(&dir.fd, name, kind, mode, 0)
        })
    }

    pub fn unlink(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        what: UnlinkatFlags,
    ) -> Result<Wcc> {
        let (graft, mut dir) = self.open(graft, dir)?;
        graft.writable()?;
        if let Some(Outcome::Changed(wcc)) = graft.once.lock().get(cx.once) {
            return Ok(wcc);
        }
        let old = before(&graft, &dir);
        let acting = graft.act_as(cx)?;
        nix::unistd::unlinkat(&dir.fd, name, what).map_err(host_status)?;
        drop(acting);
        let wcc = after(&graft, old, &mut dir)?;
        graft.once.lock().put(cx.once, Outcome::Changed(wcc));
        Ok(wcc)
    }

    pub fn rename(
        &self,
        cx: &Cx,
        graft: u64,
        from: &HostFile,
        name: &[u8],
        to: &HostFile,
        new: &[u8],
    ) -> Result<(Wcc, Wcc)> {
        let (graft, mut from) = self.open(graft, from)?;
        let mut to = graft.open(to)?;
        graft.writable()?;
        if let Some(Outcome::Renamed(a, b)) = graft.once.lock().get(cx.once) {
            return Ok((a, b));
        }
        let (old_from, old_to) = (before(&graft, &from), before(&graft, &to));
        let acting = graft.act_as(cx)?;
        nix::fcntl::renameat(&from.fd, name, &to.fd, new).map_err(host_status)?;
        drop(acting);
        graft.moved(to.fd.as_fd(), new);
        let wccs = (
            after(&graft, old_from, &mut from)?,
            after(&graft, old_to, &mut to)?,
        );
        graft
            .once
            .lock()
            .put(cx.once, Outcome::Renamed(wccs.0, wccs.1));
        Ok(wccs)
    }

    pub fn link(
        &self,
        cx: &Cx,
        graft: u64,
        file: &HostFile,
        dir: &HostFile,
        name: &[u8],
    ) -> Result<(fattr3, Wcc)> {
        let (graft, mut node) = self.open(graft, file)?;
        let mut dir = graft.open(dir)?;
        graft.writable()?;
        if let Some(Outcome::Linked(attr, wcc)) = graft.once.lock().get(cx.once) {
            return Ok((attr, wcc));
        }
        let old = before(&graft, &dir);
        let acting = graft.act_as(cx)?;
        nix::unistd::linkat(
            AT_FDCWD,
            node.path().as_str(),
            &dir.fd,
            name,
            LinkatFlags::AT_SYMLINK_FOLLOW,
        )
        .map_err(host_status)?;
        drop(acting);
        let wcc = after(&graft, old, &mut dir)?;
        node.refresh()?;
        let attr = graft.attr(&node.stat);
        graft.once.lock().put(cx.once, Outcome::Linked(attr, wcc));
        Ok((attr, wcc))
    }

    pub fn setxattr(
        &self,
        cx: &Cx,
        graft: u64,
        file: &HostFile,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let (graft, node) = self.open(graft, file)?;
        graft.writable()?;
        if let Some(Outcome::Set) = graft.once.lock().get(cx.once) {
            return Ok(());
        }
        let name = std::ffi::OsStr::from_bytes(name);
        let _as = graft.act_as(cx)?;
        let there = xattr::get_deref(node.path(), name)
            .map_err(io_status)?
            .is_some();
        match how {
            XattrHow::Create if there => return Err(nfsstat3::NFS3ERR_EXIST),
            XattrHow::Replace if !there => return Err(nfsstat3::NFS3ERR_NOENT),
            _ => {}
        }
        xattr::set_deref(node.path(), name, value).map_err(io_status)?;
        graft.once.lock().put(cx.once, Outcome::Set);
        Ok(())
    }

    pub fn removexattr(&self, cx: &Cx, graft: u64, file: &HostFile, name: &[u8]) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let (graft, node) = self.open(graft, file)?;
        graft.writable()?;
        if let Some(Outcome::Set) = graft.once.lock().get(cx.once) {
            return Ok(());
        }
        let _as = graft.act_as(cx)?;
        xattr::remove_deref(node.path(), std::ffi::OsStr::from_bytes(name)).map_err(io_status)?;
        graft.once.lock().put(cx.once, Outcome::Set);
        Ok(())
    }
}

fn mode_of(attr: &sattr3, default: u32) -> Mode {
    match attr.mode {
        set_mode3::mode(mode) => Mode::from_bits_truncate((mode & 0o7777) as _),
        set_mode3::Void => Mode::from_bits_truncate(default as _),
    }
}

/// SETATTR on the host: size, owner, mode, times, in the order in which none undoes another.
fn apply(cx: &Cx, graft: &Graft, node: &Node, new: &sattr3) -> Result<()> {
    if let set_size3::size(size) = new.size {
        regular(node)?;
        if !Graft::owns(cx, node) && !graft.may(cx, node, AccessFlags::W_OK)? {
            return Err(nfsstat3::NFS3ERR_ACCES);
        }
        let size = i64::try_from(size).map_err(|_| nfsstat3::NFS3ERR_FBIG)?;
        let file = sys::file_of(node.fd.as_fd()).map_err(host_status)?;
        let file = graft.data(&file, libc::O_WRONLY).map_err(host_status)?;
        let _as = graft.act_as(cx)?;
        nix::unistd::ftruncate(&file, size).map_err(host_status)?;
    }
    let _as = graft.act_as(cx)?;
    let uid = match new.uid {
        set_uid3::uid(uid) => Some(uid.into()),
        set_uid3::Void => None,
    };
    let gid = match new.gid {
        set_gid3::gid(gid) => Some(gid.into()),
        set_gid3::Void => None,
    };
    if uid.is_some() || gid.is_some() {
        sys::chown(node.fd.as_fd(), uid, gid).map_err(host_status)?;
    }
    if let set_mode3::mode(mode) = new.mode {
        if node.is(libc::S_IFLNK) {
            return Err(nfsstat3::NFS3ERR_INVAL);
        }
        let mode = Mode::from_bits_truncate((mode & 0o7777) as _);
        nix::sys::stat::fchmodat(
            AT_FDCWD,
            node.path().as_str(),
            mode,
            FchmodatFlags::FollowSymlink,
        )
        .map_err(host_status)?;
    }
    let atime = match new.atime {
        set_atime::DONT_CHANGE => TimeSpec::UTIME_OMIT,
        set_atime::SET_TO_SERVER_TIME => TimeSpec::UTIME_NOW,
        set_atime::SET_TO_CLIENT_TIME(t) => spec(t),
    };
    let mtime = match new.mtime {
        set_mtime::DONT_CHANGE => TimeSpec::UTIME_OMIT,
        set_mtime::SET_TO_SERVER_TIME => TimeSpec::UTIME_NOW,
        set_mtime::SET_TO_CLIENT_TIME(t) => spec(t),
    };
    let omit = |t: &TimeSpec| t.tv_nsec() == TimeSpec::UTIME_OMIT.tv_nsec();
    if omit(&atime) && omit(&mtime) {
        return Ok(());
    }
    nix::sys::stat::utimensat(
        AT_FDCWD,
        node.path().as_str(),
        &atime,
        &mtime,
        UtimensatFlags::FollowSymlink,
    )
    .map_err(host_status)
}
