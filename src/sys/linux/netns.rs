//! Network namespaces.

use super::super::fault::{Attempt, Fault};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// A new one with its loopback up; the caller stays in its own.
pub fn create() -> Result<OwnedFd, Fault> {
    let own = File::open(OWN).attempt("open the present one")?;
    unshare(CloneFlags::CLONE_NEWNET).attempt("unshare")?;
    let made = loopback_up().and_then(|()| File::open(OWN).attempt("open the new one"));
    setns(&own, CloneFlags::CLONE_NEWNET).attempt("go back to the present one")?;
    made.map(OwnedFd::from)
}

/// Shows `namespace` at a file, to this process and its children alone: mounts are their own
/// from here on, so what these unmount others keep.
pub fn show(namespace: &OwnedFd, at: &Path) -> Result<(), Fault> {
    unshare(CloneFlags::CLONE_NEWNS).attempt("make a mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    super::mount_at(None, "/", None, private, "").attempt("make all mounts private")?;
    let fd = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    super::mount_at(Some(Path::new(&fd)), at, None, MsFlags::MS_BIND, "")
        .attempt("show the network namespace")
}

fn loopback_up() -> Result<(), Fault> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .attempt("make a socket")?;
    // SAFETY: all zeros are an ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    nix::errno::Errno::result(done)
        .map(drop)
        .attempt("bring up its loopback")
}
