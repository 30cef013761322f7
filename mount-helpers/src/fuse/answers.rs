//! What operations return, as the kernel's requests want it answered.

use super::attr::decode_dev;
use super::export::Entry;
use super::names::Maker;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use pocker_nfs::proto::NAME_MAX;
use pocker_nfs::vfs::{FsStat, NodeKind};
use std::time::UNIX_EPOCH;

/// The unit of statfs(2).
const BLOCK: u32 = 4096;

/// Only one node ever has an id while the kernel knows it.
pub(super) const GENERATION: Generation = Generation(0);

pub(super) fn answer_entry(reply: ReplyEntry, outcome: Result<Entry, Errno>) {
    match outcome {
        Ok(entry) => reply.entry(&entry.ttl, &entry.attr, GENERATION),
        Err(e) => reply.error(e),
    }
}

pub(super) fn answer_attr(reply: ReplyAttr, outcome: Result<Entry, Errno>) {
    match outcome {
        Ok(entry) => reply.attr(&entry.ttl, &entry.attr),
        Err(e) => reply.error(e),
    }
}

pub(super) fn answer_empty(reply: ReplyEmpty, outcome: Result<(), Errno>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

pub(super) fn answer_open(reply: ReplyOpen, outcome: Result<FopenFlags, Errno>) {
    match outcome {
        Ok(flags) => reply.opened(FileHandle(0), flags),
        Err(e) => reply.error(e),
    }
}

/// getxattr(2), listxattr(2): a size of 0 asks for the size.
pub(super) fn answer_xattr(reply: ReplyXattr, size: u32, outcome: Result<Vec<u8>, Errno>) {
    match outcome {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(e) => reply.error(e),
    }
}

/// Node id 0 tells the kernel that there is no such name, and for how long.
pub(super) fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(super) fn maker(req: &Request, mode: u32) -> Maker {
    Maker {
        uid: req.uid(),
        gid: req.gid(),
        mode,
    }
}

pub(super) fn node_kind(mode: u32, rdev: u32) -> Result<Option<NodeKind>, Errno> {
    match mode & libc::S_IFMT {
        libc::S_IFREG | 0 => Ok(None),
        libc::S_IFIFO => Ok(Some(NodeKind::Fifo)),
        libc::S_IFSOCK => Ok(Some(NodeKind::Socket)),
        libc::S_IFCHR => Ok(Some(NodeKind::Char(decode_dev(rdev)))),
        libc::S_IFBLK => Ok(Some(NodeKind::Block(decode_dev(rdev)))),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn answer_statfs(reply: ReplyStatfs, stat: &FsStat) {
    let blocks = |bytes: u64| bytes / u64::from(BLOCK);
    reply.statfs(
        blocks(stat.total_bytes),
        blocks(stat.free_bytes),
        blocks(stat.avail_bytes),
        stat.total_files,
        stat.avail_files,
        BLOCK,
        NAME_MAX as u32,
        BLOCK,
    );
}
