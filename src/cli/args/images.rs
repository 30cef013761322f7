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
