//! Whether a program that root is about to start is root's to change alone. A ports tree is often given to who
//! works on it, and PROOT starts proot without anybody having typed its name.

use nix::unistd::Uid;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// More is no ports tree's infrastructure.
const MOST: usize = 10_000;
const WHEEL: u32 = 0;
const STICKY: u32 = 0o1000;

/// Why not: the program or a directory above it, or a module that it may load. A missing `libraries` holds none.
pub fn refuses(program: &Path, libraries: &Path) -> Option<String> {
    let above = |path: &Path| path.ancestors().find_map(|path| one(path, true));
    above(program).or_else(|| {
        let real = match std::fs::canonicalize(libraries) {
            Ok(real) => real,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => return Some(unread(libraries, &e)),
        };
        above(&real).or_else(|| below(&real))
    })
}

fn below(dir: &Path) -> Option<String> {
    let mut left = vec![dir.to_owned()];
    let mut seen = 0;
    while let Some(dir) = left.pop() {
        let list = match std::fs::read_dir(&dir) {
            Ok(list) => list,
            Err(e) => return Some(unread(&dir, &e)),
        };
        for entry in list {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(e) => return Some(unread(&dir, &e)),
            };
            seen += 1;
            if seen > MOST {
                return Some(format!("{} holds more than a ports tree's", dir.display()));
            }
            if let Some(why) = one(&path, false) {
                return Some(why);
            }
            if path.is_dir() && !path.is_symlink() {
                left.push(path);
            }
        }
    }
    None
}

/// What a link leads to counts, and not the link. In a `sticky` directory nobody replaces what is another's.
fn one(path: &Path, sticky: bool) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(meta) if is_ours(&meta, sticky) => None,
        Ok(meta) => Some(format!(
            "{} may be changed by others than root (owner {}, group {}, mode {:o})",
            path.display(),
            meta.uid(),
            meta.gid(),
            meta.permissions().mode() & 0o7777
        )),
        Err(e) => Some(unread(path, &e)),
    }
}

/// A group may write where it is wheel, whose members may become root anyway.
fn is_ours(meta: &Metadata, sticky: bool) -> bool {
    let mode = meta.permissions().mode();
    let owner = meta.uid() == 0 || meta.uid() == Uid::effective().as_raw();
    let sticky = sticky && meta.is_dir() && mode & STICKY != 0;
    let shared = mode & 0o002 != 0 || (mode & 0o020 != 0 && meta.gid() != WHEEL);
    owner && (sticky || !shared)
}

fn unread(path: &Path, error: &io::Error) -> String {
    format!("cannot look at {}: {error}", path.display())
}
