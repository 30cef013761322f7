//! A host directory grafted into a run: every call passes through to the host's
//! file system, acting as its caller.
//!
//! A handle carries the host kernel's own name of the file, so it survives renames
//! and restarts of the server; where the kernel gives none, the server's own (`naming`). The tree
//! ends at its mount: another file system below it is refused, and ".." never leaves it. Where a
//! thread cannot act as the caller, the server decides by itself what he may (`rights`).

mod alone;
mod change;
mod hidden;
mod make;
mod naming;
mod node;
mod once;
mod read;
mod rights;
mod root;
mod sys;
#[cfg(test)]
mod tests;
mod turn;

use super::convert::host_status;
use super::handle::{Codec, HostFile, Name};
use crate::daemon::patience::{REMOVING, SWEEPS};
pub use alone::{Alone, is_of_disk};
use hidden::{Left, Place, Sweeping};
use naming::{Id, Names, Still};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::AccessFlags;
use node::Node;
use once::OnceRing;
use parking_lot::{Condvar, Mutex, RwLock};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{Cx, Fh, Result};
pub use root::{Mark, Root};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// fsid of an export is its kind and its id; grafts have this kind.
const FSID_KIND: u64 = 3 << 60;
/// Deepest path that ".." is followed up to see whether it left the graft.
const DEPTH_MAX: usize = 4096;
/// How often a name is looked at again that is another file's each time.
const CHANGES_MAX: usize = 8;

/// One grafted host directory.
pub struct Graft {
    id: u64,
    root: Arc<OwnedFd>,
    naming: Naming,
    /// What a caller may is decided here, and done as root.
    checks: bool,
    device: libc::dev_t,
    root_ino: u64,
    read_only: bool,
    once: Mutex<OnceRing>,
}

/// What its files are called in handles.
enum Naming {
    /// As the kernel calls them; the root's.
    Handles(HostFile),
    Names(Box<Names>),
}

/// All grafts that are in use.
pub struct Grafts {
    codec: Codec,
    live: RwLock<HashMap<u64, Arc<Graft>>>,
    sweeping: Arc<Sweeping>,
    /// Those that are served once their disks answer: calls wait for them, as they wait for a disk.
    late: Mutex<HashSet<u64>>,
    not_late: Condvar,
    /// Where those that need it keep where their files are.
    dir: PathBuf,
    /// Memory of all tables of names.
    tables: Arc<AtomicUsize>,
    portable: AtomicBool,
    /// Files are found by path though the kernel has handles.
    names: bool,
    /// As if no file system told files of a number from each other.
    #[cfg(test)]
    untagged: bool,
}

impl Grafts {
    pub fn new(codec: Codec, dir: PathBuf) -> Grafts {
        Grafts {
            codec,
            live: RwLock::new(HashMap::new()),
            sweeping: Arc::default(),
            late: Mutex::default(),
            not_late: Condvar::new(),
            dir,
            tables: Arc::default(),
            portable: AtomicBool::new(false),
            names: crate::daemon::privileges::asked_for_places(),
            #[cfg(test)]
            untagged: false,
        }
    }

    /// Grafts from here on need nothing that only this system has: as they are on OpenBSD.
    pub fn be_portable(&self) {
        self.portable.store(true, Ordering::Relaxed);
    }

    /// Makes `dir` reachable as graft `id`.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn add(
        &self,
        id: u64,
        dir: &std::path::Path,
        read_only: bool,
    ) -> std::result::Result<(), Errno> {
        self.serve(id, Root::open(dir)?, read_only)
    }

    /// Makes that directory reachable as graft `id`.
    pub fn serve(&self, id: u64, root: Root, read_only: bool) -> std::result::Result<(), Errno> {
        let Root {
            fd: root,
            stat,
            handle,
            tagged,
            ..
        } = root;
        let portable = self.portable.load(Ordering::Relaxed);
        let naming = match handle {
            // Landlock asks for the directories above a file that is opened; one opened by its handle may have none.
            Some(file) if !portable && !self.names => Naming::Handles(file),
            _ => {
                #[cfg(test)]
                let tagged = tagged && !self.untagged;
                let names = Names::new(tagged, self.tables.clone());
                if let Err(e) = self.keep(id, &names) {
                    tracing::warn!("where a graft's files are cannot be kept: {e}");
                }
                Naming::Names(Box::new(names))
            }
        };
        let graft = Graft {
            id,
            root: Arc::new(root),
            naming,
            checks: portable || !sys::ACTS,
            device: stat.st_dev,
            root_ino: stat.st_ino,
            read_only,
            once: Mutex::new(OnceRing::default()),
        };
        let graft = Arc::new(graft);
        let served = self.sweeping.when_free(graft.place(), || {
            self.live.write().insert(id, graft.clone());
        });
        if served.is_err()
            && let Some(names) = graft.names()
        {
            names.end();
        }
        if served.is_ok() {
            self.come(id);
        }
        served
    }

    /// It is served later, or removed.
    pub fn expect(&self, id: u64) {
        self.late.lock().insert(id);
    }

    /// Nobody waits for any of them any more.
    pub fn expect_none(&self) {
        self.late.lock().clear();
        self.not_late.notify_all();
    }

    fn come(&self, id: u64) {
        if self.late.lock().remove(&id) {
            self.not_late.notify_all();
        }
    }

    fn keep(&self, id: u64, names: &Names) -> std::io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut private = std::fs::DirBuilder::new();
        private.mode(0o700).recursive(true).create(&self.dir)?;
        names.keep(&self.dir.join(id.to_string()))
    }

    /// Drops what is kept for grafts that are not in use.
    pub fn sweep(&self) {
        let Ok(all) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let live = self.live.read();
        for entry in all.flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.parse::<u64>().ok());
            if id.is_none_or(|id| !live.contains_key(&id)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// What runs left hidden in the directories is gone then, or goes when their disks answer.
    pub fn remove(&self, ids: &[u64]) {
        let until = Instant::now() + REMOVING;
        let left: Vec<Left> = ids.iter().filter_map(|id| self.end(*id)).collect();
        let sweep = |left: Left| {
            let what = format!("{:?}", left.place());
            SWEEPS.ask(what.as_bytes(), || {
                left.sweep();
                Ok(())
            })
        };
        // All of them at once.
        let asked: Vec<_> = left.into_iter().map(sweep).collect();
        for asked in asked {
            if let Err(e) = asked.and_then(|asked| asked.by(until)) {
                tracing::warn!("what runs left hidden in a graft's directory is there yet: {e}");
            }
        }
    }

    /// It is served no more. What is to be swept, where it was the last of its directory's.
    fn end(&self, id: u64) -> Option<Left> {
        self.come(id);
        self.sweeping.begin(|| {
            let graft = self.live.write().remove(&id)?;
            if let Some(names) = graft.names() {
                names.end();
            }
            let same = |other: &Arc<Graft>| other.place() == graft.place() && !other.read_only;
            let last = !graft.read_only && !self.live.read().values().any(same);
            last.then(|| (graft.place(), graft.root.clone()))
        })
    }

    pub fn root(&self, id: u64) -> Option<Fh> {
        let graft = self.get(id).ok()?;
        let file = match &graft.naming {
            Naming::Handles(file) => *file,
            Naming::Names(names) => names.id(&graft.top().ok()?).encode(),
        };
        Some(self.codec.encode(&Name::Host { graft: id, file }))
    }

    fn get(&self, id: u64) -> Result<Arc<Graft>> {
        let live = || self.live.read().get(&id).cloned();
        if let Some(graft) = live() {
            return Ok(graft);
        }
        let mut late = self.late.lock();
        self.not_late
            .wait_while(&mut late, |late| late.contains(&id));
        live().ok_or(nfsstat3::NFS3ERR_STALE)
    }

    fn handle(&self, graft: &Graft, node: &Node) -> Result<Fh> {
        let file = match (&graft.naming, node.itself()) {
            (Naming::Names(names), _) => names.id(node).encode(),
            (Naming::Handles(_), Some(fd)) => sys::file_of(fd).map_err(host_status)?,
            // What is named by handles is held by a descriptor.
            (Naming::Handles(_), None) => return Err(nfsstat3::NFS3ERR_SERVERFAULT),
        };
        Ok(self.codec.encode(&Name::Host {
            graft: graft.id,
            file,
        }))
    }
}

impl Graft {
    fn place(&self) -> Place {
        (self.device, self.root_ino)
    }

    fn names(&self) -> Option<&Names> {
        match &self.naming {
            Naming::Names(names) => Some(names),
            Naming::Handles(_) => None,
        }
    }

    fn tagged(&self) -> bool {
        self.names().is_some_and(Names::are_tagged)
    }

    /// Held while a path is gone down and what is there is done.
    fn still(&self) -> Option<Still<'_>> {
        self.names().map(Names::still)
    }

    /// Held by who moves names or takes them away.
    fn moving(&self) -> Option<Still<'_>> {
        self.names().map(Names::moving)
    }

    fn top(&self) -> Result<Node> {
        self.reach(&self.root, b".").map_err(host_status)
    }

    /// The file of a handle, open for everything but data.
    fn open(&self, file: &HostFile) -> Result<Node> {
        let node = match (&self.naming, Id::decode(file)) {
            (Naming::Names(names), Some(id)) => self.find(names, &id)?,
            (Naming::Handles(_), None) => {
                let flags = sys::O_PATH | libc::O_NOFOLLOW;
                let fd = sys::open(self.root.as_fd(), file, flags);
                let node = fd.and_then(|fd| self.node_of(fd));
                node.map_err(|e| match e {
                    Errno::ENOENT => nfsstat3::NFS3ERR_STALE,
                    other => host_status(other),
                })?
            }
            // Made when this directory's files were named otherwise.
            _ => return Err(nfsstat3::NFS3ERR_STALE),
        };
        self.within(node)
    }

    fn within(&self, node: Node) -> Result<Node> {
        match node.stat.st_dev == self.device {
            true => Ok(node),
            false => Err(nfsstat3::NFS3ERR_ACCES),
        }
    }

    /// A name in a directory, as the caller may see it.
    fn child(&self, cx: &Cx, dir: &Node, name: &[u8]) -> Result<Node> {
        self.checked(|| rights::search(cx.caller, &rights::File::of(&dir.stat)))?;
        let acting = self.act_as(cx)?;
        let mut node = self.reach_in(dir, name);
        // Another took its place just then.
        for _ in 0..CHANGES_MAX {
            match node {
                Err(Errno::ESTALE) => node = self.reach_in(dir, name),
                _ => break,
            }
        }
        drop(acting);
        let node = self.within(node.map_err(host_status)?)?;
        if let Some(names) = self.names()
            && name != b"."
        {
            names.met(&node, dir.stat.st_ino, name);
        }
        Ok(node)
    }

    /// ".." that stays inside: the root's parent is the root, and a directory that
    /// somebody moved out of the graft has none.
    fn parent(&self, cx: &Cx, dir: &Node) -> Result<Node> {
        if dir.stat.st_ino == self.root_ino {
            return self.top();
        }
        self.checked(|| rights::search(cx.caller, &rights::File::of(&dir.stat)))?;
        // Its path was gone down from the root.
        if let Some(parent) = self.above(dir) {
            return self.within(parent.map_err(host_status)?);
        }
        let acting = self.act_as(cx)?;
        let parent = self.reach_in(dir, b"..").map_err(host_status)?;
        drop(acting);
        let parent = self.within(parent)?;
        let mut at = parent.stat.st_ino;
        let fd = parent.dir()?.try_clone_to_owned();
        let mut fd = fd.map_err(|_| nfsstat3::NFS3ERR_SERVERFAULT)?;
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
        if self.checks || (cx.caller.uid == 0 && cx.caller.gid == 0) {
            return Ok(None);
        }
        let caller = sys::ActAs::caller(cx.caller.uid, cx.caller.gid, &cx.caller.gids);
        caller.map(Some).map_err(host_status)
    }

    /// Asks what the kernel is not asked.
    fn checked(&self, ask: impl FnOnce() -> Result<()>) -> Result<()> {
        match self.checks {
            true => ask(),
            false => Ok(()),
        }
    }

    /// Whether the caller may read, write or execute, as access(2) says; an owner always
    /// may read and write, as NFS servers must allow: the client checked at open.
    fn may(&self, cx: &Cx, node: &Node, want: AccessFlags) -> Result<bool> {
        if self.checks {
            let bits = [
                (AccessFlags::R_OK, rights::READ),
                (AccessFlags::W_OK, rights::WRITE),
                (AccessFlags::X_OK, rights::EXECUTE),
            ];
            let want = bits.iter().filter(|(flag, _)| want.contains(*flag));
            let want = want.fold(0, |all, (_, bit)| all | bit);
            return Ok(rights::may(cx.caller, &rights::File::of(&node.stat), want));
        }
        let (path, _held) = node.path()?;
        let _as = self.act_as(cx)?;
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
