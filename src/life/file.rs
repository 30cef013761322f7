//! Files that are their owner's alone, and small.

use super::error::{LifeError, io_error};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Longest file that is taken for one of ours.
pub const FILE_MAX: u64 = 4 << 20;

pub fn private(path: &Path, options: &mut OpenOptions) -> Result<File, LifeError> {
    let flags = libc::O_CLOEXEC | libc::O_NOFOLLOW;
    options
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
        .map_err(io_error("write", path))
}

/// By rename: whoever reads it finds all of the old or of the new.
pub fn write_json<T: serde::Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), LifeError> {
    let path = dir.join(name);
    let new = dir.join(format!(".{name}"));
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let mut file = private(
        &new,
        OpenOptions::new().write(true).create(true).truncate(true),
    )?;
    file.write_all(&bytes).map_err(io_error("write", &new))?;
    std::fs::rename(&new, &path).map_err(io_error("write", &path))
}

/// None also where it is not what it should be.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let file = private_read(path).ok()?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).ok()?;
    match bytes.len() as u64 > FILE_MAX {
        true => None,
        false => serde_json::from_slice(&bytes).ok(),
    }
}

fn private_read(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}
