//! A host directory grafted into a run: every call passes through to the host's
//! file system, acting as its caller.
//!
//! A handle carries the host kernel's own name of the file, so it survives renames
//! and restarts of the server. The tree ends at its mount: another file system
//! below it is refused, and ".." never leaves it.

mod change;
mod hidden;
mod once;
mod places;
mod read;
mod sys;

use super::convert::host_status;
use super::handle::{Codec, HostFile, Name};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstat};
use once::OnceRing;
use parking_lot::{Mutex, RwLock};
use places::Places;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{Cx, Fh, Result};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// fsid of an export is its kind and its id; grafts have this kind.
const FSID_KIND: u64 = 3 << 60;
/// Deepest path that ".." is followed up to see whether it left the graft.
const DEPTH_MAX: usize = 4096;

/// One grafted host directory.
pub struct Graft {
    id: u64,
    root: OwnedFd,
    root_file: HostFile,
    device: libc::dev_t,
    root_ino: u64,
    read_only: bool,
    once: Mutex<OnceRing>,
    /// Where the kernel asks for them.
    places: Option<Arc<Places>>,
}

/// All grafts that are in use.
pub struct Grafts {
    codec: Codec,
    live: RwLock<HashMap<u64, Arc<Graft>>>,
    places: Option<Arc<Places>>,
}

impl Grafts {
    pub fn new(codec: Codec) -> Grafts {
        Grafts {
            codec,
            live: RwLock::new(HashMap::new()),
            places: crate::daemon::privileges::asked_for_places().then(|| Arc::new(Places::new())),
        }
    }

    /// Makes `dir` reachable as graft `id`.
    pub fn add(&self, id: u64, dir: &Path, read_only: bool) -> std::result::Result<(), Errno> {
        let root = nix::fcntl::open(
            dir,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )?;
        let stat = fstat(&root)?;
        let root_file = sys::file_of(root.as_fd())?;
        let graft = Graft {
            id,
            root,
            root_file,
            device: stat.st_dev,
            root_ino: stat.st_ino,
            read_only,
            once: Mutex::new(OnceRing::default()),
            places: self.places.clone(),
        };
        self.live.write().insert(id, Arc::new(graft));
        Ok(())
    }

    pub fn remove(&self, id: u64) {
        // Held meanwhile: nobody grafts it again before it is swept.
        let mut live = self.live.write();
        let Some(graft) = live.remove(&id).filter(|graft| !graft.read_only) else {
            return;
        };
        let same = |other: &Arc<Graft>| {
            (other.device, other.root_ino) == (graft.device, graft.root_ino) && !other.read_only
        };
        if !live.values().any(same) {
            hidden::sweep(graft.root.as_fd());
        }
    }

    pub fn root(&self, id: u64) -> Option<Fh> {
        let graft = self.get(id).ok()?;
        Some(self.codec.encode(&Name::Host {
            graft: id,
            file: graft.root_file,
        }))
    }

    fn get(&self, id: u64) -> Result<Arc<Graft>> {
        self.live
            .read()
            .get(&id)
            .cloned()
            .ok_or(nfsstat3::NFS3ERR_STALE)
    }

    /// The graft of a handle and the file it names, open for everything but data.
    fn open(&self, graft: u64, file: &HostFile) -> Result<(Arc<Graft>, Node)> {
        let graft = self.get(graft)?;
        let node = graft.open(file)?;
        Ok((graft, node))
    }

    /// Of what was found by that name in that directory.
    fn handle(&self, graft: &Graft, node: &Node, dir: &Node, name: &[u8]) -> Result<Fh> {
        let file = sys::file_of(node.fd.as_fd()).map_err(host_status)?;
        graft.seen(&file, &node.stat, dir.fd.as_fd(), name);
        Ok(self.codec.encode(&Name::Host {
            graft: graft.id,
            file,
        }))
    }
}

/// A file of a graft, opened O_PATH by the server itself.
struct Node {
    fd: OwnedFd,
    stat: FileStat,
}

impl Node {
    fn refresh(&mut self) -> Result<()> {
        self.stat = fstat(&self.fd).map_err(host_status)?;
        Ok(())
    }

    fn path(&self) -> String {
        sys::path_of(self.fd.as_fd())
    }

    fn is(&self, kind: libc::mode_t) -> bool {
        self.stat.st_mode & libc::S_IFMT == kind
    }
}

impl Graft {
    fn open(&self, file: &HostFile) -> Result<Node> {
        let flags = sys::O_PATH | libc::O_NOFOLLOW;
        let fd = sys::open(self.root.as_fd(), file, flags).map_err(|e| match e {
            Errno::ENOENT => nfsstat3::NFS3ERR_STALE,
            other => host_status(other),
        })?;
        self.node(fd)
    }

    fn node(&self, fd: OwnedFd) -> Result<Node> {
        let stat = fstat(&fd).map_err(host_status)?;
        if stat.st_dev != self.device {
            return Err(nfsstat3::NFS3ERR_ACCES);
        }
        Ok(Node { fd, stat })
    }

    /// A name in a directory, as the caller may see it.
    fn child(&self, cx: &Cx, dir: &Node, name: &[u8]) -> Result<Node> {
        let _as = self.act_as(cx)?;
        let flags = OFlag::from_bits_retain(sys::O_PATH) | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::openat(&dir.fd, name, flags, nix::sys::stat::Mode::empty())
            .map_err(host_status)?;
        drop(_as);
        self.node(fd)
    }

    /// ".." that stays inside: the root's parent is the root, and a directory that
    /// somebody moved out of the graft has none.
    fn parent(&self, cx: &Cx, dir: &Node) -> Result<Node> {
        if dir.stat.st_ino == self.root_ino {
            return self.open(&self.root_file);
        }
        let parent = self.child(cx, dir, b"..")?;
        let mut at = parent.stat.st_ino;
        let mut fd = parent
            .fd
            .try_clone()
            .map_err(|_| nfsstat3::NFS3ERR_SERVERFAULT)?;
        for _ in 0..DEPTH_MAX {
            if at == self.root_ino {
                return Ok(parent);
            }
            let flags = OFlag::from_bits_retain(sys::O_PATH) | OFlag::O_CLOEXEC;
            let up = nix::fcntl::openat(&fd, "..", flags, nix::sys::stat::Mode::empty())
                .map_err(host_status)?;
            let stat = fstat(&up).map_err(host_status)?;
            if stat.st_dev != self.device || stat.st_ino == at {
                break;
            }
            (at, fd) = (stat.st_ino, up);
        }
        Err(nfsstat3::NFS3ERR_STALE)
    }

    fn act_as(&self, cx: &Cx) -> Result<Option<sys::ActAs>> {
        if cx.caller.uid == 0 && cx.caller.gid == 0 {
            return Ok(None);
        }
        let caller = sys::ActAs::caller(cx.caller.uid, cx.caller.gid, &cx.caller.gids);
        caller.map(Some).map_err(host_status)
    }

    /// Whether the caller may read, write or execute, as access(2) says; an owner always
    /// may read and write, as NFS servers must allow: the client checked at open.
    fn may(&self, cx: &Cx, node: &Node, want: nix::unistd::AccessFlags) -> Result<bool> {
        let _as = self.act_as(cx)?;
        let path = node.path();
        match nix::unistd::faccessat(
            nix::fcntl::AT_FDCWD,
            path.as_str(),
            want,
            AtFlags::AT_EACCESS,
        ) {
            Ok(()) => Ok(true),
            Err(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY) => Ok(false),
            Err(e) => Err(host_status(e)),
        }
    }

    fn owns(cx: &Cx, node: &Node) -> bool {
        cx.caller.uid == 0 || cx.caller.uid == node.stat.st_uid
    }

    fn writable(&self) -> Result<()> {
        if self.read_only {
            Err(nfsstat3::NFS3ERR_ROFS)
        } else {
            Ok(())
        }
    }

    fn attr(&self, stat: &FileStat) -> fattr3 {
        let time = |secs: i64, nanos: i64| {
            super::convert::time(pocker_store::types::Time {
                secs,
                nanos: u32::try_from(nanos).unwrap_or(0),
            })
        };
        fattr3 {
            ftype: match stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR => ftype3::NF3DIR,
                libc::S_IFLNK => ftype3::NF3LNK,
                libc::S_IFIFO => ftype3::NF3FIFO,
                libc::S_IFSOCK => ftype3::NF3SOCK,
                libc::S_IFCHR => ftype3::NF3CHR,
                libc::S_IFBLK => ftype3::NF3BLK,
                _ => ftype3::NF3REG,
            },
            mode: (stat.st_mode & 0o7777) as _,
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            used: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
            rdev: specdata3 {
                specdata1: crate::sys::device::major(stat.st_rdev),
                specdata2: crate::sys::device::minor(stat.st_rdev),
            },
            fsid: FSID_KIND | self.id,
            fileid: stat.st_ino,
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}
