//! Every default a user can see, in one place; the README's table lists these.

use std::path::PathBuf;

/// Where `pocker serve` keeps everything.
pub const STORE: &str = "/var/pocker/store";
/// Where `create` mounts the browse view.
pub const BROWSE: &str = "/var/pocker/chroot";
/// Host directories behind `EXEC --cache`.
pub const CACHE: &str = "/var/pocker/cache";
pub const CONFIG: &str = "/etc/pocker.conf";
/// Whom to believe that they are another host's server, and what to show it.
pub const REMOTE_CA: &str = "/etc/pocker/ca.pem";
pub const TOKEN_FILE: &str = "/etc/pocker/token";
/// What this host shows that server for NFS over TLS.
pub const REMOTE_CERT: &str = "/etc/pocker/host.pem";
pub const REMOTE_KEY: &str = "/etc/pocker/host.key";
/// Where `serve init-tls` puts what a server shows.
pub const TLS_DIR: &str = "/etc/pocker/tls";
/// Seconds for which another host that is not heard of keeps what it holds.
pub const LEASE_TERM: u64 = 60;
pub const NFS_PORT: u16 = 2049;
pub const CONTROL_PORT: u16 = 2050;
/// Seconds a command waits for a server that is away.
pub const SERVER_TIMEOUT: u64 = 30;
/// Seconds without mount, run, build or client after which an auto-started server leaves.
pub const IDLE_TIMEOUT: u64 = 600;

pub fn socket_dir() -> PathBuf {
    PathBuf::from(crate::control::sys::RUN_DIR).join("pocker")
}

/// Where grafts may be, where the server must say so before it serves: the directories that are grafted most.
pub fn graft_below() -> Vec<PathBuf> {
    let volumes = || PathBuf::from("/var/pocker/volumes");
    crate::sys::bsd::CONFINES
        .then(volumes)
        .into_iter()
        .collect()
}

/// Whom a server becomes that has only this host to serve, where there is such a user.
pub const SERVER_USER: Option<&str> = match crate::sys::bsd::CONFINES {
    true => Some("_pocker"),
    false => None,
};

/// Bytes kept of what was fetched from an upstream.
pub const UPSTREAM_CACHE: u64 = 10 << 30;
/// Seconds that a read waits for an upstream.
pub const UPSTREAM_TIMEOUT: u64 = 30;
