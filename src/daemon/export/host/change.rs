//! Calls that change a graft. Each acts as its caller on the host's file system.

use super::super::handle::HostFile;
use super::make::May;
use super::once::Outcome;
use super::read::{io_status, regular};
use super::rights::{self, File};
use super::{Graft, Grafts, Node, host_status, turn};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, UnlinkatFlags};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use std::os::fd::OwnedFd;

/// Attributes before a change, for its `Wcc`.
pub(super) fn before(graft: &Graft, node: &Node) -> wcc_attr {
    let attr = graft.attr(&node.stat);
    wcc_attr {
        size: attr.size,
        mtime: attr.mtime,
        ctime: attr.ctime,
    }
}

pub(super) fn after(graft: &Graft, before: wcc_attr, node: &mut Node) -> Result<Wcc> {
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

impl Grafts {
    pub fn setattr(
        &self,
        cx: &Cx,
        graft: u64,
        file: &HostFile,
        new: &sattr3,
        guard: Option<nfstime3>,
    ) -> Result<Wcc> {
        let graft = self.get(graft)?;
        let _still = graft.still();
        let mut node = graft.open(file)?;
        graft.writable()?;
        let _turn = turn::of(&node);
        if let Some(Outcome::Changed(wcc)) = graft.once.lock().get(cx.once) {
            return Ok(wcc);
        }
        node.refresh()?;
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
        let graft = self.get(graft)?;
        let still = graft.still();
        let mut node = graft.open(file)?;
        graft.writable()?;
        regular(&node)?;
        if !Graft::owns(cx, &node) && !graft.may(cx, &node, AccessFlags::W_OK)? {
            return Err(nfsstat3::NFS3ERR_ACCES);
        }
        let open = node.data(OFlag::O_WRONLY).map_err(host_status)?;
        drop(still);
        let turn = turn::of(&node);
        node.refresh_by(&open)?;
        let old = before(&graft, &node);
        graft.unset_ids(cx, &node, &open)?;
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
        node.refresh_by(&open)?;
        if put > 0 && turn::tell_apart(&old, &node, &open) {
            node.refresh_by(&open)?;
        }
        drop(turn);
        if stable != Stable::Unstable {
            nix::unistd::fdatasync(&open).map_err(host_status)?;
        }
        let wcc = graft.wcc(old, &node);
        Ok(Written {
            count: put as u32,
            committed: stable,
            wcc,
        })
    }

    pub fn commit(&self, graft: u64, file: &HostFile) -> Result<Wcc> {
        let graft = self.get(graft)?;
        let still = graft.still();
        let mut node = graft.open(file)?;
        let old = before(&graft, &node);
        if node.is(libc::S_IFREG) && !graft.read_only {
            let open = node.data(OFlag::O_RDONLY).map_err(host_status)?;
            drop(still);
            nix::unistd::fdatasync(&open).map_err(host_status)?;
            node.refresh_by(&open)?;
        }
        Ok(graft.wcc(old, &node))
    }

    pub fn unlink(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        what: UnlinkatFlags,
    ) -> Result<Wcc> {
        let graft = self.get(graft)?;
        let _moving = graft.moving();
        let mut dir = graft.open(dir)?;
        graft.writable()?;
        let _turn = turn::of(&dir);
        if let Some(Outcome::Changed(wcc)) = graft.once.lock().get(cx.once) {
            return Ok(wcc);
        }
        dir.refresh()?;
        let old = before(&graft, &dir);
        graft.checked(|| rights::search(cx.caller, &File::of(&dir.stat)))?;
        let there = graft.about(&dir, name)?;
        graft.known(&there)?;
        if let Some(there) = &there {
            graft.checked(|| {
                rights::remove(cx.caller, &File::of(&dir.stat), &File::of(&there.stat))
            })?;
        }
        let acting = graft.act_as(cx)?;
        nix::unistd::unlinkat(dir.dir()?, name, what).map_err(host_status)?;
        drop(acting);
        graft.lost(there, &dir, name);
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
        let graft = self.get(graft)?;
        let _moving = graft.moving();
        let mut from = graft.open(from)?;
        let mut to = graft.open(to)?;
        graft.writable()?;
        let _turns = turn::of_both(&from, &to);
        if let Some(Outcome::Renamed(a, b)) = graft.once.lock().get(cx.once) {
            return Ok((a, b));
        }
        from.refresh()?;
        to.refresh()?;
        let (old_from, old_to) = (before(&graft, &from), before(&graft, &to));
        graft.checked(|| {
            rights::search(cx.caller, &File::of(&from.stat))?;
            rights::search(cx.caller, &File::of(&to.stat))
        })?;
        let (there, over) = (graft.about(&from, name)?, graft.about(&to, new)?);
        graft.known(&there)?;
        if let Some(there) = &there {
            let over = over.as_ref().map(|over| File::of(&over.stat));
            let (a, b) = (File::of(&from.stat), File::of(&to.stat));
            let one = from.stat.st_ino == to.stat.st_ino;
            let file = File::of(&there.stat);
            graft.checked(|| rights::rename(cx.caller, (&a, &b, one), &file, over.as_ref()))?;
        }
        let acting = graft.act_as(cx)?;
        nix::fcntl::renameat(from.dir()?, name, to.dir()?, new).map_err(host_status)?;
        drop(acting);
        graft.moved(there, (&from, name), over, (&to, new));
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
        let graft = self.get(graft)?;
        let _still = graft.still();
        let mut node = graft.open(file)?;
        let mut dir = graft.open(dir)?;
        graft.writable()?;
        let _turn = turn::of(&dir);
        if let Some(Outcome::Linked(attr, wcc)) = graft.once.lock().get(cx.once) {
            return Ok((attr, wcc));
        }
        dir.refresh()?;
        let old = before(&graft, &dir);
        graft.checked(|| match node.is(libc::S_IFDIR) {
            true => Err(nfsstat3::NFS3ERR_PERM),
            false => match graft.may_make(cx, &dir, name)? {
                May::Make => Ok(()),
                May::Meet => Err(nfsstat3::NFS3ERR_EXIST),
            },
        })?;
        let acting = graft.act_as(cx)?;
        node.link(dir.dir()?, name).map_err(host_status)?;
        drop(acting);
        if let Some(names) = graft.names() {
            names.learn(node.stat.st_ino, dir.stat.st_ino, name);
        }
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
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(file)?;
        graft.writable()?;
        if let Some(Outcome::Set) = graft.once.lock().get(cx.once) {
            return Ok(());
        }
        graft.checked(|| rights::attribute(cx.caller, &File::of(&node.stat), name))?;
        let name = std::ffi::OsStr::from_bytes(name);
        let (path, _held) = node.path()?;
        let _as = graft.act_as(cx)?;
        let there = xattr::get_deref(&path, name).map_err(io_status)?.is_some();
        match how {
            XattrHow::Create if there => return Err(nfsstat3::NFS3ERR_EXIST),
            XattrHow::Replace if !there => return Err(nfsstat3::NFS3ERR_NOENT),
            _ => {}
        }
        xattr::set_deref(&path, name, value).map_err(io_status)?;
        graft.once.lock().put(cx.once, Outcome::Set);
        Ok(())
    }

    pub fn removexattr(&self, cx: &Cx, graft: u64, file: &HostFile, name: &[u8]) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let graft = self.get(graft)?;
        let _still = graft.still();
        let node = graft.open(file)?;
        graft.writable()?;
        if let Some(Outcome::Set) = graft.once.lock().get(cx.once) {
            return Ok(());
        }
        graft.checked(|| rights::attribute(cx.caller, &File::of(&node.stat), name))?;
        let (path, _held) = node.path()?;
        let _as = graft.act_as(cx)?;
        xattr::remove_deref(&path, std::ffi::OsStr::from_bytes(name)).map_err(io_status)?;
        graft.once.lock().put(cx.once, Outcome::Set);
        Ok(())
    }
}

impl Graft {
    fn wcc(&self, before: wcc_attr, node: &Node) -> Wcc {
        Wcc {
            before,
            after: self.attr(&node.stat),
        }
    }

    /// What a name is about to be taken from, where that must be known.
    fn about(&self, dir: &Node, name: &[u8]) -> Result<Option<Node>> {
        if self.names().is_none() && !self.checks {
            return Ok(None);
        }
        match self.reach_in(dir, name) {
            Ok(node) => Ok(Some(node)),
            Err(Errno::ENOENT) => Ok(None),
            // The system says so itself, and in its own order.
            Err(Errno::ENOTDIR | Errno::ENAMETOOLONG | Errno::EINVAL) if !self.checks => Ok(None),
            Err(e) => Err(host_status(e)),
        }
    }

    /// What nobody was asked about is not touched: it may be there by the time the system is called, as root.
    fn known(&self, there: &Option<Node>) -> Result<()> {
        match self.checks && there.is_none() {
            true => Err(nfsstat3::NFS3ERR_NOENT),
            false => Ok(()),
        }
    }

    fn lost(&self, was: Option<Node>, dir: &Node, name: &[u8]) {
        if let (Some(names), Some(was)) = (self.names(), was) {
            names.lost(&was, dir.stat.st_ino, name);
        }
    }

    fn moved(
        &self,
        was: Option<Node>,
        (from, name): (&Node, &[u8]),
        over: Option<Node>,
        (to, new): (&Node, &[u8]),
    ) {
        let (Some(names), Some(was)) = (self.names(), was) else {
            return;
        };
        let file = was.stat.st_ino;
        // Two names of one file: rename(2) does nothing.
        if over.as_ref().is_some_and(|over| over.stat.st_ino == file) {
            return;
        }
        self.lost(over, to, new);
        names.learn(file, to.stat.st_ino, new);
        names.forget(file, from.stat.st_ino, name);
    }

    /// Where root writes for the caller, what a caller's own write would take from the mode.
    fn unset_ids(&self, cx: &Cx, node: &Node, data: &OwnedFd) -> Result<()> {
        let mode = match self.checks {
            true => rights::written(cx.caller, &File::of(&node.stat)),
            false => None,
        };
        match mode {
            Some(mode) => {
                let mode = Mode::from_bits_truncate(mode as _);
                nix::sys::stat::fchmod(data, mode).map_err(host_status)
            }
            None => Ok(()),
        }
    }
}

/// SETATTR on the host: size, owner, mode, times, in the order in which none undoes another.
pub(super) fn apply(cx: &Cx, graft: &Graft, node: &Node, new: &sattr3) -> Result<()> {
    let mut mode = match new.mode {
        set_mode3::mode(mode) => Some(mode & 0o7777),
        set_mode3::Void => None,
    };
    if mode.is_some() && node.is(libc::S_IFLNK) {
        return Err(nfsstat3::NFS3ERR_INVAL);
    }
    // To the system's calls that is no change.
    if matches!(new.uid, set_uid3::uid(u32::MAX)) || matches!(new.gid, set_gid3::gid(u32::MAX)) {
        return Err(nfsstat3::NFS3ERR_INVAL);
    }
    if graft.checks {
        mode = rights::change(cx.caller, &File::of(&node.stat), new)?;
        // These are reached by name alone, which may lead to another's file by then.
        let held = [libc::S_IFREG, libc::S_IFDIR, libc::S_IFIFO];
        let gives = !matches!(new.uid, set_uid3::Void) || !matches!(new.gid, set_gid3::Void);
        if cx.caller.uid != 0
            && (gives || mode.is_some())
            && !held.iter().any(|kind| node.is(*kind))
        {
            return Err(nfsstat3::NFS3ERR_PERM);
        }
    }
    if let set_size3::size(size) = new.size {
        regular(node)?;
        if !Graft::owns(cx, node) && !graft.may(cx, node, AccessFlags::W_OK)? {
            return Err(nfsstat3::NFS3ERR_ACCES);
        }
        let size = i64::try_from(size).map_err(|_| nfsstat3::NFS3ERR_FBIG)?;
        let file = node.data(OFlag::O_WRONLY).map_err(host_status)?;
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
        node.chown(uid, gid).map_err(host_status)?;
    }
    if let Some(mode) = mode {
        let mode = Mode::from_bits_truncate(mode as _);
        node.chmod(mode).map_err(host_status)?;
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
    node.set_times(&atime, &mtime).map_err(host_status)
}
