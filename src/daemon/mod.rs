//! The server process: the store as an NFS file system, and the control socket.

pub mod archive;
mod check;
mod claims;
pub mod clock;
mod docs;
pub mod export;
mod fail;
mod http;
mod ingest;
mod listen;
mod look;
mod runs;
mod serve;
mod state;
mod sys;
mod upkeep;

pub use serve::{ServeError, serve};
pub use sys::{io_flusher, mounted, signal, unmount};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a server is started.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub store: PathBuf,
    pub socket_dir: PathBuf,
    /// Other hosts reach NFS here.
    pub listen: Option<SocketAddr>,
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
