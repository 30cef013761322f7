//! What a run may do, and what it finds around it.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Confinement")]
pub struct Confine {
    /// Give a capability, also to another user than root (ALL: each)
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Take a capability away (ALL: each that is not added)
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
    /// Let setuid programs give their owner's rights
    #[arg(long)]
    pub allow_setuid: bool,
    /// Make the tree read-only; /tmp and what is mounted in it stay as they are
    #[arg(long)]
    pub read_only: bool,
    /// Mount an empty directory in memory
    #[arg(long, value_name = "PATH[:size=SIZE,mode=MODE]")]
    pub tmpfs: Vec<String>,
    /// The run's host name [default: the pocker's name]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Set environment variables from a file, NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Let user 0 run where a run is a chroot (OpenBSD), which keeps no root in
    #[arg(long)]
    pub as_root: bool,
    /// Run in a bare chroot, which protects nothing: for comparison
    #[arg(long, conflicts_with_all = ["cap_add", "cap_drop", "read_only", "hostname"])]
    pub unsafe_plain: bool,
}
