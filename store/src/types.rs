//! The words of this crate's interface: nodes, attributes, callers, errors.

/// A node's number in its tree. The root is 1 and a sealed tree numbers its nodes in
/// pre-order; in a work tree, numbers above the base's count are new nodes.
/// Members of a hard-link group share the lowest number among them.
pub type Node = u64;

/// The root of every tree.
pub const ROOT: Node = 1;

/// SHA-256 of an object's canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Digest {
    type Err = Errno;
    /// 64 lower-case hexadecimal digits.
    fn from_str(s: &str) -> Result<Digest, Errno> {
        let mut bytes = [0; 32];
        if s.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(Errno::Inval);
        }
        hex::decode_to_slice(s, &mut bytes).map_err(|_| Errno::Inval)?;
        Ok(Digest(bytes))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    File = 1,
    Dir = 2,
    Symlink = 3,
    Fifo = 4,
    Socket = 5,
    Char = 6,
    Block = 7,
}

/// Seconds since the epoch and nanoseconds below 10^9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time {
    pub secs: i64,
    pub nanos: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rdev {
    pub major: u32,
    pub minor: u32,
}

/// What stat(2) would say of a node. `used` is bytes, holes left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub node: Node,
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub used: u64,
    pub rdev: Rdev,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
}

/// Who acts. uid 0 passes every check but execute on files without any x bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creds {
    pub uid: u32,
    pub gid: u32,
    pub gids: Vec<u32>,
}

impl Creds {
    pub const ROOT: Creds = Creds {
        uid: 0,
        gid: 0,
        gids: Vec::new(),
    };

    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.gids.contains(&gid)
    }
}

/// Names a call that must not run twice (see `WorkTree`'s reply cache).
pub type OnceKey = [u8; 32];

/// What every mutation is told.
#[derive(Clone, Copy, Debug)]
pub struct OpCx<'a> {
    pub creds: &'a Creds,
    /// The clock is the caller's: nothing in this crate reads one.
    pub now: Time,
    /// When set and recorded, the recorded outcome is answered and nothing is done;
    /// else a success is recorded in the same transaction as the change.
    pub once: Option<OnceKey>,
}

/// Attributes before and after a change, from its own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wcc {
    pub before: Attr,
    pub after: Attr,
}

/// The outcome of a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The node made, linked, written or set; for removals and renames the node they touched, as it is after.
    pub node: Attr,
    /// The directory changed (rename: the source); for setattr and write the node itself.
    pub wcc: Wcc,
    /// Rename: the target directory.
    pub to: Option<Wcc>,
}

/// What setattr(2)-like calls change; `None` leaves as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The server's clock; whoever may write may do this.
    Now,
    /// A given time; only the owner may.
    At(Time),
}

/// How `create` treats an existing name (RFC 1813 §3.3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    Unchecked,
    Guarded,
    /// Kept with the node: the same verifier again finds the file it made.
    Exclusive([u8; 8]),
}

/// Bits as access(2) has them; ACCESS's finer bits are built from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Perm(pub u32);

impl Perm {
    pub const READ: Perm = Perm(4);
    pub const WRITE: Perm = Perm(2);
    pub const EXEC: Perm = Perm(1);
}

/// Why an operation on a tree failed: what a system call would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Errno {
    #[error("operation not permitted")]
    Perm,
    #[error("no such file or directory")]
    NoEnt,
    #[error("permission denied")]
    Access,
    #[error("file exists")]
    Exist,
    #[error("cross-device link")]
    XDev,
    #[error("not a directory")]
    NotDir,
    #[error("is a directory")]
    IsDir,
    #[error("invalid argument")]
    Inval,
    #[error("file too large")]
    FBig,
    #[error("no space left on device")]
    NoSpc,
    #[error("read-only tree")]
    RoFs,
    #[error("too many links")]
    MLink,
    #[error("name too long")]
    NameTooLong,
    #[error("directory not empty")]
    NotEmpty,
    #[error("quota exceeded")]
    DQuot,
    #[error("stale node: removed, or of a tree that is gone")]
    Stale,
    #[error("no such attribute")]
    NoData,
    #[error("the object changed since it was looked at")]
    NotSync,
    /// It would have to wait where it may not (`without_waiting`); nothing was changed.
    #[error("operation would block")]
    Again,
    /// The store failed; it has logged what, on which file, and why.
    #[error("input/output error")]
    Io,
}
