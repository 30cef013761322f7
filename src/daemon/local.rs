//! The sockets for this host, opened while the server may open them: what it gives up comes after, and its store last.

use super::serve::ServeError;
use super::{ServeOptions, aide, listen, sys};
use crate::control::api::KernelListener;
use pocker_nfs::descriptors;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Port of the kernel's listener inside the private network namespace.
pub const KERNEL_PORT: u16 = 2049;

pub struct Local {
    /// None where it can be opened later, when all others are.
    pub control: Option<UnixListener>,
    pub nfs: Nfs,
    /// Where Prometheus finds `/metrics`.
    pub metrics: Option<TcpListener>,
    /// Whose clients these are for, besides root's: who started the server.
    pub owner: u32,
}

pub struct Nfs {
    pub calls: UnixListener,
    /// Where descriptors are given.
    pub files: UnixListener,
    pub kernel: Option<Kernel>,
}

/// Where the kernel's client reaches the server.
pub struct Kernel {
    pub at: KernelListener,
    /// None where that for other hosts serves it too.
    pub listener: Option<TcpListener>,
}

fn refused(what: &Path) -> impl Fn(io::Error) -> ServeError {
    let what = what.display().to_string();
    move |source| ServeError::Listen {
        what: what.clone(),
        source,
    }
}

/// A unix socket for root alone. The store's lock is held, so a socket found here is a
/// dead server's.
fn unix(path: &Path) -> Result<UnixListener, ServeError> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(refused(path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(refused(path))?;
    listener.set_nonblocking(true).map_err(refused(path))?;
    Ok(listener)
}

fn tcp(addr: SocketAddr) -> Result<TcpListener, ServeError> {
    let opened = TcpListener::bind(addr).and_then(asleep);
    opened.map_err(|source| ServeError::Listen {
        what: format!("{addr} (TCP)"),
        source,
    })
}

/// As the runtime has them.
fn asleep(listener: TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Local {
    /// The store's lock is held.
    pub fn open(options: &ServeOptions) -> Result<Local, ServeError> {
        let at = options.nfs_socket();
        let nfs = Nfs {
            calls: unix(&at)?,
            files: unix(&descriptors::beside(&at))?,
            kernel: kernel(options),
        };
        Ok(Local {
            nfs,
            metrics: options.metrics.map(tcp).transpose()?,
            owner: nix::unistd::geteuid().as_raw(),
            control: match options.user {
                Some(_) => Some(control(options)?),
                None => None,
            },
        })
    }
}

pub fn control(options: &ServeOptions) -> Result<UnixListener, ServeError> {
    unix(&options.control_socket())
}

fn kernel(options: &ServeOptions) -> Option<Kernel> {
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, KERNEL_PORT));
    let addr = own.to_string();
    if !sys::PRIVATE_NETNS && options.listen.is_some_and(|at| listen::covers(at, own)) {
        return Some(Kernel {
            at: KernelListener { netns: None, addr },
            listener: None,
        });
    }
    if !sys::kernel_nfs() {
        return None;
    }
    let pin = options.netns_pin();
    match aide::private_listener(&pin, KERNEL_PORT).and_then(asleep) {
        Ok(listener) => Some(Kernel {
            at: KernelListener {
                netns: sys::PRIVATE_NETNS.then(|| pin.display().to_string()),
                addr,
            },
            listener: Some(listener),
        }),
        // FUSE still works: `doctor` says what is missing.
        Err(e) => {
            tracing::warn!("no listener for kernel clients: {e}");
            None
        }
    }
}
