//! What differs between operating systems, and the few calls that need `unsafe`.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(target_os = "linux")]
pub(crate) use processes::{PidNamespace, own_pid_namespace};

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::*;

#[cfg(any(target_os = "openbsd", target_os = "freebsd", target_os = "netbsd"))]
mod bsd;
#[cfg(any(target_os = "openbsd", target_os = "freebsd", target_os = "netbsd"))]
pub(crate) use bsd::*;

#[cfg(not(any(target_os = "openbsd", target_os = "freebsd", target_os = "netbsd")))]
mod no_bsd;
#[cfg(not(any(target_os = "openbsd", target_os = "freebsd", target_os = "netbsd")))]
pub(crate) use no_bsd::*;

#[cfg(not(any(
    target_os = "linux",
    target_os = "openbsd",
    target_os = "freebsd",
    target_os = "netbsd"
)))]
mod unknown;
#[cfg(not(any(
    target_os = "linux",
    target_os = "openbsd",
    target_os = "freebsd",
    target_os = "netbsd"
)))]
pub(crate) use unknown::*;

/// Whether this is the system whose `mount_nfs` we know.
pub(crate) const OPENBSD: bool = cfg!(target_os = "openbsd");

/// FUSE, where there is a kernel that speaks the protocol we do.
#[cfg(target_os = "linux")]
#[path = "../fuse/mod.rs"]
pub mod fuse;

#[cfg(not(target_os = "linux"))]
#[path = "no_fuse.rs"]
pub mod fuse;
