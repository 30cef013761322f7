//! The crate's boundary: what a file system must do to be served.
//!
//! Every method is synchronous and knows its caller. Permissions are the file
//! system's to check, under the same lock as the operation itself; the engine
//! decodes, bounds and encodes. Each call is first tried on the socket's own task with
//! [`Cx::nowait`] set; what would block there says so and is run again on a thread that may.

use crate::proto::{fattr3, nfsstat3, nfstime3, sattr3, specdata3, wcc_attr};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// What an operation returns: a value, or a status other than NFS3_OK.
pub type Result<T> = std::result::Result<T, nfsstat3>;

/// A file handle: at most 64 bytes, opaque to the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fh {
    len: u8,
    bytes: [u8; crate::proto::FHSIZE],
}

impl Fh {
    /// `None` where `bytes` is longer than NFSv3 allows or empty.
    pub fn new(bytes: &[u8]) -> Option<Fh> {
        if bytes.is_empty() || bytes.len() > crate::proto::FHSIZE {
            return None;
        }
        let mut fh = Fh {
            len: bytes.len() as u8,
            bytes: [0; crate::proto::FHSIZE],
        };
        fh.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(fh)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Fh {
    /// The length only: a handle is a capability and has no place in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fh({} bytes)", self.len)
    }
}

/// Where a connection comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// A datagram's sender, who may be anybody: MOUNT and the portmapper only.
    Udp(SocketAddr),
    /// A local process on the unix socket, as the kernel names it (SO_PEERCRED, getpeereid).
    Unix {
        uid: u32,
        gid: u32,
        pid: Option<i32>,
    },
    /// An in-memory stream (tests).
    Memory,
}

/// AUTH_SYS credentials of one call (RFC 5531 appendix A); AUTH_NONE is nobody (65534).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, 16 at most on the wire.
    pub gids: Vec<u32>,
}

/// Names a call that must not run twice: a digest of client, xid, program, procedure,
/// credentials and arguments. Never of the source port or the credential's
/// stamp, which change when a client reconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnceKey(pub [u8; 32]);

/// What an operation knows about the call it serves.
#[derive(Debug)]
pub struct Cx<'a> {
    pub caller: &'a Caller,
    pub peer: &'a Peer,
    /// The client's lasting identity: the peer's address, or the instance id
    /// a helper sent. Stable over reconnects.
    pub client: [u8; 16],
    /// Set for the procedures that must not run twice (SETATTR, CREATE, MKDIR,
    /// SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK; SETXATTR, REMOVEXATTR): the file system
    /// answers a key it has recorded with the recorded outcome, and records
    /// each success in the same transaction as the change.
    pub once: Option<OnceKey>,
    /// The operation runs where nothing may block: rather than wait for a disk or for
    /// another's lock it changes nothing and answers [`WOULD_BLOCK`].
    pub nowait: bool,
}

/// To a call with [`Cx::nowait`] it never reaches a client; to others it says so: come again later.
pub const WOULD_BLOCK: nfsstat3 = nfsstat3::NFS3ERR_JUKEBOX;

/// Weak cache consistency data: the attributes before and after a change,
/// both from the same transaction as the change (RFC 1813 §2.6).
#[derive(Clone, Copy, Debug)]
pub struct Wcc {
    pub before: wcc_attr,
    pub after: fattr3,
}

/// LOOKUP's result.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub fh: Fh,
    pub attr: fattr3,
    pub dir: fattr3,
}

/// What CREATE, MKDIR, SYMLINK and MKNOD made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    pub fh: Fh,
    pub attr: fattr3,
    pub dir: Wcc,
}

/// CREATE's three ways (RFC 1813 §3.3.8).
#[derive(Clone, Copy, Debug)]
pub enum CreateHow {
    Unchecked(sattr3),
    Guarded(sattr3),
    Exclusive([u8; 8]),
}

/// What MKNOD makes (RFC 1813 §3.3.11).
#[derive(Clone, Copy, Debug)]
pub enum NodeKind {
    Fifo,
    Socket,
    Char(specdata3),
    Block(specdata3),
}

/// How far WRITE's data must be before the reply (stable_how).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stable {
    Unstable = 0,
    DataSync = 1,
    FileSync = 2,
}

#[derive(Clone, Copy, Debug)]
pub struct ReadDone {
    pub attr: fattr3,
    pub eof: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub count: u32,
    pub committed: Stable,
    pub wcc: Wcc,
}

/// One READDIR or READDIRPLUS entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub fileid: u64,
    pub name: &'a [u8],
    /// Where the next call goes on after this entry.
    pub cookie: u64,
    /// Given when the call asked for attributes (READDIRPLUS).
    pub plus: Option<(Fh, fattr3)>,
}

#[derive(Clone, Copy, Debug)]
pub struct DirDone {
    pub attr: fattr3,
    /// The last entry of the directory was taken.
    pub eof: bool,
}

/// FSSTAT (RFC 1813 §3.3.18); bytes and inodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FsStat {
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub avail_bytes: u64,
    pub total_files: u64,
    pub free_files: u64,
    pub avail_files: u64,
}

/// What FSINFO and PATHCONF say of an export.
#[derive(Clone, Copy, Debug)]
pub struct FsInfo {
    /// Largest READ and WRITE in bytes, a power of two.
    pub io_max: u32,
    pub max_file_size: u64,
    pub link_max: u32,
}

/// One line of MOUNT's EXPORT.
#[derive(Clone, Debug)]
pub struct ExportLine {
    pub path: Vec<u8>,
    pub hosts: Vec<Vec<u8>>,
}

/// How SETXATTR treats an existing name (setxattr(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrHow {
    Either,
    Create,
    Replace,
}

/// Another process that answers calls, whole.
pub trait Elsewhere: Send + Sync {
    /// Appends the reply to `record` without its mark, or nothing where there is none; waits for it, and for others of
    /// that `share`. `client` and `transfer` are the connection's.
    fn ask(
        &self,
        share: u64,
        client: &[u8; 16],
        transfer: u32,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> std::io::Result<()>;
}

/// A file system the engine can serve. "." and ".." reach LOOKUP only; the
/// engine refuses names that are empty, longer than 255 bytes, or hold "/" or NUL,
/// and refuses "." and ".." everywhere else.
pub trait Vfs: Send + Sync + 'static {
    /// MOUNT's MNT: the root handle of an export path.
    fn mount(&self, cx: &Cx, path: &[u8]) -> Result<Fh>;
    /// MOUNT's UMNT; advisory.
    fn umount(&self, cx: &Cx, path: &[u8]);
    fn exports(&self) -> Vec<ExportLine>;
    /// An export path as it may be logged and told to others: without its secret.
    fn shown(&self, path: &[u8]) -> Vec<u8>;

    fn getattr(&self, cx: &Cx, fh: &Fh) -> Result<fattr3>;
    /// `guard`: the ctime the client saw; another one is NFS3ERR_NOT_SYNC.
    fn setattr(&self, cx: &Cx, fh: &Fh, new: &sattr3, guard: Option<nfstime3>) -> Result<Wcc>;
    fn lookup(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Found>;
    /// Which of the bits in `want` ([`crate::proto::access`]) the caller has.
    fn access(&self, cx: &Cx, fh: &Fh, want: u32) -> Result<(u32, fattr3)>;
    fn readlink(&self, cx: &Cx, fh: &Fh) -> Result<(Vec<u8>, fattr3)>;
    /// Appends at most `count` bytes to `out`; nothing past the end.
    fn read(
        &self,
        cx: &Cx,
        fh: &Fh,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<ReadDone>;
    /// May write less than it was given, never nothing of something.
    fn write(&self, cx: &Cx, fh: &Fh, offset: u64, data: &[u8], stable: Stable) -> Result<Written>;
    fn create(&self, cx: &Cx, dir: &Fh, name: &[u8], how: &CreateHow) -> Result<Made>;
    fn mkdir(&self, cx: &Cx, dir: &Fh, name: &[u8], attr: &sattr3) -> Result<Made>;
    fn symlink(&self, cx: &Cx, dir: &Fh, name: &[u8], target: &[u8], attr: &sattr3)
    -> Result<Made>;
    fn mknod(&self, cx: &Cx, dir: &Fh, name: &[u8], kind: NodeKind, attr: &sattr3) -> Result<Made>;
    fn remove(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc>;
    fn rmdir(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc>;
    /// The two directories' data, source first; equal where they are one.
    fn rename(&self, cx: &Cx, from: &Fh, name: &[u8], to: &Fh, new: &[u8]) -> Result<(Wcc, Wcc)>;
    /// The linked file's attributes, and the directory's data.
    fn link(&self, cx: &Cx, fh: &Fh, dir: &Fh, name: &[u8]) -> Result<(fattr3, Wcc)>;
    /// Entries after `cookie` (0 = from the start, "." and ".." with it) go to
    /// `emit` until it answers false (that entry did not fit) or none is left.
    fn readdir(
        &self,
        cx: &Cx,
        dir: &Fh,
        cookie: u64,
        plus: bool,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone>;
    fn fsstat(&self, cx: &Cx, fh: &Fh) -> Result<(FsStat, fattr3)>;
    fn fsinfo(&self, cx: &Cx, fh: &Fh) -> Result<(FsInfo, fattr3)>;
    /// COMMIT: all unstable data of the range is stable on return.
    fn commit(&self, cx: &Cx, fh: &Fh, offset: u64, count: u32) -> Result<Wcc>;
    /// One value for WRITE and COMMIT; another one means unstable data may be gone.
    fn write_verifier(&self) -> [u8; 8];

    /// Extended attributes, for [`crate::proto::POCKER_PROGRAM`] only: local
    /// helpers on the unix socket. NFS3ERR_NOENT: no such attribute.
    fn getxattr(&self, cx: &Cx, fh: &Fh, name: &[u8]) -> Result<Vec<u8>>;
    fn listxattr(&self, cx: &Cx, fh: &Fh) -> Result<Vec<Vec<u8>>>;
    fn setxattr(&self, cx: &Cx, fh: &Fh, name: &[u8], value: &[u8], how: XattrHow) -> Result<()>;
    fn removexattr(&self, cx: &Cx, fh: &Fh, name: &[u8]) -> Result<()>;

    /// A descriptor for reading a file that never changes and is whole as one file of this
    /// host, for a caller that may READ it; NFS3ERR_NOTSUPP: it is no such file.
    fn descriptor(&self, cx: &Cx, fh: &Fh) -> Result<OwnedFd> {
        let _ = (cx, fh);
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }

    /// Who answers the calls on this handle, where that is another process, and what of that process's they all share.
    fn elsewhere(&self, fh: &Fh) -> Option<(&dyn Elsewhere, u64)> {
        let _ = fh;
        None
    }

    /// Runs `call`, operations of which have [`Cx::nowait`] set: for a file system that
    /// must know so where no argument reaches.
    fn hurried(&self, call: &mut dyn FnMut()) {
        call();
    }
}
