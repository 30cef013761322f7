//! What a run may take of its host.

use crate::limits::{Count, size};
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
}
