//! What a sealed tree and a work tree have in common: everything that reads.

use crate::types::{Attr, Creds, Errno, Node};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub node: Attr,
    pub dir: Attr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadDone {
    pub attr: Attr,
    pub eof: bool,
}

/// One name of a directory, as READDIR needs it.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    pub name: &'a [u8],
    pub node: Node,
    /// Where to go on after this entry. 1 and 2 are "." and "..", base entry i
    /// is i + 3, an added name 2^40 + its sequence number in the directory.
    pub cookie: u64,
    /// Given when asked for.
    pub attr: Option<Attr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirDone {
    pub attr: Attr,
    pub eof: bool,
}

/// The reading half of a file system. Permissions are checked here, under the
/// same lock as the operation: LOOKUP needs x on the directory, READDIR r, READ r or
/// x on the file or its ownership, as NFS servers must.
pub trait Tree: Send + Sync {
    fn getattr(&self, node: Node) -> Result<Attr, Errno>;
    /// "." and ".." included; ".." of the root is the root.
    fn lookup(&self, who: &Creds, dir: Node, name: &[u8]) -> Result<Found, Errno>;
    fn readlink(&self, node: Node) -> Result<(Vec<u8>, Attr), Errno>;
    /// Appends at most `count` bytes to `out`.
    fn read(
        &self,
        who: &Creds,
        node: Node,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<ReadDone, Errno>;
    /// Entries after `cookie` until `emit` answers false, which means "did not fit".
    fn readdir(
        &self,
        who: &Creds,
        dir: Node,
        cookie: u64,
        attrs: bool,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<DirDone, Errno>;
    fn getxattr(&self, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno>;
    fn listxattr(&self, node: Node) -> Result<Vec<Vec<u8>>, Errno>;
}
