//! The server.

use crate::cli::defaults;
use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// An address alone is a net of one.
pub fn net(text: &str) -> Result<IpNet, String> {
    let one = text.parse::<IpAddr>().map(IpNet::from);
    let net = one.or_else(|_| text.parse::<IpNet>());
    net.map_err(|_| "an address or a net, as 192.0.2.7 or 192.0.2.0/24".to_owned())
}

#[derive(Debug, Subcommand)]
pub enum ServeCommand {
    /// Make a certificate authority, and a certificate of it for these names and addresses of this host
    #[command(name = "init-tls")]
    InitTls(InitTls),
    /// List the certificates that the authority made for other hosts
    Certs(Certs),
    /// Revoke those of one host: what it has open with a server ends, and is not opened again
    #[command(name = "revoke-cert")]
    RevokeCert(RevokeCert),
}

#[derive(Debug, Args)]
pub struct Certs {
    /// Where the authority is [default: /etc/pocker/tls]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RevokeCert {
    /// The host, as `init-tls --host` had it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where the authority is [default: /etc/pocker/tls]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InitTls {
    /// Names and addresses by which other hosts reach this server
    #[arg(
        value_name = "HOST",
        required_unless_present = "host",
        conflicts_with = "host"
    )]
    pub names: Vec<String>,
    /// Make instead what another host of this name shows for NFS over TLS, with the authority that is there
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Where [default: /etc/pocker/tls]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Serve {
    #[command(subcommand)]
    pub command: Option<ServeCommand>,
    /// Serve other hosts too, on TCP [port: 2049]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub listen: Option<String>,
    /// Serve these hosts and no others: an address, or ADDR/BITS; with a certificate (`serve init-tls`) they reach the
    /// control API too, on the port after that of --listen
    #[arg(long, value_name = "CIDR", num_args = 1.., value_delimiter = ',', value_parser = net)]
    pub allow: Vec<IpNet>,
    /// The certificate to show them, as PEM [default: /etc/pocker/tls/server.pem, where it is there]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Seconds for which another host that is not heard of keeps what it holds
    #[arg(long, value_name = "SECONDS", default_value_t = defaults::LEASE_TERM, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub lease: u64,
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
    /// Have host directories grafted (`-d`) at or below this one alone; may be given again. The server then reaches
    /// no other files of the host, as far as its kernel keeps it from them
    #[arg(long, value_name = "DIR")]
    pub graft_below: Vec<PathBuf>,
    /// Serve as this user, in the store alone: root stays with two small processes, of which one has the grafts. Needs
    /// --graft-below
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
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
