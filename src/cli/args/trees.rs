//! Pockers and their trees: listed, removed, mounted; volumes.

use super::Json;
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
    /// Print JSON: what is mounted where; with --print the export and the commands
    #[arg(long)]
    pub json: bool,
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
    /// Remove a volume and all it holds, or a snapshot
    Rm(VolumeRm),
    /// Keep what a volume is now, under a name: it may be in use
    Snapshot(VolumeSnapshot),
    /// List a volume's snapshots
    Snapshots(VolumeSnapshots),
    /// Make a volume what a snapshot of it is; nobody may have it mounted
    Rollback(VolumeRollback),
    /// Make a volume that begins as another one is, or was
    Clone(VolumeClone),
    /// Write a volume, or a snapshot, as a tar archive
    Export(VolumeExport),
    /// Make a volume of a tar archive
    Import(VolumeImport),
}

#[derive(Debug, Args)]
pub struct VolumeCreate {
    /// The volume's name
    pub name: String,
    /// A pocker, or one of its steps, whose tree it begins as
    #[arg(long, value_name = "NAME[@STEP]")]
    pub from: Option<String>,
    /// Many may write to it at once: their programs have to get along
    #[arg(long)]
    pub shared: bool,
}

#[derive(Debug, Args)]
pub struct VolumeRm {
    /// A volume, or one of its snapshots
    #[arg(value_name = "NAME[@SNAPSHOT]")]
    pub what: String,
    /// And its snapshots
    #[arg(long)]
    pub snapshots: bool,
}

#[derive(Debug, Args)]
pub struct VolumeSnapshot {
    /// The volume
    pub name: String,
    /// What to call the snapshot [default: the time]
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: Option<String>,
}

#[derive(Debug, Args)]
pub struct VolumeSnapshots {
    /// The volume
    pub name: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct VolumeRollback {
    /// The snapshot
    #[arg(value_name = "NAME@SNAPSHOT")]
    pub what: String,
}

#[derive(Debug, Args)]
pub struct VolumeClone {
    /// A volume as it is now, or a snapshot
    #[arg(value_name = "NAME[@SNAPSHOT]")]
    pub what: String,
    /// The new volume's name
    pub new: String,
    /// Many may write to the new one at once
    #[arg(long)]
    pub shared: bool,
}

#[derive(Debug, Args)]
pub struct VolumeExport {
    /// A volume as it is now, or a snapshot
    #[arg(value_name = "NAME[@SNAPSHOT]")]
    pub what: String,
    /// Where to [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct VolumeImport {
    /// The new volume's name
    pub name: String,
    /// A tar archive, plain or compressed with gzip, zstd or xz; - is standard input
    #[arg(value_name = "FILE")]
    pub archive: PathBuf,
    /// Take devices of any kind
    #[arg(long)]
    pub trusted: bool,
    /// Many may write to it at once
    #[arg(long)]
    pub shared: bool,
}
