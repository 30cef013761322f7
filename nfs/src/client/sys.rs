//! What a system knows of connections that are dead and do not say so.

use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::time::Duration;

/// How long what was sent may go without an acknowledgement (tcp(7), TCP_USER_TIMEOUT).
#[cfg(target_os = "linux")]
const UNHEARD: Duration = Duration::from_secs(10);

/// Ends a connection whose other side is gone, whether something is under way on it or not. Where
/// that cannot be asked for it ends after the system's own time.
#[cfg(target_os = "linux")]
pub fn notice_death<S: AsFd>(stream: &S) {
    use nix::sys::socket::{setsockopt, sockopt};
    let ms = u32::try_from(UNHEARD.as_millis()).unwrap_or(u32::MAX);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &5);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &5);
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &ms);
}

#[cfg(not(target_os = "linux"))]
pub fn notice_death<S: AsFd>(stream: &S) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
}
