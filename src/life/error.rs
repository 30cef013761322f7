//! Why something could not be done with runs.

use std::io;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    #[error("a run named {name} is there already ({id})")]
    InUse { name: String, id: String },
    #[error("there is no run named {0}")]
    Unknown(String),
    #[error("{0} is the beginning of more than one run's id")]
    Ambiguous(String),
    #[error("the volume {volume} is the tree of run {name}, which had another name")]
    Kept { volume: String, name: String },
    #[error("{0}")]
    Name(#[from] crate::build::BuildError),
    #[error("another command took run {0} over")]
    Taken(String),
    #[error("run {id} is damaged: its {file} cannot be read")]
    Damaged { id: String, file: &'static str },
    #[error("cannot {what} {path}")]
    Io {
        what: &'static str,
        path: String,
        #[source]
        cause: io::Error,
    },
}

pub(super) fn io_error<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> LifeError + 'a {
    move |cause| LifeError::Io {
        what,
        path: path.display().to_string(),
        cause,
    }
}
