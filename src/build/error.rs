//! Why a build stopped.

use crate::pockerfile::ParseError;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("`{name}` cannot be a name: {why}")]
    Name {
        name: String,
        why: &'static str,
        hint: Option<String>,
    },
    #[error("{}: {error}", file.display())]
    Parse { file: PathBuf, error: ParseError },
    #[error("--build-arg {0}: the Pockerfile has no ARG of that name")]
    UndeclaredArg(String),
    #[error("line {line}: no secret `{id}` was given")]
    NoSecret { line: u32, id: String },
    #[error("line {line}: there is no pocker `{name}` to build from")]
    NoBase { line: u32, name: String },
    #[error("cannot {tried} {}: {source}", path.display())]
    Io {
        tried: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("line {line}: COPY {what}: {why}")]
    Copy {
        line: u32,
        what: String,
        why: String,
        hint: Option<&'static str>,
    },
    #[error("{}: its SHA-256 is {found}, but the Pockerfile pins {pinned}", path.display())]
    Pin {
        path: PathBuf,
        found: String,
        pinned: String,
    },
    #[error("{}: {why}", path.display())]
    Archive {
        path: PathBuf,
        why: String,
        hint: String,
    },
    #[error("line {line}: FROM {name}: {why}")]
    Image {
        line: u32,
        name: String,
        why: String,
        hint: String,
    },
    #[error("line {line}: SETS: {why}")]
    Sets {
        line: u32,
        why: String,
        hint: String,
    },
    /// This host cannot model a root on itself.
    #[error("PROOT: {why}")]
    Proot { why: String, hint: String },
    /// Ports' proot(1) failed; `tail` is what it said last.
    #[error("PROOT: {} failed ({how}){}", program.display(), indented(tail))]
    Ports {
        program: PathBuf,
        how: String,
        tail: Vec<String>,
        hint: String,
    },
    /// A program of the host failed; `tail` is what it said last.
    #[error("{program} failed ({how}){}", indented(tail))]
    Program {
        program: &'static str,
        how: String,
        tail: Vec<String>,
    },
    #[error("line {line}: `{instruction}` failed: {why}{}", indented(tail))]
    StepFailed {
        line: u32,
        instruction: String,
        why: String,
        /// As a shell would say it.
        status: i32,
        /// The last lines of output.
        tail: Vec<String>,
        /// The work tree that is kept for `pocker debug`, unless keeping it failed.
        tree: Option<u64>,
        name: String,
    },
    /// The sandbox could not be set up or started.
    #[error("cannot start the build's sandbox: {message}")]
    Sandbox {
        message: String,
        hint: Option<String>,
    },
    /// What the server said, or why it could not be asked.
    #[error("{message}")]
    Server {
        message: String,
        hint: Option<String>,
    },
    #[error("interrupted; nothing of the unfinished step is kept")]
    Cancelled,
}

impl BuildError {
    pub fn io(tried: &'static str, path: &Path, source: std::io::Error) -> BuildError {
        let path = path.to_owned();
        BuildError::Io {
            tried,
            path,
            source,
        }
    }

    /// The Pockerfile's line, where it begins with that and does not name the file.
    pub fn line(&self) -> Option<u32> {
        match self {
            BuildError::NoSecret { line, .. }
            | BuildError::NoBase { line, .. }
            | BuildError::Copy { line, .. }
            | BuildError::Image { line, .. }
            | BuildError::Sets { line, .. }
            | BuildError::StepFailed { line, .. } => Some(*line),
            _ => None,
        }
    }

    /// What to do about it, for the command line to show.
    pub fn hint(&self) -> Option<String> {
        match self {
            BuildError::Name { hint, .. } => {
                let form = || "a name looks like web, or web-2.test".to_owned();
                Some(hint.clone().unwrap_or_else(form))
            }
            BuildError::Parse { error, .. } => error.hint(),
            BuildError::UndeclaredArg(name) => Some(format!("add `ARG {name}` before the line that uses it")),
            BuildError::NoSecret { id, .. } => Some(format!("pass --secret id={id},src=FILE")),
            BuildError::NoBase { name, .. } => Some(format!("`pocker create {name}` builds one; an archive needs a pin: FROM archive.tar sha256:DIGEST")),
            BuildError::Io { .. } | BuildError::Cancelled => None,
            BuildError::Copy { hint, .. } => hint.map(str::to_owned),
            BuildError::Pin { .. } => Some("the archive changed: verify it, then pin its new digest; nothing was kept".to_owned()),
            BuildError::Image { hint, .. } | BuildError::Archive { hint, .. } | BuildError::Sets { hint, .. } => Some(hint.clone()),
            BuildError::Proot { hint, .. } | BuildError::Ports { hint, .. } => Some(hint.clone()),
            BuildError::Program { .. } => Some("is the mirror reachable from this host? proxies are taken from http_proxy and https_proxy, a CA from --ca FILE".to_owned()),
            BuildError::StepFailed { tree, name, .. } => tree.map(|_| format!("its tree is kept: `pocker debug {name}` enters it")),
            BuildError::Sandbox { hint, .. } | BuildError::Server { hint, .. } => hint.clone(),
        }
    }
}

/// Output under a message, each line on its own.
fn indented(tail: &[String]) -> String {
    tail.iter().map(|line| format!("\n  | {line}")).collect()
}
