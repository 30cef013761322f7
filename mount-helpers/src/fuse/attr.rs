//! Between NFSv3's attributes and statuses and the kernel's.

use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use pocker_nfs::proto::{
    fattr3, ftype3, nfsstat3, nfstime3, sattr3, set_atime, set_gid3, set_mode3, set_mtime,
    set_size3, set_uid3, specdata3,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What stat(2) calls the preferred block: small enough that a program which
/// reads a file by it does not read a megabyte for a line.
const BLOCK: u32 = 4096;

/// The kernel's view of a node. `links` replaces the server's count for a file that
/// has no name any more.
pub(crate) fn file_attr(ino: u64, attr: &fattr3, links: Option<u32>) -> FileAttr {
    let time = |t: nfstime3| UNIX_EPOCH + Duration::new(t.seconds.into(), t.nseconds);
    FileAttr {
        ino: INodeNo(ino),
        size: attr.size,
        blocks: attr.used.div_ceil(512),
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.ftype),
        perm: (attr.mode & 0o7777) as u16,
        nlink: links.unwrap_or(attr.nlink),
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_dev(attr.rdev),
        blksize: BLOCK,
        flags: 0,
    }
}

pub(crate) fn file_type(kind: ftype3) -> FileType {
    match kind {
        ftype3::NF3REG => FileType::RegularFile,
        ftype3::NF3DIR => FileType::Directory,
        ftype3::NF3BLK => FileType::BlockDevice,
        ftype3::NF3CHR => FileType::CharDevice,
        ftype3::NF3LNK => FileType::Symlink,
        ftype3::NF3SOCK => FileType::Socket,
        ftype3::NF3FIFO => FileType::NamedPipe,
    }
}

/// The kernel's 32-bit device number (linux/kdev_t.h, new_encode_dev): 12 bits of
/// major between the low 8 and the high 12 of minor.
fn encode_dev(dev: specdata3) -> u32 {
    let (major, minor) = (dev.specdata1, dev.specdata2);
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

pub(crate) fn decode_dev(dev: u32) -> specdata3 {
    specdata3 {
        specdata1: (dev >> 8) & 0xfff,
        specdata2: (dev & 0xff) | ((dev >> 12) & 0xf_ff00),
    }
}

/// A time that NFSv3 can carry: seconds outside 32 bits are clamped.
fn nfs_time(time: SystemTime) -> nfstime3 {
    match time.duration_since(UNIX_EPOCH) {
        Err(_) => nfstime3::default(),
        Ok(since) => match u32::try_from(since.as_secs()) {
            Ok(seconds) => nfstime3 {
                seconds,
                nseconds: since.subsec_nanos(),
            },
            Err(_) => nfstime3 {
                seconds: u32::MAX,
                nseconds: 999_999_999,
            },
        },
    }
}

/// Sets nothing.
pub(crate) fn keep() -> sattr3 {
    sattr3 {
        mode: set_mode3::Void,
        uid: set_uid3::Void,
        gid: set_gid3::Void,
        size: set_size3::Void,
        atime: set_atime::DONT_CHANGE,
        mtime: set_mtime::DONT_CHANGE,
    }
}

/// The attributes of a new node, owner explicit as all calls are root's.
pub(crate) fn made_by(mode: u32, uid: u32, gid: u32) -> sattr3 {
    sattr3 {
        mode: set_mode3::mode(mode & 0o7777),
        uid: set_uid3::uid(uid),
        gid: set_gid3::gid(gid),
        ..keep()
    }
}

pub(crate) fn with_mode(mode: u32) -> sattr3 {
    sattr3 {
        mode: set_mode3::mode(mode & 0o7777),
        ..keep()
    }
}

pub(crate) fn with_size(size: u64) -> sattr3 {
    sattr3 {
        size: set_size3::size(size),
        ..keep()
    }
}

/// What setattr asked for, as FUSE spells it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeOrNow>,
    pub mtime: Option<TimeOrNow>,
}

impl Wanted {
    pub(crate) fn sattr(&self) -> sattr3 {
        let mut new = keep();
        if let Some(mode) = self.mode {
            new.mode = set_mode3::mode(mode & 0o7777);
        }
        if let Some(uid) = self.uid {
            new.uid = set_uid3::uid(uid);
        }
        if let Some(gid) = self.gid {
            new.gid = set_gid3::gid(gid);
        }
        if let Some(size) = self.size {
            new.size = set_size3::size(size);
        }
        match self.atime {
            None => {}
            Some(TimeOrNow::Now) => new.atime = set_atime::SET_TO_SERVER_TIME,
            Some(TimeOrNow::SpecificTime(t)) => {
                new.atime = set_atime::SET_TO_CLIENT_TIME(nfs_time(t));
            }
        }
        match self.mtime {
            None => {}
            Some(TimeOrNow::Now) => new.mtime = set_mtime::SET_TO_SERVER_TIME,
            Some(TimeOrNow::SpecificTime(t)) => {
                new.mtime = set_mtime::SET_TO_CLIENT_TIME(nfs_time(t));
            }
        }
        new
    }
}

/// The errno of a status (RFC 1813 §2.6). The two that want more than an errno,
/// JUKEBOX and BAD_COOKIE, are dealt with where they arise.
pub(crate) fn errno(status: nfsstat3) -> Errno {
    match status {
        nfsstat3::NFS3ERR_PERM => Errno::EPERM,
        nfsstat3::NFS3ERR_NOENT => Errno::ENOENT,
        nfsstat3::NFS3ERR_NXIO => Errno::ENXIO,
        nfsstat3::NFS3ERR_ACCES => Errno::EACCES,
        nfsstat3::NFS3ERR_EXIST => Errno::EEXIST,
        nfsstat3::NFS3ERR_XDEV => Errno::EXDEV,
        nfsstat3::NFS3ERR_NODEV => Errno::ENODEV,
        nfsstat3::NFS3ERR_NOTDIR => Errno::ENOTDIR,
        nfsstat3::NFS3ERR_ISDIR => Errno::EISDIR,
        nfsstat3::NFS3ERR_INVAL | nfsstat3::NFS3ERR_BADTYPE | nfsstat3::NFS3ERR_TOOSMALL => {
            Errno::EINVAL
        }
        nfsstat3::NFS3ERR_FBIG => Errno::EFBIG,
        nfsstat3::NFS3ERR_NOSPC => Errno::ENOSPC,
        nfsstat3::NFS3ERR_ROFS => Errno::EROFS,
        nfsstat3::NFS3ERR_MLINK => Errno::EMLINK,
        nfsstat3::NFS3ERR_NAMETOOLONG => Errno::ENAMETOOLONG,
        nfsstat3::NFS3ERR_NOTEMPTY => Errno::ENOTEMPTY,
        nfsstat3::NFS3ERR_DQUOT => Errno::EDQUOT,
        nfsstat3::NFS3ERR_STALE | nfsstat3::NFS3ERR_BADHANDLE => Errno::ESTALE,
        nfsstat3::NFS3ERR_NOTSUPP => Errno::EOPNOTSUPP,
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_go_both_ways() {
        for (major, minor) in [(1, 3), (10, 229), (0, 0), (8, 300), (0xfff, 0xf_ffff)] {
            let dev = specdata3 {
                specdata1: major,
                specdata2: minor,
            };
            let back = decode_dev(encode_dev(dev));
            assert_eq!((back.specdata1, back.specdata2), (major, minor));
        }
        // As the kernel has it: 8:300 is 0x10082c.
        let disk = specdata3 {
            specdata1: 8,
            specdata2: 300,
        };
        assert_eq!(encode_dev(disk), 0x10_082c);
    }

    #[test]
    fn a_disk_that_is_full_says_which_limit_it_was() {
        for (status, expected) in [
            (nfsstat3::NFS3ERR_NOSPC, Errno::ENOSPC),
            (nfsstat3::NFS3ERR_DQUOT, Errno::EDQUOT),
            (nfsstat3::NFS3ERR_FBIG, Errno::EFBIG),
        ] {
            assert_eq!(errno(status), expected);
        }
    }

    #[test]
    fn times_outside_32_bits_are_clamped() {
        let before = nfs_time(UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!((before.seconds, before.nseconds), (0, 0));
        let after = nfs_time(UNIX_EPOCH + Duration::from_secs(1 << 40));
        assert_eq!((after.seconds, after.nseconds), (u32::MAX, 999_999_999));
        let fine = nfs_time(UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789));
        assert_eq!((fine.seconds, fine.nseconds), (1_700_000_000, 123_456_789));
    }
}
