//! What mount helpers leave in a host directory: files that were removed while open, in a
//! directory of their own.

use crate::daemon::patience::FINDING;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use parking_lot::{Condvar, Mutex};
use pocker_store::work::HIDDEN;
use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Names that are in memory at a time.
const PORTION: usize = 4096;

/// A directory's device and inode.
pub type Place = (libc::dev_t, u64);

/// Directories that are being swept: whoever grafts one again waits for that.
#[derive(Default)]
pub struct Sweeping {
    places: Mutex<HashSet<Place>>,
    done: Condvar,
}

/// A directory that nobody grafts before this is dropped.
pub struct Left {
    all: Arc<Sweeping>,
    place: Place,
    root: Arc<OwnedFd>,
}

impl Sweeping {
    pub fn when_free(&self, place: Place, act: impl FnOnce()) -> nix::Result<()> {
        let mut places = self.places.lock();
        let swept = |places: &mut HashSet<Place>| places.contains(&place);
        let waited = self.done.wait_while_for(&mut places, swept, FINDING);
        if waited.timed_out() {
            return Err(Errno::ETIMEDOUT);
        }
        act();
        Ok(())
    }

    /// `last` says which nobody has grafted any more, while nobody grafts one.
    pub fn begin(
        self: &Arc<Sweeping>,
        last: impl FnOnce() -> Option<(Place, Arc<OwnedFd>)>,
    ) -> Option<Left> {
        let mut places = self.places.lock();
        let (place, root) = last()?;
        places.insert(place);
        let all = self.clone();
        Some(Left { all, place, root })
    }
}

impl Left {
    pub fn place(&self) -> Place {
        self.place
    }

    pub fn sweep(self) {
        sweep(self.root.as_fd());
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.all.places.lock().remove(&self.place);
        self.all.done.notify_all();
    }
}

/// Removes it, once nobody has the directory grafted. A helper that was killed left names in
/// it; anything that no helper has made stays, and the directory with it.
fn sweep(root: BorrowedFd<'_>) {
    match try_sweep(root) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY) => {}
        Err(errno) => tracing::warn!(%errno, "the hidden files of a graft could not be removed"),
    }
}

fn try_sweep(root: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut dir = Dir::openat(root, HIDDEN, flags, Mode::empty())?;
    let stat = fstat(&dir)?;
    if stat.st_uid != 0 || stat.st_mode & 0o077 != 0 {
        return Ok(());
    }
    loop {
        let mut ours = Vec::new();
        for entry in dir.iter() {
            let name = entry?.file_name().to_owned();
            if made_by_helper(name.to_bytes()) {
                ours.push(name);
            }
            if ours.len() == PORTION {
                break;
            }
        }
        for name in &ours {
            unlinkat(&dir, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        if ours.len() < PORTION {
            break;
        }
    }
    unlinkat(root, HIDDEN, UnlinkatFlags::RemoveDir)
}

/// Two numbers: the file's and a counter.
fn made_by_helper(name: &[u8]) -> bool {
    let mut parts = name.split(|b| *b == b'-');
    let number = |part: Option<&[u8]>| {
        part.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
    };
    number(parts.next()) && number(parts.next()) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, DirBuilder, File, Permissions};
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_directory_that_is_being_swept_is_waited_for_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(OwnedFd::from(File::open(dir.path()).unwrap()));
        let all = Arc::<Sweeping>::default();
        assert!(all.begin(|| None).is_none());
        let left = all.begin(|| Some(((1, 2), root.clone()))).unwrap();
        all.when_free((1, 3), || ()).unwrap();
        let (begun, swept) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                begun.store(true, Ordering::SeqCst);
                all.when_free((1, 2), || assert!(swept.load(Ordering::SeqCst)))
            });
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            // It has begun to wait by then, most times.
            std::thread::sleep(std::time::Duration::from_millis(20));
            swept.store(true, Ordering::SeqCst);
            drop(left);
            waits.join().unwrap().unwrap();
        });
    }

    #[test]
    fn only_what_helpers_made_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let hidden = dir.path().join(".pocker-hidden");
        sweep(root.as_fd());
        DirBuilder::new().mode(0o700).create(&hidden).unwrap();
        fs::write(hidden.join("12-3456"), "").unwrap();
        sweep(root.as_fd());
        assert!(!hidden.exists());

        DirBuilder::new().mode(0o700).create(&hidden).unwrap();
        for n in 0..2 * PORTION + 1 {
            fs::write(hidden.join(format!("9-{n}")), "").unwrap();
        }
        for name in ["12-3456", "notes", "12-", "1-2-3", "-1"] {
            fs::write(hidden.join(name), "").unwrap();
        }
        sweep(root.as_fd());
        assert!(!hidden.join("12-3456").exists());
        assert_eq!(fs::read_dir(&hidden).unwrap().count(), 4);

        // A user's own, by its mode.
        fs::set_permissions(&hidden, Permissions::from_mode(0o755)).unwrap();
        fs::write(hidden.join("7-8"), "").unwrap();
        sweep(root.as_fd());
        assert!(hidden.join("7-8").exists());

        // A link is not followed.
        let away = dir.path().join("away");
        DirBuilder::new().mode(0o700).create(&away).unwrap();
        fs::write(away.join("1-2"), "").unwrap();
        fs::remove_dir_all(&hidden).unwrap();
        std::os::unix::fs::symlink(&away, &hidden).unwrap();
        sweep(root.as_fd());
        assert!(away.join("1-2").exists());
    }
}
