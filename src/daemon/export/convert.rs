//! The store's words and the protocol's.

use pocker_nfs::proto::*;
use pocker_nfs::vfs;
use pocker_store::types as st;

/// Times outside what the wire can carry are clamped to it (RFC 1813 §2.5, nfstime3).
pub fn time(t: st::Time) -> nfstime3 {
    match u32::try_from(t.secs) {
        Ok(seconds) => nfstime3 {
            seconds,
            nseconds: t.nanos,
        },
        Err(_) if t.secs < 0 => nfstime3 {
            seconds: 0,
            nseconds: 0,
        },
        Err(_) => nfstime3 {
            seconds: u32::MAX,
            nseconds: 999_999_999,
        },
    }
}

fn from_time(t: nfstime3) -> st::Time {
    st::Time {
        secs: i64::from(t.seconds),
        nanos: t.nseconds.min(999_999_999),
    }
}

fn kind(kind: st::Kind) -> ftype3 {
    match kind {
        st::Kind::File => ftype3::NF3REG,
        st::Kind::Dir => ftype3::NF3DIR,
        st::Kind::Symlink => ftype3::NF3LNK,
        st::Kind::Fifo => ftype3::NF3FIFO,
        st::Kind::Socket => ftype3::NF3SOCK,
        st::Kind::Char => ftype3::NF3CHR,
        st::Kind::Block => ftype3::NF3BLK,
    }
}

/// Attributes on the wire; `fileid` is the export's to choose.
pub fn attr(a: &st::Attr, fsid: u64, fileid: u64) -> fattr3 {
    fattr3 {
        ftype: kind(a.kind),
        mode: a.mode,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        size: a.size,
        used: a.used,
        rdev: specdata3 {
            specdata1: a.rdev.major,
            specdata2: a.rdev.minor,
        },
        fsid,
        fileid,
        atime: time(a.atime),
        mtime: time(a.mtime),
        ctime: time(a.ctime),
    }
}

pub fn wcc_before(a: &st::Attr) -> wcc_attr {
    wcc_attr {
        size: a.size,
        mtime: time(a.mtime),
        ctime: time(a.ctime),
    }
}

pub fn set_attr(new: &sattr3) -> st::SetAttr {
    st::SetAttr {
        mode: match new.mode {
            set_mode3::Void => None,
            set_mode3::mode(mode) => Some(mode & 0o7777),
        },
        uid: match new.uid {
            set_uid3::Void => None,
            set_uid3::uid(uid) => Some(uid),
        },
        gid: match new.gid {
            set_gid3::Void => None,
            set_gid3::gid(gid) => Some(gid),
        },
        size: match new.size {
            set_size3::Void => None,
            set_size3::size(size) => Some(size),
        },
        atime: match new.atime {
            set_atime::DONT_CHANGE => None,
            set_atime::SET_TO_SERVER_TIME => Some(st::SetTime::Now),
            set_atime::SET_TO_CLIENT_TIME(t) => Some(st::SetTime::At(from_time(t))),
        },
        mtime: match new.mtime {
            set_mtime::DONT_CHANGE => None,
            set_mtime::SET_TO_SERVER_TIME => Some(st::SetTime::Now),
            set_mtime::SET_TO_CLIENT_TIME(t) => Some(st::SetTime::At(from_time(t))),
        },
    }
}

pub fn guard_time(t: nfstime3) -> st::Time {
    from_time(t)
}

pub fn creds(caller: &vfs::Caller) -> st::Creds {
    st::Creds {
        uid: caller.uid,
        gid: caller.gid,
        gids: caller.gids.clone(),
    }
}

/// Every error of the store has one status (RFC 1813 §2.6).
pub fn status(e: st::Errno) -> nfsstat3 {
    use st::Errno;
    match e {
        Errno::Perm => nfsstat3::NFS3ERR_PERM,
        Errno::NoEnt | Errno::NoData => nfsstat3::NFS3ERR_NOENT,
        Errno::Access => nfsstat3::NFS3ERR_ACCES,
        Errno::Exist => nfsstat3::NFS3ERR_EXIST,
        Errno::XDev => nfsstat3::NFS3ERR_XDEV,
        Errno::NotDir => nfsstat3::NFS3ERR_NOTDIR,
        Errno::IsDir => nfsstat3::NFS3ERR_ISDIR,
        Errno::Inval => nfsstat3::NFS3ERR_INVAL,
        Errno::FBig => nfsstat3::NFS3ERR_FBIG,
        Errno::NoSpc => nfsstat3::NFS3ERR_NOSPC,
        Errno::RoFs => nfsstat3::NFS3ERR_ROFS,
        Errno::MLink => nfsstat3::NFS3ERR_MLINK,
        Errno::NameTooLong => nfsstat3::NFS3ERR_NAMETOOLONG,
        Errno::NotEmpty => nfsstat3::NFS3ERR_NOTEMPTY,
        Errno::DQuot => nfsstat3::NFS3ERR_DQUOT,
        Errno::Stale => nfsstat3::NFS3ERR_STALE,
        Errno::NotSync => nfsstat3::NFS3ERR_NOT_SYNC,
        Errno::Again => vfs::WOULD_BLOCK,
        Errno::Io => nfsstat3::NFS3ERR_IO,
    }
}

/// The host's error, for a host directory.
pub fn host_status(e: nix::errno::Errno) -> nfsstat3 {
    use nix::errno::Errno as E;
    match e {
        E::EPERM => nfsstat3::NFS3ERR_PERM,
        E::ENOENT => nfsstat3::NFS3ERR_NOENT,
        E::ENXIO => nfsstat3::NFS3ERR_NXIO,
        E::EACCES => nfsstat3::NFS3ERR_ACCES,
        E::EEXIST => nfsstat3::NFS3ERR_EXIST,
        E::EXDEV => nfsstat3::NFS3ERR_XDEV,
        E::ENODEV => nfsstat3::NFS3ERR_NODEV,
        E::ENOTDIR => nfsstat3::NFS3ERR_NOTDIR,
        E::EISDIR => nfsstat3::NFS3ERR_ISDIR,
        E::EINVAL | E::ELOOP | E::ETXTBSY => nfsstat3::NFS3ERR_INVAL,
        E::EFBIG => nfsstat3::NFS3ERR_FBIG,
        E::ENOSPC => nfsstat3::NFS3ERR_NOSPC,
        E::EROFS => nfsstat3::NFS3ERR_ROFS,
        E::EMLINK => nfsstat3::NFS3ERR_MLINK,
        E::ENAMETOOLONG => nfsstat3::NFS3ERR_NAMETOOLONG,
        E::ENOTEMPTY => nfsstat3::NFS3ERR_NOTEMPTY,
        E::EDQUOT => nfsstat3::NFS3ERR_DQUOT,
        E::ESTALE => nfsstat3::NFS3ERR_STALE,
        E::EOPNOTSUPP => nfsstat3::NFS3ERR_NOTSUPP,
        _ => nfsstat3::NFS3ERR_IO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the host says of its space, a client is told the same.
    #[test]
    fn a_disk_that_is_full_says_which_limit_it_was() {
        use nix::errno::Errno as E;
        for (host, ours, expected) in [
            (E::ENOSPC, st::Errno::NoSpc, nfsstat3::NFS3ERR_NOSPC),
            (E::EDQUOT, st::Errno::DQuot, nfsstat3::NFS3ERR_DQUOT),
            (E::EFBIG, st::Errno::FBig, nfsstat3::NFS3ERR_FBIG),
        ] {
            assert_eq!(host_status(host) as u32, expected as u32);
            assert_eq!(status(ours) as u32, expected as u32);
        }
    }

    #[test]
    fn times_outside_the_wire_are_clamped() {
        let at = |secs, nanos| time(st::Time { secs, nanos });
        assert_eq!(at(-1, 5).seconds, 0);
        assert_eq!(at(i64::from(u32::MAX) + 1, 5).seconds, u32::MAX);
        assert_eq!((at(7, 5).seconds, at(7, 5).nseconds), (7, 5));
    }
}
