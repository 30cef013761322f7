//! Mount helpers: an export of the NFS server becomes a mount on this host.
//!
//! [`helper`] is the interface: a [`MountHelper`] says whether this host can
//! do it ([`Probe`]), opens a [`Session`] on one server, and the session mounts
//! exports in its caller's mount namespace. Three ways exist:
//!
//! | name | what speaks NFS | needs |
//! |---|---|---|
//! | `linux-kernel` | Linux's NFS client, by mount(2) | the `nfs` file system, a TCP listener |
//! | `fuse` | a helper process of ours | `/dev/fuse` |
//! | `bsd-kernel` | OpenBSD's NFS client | OpenBSD |

pub mod bsd_kernel;
pub mod helper;
pub mod linux_kernel;
mod ping;
mod sys;

pub use helper::{
    Cache, ChooseError, MountError, MountHelper, Mounted, Phase, Probe, Request, RestartCommand,
    Server, Session, Unmounted, bind, choose, helpers,
};
pub use sys::fuse;
