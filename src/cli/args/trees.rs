//! Pockers and their trees: listed, removed, mounted; volumes.

use super::{Json, Name};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Ls {
    /// Only this pocker
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Rm {
    /// The pocker's name
    pub name: String,
    /// Stop its runs first
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Mount {
    /// Mount a writable clone; it is dropped when unmounted
    #[arg(long)]
    pub rw: bool,
    /// Print the export and the mount command for each system instead
    #[arg(long)]
    pub print: bool,
    /// Mount a volume: only the place comes after it
    #[arg(long, value_name = "NAME[:ro]", conflicts_with_all = ["rw", "dir"])]
    pub volume: Option<String>,
    /// A pocker, or one of its steps: NAME@2, NAME@step2, NAME@run, NAME@<key>
    #[arg(value_name = "NAME[@STEP]", required_unless_present = "volume")]
    pub what: Option<String>,
    /// Where to mount
    #[arg(required_unless_present_any = ["print", "volume"])]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Umount {
    pub dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum Volume {
    /// Make a volume: empty, or as a pocker's step is
    Create(VolumeCreate),
    /// List volumes: what they hold and who has them
    Ls(Json),
    /// Remove a volume and all it holds
    Rm(Name),
}

#[derive(Debug, Args)]
pub struct VolumeCreate {
    /// The volume's name
    pub name: String,
    /// A pocker, or one of its steps, whose tree it begins as
    #[arg(long, value_name = "NAME[@STEP]")]
    pub from: Option<String>,
}
