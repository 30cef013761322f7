//! proot at work: in a directory of this host that is root's alone, which is gone when the tree is in the store,
//! and when anything fails.
//!
//! proot links the host's own files where they lie on the same file system. So nothing is ever executed, changed or
//! mounted in that directory: it is read once, and removed.

use super::tree::Listing;
use super::{Ports, elsewhere};
use crate::build::BuildError;
use crate::build::proot::{Bootstrap, ChildStream};
use crate::build::sets::{Watched, own};
use crate::build::tools::{Event, Progress, Sink};
use crate::control::api::ArchiveDone;
use crate::control::layers::Framing;
use crate::image::plain::plain;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const PREFIX: &str = "ports-proot-";
/// Locked as long as its directory is in use.
const LOCK: &str = "lock";
/// What every base has: without it proot found nothing to copy, and says nothing of that.
const SHELL: &str = "bin/sh";
/// What proot says goes to standard output and error; both are shown.
const ALL_IS_SAID: &str = r#"umask 022; exec "$@" >&2"#;
/// More names would say no more.
const NAMED: usize = 8;

/// Makes the tree and hands it to `sink` as layers: what proot made, what a new system has in /etc, and nodes.
pub fn populate(
    ports: &Ports,
    options: &Bootstrap<'_>,
    progress: &mut dyn Progress,
    cancelled: &AtomicBool,
    sink: Sink<'_>,
) -> Result<ArchiveDone, BuildError> {
    std::fs::create_dir_all(options.work_dir)
        .map_err(|e| BuildError::io("make", options.work_dir, e))?;
    sweep(options.work_dir);
    let work = private(options.work_dir)?;
    let root = work.path().join("root");
    std::fs::create_dir(&root).map_err(|e| BuildError::io("make", &root, e))?;
    progress.event(Event::Note(&format!(
        "OpenBSD {} with proot {}",
        ports.kernel.release, ports.revision
    )));
    run(ports, &root, progress, cancelled)?;
    let listing = Listing::of(&root).map_err(|e| BuildError::io("list", &root, e))?;
    if !listing.has(SHELL) {
        let how = format!("it made no /{SHELL}");
        let ask = "does /usr/lib/locate/src.db list this release's files? ";
        return Err(failed(ports, &how, Vec::new(), ask));
    }
    if !listing.left_out.is_empty() {
        progress.event(Event::Note(&left_out(&listing)));
    }
    let done = import(ports, &listing, progress, cancelled, sink)?;
    let path = work.path().to_owned();
    work.close()
        .map_err(|e| BuildError::io("remove", &path, e))?;
    Ok(done)
}

fn run(
    ports: &Ports,
    root: &Path,
    progress: &mut dyn Progress,
    cancelled: &AtomicBool,
) -> Result<(), BuildError> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", ALL_IS_SAID, "sh"]);
    command.args(ports.arguments(root));
    command
        .current_dir("/")
        .env_remove("POCKER_TOKEN")
        .env("LC_ALL", "C")
        .env("PORTSDIR", super::ports_dir(&ports.program));
    let mut stream = ChildStream::spawn("proot", command, progress, cancelled)?;
    stream.verify().map_err(|error| match error {
        BuildError::Program { how, tail, .. } => failed(ports, &how, tail, ""),
        other => other,
    })
}

fn failed(ports: &Ports, how: &str, tail: Vec<String>, ask: &str) -> BuildError {
    BuildError::Ports {
        program: ports.program.clone(),
        how: how.to_owned(),
        tail,
        hint: format!("{ask}{}", elsewhere(&ports.kernel.release)),
    }
}

fn left_out(listing: &Listing) -> String {
    let names = listing.left_out.iter().take(NAMED);
    let names: Vec<String> = names.map(|path| format!("/{}", path.display())).collect();
    let more = listing.left_out.len() - names.len();
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("left out, as the host's own: {}{more}", names.join(", "))
}

fn import(
    ports: &Ports,
    listing: &Listing,
    progress: &mut dyn Progress,
    cancelled: &AtomicBool,
    sink: Sink<'_>,
) -> Result<ArchiveDone, BuildError> {
    let broken = |why: String| BuildError::Proot {
        why: format!("the tree that proot made cannot be read: {why}"),
        hint: "is this host being upgraded, or low on disk? build again; nothing is kept"
            .to_owned(),
    };
    let own = own(&ports.makedev, &ports.installurl).map_err(|e| broken(e.to_string()))?;
    let mut at = 0;
    let layers = Framing::new(Box::new(|| {
        at += 1;
        Ok(match at {
            1 => Some(Box::new(listing.stream()) as Box<dyn Read + '_>),
            2 => Some(plain(Cursor::new(&ports.etc))?),
            3 => Some(Box::new(own.as_slice())),
            _ => None,
        })
    }));
    let mut failure = None;
    let mut stream = Watched {
        stream: layers,
        progress,
        cancelled,
        failure: &mut failure,
        done: 0,
    };
    let sealed = sink(&mut stream);
    if cancelled.load(Ordering::Relaxed) {
        return Err(BuildError::Cancelled);
    }
    sealed.map_err(|e| failure.map_or(e, broken))
}

/// A directory that root alone enters, and the lock that says it is in use.
struct Work {
    dir: TempDir,
    _lock: Flock<File>,
}

impl Work {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Removes it, and says why not.
    fn close(self) -> std::io::Result<()> {
        remove(self.path());
        match self.path().exists() {
            true => std::fs::remove_dir_all(self.path()),
            false => Ok(()),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        remove(self.path());
    }
}

fn private(dir: &Path) -> Result<Work, BuildError> {
    let work = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(dir)
        .map_err(|e| BuildError::io("make a work folder in", dir, e))?;
    let path = work.path().join(LOCK);
    let lock = File::create_new(&path)
        .and_then(|file| Ok(lock(file)?))
        .map_err(|e| BuildError::io("lock", &path, e))?;
    Ok(Work {
        dir: work,
        _lock: lock,
    })
}

/// Removes what a killed build left: links to the host's programs that would outlive their upgrade.
fn sweep(dir: &Path) {
    let Ok(list) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in list.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        // One without a lock is only just being made.
        let free = File::open(path.join(LOCK)).is_ok_and(|file| lock(file).is_ok());
        if free {
            remove(&path);
        }
    }
}

/// The lock last: what is cut off in between is found again.
fn remove(work: &Path) {
    for entry in std::fs::read_dir(work).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            _ if entry.file_name() == LOCK => {}
            Ok(kind) if kind.is_dir() => drop(std::fs::remove_dir_all(path)),
            _ => drop(std::fs::remove_file(path)),
        }
    }
    let _ = std::fs::remove_dir_all(work);
}

fn lock(file: File) -> Result<Flock<File>, Errno> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)
}
