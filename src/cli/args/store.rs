//! The care of the store.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Pin {
    /// A pocker's step (its last one if none is said), or a step's key or its beginning
    #[arg(value_name = "NAME[@STEP]|KEY", required_unless_present = "list")]
    pub what: Option<String>,
    /// List what is pinned
    #[arg(long, conflicts_with = "what")]
    pub list: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Unpin {
    /// As it was pinned: NAME[@STEP], or the step's key or its beginning
    #[arg(value_name = "NAME[@STEP]|KEY")]
    pub what: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Compress {
    Cold,
}

#[derive(Debug, Args)]
pub struct Gc {
    /// Say what would go, by name, and leave it
    #[arg(long)]
    pub dry_run: bool,
    /// Keep the steps of each pocker's N newest builds [default: 1, the present one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub keep: Option<u64>,
    /// Drop only steps that were unused for longer than this: 90s, 30m, 12h, 7d, 2w
    #[arg(long, value_name = "SPAN", value_parser = crate::cli::text::span)]
    pub older: Option<u64>,
    /// Then compress large files of steps that nobody used lately; they are read as before, the first
    /// time more slowly
    #[arg(long, value_name = "WHAT", conflicts_with = "dry_run")]
    pub compress: Option<Compress>,
    /// Cold is what was unused for longer than this [default: 7d]
    #[arg(long, value_name = "SPAN", value_parser = crate::cli::text::span, requires = "compress")]
    pub cold_after: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Fsck {
    /// Set aside what rotted, mend what can be mended, drop what nothing refers to
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy the store, in use as it is, to a folder; again copies what is new
    Backup(StoreBackup),
    /// Make the store (--store), which is not there yet, of the last backup in a folder
    Restore(StoreRestore),
    /// Bring a store of an older pocker to this one's format
    Upgrade(StoreUpgrade),
}

#[derive(Debug, Args)]
pub struct StoreBackup {
    /// New, empty, or with backups already
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct StoreRestore {
    /// What `pocker store backup` was given
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct StoreUpgrade {
    /// Say what the store is in and what would be done, and leave it
    #[arg(long)]
    pub dry_run: bool,
}
