//! The store, and grafted host directories, as an NFS file system.

pub mod convert;
pub mod handle;
pub mod host;
