//! Extended attributes, by the server's private program.

use super::export::Export;
use fuser::Errno;
use pocker_nfs::vfs::XattrHow;
use std::time::Duration;

/// The kernel asks for it before each write and exec.
const CAPABILITY: &[u8] = b"security.capability";

/// Not kept: the kernel checks mode bits only, so an ACL would be believed by
/// its owner and obeyed by nobody.
const ACLS: &[u8] = b"system.posix_acl_";

/// For how long others' changes may go unseen.
const SHARED: Duration = Duration::from_secs(1);

impl Export {
    fn caps_known(&self, ino: u64) -> Option<Duration> {
        (!self.settled(ino)).then_some(SHARED)
    }

    /// The answer that needs no call, if there is one.
    pub(crate) fn getxattr_now(&self, ino: u64, name: &[u8]) -> Option<Errno> {
        if name.starts_with(ACLS) {
            return Some(Errno::EOPNOTSUPP);
        }
        let absent = name == CAPABILITY && self.table.has_no_caps(ino, self.caps_known(ino));
        absent.then_some(Errno::NO_XATTR)
    }

    pub(crate) async fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let fh = self.table.handle(ino)?;
        match self.remote.getxattr(&fh, name).await? {
            Some(value) => Ok(value),
            None => {
                if name == CAPABILITY {
                    self.table.set_no_caps(ino, true);
                }
                Err(Errno::NO_XATTR)
            }
        }
    }

    /// All names, each with its NUL, as listxattr(2) wants them.
    pub(crate) async fn listxattr(&self, ino: u64) -> Result<Vec<u8>, Errno> {
        let fh = self.table.handle(ino)?;
        let mut list = Vec::new();
        for name in self.remote.listxattr(&fh).await? {
            if !name.starts_with(ACLS) {
                list.extend_from_slice(&name);
                list.push(0);
            }
        }
        Ok(list)
    }

    pub(crate) async fn setxattr(
        &self,
        ino: u64,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<(), Errno> {
        if name.starts_with(ACLS) {
            return Err(Errno::EOPNOTSUPP);
        }
        let fh = self.table.handle(ino)?;
        if name == CAPABILITY {
            self.table.set_no_caps(ino, false);
        }
        let outcome = self.remote.setxattr(&fh, name, value, how).await;
        if name == CAPABILITY {
            // Again: a question asked meanwhile may have been answered "none".
            self.table.set_no_caps(ino, false);
        }
        self.table.invalidate(ino);
        outcome
    }

    pub(crate) async fn removexattr(&self, ino: u64, name: &[u8]) -> Result<(), Errno> {
        if name.starts_with(ACLS) {
            return Err(Errno::EOPNOTSUPP);
        }
        let fh = self.table.handle(ino)?;
        let outcome = self.remote.removexattr(&fh, name).await;
        self.table.invalidate(ino);
        outcome
    }
}
