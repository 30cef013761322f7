//! ONC RPC (RFC 5531), MOUNT v3 and NFSv3 (RFC 1813): the wire format, a
//! server engine over the [`vfs::Vfs`] trait, and a client.
//!
//! `nfsserve` supplies the vocabulary ([`proto`]): its NFSv3 types and their
//! XDR encoding. Decoding what comes from the network is our own, because a
//! length from the wire must never allocate.

pub mod client;
pub mod descriptors;
pub mod failpoint;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod place;
pub mod portmap;
pub mod proto;
mod rpc;
pub mod secure;
pub mod server;
pub mod vfs;
mod xdr;
