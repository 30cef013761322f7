//! Everything that needs `unsafe` or the calls of one operating system.
//!
//! [`os`] is what a sandbox is made of on this system: namespaces and mounts on
//! Linux, a plain chroot elsewhere. The plain one is compiled on Linux too, so
//! that it does not rot unseen.
#![allow(unsafe_code)]

pub mod bsd;
mod capability;
pub mod device;
mod fault;
pub mod process;
pub mod signals;
pub mod track;
pub mod tty;
pub mod usage;

#[cfg(target_os = "linux")]
pub mod linux;
pub mod plain;

#[cfg(target_os = "linux")]
pub use linux as os;
#[cfg(not(target_os = "linux"))]
pub use plain as os;

pub use capability::{Capabilities, Capability};
pub use fault::{Attempt, Fault};
