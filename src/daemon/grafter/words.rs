//! What the server asks the grafter, and what it is told: a length and JSON each, one answer to each question.

use crate::daemon::export::Mark;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A path whose bytes are numbers, and what is around it.
const WORD_MAX: usize = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// The first: by this key handles are known.
    Begin {
        key: [u8; 16],
    },
    Look {
        host: String,
    },
    /// Opens a directory, which is not served yet.
    Open {
        host: String,
        patience: Duration,
    },
    Close,
    /// Serves what was opened last.
    Serve {
        id: u64,
        read_only: bool,
    },
    /// Calls on these wait until they are served or removed.
    Expect {
        id: u64,
    },
    Remove {
        ids: Vec<u64>,
    },
    /// Drops what is kept for grafts that are not served.
    Sweep,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Looked(Looked),
    Opened { mark: Mark, at: Looked },
    Served { root: Vec<u8> },
    Failed(Failure),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    errno: Option<i32>,
    text: String,
}

impl Failure {
    pub fn new(e: &io::Error) -> Failure {
        let late = (e.kind() == io::ErrorKind::TimedOut).then_some(libc::ETIMEDOUT);
        Failure {
            errno: e.raw_os_error().or(late),
            text: e.to_string(),
        }
    }

    pub fn error(self) -> io::Error {
        match self.errno {
            Some(libc::ETIMEDOUT) => io::Error::new(io::ErrorKind::TimedOut, self.text),
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(self.text),
        }
    }
}

/// What is found by a path of the host.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    pub kind: Kind,
    real: Vec<u8>,
    /// It lies where grafts may be.
    pub covered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Directory,
    Other,
    Missing,
}

impl Looked {
    /// A directory that is there.
    pub fn directory(real: PathBuf, below: &[PathBuf]) -> Looked {
        Looked {
            kind: Kind::Directory,
            covered: covered(below, &real),
            real: real.into_os_string().into_vec(),
        }
    }

    /// Links on the way are followed.
    pub fn at(path: &Path, below: &[PathBuf]) -> io::Result<Looked> {
        let kind = match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                return Ok(Looked::directory(path.canonicalize()?, below));
            }
            Ok(_) => Kind::Other,
            // To unveil(2) what is out of reach is not there.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Kind::Missing,
            Err(e) => return Err(e),
        };
        Ok(Looked {
            kind,
            real: path.as_os_str().as_bytes().to_vec(),
            covered: covered(below, path),
        })
    }

    /// Where it is, links and all resolved; of what is no directory, as it was asked for.
    pub fn real(&self) -> PathBuf {
        OsString::from_vec(self.real.clone()).into()
    }
}

fn covered(below: &[PathBuf], real: &Path) -> bool {
    // One that was not there when the server was started may be by now.
    let covers = |dir: &PathBuf| match dir.canonicalize() {
        Ok(dir) => real.starts_with(dir),
        Err(_) => real.starts_with(dir),
    };
    // By their names first: another of them may be on a disk that does not answer.
    let named = below.is_empty() || below.iter().any(|dir| real.starts_with(dir));
    named || below.iter().any(covers)
}

pub fn put(to: &mut UnixStream, word: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(word)?;
    if text.len() > WORD_MAX {
        return Err(nix::errno::Errno::ENAMETOOLONG.into());
    }
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&text);
    to.write_all(&bytes)
}

pub fn get<T: DeserializeOwned>(from: &mut UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > WORD_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
