//! Looking into pockers.

use clap::Args;
use std::ffi::OsString;

#[derive(Debug, Args)]
pub struct History {
    /// The pocker's name
    pub name: String,
    /// Show instructions whole
    #[arg(long)]
    pub no_trunc: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// A pocker, or one of its steps: NAME@2, NAME@step2, NAME@run, NAME@<key>. Alone: a run, which is
    /// compared with the tree that it began with
    #[arg(value_name = "NAME[@STEP]")]
    pub old: String,
    /// What is compared with it
    #[arg(value_name = "NAME[@STEP]")]
    pub new: Option<String>,
    /// Print JSON: times of directories too, and what of each path differs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Du {
    /// Only these pockers, by step
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Print JSON: bytes, and every pocker by step
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Tree {
    /// A run, a pocker, or one of its steps, and a path in it
    #[arg(value_name = "NAME[@STEP][:/PATH]")]
    pub what: OsString,
    /// Modes, owners, sizes, times and what links lead to
    #[arg(short, long)]
    pub long: bool,
    /// Go so many directories down, and no deeper
    #[arg(short = 'L', long, value_name = "N")]
    pub depth: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Cat {
    /// A run, a pocker, or one of its steps, and a file in it
    #[arg(value_name = "NAME[@STEP]:/PATH", required = true)]
    pub what: Vec<OsString>,
    /// Print JSON: of each file its path, its size and its bytes in base64
    #[arg(long)]
    pub json: bool,
}

/// Copies keep modes, times, links and users' extended attributes. What is copied is owned by who
/// calls, in a run by root. No device is made.
#[derive(Debug, Args)]
pub struct Cp {
    /// A file or directory of the host, of a run or of a sealed pocker; "-": a tar archive from
    /// standard input. A directory that ends in "/." is what it holds
    #[arg(value_name = "NAME[@STEP]:/PATH|PATH|-")]
    pub from: OsString,
    /// Where it goes: a directory it is copied into, or a new name; "-": standard output, as tar
    #[arg(value_name = "NAME:/PATH|PATH|-")]
    pub to: OsString,
    /// Keep owners, and all extended attributes
    #[arg(short, long)]
    pub archive: bool,
    /// Where what is copied is a link, copy what it leads to
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Print JSON: what was copied where, and how many devices were left out
    #[arg(long)]
    pub json: bool,
}
