//! The vocabulary of RFC 1813, as `nfsserve` spells it, and the numbers it leaves out.

pub use nfsserve::nfs::{
    fattr3, ftype3, nfsstat3, nfstime3, post_op_attr, pre_op_attr, sattr3, set_atime, set_gid3,
    set_mode3, set_mtime, set_size3, set_uid3, specdata3, wcc_attr, wcc_data,
};
pub use nfsserve::xdr::XDR;

/// NFS program number (RFC 1813 §2.2).
pub const NFS_PROGRAM: u32 = 100_003;
/// NFS protocol version served here.
pub const NFS_V3: u32 = 3;
/// MOUNT program number (RFC 1813 §5.1).
pub const MOUNT_PROGRAM: u32 = 100_005;
/// The version of MOUNT that NFSv2 had: OpenBSD and Linux say UMNT in it. MNT is not served
/// in it, as its handles are not NFSv3's.
pub const MOUNT_V1: u32 = 1;
/// MOUNT protocol version served here.
pub const MOUNT_V3: u32 = 3;
/// Our own program, from the range RFC 5531 §8.2 leaves to users: the
/// helper's instance id and extended attributes, which NFSv3 lacks.
pub const POCKER_PROGRAM: u32 = 0x2070_6b72;
/// Version of [`POCKER_PROGRAM`].
pub const POCKER_V1: u32 = 1;

/// Longest file handle (RFC 1813 §2.4, NFS3_FHSIZE).
pub const FHSIZE: usize = 64;
/// Longest name this server takes, as PATHCONF says.
pub const NAME_MAX: usize = 255;
/// Longest path in MOUNT (MNTPATHLEN) and longest symlink target.
pub const PATH_MAX: usize = 4096;

/// Bits of ACCESS (RFC 1813 §3.3.4).
pub mod access {
    pub const READ: u32 = 0x01;
    pub const LOOKUP: u32 = 0x02;
    pub const MODIFY: u32 = 0x04;
    pub const EXTEND: u32 = 0x08;
    pub const DELETE: u32 = 0x10;
    pub const EXECUTE: u32 = 0x20;
}
