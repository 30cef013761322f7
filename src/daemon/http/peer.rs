//! Who is at the other end of a control connection, as the kernel says (unix(7), SO_PEERCRED).

use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::sys;

/// A process; 0 where it has no number here.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub pid: i32,
}

impl Peer {
    pub fn mounts_are_seen(self) -> bool {
        sys::shares_namespace(self.pid, "mnt")
    }

    /// What is mounted where the server does not see it would soon count as unmounted: another
    /// could have the volume meanwhile, and a work tree would be dropped.
    pub fn mounts_here(self) -> Outcome<()> {
        if self.mounts_are_seen() {
            return Ok(());
        }
        let why = "this process is in another mount namespace than the server, which would not \
                   see the mount";
        Err(Fail::forbidden(why).hint(elsewhere("-m")))
    }

    /// By its number the server knows how long a process lives that has something.
    pub fn is_numbered_here(self) -> Outcome<()> {
        if sys::shares_namespace(self.pid, "pid") {
            return Ok(());
        }
        let why = "this process is in another PID namespace than the server, which could not \
                   tell how long it has the volume";
        Err(Fail::forbidden(why).hint(elsewhere("-m -p")))
    }
}

fn elsewhere(namespaces: &str) -> String {
    let server = std::process::id();
    format!("run it where the server is: nsenter -t {server} {namespaces} pocker …")
}
