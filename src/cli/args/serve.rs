//! The server.

use crate::cli::defaults;
use clap::{Args, ValueEnum};
use std::net::SocketAddr;

#[derive(Debug, Args)]
pub struct Serve {
    /// Serve other hosts too, on TCP [port: 2049]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub listen: Option<String>,
    /// Tell clients where NFS and MOUNT are
    #[arg(long, value_enum, default_value = "off")]
    pub portmap: Portmap,
    /// Answer Prometheus: GET /metrics, to whoever reaches this address
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Let nothing change: no builds, no runs, no writes
    #[arg(long)]
    pub read_only: bool,
    /// Check each blob against its digest when it is first read
    #[arg(long)]
    pub verify_reads: bool,
    /// Fetch what is missing here from an object store when it is first read (`pocker sync --lazy`): s3://BUCKET/PREFIX
    /// and the like
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// How much of what was fetched is kept: 512M, 20G [default: 10G]
    #[arg(long, value_name = "SIZE", value_parser = crate::limits::size)]
    pub upstream_cache: Option<u64>,
    /// Seconds that a read waits for the upstream before it fails
    #[arg(long, value_name = "SECONDS", default_value_t = defaults::UPSTREAM_TIMEOUT, value_parser = clap::value_parser!(u64).range(1..))]
    pub upstream_timeout: u64,
    /// Stop the running server: its runs first, then its mounts
    #[arg(long, conflicts_with_all = ["listen", "auto", "read_only", "verify_reads", "stats"])]
    pub stop: bool,
    /// Show the running server's calls, by procedure
    #[arg(long, conflicts_with_all = ["listen", "auto", "read_only", "verify_reads"])]
    pub stats: bool,
    /// With --stats: print JSON
    #[arg(long, requires = "stats")]
    pub json: bool,
    /// Started by another command: leave when idle
    #[arg(long, hide = true)]
    pub auto: bool,
    /// Seconds of idleness after which an auto-started server leaves
    #[arg(long, hide = true, default_value_t = defaults::IDLE_TIMEOUT)]
    pub idle_timeout: u64,
    /// Log format
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Portmap {
    /// Clients know the port
    Off,
    /// Answer as the portmapper, on port 111
    Builtin,
    /// Register with this host's portmapper
    Register,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}
