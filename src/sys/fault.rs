//! Why one step of making a sandbox failed, in a shape that crosses a pipe.

use nix::errno::Errno;
use std::fmt;
use std::io;

/// What was tried and the system's answer: "create directory www: Read-only file system".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub detail: String,
    pub errno: Option<i32>,
}

impl Fault {
    pub fn new(detail: impl Into<String>) -> Fault {
        Fault {
            detail: detail.into(),
            errno: None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.errno.map(|e| Errno::from_raw(e).desc());
        match (self.detail.as_str(), cause) {
            (detail, None) => f.write_str(detail),
            ("", Some(cause)) => f.write_str(cause),
            (detail, Some(cause)) => write!(f, "{detail}: {cause}"),
        }
    }
}

/// Adds what was tried to a system call's error.
pub trait Attempt<T> {
    /// `doing` is a phrase such as "mount a tmpfs"; it may be empty where the
    /// caller's phase says it all.
    fn attempt(self, doing: impl AsRef<str>) -> Result<T, Fault>;
}

impl<T> Attempt<T> for nix::Result<T> {
    fn attempt(self, doing: impl AsRef<str>) -> Result<T, Fault> {
        self.map_err(|errno| Fault {
            detail: doing.as_ref().to_owned(),
            errno: Some(errno as i32),
        })
    }
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, doing: impl AsRef<str>) -> Result<T, Fault> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Fault {
                detail: doing.as_ref().to_owned(),
                errno: Some(errno),
            },
            None => Fault::new(format!("{}: {error}", doing.as_ref())),
        })
    }
}
