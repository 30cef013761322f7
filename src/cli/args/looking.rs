//! Looking into pockers.

use clap::Args;

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
    /// A pocker, or one of its steps: NAME@2, NAME@step2, NAME@run, NAME@<key>
    #[arg(value_name = "NAME[@STEP]")]
    pub old: String,
    /// What is compared with it
    #[arg(value_name = "NAME[@STEP]")]
    pub new: String,
    /// Print JSON: times of directories too, and what of each path differs
    #[arg(long)]
    pub json: bool,
}
