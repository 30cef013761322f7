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
    #[command(flatten)]
    pub inside: Inside,
    #[command(flatten)]
    pub confine: Confine,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub net: Net,
    #[command(flatten)]
    pub life: LifeFlags,
}

/// What a command has in a tree, whether it is the run's own or comes to it.
#[derive(Debug, Args)]
pub struct Inside {
    /// Set an environment variable; a name alone takes it from here
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// As this user of the tree [default: the pocker's; with exec, the run's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// In this directory of the tree [default: the pocker's; with exec, the run's]
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Give it this standard input (`run` does so anyway)
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal, and this standard input (`run` does so anyway where this is one)
    #[arg(short, long)]
    pub tty: bool,
}

#[derive(Debug, Args)]
pub struct Debug {
    pub name: String,
    /// A command in place of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}
