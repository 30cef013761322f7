//! What a sandbox needs of a mount helper.

use crate::sys::Fault;
use std::path::Path;

/// How long what the kernel has seen of an export may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// It never changes.
    Sealed,
    /// This mount alone changes it.
    Exclusive,
    /// Others may change it.
    Shared,
}

/// The flags of an export's mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeFlags {
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    pub caching: Caching,
}

/// One mount to make.
#[derive(Clone, Copy)]
pub struct TreeMount<'a> {
    /// The export's path; it may hold a secret.
    pub export: &'a [u8],
    /// An empty directory.
    pub target: &'a Path,
    pub flags: TreeFlags,
}

/// Whether an unmount may be forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// What a command could have put something else in place of.
    Never,
    InUse,
}

/// Mounts exports. It is called in a forked child of the process that made it, in
/// the sandbox's own mount namespace (elsewhere than Linux: in the host's), and
/// nothing of it is dropped there.
pub trait TreeMounter {
    fn mount(&mut self, tree: &TreeMount<'_>) -> Result<(), Fault>;

    /// Undoes `mount`. Only where no mount namespace does so: not on Linux.
    fn unmount(&mut self, target: &Path, force: Force) -> Result<(), Fault>;
}
