//! A folder as it is at one moment: what a process that dies there leaves.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders for stores, in memory where there is a file system for that: a sync costs nothing.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a directory")
}

/// What becomes of empty folders of `blobs/`, of which there are 256. Opening the store makes
/// those that are missing, so that what is opened soon can do without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    Copied,
    Left,
}

/// Copies a folder with its hard links. Another thread's last change may come during it: what was removed or moved
/// meanwhile would be in neither place, so all of it is copied again then.
pub fn copy(from: &Path, to: &Path, empty: Empty) {
    for _ in 0..100 {
        let tried = names(from).and_then(|before| {
            copy_into(from, to, empty, &mut HashMap::new())?;
            Ok(before == names(from)?)
        });
        match tried {
            Ok(true) => return,
            Ok(false) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => panic!("copy {}: {e}", from.display()),
        }
        let _ = fs::remove_dir_all(to);
    }
    panic!("{} does not stand still", from.display());
}

/// What is in it, and which file that is.
fn names(dir: &Path) -> io::Result<BTreeSet<(PathBuf, u64)>> {
    let mut all = BTreeSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let meta = path.symlink_metadata()?;
            if meta.is_dir() {
                left.push(path.clone());
            }
            all.insert((path, meta.ino()));
        }
    }
    Ok(all)
}

fn copy_into(
    from: &Path,
    to: &Path,
    empty: Empty,
    links: &mut HashMap<u64, PathBuf>,
) -> io::Result<()> {
    let blobs = from.ends_with("blobs") && empty == Empty::Left;
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        let meta = path.symlink_metadata()?;
        if meta.is_dir() {
            if !blobs || fs::read_dir(&path)?.next().is_some() {
                copy_into(&path, &place, empty, links)?;
            }
            continue;
        }
        if meta.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&path)?, &place)?;
            continue;
        }
        match links.get(&meta.ino()) {
            Some(first) => fs::hard_link(first, &place)?,
            None => {
                fs::copy(&path, &place)?;
                let file = fs::File::options().write(true).open(&place)?;
                // A staged file's is its node's.
                file.set_modified(meta.modified()?)?;
                links.insert(meta.ino(), place);
            }
        }
    }
    Ok(())
}
