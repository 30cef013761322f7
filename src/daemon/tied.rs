//! What the server's other processes have in common: forked before anything is served, they end with the server, and
//! it leaves when one of them has ended.

use crate::sys::process::{self, Forked};
use crate::sys::{Attempt, Fault, signals};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd, RawFd};

pub fn sockets(kind: SockType) -> Result<(OwnedFd, OwnedFd), Fault> {
    let made = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC);
    made.attempt("make a socket")
}

/// Forks. In the child `attend` runs, with `keep` open and no more, and then it ends. The caller has one thread, and
/// nothing yet that the child should not have. It lives no longer than what comes back is open.
pub fn start(keep: &[RawFd], says: Says, attend: impl FnOnce()) -> Result<OwnedFd, Fault> {
    if process::threads() != 1 {
        return Err(Fault::new("the server has more than one thread already"));
    }
    let tie = match process::fork_tied().attempt("fork")? {
        Forked::Parent { tie, .. } => return Ok(tie),
        Forked::Child { tie } => tie,
    };
    // Nothing may unwind into the server's code in this process.
    let attend = std::panic::AssertUnwindSafe(|| {
        if settle(tie, keep, says).is_ok() {
            attend();
        }
    });
    let _ = std::panic::catch_unwind(attend);
    process::exit_now(0)
}

/// Where what it says goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Says {
    Nothing,
    Log,
}

fn settle(tie: OwnedFd, keep: &[RawFd], says: Says) -> nix::Result<()> {
    process::tie_to_parent(tie)?;
    // A service manager's TERM is for the server, which has things left to ask.
    let _ = signals::block_all();
    let _ = nix::unistd::setsid();
    let _ = nix::unistd::chdir("/");
    process::forget_arguments(&crate::sys::os::arguments());
    process::forget_environment();
    let mut null = File::options();
    if let Ok(null) = null.read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        if says == Says::Nothing {
            let _ = nix::unistd::dup2_stderr(&null);
        }
    }
    process::close_except(keep);
    Ok(())
}

/// Until the other end of `socket` is gone, which only the server's own end or somebody's kill makes it.
pub async fn hung_up(name: &str, socket: &OwnedFd) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let watch = socket.try_clone().and_then(|socket| {
        let watch = move || {
            if is_hung_up(&socket) {
                let _ = tell.send(());
            }
        };
        // Not one of the runtime's, which waits for its own when it ends.
        std::thread::Builder::new().name(name.into()).spawn(watch)
    });
    if let Err(e) = watch {
        tracing::warn!("nobody looks whether the server's {name} lives: {e}");
    }
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits.
fn is_hung_up(socket: &OwnedFd) -> bool {
    // Nothing is waited for but what is always told: the other end's end.
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return true,
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hung_up_is_known() {
        let (ours, theirs) = sockets(SockType::SeqPacket).expect("sockets");
        drop(theirs);
        assert!(is_hung_up(&ours));
    }
}
