//! A copy into or out of a run: made by a process that is where the run is, so what it sees, its
//! grafts and volumes as well, is what the run sees, and what the kernel knows of the tree stays true.
//! Paths are resolved there, and lead nowhere else.

use super::{Below, Found, Host, Owner, Place, PlaceError, Source, plain};
use crate::daemon::archive;
use crate::sandbox::Target;
use crate::sys::process::{Forked, exit_now, fork_tied, tie_to_parent};
use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::pipe2;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is to be copied where.
pub struct Asked {
    /// A path of the run's.
    pub to: Vec<u8>,
    /// None: an archive, whose own names are taken.
    pub source: Option<Source>,
    pub owner: Owner,
}

/// What the process inside says, a line each.
#[derive(Serialize, Deserialize)]
enum Said {
    /// The name that entries are to begin with.
    Ready(Vec<u8>),
    /// What is to be copied out.
    Found(Source),
    /// Devices that were left out.
    Done(u64),
    /// The destination cannot be.
    Refused(String),
    /// What failed, and with which errno.
    Failed(String, Option<i32>),
}

#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Failed(String, Option<i32>),
    #[error("the copy ended in the middle")]
    Ended,
    #[error("cannot begin the copy")]
    Io(#[from] io::Error),
}

/// `feed` is given the name that its archive's entries begin with. How many devices were left
/// out. For a process of one thread.
pub fn copy_in<E: From<InsideError>>(
    target: &Target,
    asked: &Asked,
    feed: impl FnOnce(&[u8], &mut dyn Write) -> Result<(), E>,
) -> Result<u64, E> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| InsideError::Io(e.into()));
    let (data, to) = pipe()?;
    let (replies, say) = pipe()?;
    let (child, _tie) = match fork_tied().map_err(|e| InsideError::Io(e.into()))? {
        Forked::Parent { child, tie } => (child, tie),
        Forked::Child { tie } => {
            drop((to, replies));
            let tied = tie_to_parent(tie).is_ok();
            let status = i32::from(!tied || !inside(target, asked, data, say));
            exit_now(status);
        }
    };
    drop((data, say));
    let mut replies = BufReader::new(File::from(replies));
    let mut heard = || -> Result<Said, InsideError> {
        let mut line = String::new();
        replies.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| InsideError::Ended)
    };
    let begun = heard();
    let fed = match &begun {
        Ok(Said::Ready(name)) => {
            let mut to = File::from(to);
            let fed = feed(name, &mut to);
            drop(to);
            fed.map(|()| heard())
        }
        _ => Ok(begun),
    };
    // What the other end says explains a pipe that broke.
    let said = match fed {
        Ok(said) => said,
        Err(e) => match heard() {
            Ok(Said::Failed(what, errno)) => Err(InsideError::Failed(what, errno)),
            _ => {
                let _ = waitpid(child, None);
                return Err(e);
            }
        },
    };
    while waitpid(child, None) == Err(nix::errno::Errno::EINTR) {}
    Ok(match said? {
        Said::Done(devices) => devices,
        Said::Refused(why) => return Err(InsideError::Refused(why).into()),
        Said::Failed(what, errno) => return Err(InsideError::Failed(what, errno).into()),
        _ => return Err(InsideError::Ended.into()),
    })
}

/// Out of a run: `begin` is told what is there and says the name that the archive's entries begin
/// with, `take` reads the archive. For a process of one thread.
pub fn copy_out<T, E: From<InsideError>>(
    target: &Target,
    (path, follow): (&[u8], bool),
    begin: impl FnOnce(&Source) -> Result<Vec<u8>, E>,
    take: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<T, E> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| InsideError::Io(e.into()));
    let (name, to) = pipe()?;
    let (replies, say) = pipe()?;
    let (archive, out) = pipe()?;
    let (child, _tie) = match fork_tied().map_err(|e| InsideError::Io(e.into()))? {
        Forked::Parent { child, tie } => (child, tie),
        Forked::Child { tie } => {
            drop((to, replies, archive));
            let tied = tie_to_parent(tie).is_ok();
            let mut say = File::from(say);
            let said = match tied {
                true => give(target, (path, follow), (name, out), &mut say),
                false => Err(Said::Failed("its caller ended".to_owned(), None)),
            };
            let said = said.map_or_else(|said| said, |()| Said::Done(0));
            let _ = tell(&mut say, &said);
            exit_now(0);
        }
    };
    drop((name, say, out));
    let mut replies = BufReader::new(File::from(replies));
    let mut heard = || -> Result<Said, InsideError> {
        let mut line = String::new();
        replies.read_line(&mut line)?;
        match serde_json::from_str(&line).map_err(|_| InsideError::Ended)? {
            Said::Refused(why) => Err(InsideError::Refused(why)),
            Said::Failed(what, errno) => Err(InsideError::Failed(what, errno)),
            said => Ok(said),
        }
    };
    let taken = (|| {
        let Said::Found(source) = heard()? else {
            return Err(InsideError::Ended.into());
        };
        let name = begin(&source)?;
        let mut to = File::from(to);
        tell(&mut to, &Said::Ready(name)).map_err(InsideError::Io)?;
        let taken = take(&mut File::from(archive));
        // Why the archive broke off, where it did.
        match heard() {
            Err(InsideError::Failed(_, Some(libc::EPIPE))) | Ok(_) => taken,
            Err(e) => Err(e.into()),
        }
    })();
    while waitpid(child, None) == Err(nix::errno::Errno::EINTR) {}
    taken
}

/// The process that is inside.
fn give(
    target: &Target,
    (path, follow): (&[u8], bool),
    (name, out): (OwnedFd, OwnedFd),
    say: &mut File,
) -> Result<(), Said> {
    if let Err(fault) = target.join() {
        return Err(Said::Failed(format!("cannot enter it: {fault}"), None));
    }
    let path = [b"/", path].concat();
    let host = Host::open(Path::new(OsStr::from_bytes(&path)), follow).map_err(|e| failed(&e))?;
    tell(say, &Said::Found(host.source())).map_err(|e| failed(&e))?;
    let mut line = String::new();
    let read = BufReader::new(File::from(name)).read_line(&mut line);
    read.map_err(|e| failed(&e))?;
    // Refused by who asked, who knows why.
    let Ok(Said::Ready(name)) = serde_json::from_str(&line) else {
        return Ok(());
    };
    host.write(&name, None, &mut File::from(out))
        .map_err(|e| failed(&e))
}

/// The process that is inside; true where all went well.
fn inside(target: &Target, asked: &Asked, data: OwnedFd, say: OwnedFd) -> bool {
    let mut say = File::from(say);
    let said = match copy(target, asked, data, &mut say) {
        Ok(devices) => Said::Done(devices),
        Err(said) => said,
    };
    let done = matches!(said, Said::Done(_));
    tell(&mut say, &said).is_ok() && done
}

fn tell(say: &mut File, said: &Said) -> io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    say.write_all(&line)
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Said {
    let (mut text, mut errno) = (String::new(), None);
    let mut next = Some(error);
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = match text.is_empty() {
                true => said,
                false => format!("{text}: {said}"),
            };
        }
        errno = errno.or(cause.downcast_ref().and_then(io::Error::raw_os_error));
        next = cause.source();
    }
    Said::Failed(text, errno)
}

fn copy(target: &Target, asked: &Asked, data: OwnedFd, say: &mut File) -> Result<u64, Said> {
    if let Err(fault) = target.join() {
        return Err(Said::Failed(format!("cannot enter it: {fault}"), None));
    }
    let place = place(asked)?;
    let dir = Path::new(OsStr::from_bytes(&place.dir));
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(dir, flags, nix::sys::stat::Mode::empty());
    let root = root.map_err(|e| {
        let shown = place.dir.escape_ascii();
        Said::Refused(format!("{shown}: {}", e.desc()))
    })?;
    tell(say, &Said::Ready(place.name)).map_err(|e| failed(&e))?;
    let mut below = Below::new(root, asked.owner);
    let made = archive::read(&mut File::from(data), &mut below).and_then(|_| below.finish());
    made.map_err(|e| failed(&*plain(e)))
}

/// `/` is the run's root here.
fn place(asked: &Asked) -> Result<Place, Said> {
    let path = [b"/", &asked.to[..]].concat();
    let found = match std::fs::metadata(OsStr::from_bytes(&path)) {
        Ok(meta) if meta.is_dir() => Found::Dir,
        Ok(_) => Found::Other,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            match std::fs::symlink_metadata(OsStr::from_bytes(&path)) {
                Ok(_) => Found::Dangling,
                Err(_) => Found::Nothing,
            }
        }
        Err(e) => return Err(failed(&e)),
    };
    let shown = asked.to.escape_ascii();
    match &asked.source {
        Some(source) => {
            Place::of(&path, &found, source).map_err(|e| Said::Refused(format!("{shown}: {e}")))
        }
        None if found == Found::Dir => Ok(Place {
            dir: path,
            name: Vec::new(),
        }),
        None => Err(Said::Refused(format!("{shown}: {}", PlaceError::NoDir))),
    }
}
