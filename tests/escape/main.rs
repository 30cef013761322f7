//! What a hostile program in a pocker tries, and what comes of it: each attack for real, as root
//! and as a user in it, in a build, and in a bare chroot, where it succeeds.

mod aide;
mod attacks;
mod docs;
mod flags;
mod host;
mod nfs;
mod own;
mod program;
mod race;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_arch = "x86_64")]
mod taken;
