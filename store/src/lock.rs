//! The store's folder, and the lock that makes it one process's.

use crate::error::StoreError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest content of the lock file that is a pid.
const PID_DIGITS: u64 = 16;
/// Says which folder this is: a copy of it says the same, and is another one.
const PLACE: &str = "place";
/// Longest content of that file that is believed.
const PLACE_MAX: u64 = 64;
/// How often and how soon who finds the store locked looks again for who has it.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// The file of that name and no other's, whoever put what there: the store may have been another user's. A pipe is not
/// waited for.
const ITSELF: i32 = OFlag::O_NOFOLLOW.bits() | OFlag::O_NONBLOCK.bits();

/// Held as long as the index is open.
pub(crate) struct StoreLock {
    file: Flock<File>,
    unclean: Option<SystemTime>,
}

impl StoreLock {
    /// Since when the last holder had the store, where it did not close it.
    pub fn unclean(&self) -> Option<SystemTime> {
        self.unclean
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Empty says that the store was closed; if this fails, the next start sweeps for nothing.
        let _ = self.file.set_len(0);
    }
}

/// Makes the folder where it is missing: for who can make nothing above it any more when the store is opened.
pub fn make_folder(dir: &Path) -> Result<(), StoreError> {
    not_on_nfs(dir)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| StoreError::io("create", dir, e))
}

/// Makes or checks the folder, and locks it.
pub(crate) fn lock(dir: &Path, create: bool) -> Result<StoreLock, StoreError> {
    match create {
        true => make_folder(dir)?,
        false => not_on_nfs(dir)?,
    }
    let meta = fs::metadata(dir).map_err(|e| StoreError::io("open store", dir, e))?;
    let not = |why| StoreError::NotAStore {
        path: dir.to_path_buf(),
        why,
    };
    if !meta.is_dir() {
        return Err(not("it is no directory"));
    }
    let fresh = !dir.join("index.db").exists();
    if fresh && !create {
        return Err(not("it has no index.db"));
    }
    let lock = take(dir.join("lock"), dir)?;
    if meta.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|e| StoreError::io("make private", dir, e))?;
    }
    Ok(lock)
}

/// Asked of what is there of `dir`: where it is refused, nothing is made.
pub(crate) fn not_on_nfs(dir: &Path) -> Result<(), StoreError> {
    let full = std::path::absolute(dir).map_err(|e| StoreError::io("open store", dir, e))?;
    for there in full.ancestors() {
        match crate::sys::on_nfs(there) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                return Err(StoreError::OnNfs {
                    path: dir.to_path_buf(),
                });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("statfs", there, e)),
        }
    }
    Ok(())
}

fn take(path: PathBuf, dir: &Path) -> Result<StoreLock, StoreError> {
    let fail = |what| {
        let path = path.clone();
        move |e| StoreError::io(what, &path, e)
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(ITSELF)
        .open(&path)
        .map_err(fail("open"))?;
    let mut looks = 0;
    let mut file = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => break file,
            Err((back, Errno::EWOULDBLOCK)) => {
                file = back;
                let pid = holder(&mut file);
                looks += 1;
                // One that has just taken it has yet to say who it is, and one that is about to
                // leave does so no more.
                if pid.is_some() || looks > LOOKS {
                    let path = dir.to_path_buf();
                    return Err(StoreError::InUse { path, pid });
                }
                std::thread::sleep(BETWEEN_LOOKS);
            }
            Err((_, e)) => return Err(fail("lock")(io::Error::from(e))),
        }
    };
    let meta = file.metadata().map_err(fail("stat"))?;
    let unclean = match meta.len() {
        0 => None,
        _ => Some(meta.modified().map_err(fail("stat"))?),
    };
    let here = place(dir).map_err(fail("stat"))?;
    if unclean.is_some() {
        copied(dir, &here, &mut file)?;
    }
    note_place(dir, &here)?;
    let write = |file: &mut File| {
        file.set_len(0)?;
        io::Seek::rewind(file)?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(fail("write"))?;
    Ok(StoreLock { file, unclean })
}

/// The folder's number and when it was made. Not its device, whose number may be another one
/// after the machine's next start.
fn place(dir: &Path) -> io::Result<String> {
    let meta = fs::metadata(dir)?;
    let made = meta.created().ok();
    let made = made.and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let made = made.unwrap_or_default();
    Ok(format!(
        "{} {}.{:09}\n",
        meta.ino(),
        made.as_secs(),
        made.subsec_nanos()
    ))
}

/// A store that nobody closed is as a kill left it, unless it is a copy of one that is open still:
/// then its files are of different moments, and nobody knows what is lost.
fn copied(dir: &Path, here: &str, lock: &mut File) -> Result<(), StoreError> {
    let mut there = String::new();
    let read = File::options()
        .read(true)
        .custom_flags(ITSELF)
        .open(dir.join(PLACE))
        .and_then(|file| file.take(PLACE_MAX).read_to_string(&mut there));
    match (read, holder(lock)) {
        (Ok(n), Some(pid)) if n > 0 && there != here && pid != std::process::id() => {
            Err(StoreError::LiveCopy {
                path: dir.to_path_buf(),
                pid,
            })
        }
        _ => Ok(()),
    }
}

fn note_place(dir: &Path, here: &str) -> Result<(), StoreError> {
    let path = dir.join(PLACE);
    let there = File::options().read(true).custom_flags(ITSELF).open(&path);
    let mut text = Vec::new();
    let read = there.and_then(|file| file.take(PLACE_MAX).read_to_end(&mut text));
    if read.is_ok() && text == here.as_bytes() {
        return Ok(());
    }
    let wrote = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(ITSELF)
        .open(&path)
        .and_then(|mut file| file.write_all(here.as_bytes()));
    wrote.map_err(|e| StoreError::io("write", &path, e))
}

/// Nobody opens the store in `dir` as long as this is held, which says nothing of what is in it.
pub fn hold(dir: &Path) -> Result<Flock<File>, StoreError> {
    let path = dir.join("lock");
    let mut file = File::options();
    let file = file.read(true).write(true).create(true).truncate(false);
    let file = file.mode(0o600).custom_flags(ITSELF).open(&path);
    let file = file.map_err(|e| StoreError::io("open", &path, e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, e)| match e {
        Errno::EWOULDBLOCK => StoreError::InUse {
            path: dir.to_path_buf(),
            pid: holder(&mut file),
        },
        e => StoreError::io("lock", &path, e.into()),
    })
}

/// Nobody has the store in `dir` open, or there is none; else [`StoreError::InUse`].
pub fn closed(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join("lock");
    let file = match File::options().read(true).custom_flags(ITSELF).open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(|e| StoreError::io("open", &path, e))?,
    };
    // Shared: two who ask are not in each other's way, and who opens it meanwhile looks again.
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(()),
        Err((mut file, Errno::EWOULDBLOCK)) => Err(StoreError::InUse {
            path: dir.to_path_buf(),
            pid: holder(&mut file),
        }),
        Err((_, e)) => Err(StoreError::io("lock", &path, e.into())),
    }
}

/// The pid that is in the lock file, if it is of a process that lives.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    io::Seek::rewind(file).ok()?;
    Read::by_ref(file)
        .take(PID_DIGITS)
        .read_to_string(&mut text)
        .ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) {
        Err(Errno::ESRCH) => None,
        _ => u32::try_from(pid).ok(),
    }
}
