//! Mount helpers: an export of the NFS server becomes a mount on this host.
//!
//! [`helper`] is the interface: a [`MountHelper`] says whether this host can
//! do it ([`Probe`]), opens a [`Session`] on one server, and the session mounts
//! exports in its caller's mount namespace. Four ways exist:
//!
//! | name | what speaks NFS | needs |
//! |---|---|---|
//! | `linux-kernel` | Linux's NFS client, by mount(2) | the `nfs` file system, a TCP listener |
//! | `fuse` | a helper process of ours | `/dev/fuse` |
//! | `bsd-kernel` | OpenBSD's, FreeBSD's or NetBSD's NFS client, by mount(2) or nmount(2) | a TCP listener |
//! | `mount_nfs` | OpenBSD's NFS client, by its own mount_nfs(8) | a portmapper that knows the server; never chosen unasked |

pub mod bsd;
pub mod helper;
mod kernel;
pub mod linux_kernel;
mod ping;
mod sys;

pub use helper::{
    Cache, ChooseError, HostTls, MakeSecure, MountError, MountHelper, Mounted, Phase, Probe,
    Request, RestartCommand, Server, Session, Unmounted, bind, choose, helpers,
};
pub use sys::fuse;
