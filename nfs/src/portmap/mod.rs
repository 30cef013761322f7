//! The portmapper, version 2 (RFC 1833 §3): ours, for hosts without one, and calls to the
//! host's.

mod register;
mod serve;

pub use register::{RegisterError, port_of, register, unregister};
pub(crate) use serve::answer;

/// Program number of the portmapper.
pub const PORTMAP_PROGRAM: u32 = 100_000;
/// Version served and spoken here: the one that every NFSv3 client speaks.
pub const PORTMAP_V2: u32 = 2;
/// Where a portmapper listens, on TCP and UDP.
pub const PORTMAP_PORT: u16 = 111;

/// Transports, by their IP protocol numbers.
pub const TCP: u32 = 6;
pub const UDP: u32 = 17;

/// One row of a portmapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub program: u32,
    pub version: u32,
    /// [`TCP`] or [`UDP`].
    pub protocol: u32,
    pub port: u16,
}

/// What a server on `port` has: NFS v3 on TCP, MOUNT v1 (all but MNT) and v3 on both.
pub fn mappings(port: u16) -> Vec<Mapping> {
    use crate::proto::{MOUNT_PROGRAM, MOUNT_V1, MOUNT_V3, NFS_PROGRAM, NFS_V3};
    let row = |program, version, protocol| Mapping {
        program,
        version,
        protocol,
        port,
    };
    vec![
        row(NFS_PROGRAM, NFS_V3, TCP),
        row(MOUNT_PROGRAM, MOUNT_V1, TCP),
        row(MOUNT_PROGRAM, MOUNT_V1, UDP),
        row(MOUNT_PROGRAM, MOUNT_V3, TCP),
        row(MOUNT_PROGRAM, MOUNT_V3, UDP),
    ]
}
