//! Mounts on systems that none of the helpers knows.

use super::other::unsupported;
use crate::helper::Unmounted;
use std::io;
use std::path::Path;

pub(crate) fn is_nfs(_target: &Path) -> io::Result<bool> {
    unsupported()
}

pub(crate) fn unmount(_target: &Path) -> io::Result<Unmounted> {
    unsupported()
}

pub(crate) fn unmount_dead(_target: &Path) -> io::Result<Unmounted> {
    unsupported()
}
