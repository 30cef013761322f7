//! One mounted export: what its operations share.

use super::ahead::Ahead;
use super::attr::file_attr;
use super::hide::HiddenDir;
use super::passthrough::Passthrough;
use super::reading::Readings;
use super::remote::Remote;
use super::table::{ROOT, Seen, Table};
use super::unstable::Kept;
use super::walk::Walk;
use crate::helper::Cache;
use fuser::{Errno, FileAttr, INodeNo, Notifier};
use pocker_nfs::proto::fattr3;
use pocker_nfs::vfs::{Fh, Stable};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;

/// How long the kernel may keep what nobody changes behind its back.
const LONG: Duration = Duration::from_secs(3600);
/// How long it may keep what somebody may: with the server's own cache of a
/// second at most, a change shows within one and a half.
const SHORT: Duration = Duration::from_millis(500);

/// How an export is cached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub cache: Cache,
    /// How far a WRITE must be before its reply. A server on this host that dies loses
    /// nothing it acknowledged; another machine may.
    pub stable: Stable,
}

impl Policy {
    /// The level, counted from the export's root, from which on directories and what is in
    /// them are changed by nobody but this mount, if there is one.
    fn settled_from(&self) -> Option<u8> {
        match self.cache {
            Cache::Sealed | Cache::Exclusive => Some(0),
            Cache::View | Cache::LargeView => Some(2),
            Cache::Shared => None,
        }
    }

    /// All that is settled is sealed too, and the mount is read-only: files and directories
    /// are opened without a call.
    pub(crate) fn sealed(&self) -> bool {
        matches!(self.cache, Cache::Sealed | Cache::View | Cache::LargeView)
    }
}

/// One mounted export. Its operations are in the modules beside this one.
pub(crate) struct Export {
    pub remote: Remote,
    pub table: Table,
    pub policy: Policy,
    pub hidden: HiddenDir,
    pub dirs: Readings,
    pub ahead: Ahead,
    pub walk: Walk,
    /// Where large files are not read by READs.
    pub passthrough: Option<Passthrough>,
    pub kept: Kept,
    /// Told after each removal, for those who wait to open.
    pub removals: Notify,
    notifier: OnceLock<Notifier>,
}

/// What the kernel learns of a node it looked up.
#[derive(Debug)]
pub(crate) struct Entry {
    pub attr: FileAttr,
    pub ttl: Duration,
}

impl Export {
    pub(crate) fn new(
        remote: Remote,
        (root, attr): (Fh, fattr3),
        policy: Policy,
        passthrough: Option<Passthrough>,
    ) -> Arc<Export> {
        Arc::new(Export {
            remote,
            table: Table::new(root, attr, policy.settled_from()),
            policy,
            hidden: HiddenDir::new(root),
            dirs: Readings::default(),
            ahead: Ahead::default(),
            walk: Walk::default(),
            passthrough,
            kept: Kept::default(),
            removals: Notify::new(),
            notifier: OnceLock::new(),
        })
    }

    pub(crate) fn set_notifier(&self, notifier: Notifier) {
        // Set once, before the first request.
        let _ = self.notifier.set(notifier);
    }

    /// Makes the kernel ask for a node's attributes again.
    pub(crate) fn doubt_in_kernel(&self, ino: u64) {
        if let Some(notifier) = self.notifier.get()
            && let Err(cause) = notifier.inval_inode(INodeNo(ino), -1, 0)
        {
            tracing::debug!(ino, %cause, "the kernel kept its attributes");
        }
    }

    /// Makes the kernel read a file's data again. It waits for pages that are being read or
    /// written, which takes answers from here: on a thread that answers nothing.
    pub(crate) fn forget_data(&self, ino: u64) {
        if let Some(notifier) = self.notifier.get().cloned() {
            tokio::task::spawn_blocking(move || {
                if let Err(cause) = notifier.inval_inode(INodeNo(ino), 0, 0) {
                    tracing::debug!(ino, %cause, "the kernel kept its data");
                }
            });
        }
    }

    /// Counts a lookup and makes the kernel's entry of it.
    pub(crate) fn entry(&self, seen: &Seen<'_>, sent: u64, fresh: bool) -> Entry {
        let ino = self.table.found(seen, sent, fresh);
        Entry {
            attr: file_attr(ino, seen.attr, self.table.links(ino)),
            ttl: self.ttl(seen.parent),
        }
    }

    /// Nobody but this mount changes the node or, in a directory, its names.
    pub(crate) fn settled(&self, ino: u64) -> bool {
        self.table.settled(ino)
    }

    /// How long the kernel may believe a node's attributes or a directory's names.
    pub(crate) fn ttl(&self, ino: u64) -> Duration {
        match self.policy.cache {
            _ if self.settled(ino) => LONG,
            // Who has just made a pocker mounts it from here, at once.
            Cache::View | Cache::LargeView => Duration::ZERO,
            _ => SHORT,
        }
    }

    /// Attributes no older than this call.
    pub(crate) async fn fresh_attr(&self, ino: u64) -> Result<(fattr3, Option<u32>), Errno> {
        if self.settled(ino)
            && let Some(known) = self.table.believed_attr(ino)
        {
            return Ok(known);
        }
        let (fh, sent) = (self.table.handle(ino)?, self.table.now());
        let attr = self.remote.getattr(&fh).await?;
        self.table.note(ino, &attr, sent);
        Ok((attr, self.table.links(ino)))
    }

    /// The hidden directory is not there for anybody but us.
    pub(crate) fn reserved(&self, parent: u64, name: &[u8]) -> bool {
        parent == ROOT && name == super::hide::DIR
    }
}
