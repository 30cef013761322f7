//! How a pocker is started.

use super::{Confine, LifeFlags, Limits, Net};
use clap::Args;

#[derive(Debug, Args)]
pub struct Run {
    /// The pocker's name
    pub name: String,
    /// A command in place of RUN's
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
    /// Graft a host directory into the tree
    #[arg(short = 'd', long = "graft", value_name = "HOSTDIR:PATH[:ro,dev,suid]")]
    pub grafts: Vec<String>,
    /// Mount a volume in the tree
    #[arg(short = 'v', long = "volume", value_name = "NAME:PATH[:ro]")]
    pub volumes: Vec<String>,
    /// Set an environment variable; a name alone takes it from here
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Run as this user of the tree
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Start in this directory of the tree
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Give it this standard input, which it has anyway
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal, which it has anyway where this is one
    #[arg(short, long)]
    pub tty: bool,
    #[command(flatten)]
    pub confine: Confine,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub net: Net,
    #[command(flatten)]
    pub life: LifeFlags,
}

#[derive(Debug, Args)]
pub struct Debug {
    pub name: String,
    /// A command in place of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}
