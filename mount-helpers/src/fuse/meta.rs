//! Operations on a node's attributes, and what is read once: links, statistics.

use super::attr::{Wanted, file_attr, with_mode};
use super::export::{Entry, Export};
use super::unstable::Unstable;
use fuser::Errno;
use pocker_nfs::proto::{fattr3, ftype3};
use pocker_nfs::vfs::{Fh, FsStat, Stable};

const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o0010;

/// Set-id bits that a write or truncation by one who may not keep them takes away:
/// setgid without group execute is no privilege (chmod(2)).
fn privileges(attr: &fattr3) -> u32 {
    if !matches!(attr.ftype, ftype3::NF3REG) {
        return 0;
    }
    let setgid = if attr.mode & S_IXGRP != 0 { S_ISGID } else { 0 };
    attr.mode & (S_ISUID | setgid)
}

impl Export {
    /// The answer to GETATTR that needs no call, if there is one.
    pub(crate) fn getattr_now(&self, ino: u64) -> Option<Entry> {
        if !self.settled(ino) {
            return None;
        }
        let (attr, links) = self.table.believed_attr(ino)?;
        Some(self.attr_entry(ino, &attr, links))
    }

    pub(crate) async fn getattr(&self, ino: u64) -> Result<Entry, Errno> {
        let (attr, links) = self.fresh_attr(ino).await?;
        Ok(self.attr_entry(ino, &attr, links))
    }

    fn attr_entry(&self, ino: u64, attr: &fattr3, links: Option<u32>) -> Entry {
        Entry {
            attr: file_attr(ino, attr, links),
            ttl: self.ttl(ino),
        }
    }

    /// `privileged`: the caller is root, who may keep set-id bits when truncating.
    pub(crate) async fn setattr(
        &self,
        ino: u64,
        wanted: &Wanted,
        privileged: bool,
    ) -> Result<Entry, Errno> {
        let (fh, sent) = (self.table.handle(ino)?, self.table.now());
        let mut attr = self.remote.setattr(&fh, &wanted.sattr()).await?;
        self.table.note(ino, &attr, sent);
        if let Some(size) = wanted.size {
            self.table.unstable(ino, |unstable| unstable.cut(size));
        }
        if wanted.size.is_some() && !privileged {
            attr = self.drop_privileges(ino, attr).await?;
        }
        Ok(self.attr_entry(ino, &attr, self.table.links(ino)))
    }

    /// Takes set-id bits away where the server, whose caller is always root,
    /// kept them.
    pub(crate) async fn drop_privileges(&self, ino: u64, attr: fattr3) -> Result<fattr3, Errno> {
        let bits = privileges(&attr);
        if bits == 0 {
            return Ok(attr);
        }
        let (fh, sent) = (self.table.handle(ino)?, self.table.now());
        let attr = self
            .remote
            .setattr(&fh, &with_mode(attr.mode & !bits))
            .await?;
        self.table.note(ino, &attr, sent);
        Ok(attr)
    }

    pub(crate) async fn readlink(&self, ino: u64) -> Result<Vec<u8>, Errno> {
        let fh = self.table.handle(ino)?;
        self.remote.readlink(&fh).await
    }

    pub(crate) async fn statfs(&self, ino: u64) -> Result<FsStat, Errno> {
        let fh = self.table.handle(ino)?;
        self.remote.fsstat(&fh).await
    }

    /// COMMIT, where there may be something to commit. What was written under another
    /// verifier may be gone, and is sent again.
    pub(crate) async fn fsync(&self, ino: u64) -> Result<(), Errno> {
        let fh = self.table.handle(ino)?;
        let mut pending = Unstable::default();
        self.table
            .unstable(ino, |unstable| pending = std::mem::take(unstable));
        if pending.is_clean() {
            return Ok(());
        }
        let done = self.make_stable(ino, &fh, &pending).await;
        if done.is_err() {
            self.table
                .unstable(ino, |unstable| unstable.put_back(pending));
        }
        done
    }

    /// Makes room for more: the file that is being written is made stable, and where that
    /// is not enough what the server has of another one. Whoever writes there meanwhile may
    /// write over what was lost: that is left for its own fsync(2).
    pub(crate) async fn relieve(&self, ino: u64) -> Result<(), Errno> {
        self.fsync(ino).await?;
        if self.kept.is_full()
            && let Some(other) = self.table.least_stable()
            && let Ok(fh) = self.table.handle(other)
        {
            let now = self.kept.now();
            // Its writers will be told.
            if let Ok(verifier) = self.remote.commit(&fh).await {
                self.table
                    .unstable(other, |unstable| unstable.settle(now, verifier));
            }
        }
        Ok(())
    }

    async fn make_stable(&self, ino: u64, fh: &Fh, pending: &Unstable) -> Result<(), Errno> {
        let verifier = self.remote.commit(fh).await?;
        for write in pending.lost(verifier) {
            let mut done = 0;
            while done < write.data.len() {
                let (at, sent) = (write.offset + done as u64, self.table.now());
                let rest = &write.data[done..];
                let wrote = self.remote.write(fh, at, rest, Stable::FileSync).await?;
                if wrote.count == 0 || wrote.unstable.is_some() {
                    return Err(Errno::EIO);
                }
                self.table.note_or_doubt(ino, wrote.attr.as_ref(), sent);
                done += wrote.count as usize;
            }
        }
        Ok(())
    }
}
