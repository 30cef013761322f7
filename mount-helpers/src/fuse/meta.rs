//! Operations on a node's attributes, and what is read once: links, statistics.

use super::attr::{Wanted, file_attr, with_mode};
use super::export::{Entry, Export};
use super::table::Unstable;
use fuser::Errno;
use pocker_nfs::proto::{fattr3, ftype3};
use pocker_nfs::vfs::FsStat;

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

    /// COMMIT, where there may be something to commit. A verifier other than the one
    /// the data was written under means that the data may be gone.
    pub(crate) async fn fsync(&self, ino: u64) -> Result<(), Errno> {
        let fh = self.table.handle(ino)?;
        let before = self.table.take_unstable(ino);
        match before {
            Unstable::None => return Ok(()),
            Unstable::Lost => return Err(Errno::EIO),
            Unstable::Unknown | Unstable::Some(_) => {}
        }
        match self.remote.commit(&fh).await {
            Ok(now) if before == Unstable::Some(now) || before == Unstable::Unknown => Ok(()),
            Ok(_) => Err(Errno::EIO),
            Err(e) => {
                self.table.put_unstable(ino, before);
                Err(e)
            }
        }
    }
}
