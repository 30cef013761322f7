//! The builder: from a Pockerfile to sealed steps.
//!
//! `plan` is pure: instructions become steps. Keys are known before anything is built, as each follows from its parent's key, the
//! instruction and digests of inputs; so a build whose steps are all there is one pass of look-ups.
//! From the first miss on, steps are claimed, built in work trees through `Shell`, and sealed.
//! Nothing here prints, and nothing needs root or a server in tests: see `tools`.

mod archive;
mod copy;
mod error;
mod exec;
mod images;
pub mod key;
mod name;
mod pkg;
pub mod plan;
pub mod proot;
pub mod sets;
mod steps;
mod tail;
mod tarred;
#[cfg(test)]
mod tests;
mod tools;

pub use error::BuildError;
pub use exec::proxies;
pub use images::{ImageStep, image_step};
pub use name::{MAX_NAME, check as check_name, validate as validate_name};
pub use proot::{Choice, Model, ThisHost};
pub use tools::{Claim, Event, Host, Images, Outcome, Phase, Progress, Shell, Sink, Workshop};

use crate::control::api::{RunConfig, StepInfo};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// One `pocker create`.
#[derive(Debug)]
pub struct BuildRequest<'a> {
    pub name: &'a str,
    /// Words that can't be names: the command line's commands.
    pub reserved: &'a [String],
    pub file: &'a [u8],
    /// For messages.
    pub file_path: &'a Path,
    pub context: &'a Path,
    /// `--build-arg`, in order; later ones win.
    pub args: &'a [(String, String)],
    /// `--secret`: id and file.
    pub secrets: &'a [(String, PathBuf)],
    pub no_cache: bool,
    pub pull: bool,
    /// Events say why each step hit or missed.
    pub explain: bool,
    pub source_date_epoch: Option<i64>,
    /// Absolute.
    pub ca: Option<&'a Path>,
    /// See `proxies`.
    pub proxies: &'a [(OsString, OsString)],
    /// Host directory for `EXEC --cache` and scratch files. Absolute.
    pub cache_dir: &'a Path,
    /// Where the host's resolv.conf and hosts are: `/etc`.
    pub etc: &'a Path,
    /// Set by the signal handler: the build stops, its unfinished tree and claim are given back.
    pub cancelled: &'a AtomicBool,
}

/// Whom the builder asks.
pub struct Tools<'a> {
    pub workshop: &'a dyn Workshop,
    pub shell: &'a dyn Shell,
    pub host: &'a dyn Host,
    pub images: &'a dyn Images,
}

#[derive(Debug)]
pub struct Built {
    pub name: String,
    /// The base first, RUN last.
    pub steps: Vec<(StepInfo, Outcome)>,
    pub config: RunConfig,
    /// Whether NAME points anywhere else than before.
    pub changed: bool,
}

/// Builds what is missing and points NAME at it.
pub fn build(
    request: &BuildRequest<'_>,
    tools: &Tools<'_>,
    progress: &mut dyn Progress,
) -> Result<Built, BuildError> {
    steps::Builder::new(request, tools, progress)?.build()
}
