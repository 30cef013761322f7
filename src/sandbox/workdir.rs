//! The command's working directory: entered by its path in the tree.

use crate::sys::{Attempt, Fault, os};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::chdir;
use std::path::{Component, Path};

const MODE: u32 = 0o755;

/// `/` is the tree by now, so the kernel itself resolves inside it. With `make` what the tree
/// lacks is made.
pub fn enter(dir: &Path, make: bool) -> Result<(), Fault> {
    match chdir(dir) {
        Err(Errno::ENOENT) if make => {
            make_missing(dir)?;
            chdir(dir).attempt("")?;
        }
        done => done.attempt("")?,
    }
    // A link of /proc leads to where another process is, and not by a path.
    match std::env::current_dir() {
        Ok(there) if there.is_absolute() => Ok(()),
        _ => Err(Fault::new("it leads out of the root")),
    }
}

/// Only in the tree and in memory that goes with it: this is root's doing, and what is mounted
/// there is the host's, or is kept.
fn make_missing(dir: &Path) -> Result<(), Fault> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at = open("/", flags, Mode::empty()).attempt("open the root")?;
    let tree = fstat(&at).attempt("look at the root")?.st_dev;
    for part in dir.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        at = match openat(&at, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                let own = fstat(&at).attempt("look at it")?.st_dev == tree || os::in_memory(&at);
                if !own {
                    return Err(Fault::new(OUTSIDE));
                }
                mkdirat(&at, name, Mode::from_bits_truncate(MODE as _)).attempt("create it")?;
                openat(&at, name, flags, Mode::empty()).attempt("open it")?
            }
            there => there.attempt("")?,
        };
    }
    Ok(())
}

/// See [`super::error`], which has a hint for it.
pub const OUTSIDE: &str = "it is not there, and in what is grafted or kept nothing is made for it";
