//! The server process: the store as an NFS file system, and the control socket.

mod aide;
pub mod archive;
mod backup;
mod bounds;
mod check;
mod claims;
pub mod clock;
mod collect;
mod crowd;
mod diff;
mod docs;
pub mod export;
mod fail;
mod failpoints;
mod grafter;
mod grafts;
mod history;
mod hosts;
mod http;
mod ingest;
mod layers;
mod leases;
mod listen;
mod local;
mod look;
mod mounts;
mod outside;
mod patience;
mod pins;
mod privileges;
mod regraft;
mod runs;
mod serve;
mod services;
mod snapshots;
mod state;
mod stats;
mod sync;
mod sys;
mod tied;
mod tokens;
mod upkeep;
mod user;
mod volumes;

#[cfg(test)]
mod tests;

pub use serve::{ServeError, serve, store_hint};
pub use sys::{io_flusher, mounted, signal, unmount};
pub use user::{enter, is_given, owner};

use crate::control::hosts::RpcTls;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

/// PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Of what hosts show over NFS, where they show something.
    pub ca: Option<PathBuf>,
    /// Which of its certificates are revoked; it is looked at again and again, and need not be there.
    pub revoked: PathBuf,
}

/// Whom a server becomes.
#[derive(Clone, Debug)]
pub struct ServerUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub store: PathBuf,
    pub socket_dir: PathBuf,
    /// Other hosts reach NFS here.
    pub listen: Option<SocketAddr>,
    /// Those that may; without any, all may, and none has a control API.
    pub allow: Vec<ipnet::IpNet>,
    /// What this server shows hosts that speak to its control API: certificate and key.
    pub tls: Option<TlsFiles>,
    /// What is wanted of TLS for NFS.
    pub rpc_tls: RpcTls,
    /// How long what another host holds is kept for it when it is not heard of.
    pub lease_term: Duration,
    /// Prometheus finds `/metrics` here.
    pub metrics: Option<SocketAddr>,
    /// How clients of other hosts find its ports.
    pub portmap: Portmap,
    /// Nothing that clients or commands ask may change the store.
    pub read_only: bool,
    /// Blobs are checked against their digests when they are first read.
    pub verify_reads: bool,
    pub upstream: Option<Upstream>,
    /// Directories at or below which grafts may be; without any, anywhere.
    pub graft_below: Vec<PathBuf>,
    /// Who serves, in the store alone; none: who started it.
    pub user: Option<ServerUser>,
    /// Root serves, though a store may be another user's by now.
    pub take_back: bool,
    /// Started by another command; leaves after `idle_timeout` without work.
    pub auto: bool,
    pub idle_timeout: Duration,
}

impl ServeOptions {
    pub fn control_socket(&self) -> PathBuf {
        self.socket_dir.join("control.sock")
    }

    /// Where a grafter keeps where its grafts' files are: out of reach of the server, and no longer than this host is up.
    pub fn grafters_dir(&self) -> PathBuf {
        self.socket_dir.join("grafts")
    }

    /// The store as the serving process finds it.
    pub fn store_within(&self) -> &Path {
        match self.user {
            Some(_) => Path::new("/"),
            None => &self.store,
        }
    }

    pub fn nfs_socket(&self) -> PathBuf {
        self.socket_dir.join("nfs.sock")
    }

    /// What there is of TLS for NFS.
    pub fn rpc_tls(&self) -> RpcTls {
        match self.listen.is_some() && self.tls.is_some() {
            true => self.rpc_tls,
            false => RpcTls::Off,
        }
    }

    /// Where the private network namespace is pinned.
    pub fn netns_pin(&self) -> PathBuf {
        self.socket_dir.join("netns")
    }
}
