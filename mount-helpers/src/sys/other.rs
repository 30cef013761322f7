//! Systems that are not Linux: its calls, answering that they are not there.

use std::io;
use std::path::Path;

/// What Linux's helper asks of mount(2).
#[allow(dead_code)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountFlags {
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

pub(super) fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "not available on this operating system",
    ))
}

pub(crate) fn mount_fs(
    _source: &[u8],
    _target: &Path,
    _fstype: &str,
    _flags: MountFlags,
    _data: &str,
) -> io::Result<()> {
    unsupported()
}

pub(crate) fn bind(_source: &Path, _target: &Path) -> io::Result<()> {
    unsupported()
}

pub(crate) fn load_fs(_fstype: &str) {}

pub(crate) fn knows_fs(_fstype: &str) -> bool {
    false
}

/// Only Linux has network namespaces.
pub(crate) struct Away;

impl Away {
    pub(crate) fn to(_path: &Path) -> io::Result<Away> {
        unsupported()
    }

    pub(crate) fn back(self) -> io::Result<()> {
        unsupported()
    }
}
