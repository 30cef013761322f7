//! Operations on names: looking up, making, linking, moving and removing.

use super::attr::made_by;
use super::export::{Entry, Export};
use super::remote::Made;
use super::table::{Removal, Seen};
use fuser::{Errno, RenameFlags};
use pocker_nfs::proto::{ftype3, sattr3};
use pocker_nfs::vfs::{CreateHow, Fh, NodeKind};

const S_ISGID: u32 = 0o2000;

/// Who makes a node, and with which mode (umask applied).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Export {
    /// `Ok(None)`: no such name, which the kernel may remember.
    pub(crate) async fn lookup(&self, parent: u64, name: &[u8]) -> Result<Option<Entry>, Errno> {
        let (dir, sent) = (self.table.handle(parent)?, self.table.now());
        let gains = self.table.gains(parent);
        match self.remote.lookup(&dir, name).await {
            Ok((fh, attr)) => {
                let seen = Seen {
                    parent,
                    name,
                    fh: &fh,
                    attr: &attr,
                };
                Ok(Some(self.entry(&seen, sent, false)))
            }
            Err(Errno::ENOENT) => {
                self.table.note_absent(parent, name, gains);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Whether a name is known not to be there, without a call.
    pub(crate) fn absent_now(&self, parent: u64, name: &[u8]) -> bool {
        self.reserved(parent, name) || (self.settled(parent) && self.table.is_absent(parent, name))
    }

    /// The attributes of what `maker` makes in `parent`: a setgid directory hands
    /// down its group, and to directories the bit (open(2), mkdir(2)).
    fn new_attr(&self, parent: u64, maker: Maker, is_dir: bool) -> Result<sattr3, Errno> {
        let dir = self.table.last_attr(parent)?;
        let (mut gid, mut mode) = (maker.gid, maker.mode);
        if dir.mode & S_ISGID != 0 {
            gid = dir.gid;
            if is_dir {
                mode |= S_ISGID;
            }
        }
        Ok(made_by(mode, maker.uid, gid))
    }

    fn may_make(&self, parent: u64, name: &[u8]) -> Result<Fh, Errno> {
        if self.reserved(parent, name) {
            return Err(Errno::EACCES);
        }
        self.table.handle(parent)
    }

    fn made(&self, parent: u64, name: &[u8], made: &Made, sent: u64) -> Entry {
        self.table.note_or_doubt(parent, made.dir.as_ref(), sent);
        let seen = Seen {
            parent,
            name,
            fh: &made.fh,
            attr: &made.attr,
        };
        self.entry(&seen, sent, true)
    }

    /// `None`: somebody else made it first.
    pub(crate) async fn create(
        &self,
        parent: u64,
        name: &[u8],
        maker: Maker,
    ) -> Result<Option<Entry>, Errno> {
        let (dir, sent) = (self.may_make(parent, name)?, self.table.now());
        let how = CreateHow::Guarded(self.new_attr(parent, maker, false)?);
        match self.remote.create(&dir, name, &how).await {
            Ok(made) => Ok(Some(self.made(parent, name, &made, sent))),
            Err(Errno::EEXIST) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(crate) async fn mkdir(
        &self,
        parent: u64,
        name: &[u8],
        maker: Maker,
    ) -> Result<Entry, Errno> {
        let (dir, sent) = (self.may_make(parent, name)?, self.table.now());
        let attr = self.new_attr(parent, maker, true)?;
        let made = self.remote.mkdir(&dir, name, &attr).await?;
        Ok(self.made(parent, name, &made, sent))
    }

    pub(crate) async fn symlink(
        &self,
        parent: u64,
        name: &[u8],
        target: &[u8],
        maker: Maker,
    ) -> Result<Entry, Errno> {
        let (dir, sent) = (self.may_make(parent, name)?, self.table.now());
        let attr = self.new_attr(parent, maker, false)?;
        let made = self.remote.symlink(&dir, name, target, &attr).await?;
        Ok(self.made(parent, name, &made, sent))
    }

    /// `kind` is `None` for a regular file.
    pub(crate) async fn mknod(
        &self,
        parent: u64,
        name: &[u8],
        kind: Option<NodeKind>,
        maker: Maker,
    ) -> Result<Entry, Errno> {
        let Some(kind) = kind else {
            let made = self.create(parent, name, maker).await?;
            return made.ok_or(Errno::EEXIST);
        };
        let (dir, sent) = (self.may_make(parent, name)?, self.table.now());
        let attr = self.new_attr(parent, maker, false)?;
        let made = self.remote.mknod(&dir, name, kind, &attr).await?;
        Ok(self.made(parent, name, &made, sent))
    }

    pub(crate) async fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<Entry, Errno> {
        let (dir, sent) = (self.may_make(parent, name)?, self.table.now());
        let fh = self.table.handle(ino)?;
        let (attr, dir_attr) = self.remote.link(&fh, &dir, name).await?;
        self.table.note_or_doubt(parent, dir_attr.as_ref(), sent);
        let seen = Seen {
            parent,
            name,
            fh: &fh,
            attr: &attr,
        };
        Ok(self.entry(&seen, sent, false))
    }

    pub(crate) async fn unlink(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let dir = self.table.handle(parent)?;
        if let Some(open) = self.table.open_child(parent, name) {
            // How many names it has decides what becomes of it.
            self.fresh_attr(open).await?;
        }
        let sent = self.table.now();
        if let Removal::Hide(ino) = self.table.begin_removal(parent, name) {
            return self.hide_by_rename(parent, name, ino).await;
        }
        let outcome = self.remote.remove(&dir, name).await;
        self.end_removal(parent, name, outcome, sent)
    }

    pub(crate) async fn rmdir(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        if self.reserved(parent, name) {
            return Err(Errno::ENOENT);
        }
        let (dir, sent) = (self.table.handle(parent)?, self.table.now());
        let target = self.table.child(parent, name);
        let outcome = self.remote.rmdir(&dir, name).await;
        let removed = outcome.is_ok();
        self.end_removal(parent, name, outcome, sent)?;
        if let Some(ino) = target.filter(|_| removed) {
            self.table.directory_removed(ino);
        }
        Ok(())
    }

    fn end_removal(
        &self,
        parent: u64,
        name: &[u8],
        outcome: Result<Option<pocker_nfs::proto::fattr3>, Errno>,
        sent: u64,
    ) -> Result<(), Errno> {
        // A name that is gone already is as good as removed.
        let gone = matches!(outcome, Ok(_) | Err(Errno::ENOENT));
        self.table.removed(parent, name, gone);
        self.removals.notify_waiters();
        let dir_attr = outcome?;
        self.table.note_or_doubt(parent, dir_attr.as_ref(), sent);
        Ok(())
    }

    pub(crate) async fn rename(
        &self,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        if self.reserved(from.0, from.1) || self.reserved(to.0, to.1) {
            return Err(Errno::EACCES);
        }
        let noreplace = RenameFlags::RENAME_NOREPLACE;
        if !noreplace.contains(flags) {
            // EXCHANGE and WHITEOUT: NFSv3 has neither.
            return Err(Errno::EINVAL);
        }
        if flags.contains(noreplace) && !self.settled(to.0) {
            // Alone, the kernel has looked already.
            let dir = self.table.handle(to.0)?;
            match self.remote.lookup(&dir, to.1).await {
                Ok(_) => return Err(Errno::EEXIST),
                Err(Errno::ENOENT) => {}
                Err(e) => return Err(e),
            }
        }
        self.rename_over(from, to).await
    }

    async fn rename_over(&self, from: (u64, &[u8]), to: (u64, &[u8])) -> Result<(), Errno> {
        let (from_dir, to_dir) = (self.table.handle(from.0)?, self.table.handle(to.0)?);
        let source = self.table.child(from.0, from.1);
        if source.is_some() && source == self.table.child(to.0, to.1) {
            // Two names of one file: rename(2) does nothing, and so will the server.
            let outcome = self.remote.rename(&from_dir, from.1, &to_dir, to.1).await;
            return outcome.map(|_| ());
        }
        if let Some(open) = self.table.open_child(to.0, to.1) {
            self.fresh_attr(open).await?;
        }
        let sent = self.table.now();
        let victim = match self.table.begin_removal(to.0, to.1) {
            Removal::Hide(ino) => Some((ino, self.hide_by_link(ino).await?)),
            Removal::Remove => None,
        };
        let outcome = self.remote.rename(&from_dir, from.1, &to_dir, to.1).await;
        match victim {
            None => {
                self.table.removed(to.0, to.1, outcome.is_ok());
                self.removals.notify_waiters();
            }
            Some((_, hidden)) if outcome.is_err() => self.drop_hidden(&hidden).await,
            Some((ino, hidden)) => {
                self.table.hidden(to.0, to.1, ino, hidden);
                self.drop_if_unused(ino).await;
            }
        }
        let (from_attr, to_attr) = outcome?;
        self.table.renamed(from, to);
        self.table.note_or_doubt(from.0, from_attr.as_ref(), sent);
        self.table.note_or_doubt(to.0, to_attr.as_ref(), sent);
        Ok(())
    }

    /// Whether a node is a regular file, which alone can be opened here.
    pub(crate) fn is_regular(&self, ino: u64) -> bool {
        let attr = self.table.last_attr(ino);
        attr.is_ok_and(|a| matches!(a.ftype, ftype3::NF3REG))
    }
}
