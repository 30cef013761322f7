//! What a run may take of its host.

use crate::limits::{Count, Cpus, Ulimit, size};
use clap::Args;

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Bytes that the run's tree may hold beside those of its pocker: 512M, 2G [default: what
    /// the store's disk can spare]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub disk: Option<u64>,
    /// Names that may be added to the run's tree: files, directories, links [default: one for
    /// 8 KiB of --disk, 1048576 at most]
    #[arg(long, value_name = "N")]
    pub inodes: Option<Count>,
    /// Memory of all its processes, and of the files that they use: 64M, 2G
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Its processes and threads [default: 4096, where the host can]
    #[arg(long, value_name = "N")]
    pub pids: Option<Count>,
    /// Its share of the host's processors: 2, 0.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<Cpus>,
    /// A limit of each process, as setrlimit(2) has them: nofile=1024:4096
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<Ulimit>,
}
