//! The server process: the store as an NFS file system, and the control socket.

pub mod archive;
mod backup;
mod check;
mod claims;
pub mod clock;
mod collect;
mod diff;
mod docs;
pub mod export;
mod fail;
mod failpoints;
mod history;
mod http;
mod ingest;
mod listen;
mod look;
mod mounts;
mod pins;
mod runs;
mod serve;
mod services;
mod snapshots;
mod state;
mod stats;
mod sync;
mod sys;
mod upkeep;
mod volumes;

pub use serve::{ServeError, serve, store_hint};
pub use sys::{io_flusher, mounted, signal, unmount};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Whether a portmapper tells clients where NFS and MOUNT are. Linux's need none where they
/// are told the port; OpenBSD's and showmount(8) do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Portmap {
    #[default]
    Off,
    /// This server is the portmapper, on port 111.
    Builtin,
    /// The host's own is told.
    Register,
}

/// Where what is promised comes from.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub url: String,
    /// Bytes that are kept of what was fetched.
    pub cache: u64,
    /// How long a read waits for it.
    pub timeout: Duration,
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub store: PathBuf,
    pub socket_dir: PathBuf,
    /// Other hosts reach NFS here.
    pub listen: Option<SocketAddr>,
    /// Prometheus finds `/metrics` here.
    pub metrics: Option<SocketAddr>,
    /// How clients of other hosts find its ports.
    pub portmap: Portmap,
    /// Nothing that clients or commands ask may change the store.
    pub read_only: bool,
    /// Blobs are checked against their digests when they are first read.
    pub verify_reads: bool,
    pub upstream: Option<Upstream>,
    /// Started by another command; leaves after `idle_timeout` without work.
    pub auto: bool,
    pub idle_timeout: Duration,
}

impl ServeOptions {
    pub fn control_socket(&self) -> PathBuf {
        self.socket_dir.join("control.sock")
    }

    pub fn nfs_socket(&self) -> PathBuf {
        self.socket_dir.join("nfs.sock")
    }

    /// Where the private network namespace is pinned.
    pub fn netns_pin(&self) -> PathBuf {
        self.socket_dir.join("netns")
    }
}
