//! What the kernels' own clients have in common: the look after a mount, and the way out.

use crate::Server;
use crate::helper::{Mounted, Unmounted};
use crate::ping::null_call;
use crate::sys;
use std::io;
use std::path::Path;

/// What was mounted on `target`, where it is there.
pub(crate) fn seen(target: &Path, server: Server) -> io::Result<Mounted> {
    let mounted = Mounted::new(target, Some(server), unmount);
    match sys::is_nfs(target)? {
        true => Ok(mounted),
        false => Err(io::Error::other(
            "mount(2) succeeded, but what is there is not NFS",
        )),
    }
}

/// Plainly first, so that nothing is lost, unless the server is gone: a plain unmount would wait for it. On the
/// BSDs a forced one takes what is mounted below along, so it is made of the outermost mount only, whose
/// path needs no dead server.
fn unmount(target: &Path, server: Option<&Server>) -> io::Result<Unmounted> {
    match server.map(null_call) {
        Some(Err(_)) => sys::unmount_dead(target),
        _ => sys::unmount(target),
    }
}
