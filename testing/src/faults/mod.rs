//! Every change that a piece of code makes to files, one by one: seen before the kernel makes
//! it, and let through, refused, or taken as the moment of a crash. SQLite's own are among them,
//! as it is the kernel that asks (seccomp's user notification, [`sys`]).
//!
//! [`Injector`] counts the changes below a folder and says what becomes of the Nth; [`each()`] has
//! each of them struck once.

pub mod each;
pub mod injector;
mod sys;

pub use each::{Work, each, long, points};
pub use injector::{Fate, Injector, Plan};

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

/// A system call that is about to change something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As the system names it: "pwrite64", "fdatasync", "rename" …
    pub call: &'static str,
    /// What it changes; the new name where there are two.
    pub path: PathBuf,
}

impl Change {
    /// It makes durable what was changed before.
    pub fn is_sync(&self) -> bool {
        matches!(self.call, "fsync" | "fdatasync" | "syncfs")
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// It is not made, and fails with this errno.
    Fail(i32),
    /// The process dies by SIGKILL instead.
    Kill,
}

/// Told of each change; nothing that is watched goes on before it has answered.
pub type Judge = Arc<dyn Fn(&Change) -> Verdict + Send + Sync>;

/// Runs `f` on a thread of its own. Of it, and of all threads that it starts, `judge` is told
/// each change below `root`. Returns when all of them have ended.
pub fn watched<T: Send>(root: &Path, judge: Judge, f: impl FnOnce() -> T + Send) -> io::Result<T> {
    sys::watched(root, judge, f)
}

/// Starts a program of which `judge` is told each change below `root`, of its children's too.
pub fn spawn(command: &mut Command, root: &Path, judge: Judge) -> io::Result<Child> {
    sys::spawn(command, root, judge)
}
