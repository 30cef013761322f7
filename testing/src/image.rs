//! A folder as it is at one moment: what a process that dies there leaves.

use std::collections::HashMap;
use std::fs;
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

/// Copies a folder with its hard links.
pub fn copy(from: &Path, to: &Path, empty: Empty) {
    copy_into(from, to, empty, &mut HashMap::new());
}

fn copy_into(from: &Path, to: &Path, empty: Empty, links: &mut HashMap<u64, PathBuf>) {
    let blobs = from.ends_with("blobs") && empty == Empty::Left;
    fs::create_dir(to).expect("mkdir");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("an entry");
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        let meta = path.symlink_metadata().expect("stat");
        if meta.is_dir() {
            if !blobs || fs::read_dir(&path).expect("list").next().is_some() {
                copy_into(&path, &place, empty, links);
            }
            continue;
        }
        if meta.is_symlink() {
            let to = fs::read_link(&path).expect("a link");
            std::os::unix::fs::symlink(to, &place).expect("a link");
            continue;
        }
        match links.get(&meta.ino()) {
            Some(first) => fs::hard_link(first, &place).expect("link"),
            None => {
                fs::copy(&path, &place).expect("copy");
                let file = fs::File::options().write(true).open(&place).expect("open");
                // A staged file's is its node's.
                file.set_modified(meta.modified().expect("a time"))
                    .expect("set");
                links.insert(meta.ino(), place);
            }
        }
    }
}
