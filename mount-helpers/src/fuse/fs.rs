//! The kernel's requests: each becomes an operation of the export, on a task of
//! its own, so that one that waits holds up no other. What is answered from
//! memory is answered at once.

use super::answers::*;
use super::attr::Wanted;
use super::dir::Sink;
use super::export::Export;
use super::passthrough::{COUNTED, Passthrough};
use super::waiting::Waiting;
use crate::helper::Cache;
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use pocker_nfs::proto::NAME_MAX;
use pocker_nfs::vfs::XattrHow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;

/// Largest write in one request; the kernel sends no more pages than 256.
const MAX_WRITE: u32 = 1 << 20;

/// Requests the kernel may have under way that nobody waits for: readahead and
/// writeback. Linux's 12 would leave the pipeline to the server mostly empty.
const MAX_BACKGROUND: u16 = 64;

/// How long the end of a mount waits for its hidden files to be removed.
const SWEEP_DEADLINE: Duration = Duration::from_secs(5);

/// The kernel opens files and directories itself, once one was answered with ENOSYS. Its
/// own opening keeps caches.
const WITHOUT_OPEN: InitFlags =
    InitFlags::FUSE_NO_OPEN_SUPPORT.union(InitFlags::FUSE_NO_OPENDIR_SUPPORT);

pub(crate) struct Fs {
    pub(super) export: Arc<Export>,
    pub(super) runtime: Handle,
    pub(super) waiting: Arc<Waiting>,
    /// What the kernel can open without us.
    opens: InitFlags,
}

impl Fs {
    pub(crate) fn new(export: Arc<Export>, runtime: Handle, waiting: Arc<Waiting>) -> Fs {
        Fs {
            export,
            runtime,
            waiting,
            opens: InitFlags::empty(),
        }
    }
}

impl Fs {
    /// Whether opens are worth a call, as the kernel then reads large files by itself.
    fn passes_through(&self) -> bool {
        let passthrough = self.export.passthrough.as_ref();
        passthrough.is_some_and(Passthrough::usable)
            && self.opens.contains(InitFlags::FUSE_PASSTHROUGH)
    }

    /// Whether the kernel is to open files or directories itself from now on.
    fn leaves_opening(&self, flag: InitFlags) -> bool {
        self.export.policy.sealed() && self.opens.contains(flag)
    }
}

impl Filesystem for Fs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // No FUSE_ATOMIC_O_TRUNC: with it the kernel looks whether the file is a running
        // program only after the helper has truncated it.
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            // Without it the kernel asks for capabilities before each write.
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_ASYNC_DIO;
        wanted |= match self.export.policy.cache {
            Cache::Sealed => {
                InitFlags::FUSE_EXPLICIT_INVAL_DATA | InitFlags::FUSE_CACHE_SYMLINKS | WITHOUT_OPEN
            }
            // What the view makes up changes: its listings are kept while its times are the
            // same, and looked at again once its attributes are old.
            Cache::View | Cache::LargeView => {
                InitFlags::FUSE_AUTO_INVAL_DATA | InitFlags::FUSE_CACHE_SYMLINKS | WITHOUT_OPEN
            }
            Cache::Exclusive => {
                InitFlags::FUSE_EXPLICIT_INVAL_DATA
                    | InitFlags::FUSE_CACHE_SYMLINKS
                    | InitFlags::FUSE_READDIRPLUS_AUTO
            }
            Cache::Shared => InitFlags::FUSE_AUTO_INVAL_DATA | InitFlags::FUSE_READDIRPLUS_AUTO,
        };
        for flag in wanted.iter() {
            // A kernel without one works, only slower.
            let _ = config.add_capabilities(flag);
        }
        if self.export.passthrough.is_some()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
        {
            // The store's own file system may not be a stacked one itself; this one may
            // then be the lower layer of one.
            let _ = config.set_max_stack_depth(1);
        }
        self.opens = config.capabilities();
        // Refused values leave the default, which works.
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn destroy(&mut self) {
        let hidden = self.export.table.take_hidden();
        let sweep = self.export.leave_hidden(&hidden);
        // What is left after that the server sweeps; it may be gone for good.
        let _ = self
            .runtime
            .block_on(async { tokio::time::timeout(SWEEP_DEADLINE, sweep).await });
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name.len() > NAME_MAX {
            // Not "absent", which a directory whose names are all known would say.
            return reply.error(Errno::ENAMETOOLONG);
        }
        if self.export.absent_now(parent.0, name.as_bytes()) {
            return reply.entry(&self.export.ttl(parent.0), &absent(), GENERATION);
        }
        let name = name.as_bytes().to_vec();
        self.go(req, |x| async move {
            match x.lookup(parent.0, &name).await {
                Ok(None) => reply.entry(&x.ttl(parent.0), &absent(), GENERATION),
                Ok(Some(entry)) => answer_entry(reply, Ok(entry)),
                Err(e) => reply.error(e),
            }
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.export.table.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.export.getattr_now(ino.0) {
            Some(entry) => answer_attr(reply, Ok(entry)),
            None => self.go(req, |x| async move {
                answer_attr(reply, x.getattr(ino.0).await)
            }),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let wanted = Wanted {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        };
        let privileged = req.uid() == 0;
        self.go(req, |x| async move {
            answer_attr(reply, x.setattr(ino.0, &wanted, privileged).await);
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.go(req, |x| async move {
            match x.readlink(ino.0).await {
                Ok(target) => reply.data(&target),
                Err(e) => reply.error(e),
            }
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (name, maker) = (name.as_bytes().to_vec(), maker(req, mode));
        match node_kind(mode, rdev) {
            Err(e) => reply.error(e),
            Ok(kind) => self.go(req, |x| async move {
                answer_entry(reply, x.mknod(parent.0, &name, kind, maker).await);
            }),
        }
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (name, maker) = (name.as_bytes().to_vec(), maker(req, mode));
        self.go(req, |x| async move {
            answer_entry(reply, x.mkdir(parent.0, &name, maker).await);
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        self.go(req, |x| async move {
            answer_empty(reply, x.unlink(parent.0, &name).await)
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        self.go(req, |x| async move {
            answer_empty(reply, x.rmdir(parent.0, &name).await)
        });
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (name, maker) = (link_name.as_bytes().to_vec(), maker(req, 0o777));
        let target = target.as_os_str().as_bytes().to_vec();
        self.go(req, |x| async move {
            answer_entry(reply, x.symlink(parent.0, &name, &target, maker).await);
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, newname) = (name.as_bytes().to_vec(), newname.as_bytes().to_vec());
        self.go(req, |x| async move {
            let (from, to) = ((parent.0, &name[..]), (newparent.0, &newname[..]));
            answer_empty(reply, x.rename(from, to, flags).await);
        });
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let name = newname.as_bytes().to_vec();
        self.go(req, |x| async move {
            answer_entry(reply, x.link(ino.0, newparent.0, &name).await);
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.passes_through() {
            if !self.export.is_large(ino.0) {
                return reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            return self.go(req, |x| async move { x.open_large(ino.0, reply).await });
        }
        if self.leaves_opening(InitFlags::FUSE_NO_OPEN_SUPPORT) {
            // Nothing is ever removed there, so opens need no count: the kernel
            // does not ask again.
            return reply.error(Errno::ENOSYS);
        }
        match self.export.open_now(ino.0) {
            Some(outcome) => answer_open(reply, outcome),
            None => self.go(req, |x| async move {
                answer_open(reply, x.open(ino.0, false).await)
            }),
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, maker) = (name.as_bytes().to_vec(), maker(req, mode));
        let how = (flags & libc::O_EXCL != 0, flags & libc::O_TRUNC != 0);
        self.go(req, |x| async move {
            match x.create_open(parent.0, &name, maker, how).await {
                Ok((entry, flags)) => {
                    reply.created(&entry.ttl, &entry.attr, GENERATION, FileHandle(0), flags);
                }
                Err(e) => reply.error(e),
            }
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if self.export.policy.sealed() {
            if offset == 0 {
                for next in self.export.ahead.follow(ino.0, &self.export.table) {
                    let export = self.export.clone();
                    self.runtime
                        .spawn(async move { export.read_ahead(next).await });
                }
            }
            if let Some(data) = self.export.ahead.now(ino.0, offset, size) {
                return reply.data(&data);
            }
        }
        self.go(req, |x| async move {
            match x.read(ino.0, offset, size).await {
                Ok(data) => reply.data(&data),
                Err(e) => reply.error(e),
            }
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        let drop_privileges = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        // What comes from the page cache has its place.
        let appends =
            flags.0 & libc::O_APPEND != 0 && !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        self.go(req, |x| async move {
            let at = match appends {
                true => x.end(ino.0, offset).await,
                false => Ok(offset),
            };
            let wrote = match at {
                Ok(at) => x.write(ino.0, at, &data, drop_privileges).await,
                Err(e) => Err(e),
            };
            match wrote {
                Ok(()) => reply.written(data.len() as u32),
                Err(e) => reply.error(e),
            }
            if at.is_ok_and(|at| at != offset) {
                x.forget_data(ino.0);
            }
        });
    }

    /// Writes were answered by the server already: close(2) has nothing to add.
    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if fh == COUNTED {
            self.export.release_large(ino.0);
            return reply.ok();
        }
        match self.export.release_now(ino.0) {
            None => reply.ok(),
            Some(hidden) => self.go(req, |x| async move {
                x.drop_hidden(&hidden).await;
                reply.ok();
            }),
        }
    }

    fn fsync(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.go(
            req,
            |x| async move { answer_empty(reply, x.fsync(ino.0).await) },
        );
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.leaves_opening(InitFlags::FUSE_NO_OPENDIR_SUPPORT) {
            return reply.error(Errno::ENOSYS);
        }
        reply.opened(FileHandle(self.export.dirs.open()), FopenFlags::empty());
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.go_now(req, |x| async move {
            let mut sink = Sink::Names(reply);
            let outcome = x.readdir(ino.0, fh.0, offset, &mut sink).await;
            sink.answer(outcome);
        });
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.go_now(req, |x| async move {
            let mut sink = Sink::Nodes(reply);
            let outcome = x.readdir(ino.0, fh.0, offset, &mut sink).await;
            sink.answer(outcome);
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.export.dirs.close(fh.0);
        reply.ok();
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.go(req, |x| async move {
            match x.statfs(ino.0).await {
                Ok(stat) => answer_statfs(reply, &stat),
                Err(e) => reply.error(e),
            }
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        let how = match flags {
            0 => XattrHow::Either,
            libc::XATTR_CREATE => XattrHow::Create,
            libc::XATTR_REPLACE => XattrHow::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        self.go(req, |x| async move {
            answer_empty(reply, x.setxattr(ino.0, &name, &value, how).await);
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if let Some(errno) = self.export.getxattr_now(ino.0, name.as_bytes()) {
            return reply.error(errno);
        }
        let name = name.as_bytes().to_vec();
        self.go(req, |x| async move {
            answer_xattr(reply, size, x.getxattr(ino.0, &name).await);
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.go(req, |x| async move {
            answer_xattr(reply, size, x.listxattr(ino.0).await)
        });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        self.go(req, |x| async move {
            answer_empty(reply, x.removexattr(ino.0, &name).await);
        });
    }
}
