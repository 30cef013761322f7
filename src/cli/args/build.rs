//! How a pocker is made.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Create {
    /// The Pockerfile [default: CONTEXT/Pockerfile, else ./Pockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The pocker's name
    pub name: String,
    /// The directory that COPY takes files from
    #[arg(default_value = ".")]
    pub context: PathBuf,
    /// Give an ARG its value
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub build_args: Vec<String>,
    /// A file that EXEC --secret id=ID may read; never kept
    #[arg(long = "secret", value_name = "id=ID,src=FILE")]
    pub secrets: Vec<String>,
    /// Build every step again
    #[arg(long)]
    pub no_cache: bool,
    /// Build PROOT and PKG again when the mirror has something newer
    #[arg(long)]
    pub pull: bool,
    /// Say why each step was taken from the cache or built
    #[arg(long)]
    pub explain: bool,
    /// A CA certificate (PEM) for package downloads while building; never kept
    #[arg(long, value_name = "FILE", env = "POCKER_CA")]
    pub ca: Option<PathBuf>,
    /// Speak to FROM's registry without TLS; to one on this host's loopback that is done anyway
    #[arg(long)]
    pub plain_http: bool,
    /// Clamp every file time to at most this, in seconds since the epoch
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub source_date_epoch: Option<i64>,
    /// Do not mount the browse view
    #[arg(long)]
    pub no_browse: bool,
    /// Where the browse view is mounted [default: /var/pocker/chroot]
    #[arg(long, value_name = "DIR", env = "POCKER_BROWSE")]
    pub browse_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
