//! What leaves as an archive or image, and comes as one.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A tar archive of the tree
    Tar,
    /// An OCI image of one layer, with how the pocker starts
    Oci,
    /// The tree itself, as a directory
    Dir,
}

#[derive(Debug, Args)]
pub struct Export {
    /// A pocker, or one of its steps
    #[arg(value_name = "NAME[@STEP]")]
    pub what: String,
    /// What to write [default: standard output]; with oci, DIR/ is a layout in a directory and FILE a tar of one
    #[arg(short, long, value_name = "FILE|DIR")]
    pub output: Option<PathBuf>,
    /// As what
    #[arg(long, value_name = "FORMAT", default_value = "tar")]
    pub format: Format,
    /// The image's tag [default: latest]
    #[arg(long, value_name = "TAG", value_parser = tag)]
    pub tag: Option<String>,
    /// One layer for the whole image, and not one for each step
    #[arg(long)]
    pub squash: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    /// A tar, plain or compressed with gzip, zstd or xz; an OCI layout or what `docker save` wrote; - for standard input
    pub archive: PathBuf,
    /// Replace a pocker that has the name
    #[arg(long)]
    pub force: bool,
    /// The new pocker's name
    pub name: String,
    /// What starts it [default: what an image says, else /bin/sh]
    #[arg(long, value_name = "COMMAND")]
    pub run: Option<String>,
    /// Which of several images
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Whoever made it means well: take devices of any kind, and paths that come twice
    #[arg(long)]
    pub trusted: bool,
}

/// How a registry is reached.
#[derive(Debug, Args)]
pub struct Reach {
    /// Speak to it without TLS; one on this host's loopback is anyway, unless --ca is given
    #[arg(long)]
    pub plain_http: bool,
    /// Seconds that it may say nothing
    #[arg(long, value_name = "SECONDS", default_value_t = crate::registry::TIMEOUT, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// A certificate (PEM) to trust beside the host's
    #[arg(long = "ca", value_name = "FILE", env = "POCKER_CA")]
    pub registry_ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Push {
    /// A pocker, or one of its steps
    #[arg(value_name = "NAME[@STEP]")]
    pub what: String,
    /// Where to: REGISTRY/NAME:TAG
    #[arg(value_name = "IMAGE")]
    pub reference: String,
    /// One layer for the whole image, and not one for each step
    #[arg(long)]
    pub squash: bool,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Pull {
    /// Replace a pocker that has the name
    #[arg(long)]
    pub force: bool,
    /// Whoever made it means well: take devices of any kind, and paths that come twice
    #[arg(long)]
    pub trusted: bool,
    /// REGISTRY/NAME, with :TAG or @sha256:DIGEST
    #[arg(value_name = "IMAGE")]
    pub reference: String,
    /// The new pocker's name [default: the image's]
    pub name: Option<String>,
    #[command(flatten)]
    pub reach: Reach,
}

/// As registries take them.
fn tag(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let good = !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(fits)
        && !text.starts_with(['.', '-']);
    match good {
        true => Ok(text.to_owned()),
        false => Err("a tag is up to 128 letters, digits, `_`, `.` and `-`".to_owned()),
    }
}
