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

/// Copies a folder with its hard links.
pub fn copy(from: &Path, to: &Path) {
    copy_into(from, to, &mut HashMap::new());
}

fn copy_into(from: &Path, to: &Path, links: &mut HashMap<u64, PathBuf>) {
    fs::create_dir(to).expect("mkdir");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("an entry");
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        let meta = path.symlink_metadata().expect("stat");
        if meta.is_dir() {
            copy_into(&path, &place, links);
            continue;
        }
        match links.get(&meta.ino()) {
            Some(first) => fs::hard_link(first, &place).expect("link"),
            None => {
                fs::copy(&path, &place).expect("copy");
                links.insert(meta.ino(), place);
            }
        }
    }
}
