//! File contents: open, read, write, close.

use super::attr::with_size;
use super::export::{Entry, Export};
use super::names::Maker;
use super::passthrough::Passthrough;
use super::table::Opened;
use fuser::{Errno, FileHandle, FopenFlags, ReplyOpen};
use pocker_nfs::proto::fattr3;
use pocker_nfs::vfs::Stable;

impl Export {
    /// Opens a file, truncated if asked: the flags for the kernel.
    pub(crate) async fn open(&self, ino: u64, truncate: bool) -> Result<FopenFlags, Errno> {
        self.count_open(ino).await?;
        match self.opened(ino, truncate).await {
            Ok(flags) => Ok(flags),
            Err(e) => {
                self.release(ino).await;
                Err(e)
            }
        }
    }

    /// The open that needs no call, if it does not.
    pub(crate) fn open_now(&self, ino: u64) -> Option<Result<FopenFlags, Errno>> {
        if !self.settled(ino) {
            return None;
        }
        match self.table.open(ino) {
            Ok(Opened::Yes) => Some(Ok(FopenFlags::FOPEN_KEEP_CACHE)),
            Ok(Opened::Wait) => None,
            Err(e) => Some(Err(e)),
        }
    }

    /// Whether a file never changes and is large enough for [`Export::open_large`].
    pub(crate) fn is_large(&self, ino: u64) -> bool {
        let attr = self.table.last_attr(ino);
        self.settled(ino) && attr.is_ok_and(|attr| Passthrough::large(attr.size))
    }

    /// Answers the open of a large file that never changes.
    pub(crate) async fn open_large(&self, ino: u64, reply: ReplyOpen) {
        match (&self.passthrough, self.table.handle(ino)) {
            (Some(passthrough), Ok(fh)) => passthrough.open(ino, &fh, reply).await,
            (None, Ok(_)) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            (_, Err(e)) => reply.error(e),
        }
    }

    /// One that [`Export::open_large`] counted was closed.
    pub(crate) fn release_large(&self, ino: u64) {
        if let Some(passthrough) = &self.passthrough {
            passthrough.release(ino);
        }
    }

    async fn count_open(&self, ino: u64) -> Result<(), Errno> {
        loop {
            let ended = self.removals.notified();
            tokio::pin!(ended);
            // Before looking, so that no end between look and wait is missed.
            ended.as_mut().enable();
            match self.table.open(ino)? {
                Opened::Yes => return Ok(()),
                Opened::Wait => ended.await,
            }
        }
    }

    async fn opened(&self, ino: u64, truncate: bool) -> Result<FopenFlags, Errno> {
        if truncate {
            let (fh, sent) = (self.table.handle(ino)?, self.table.now());
            let before = self.table.last_attr(ino)?;
            let attr = self.remote.setattr(&fh, &with_size(0)).await?;
            self.table.note(ino, &attr, sent);
            self.table.unstable(ino, |unstable| unstable.cut(0));
            if attr.mode != before.mode {
                self.doubt_in_kernel(ino);
            }
            return Ok(FopenFlags::empty());
        }
        if self.settled(ino) {
            return Ok(FopenFlags::FOPEN_KEEP_CACHE);
        }
        // Close-to-open: what is cached counts only if the file is as it was.
        let before = self.table.last_attr(ino)?;
        let (now, _) = self.fresh_attr(ino).await?;
        Ok(if same_data(&before, &now) {
            FopenFlags::FOPEN_KEEP_CACHE
        } else {
            self.doubt_in_kernel(ino);
            FopenFlags::empty()
        })
    }

    /// Makes a file and opens it, or opens the one that somebody else made first.
    pub(crate) async fn create_open(
        &self,
        parent: u64,
        name: &[u8],
        maker: Maker,
        (exclusive, truncate): (bool, bool),
    ) -> Result<(Entry, FopenFlags), Errno> {
        if let Some(entry) = self.create(parent, name, maker).await? {
            let ino = entry.attr.ino.0;
            return match self.count_open(ino).await {
                Ok(()) => Ok((entry, FopenFlags::FOPEN_KEEP_CACHE)),
                Err(e) => {
                    self.table.forget(ino, 1);
                    Err(e)
                }
            };
        }
        if exclusive {
            return Err(Errno::EEXIST);
        }
        let Some(mut entry) = self.lookup(parent, name).await? else {
            return Err(Errno::ESTALE);
        };
        let ino = entry.attr.ino.0;
        let opened = if self.is_regular(ino) {
            self.open(ino, truncate).await
        } else {
            // The kernel looks again, and finds what is no file.
            Err(Errno::ESTALE)
        };
        match opened {
            Ok(flags) => {
                if truncate {
                    entry = self.getattr(ino).await?;
                }
                Ok((entry, flags))
            }
            Err(e) => {
                // The kernel never hears of this lookup.
                self.table.forget(ino, 1);
                Err(e)
            }
        }
    }

    /// Exactly `size` bytes, or up to the end of the file.
    pub(crate) async fn read_of_server(
        &self,
        ino: u64,
        offset: u64,
        size: u32,
    ) -> Result<Vec<u8>, Errno> {
        let fh = self.table.handle(ino)?;
        let mut data = Vec::new();
        while data.len() < size as usize {
            let left = (size as usize - data.len()).min(self.remote.io_max());
            let at = offset + data.len() as u64;
            let reply = self.remote.read(&fh, at, left as u32).await?;
            let end = reply.eof || reply.data.is_empty();
            if data.is_empty() {
                data = reply.data;
            } else {
                data.extend_from_slice(&reply.data);
            }
            if end {
                break;
            }
        }
        Ok(data)
    }

    /// Where an appending write goes. The kernel takes what it last heard of the file's size,
    /// `offset`, for its end; where others write too, only the server knows.
    pub(crate) async fn end(&self, ino: u64, offset: u64) -> Result<u64, Errno> {
        if self.settled(ino) {
            return Ok(offset);
        }
        Ok(self.fresh_attr(ino).await?.0.size)
    }

    /// Writes all of `data`. `drop_privileges`: the writer may not keep set-id bits.
    pub(crate) async fn write(
        &self,
        ino: u64,
        offset: u64,
        data: &[u8],
        drop_privileges: bool,
    ) -> Result<(), Errno> {
        let fh = self.table.handle(ino)?;
        let mode = self.table.last_attr(ino)?.mode;
        let mut done = 0;
        let mut last = None;
        while done < data.len() {
            let end = data.len().min(done + self.remote.io_max());
            let sent = self.table.now();
            let at = offset + done as u64;
            let stable = match self.kept.is_full() {
                true => Stable::FileSync,
                false => self.policy.stable,
            };
            let wrote = self.remote.write(&fh, at, &data[done..end], stable).await?;
            if wrote.count == 0 {
                return Err(Errno::EIO);
            }
            let count = (wrote.count as usize).min(end - done);
            if let Some(verifier) = wrote.unstable {
                let write = self.kept.keep(at, &data[done..done + count], verifier);
                self.table.unstable(ino, |unstable| unstable.wrote(write));
            }
            self.table.note_or_doubt(ino, wrote.attr.as_ref(), sent);
            last = wrote.attr;
            done += count;
        }
        if self.kept.is_full() {
            self.relieve(ino).await?;
        }
        self.after_write(ino, mode, last, drop_privileges).await
    }

    async fn after_write(
        &self,
        ino: u64,
        mode_before: u32,
        attr: Option<fattr3>,
        drop_privileges: bool,
    ) -> Result<(), Errno> {
        let Some(mut attr) = attr else {
            self.doubt_in_kernel(ino);
            return Ok(());
        };
        if drop_privileges {
            attr = self.drop_privileges(ino, attr).await?;
        }
        if attr.mode != mode_before {
            // The kernel believes the mode it has; execve(2) must not.
            self.doubt_in_kernel(ino);
        }
        Ok(())
    }

    /// Counts a close: the hidden name to remove, if it was the last.
    pub(crate) fn release_now(&self, ino: u64) -> Option<Vec<u8>> {
        self.table.release(ino)
    }

    /// Counts a close; the last one of a file without a name removes it.
    pub(crate) async fn release(&self, ino: u64) {
        if let Some(hidden) = self.table.release(ino) {
            self.drop_hidden(&hidden).await;
        }
    }
}

fn same_data(a: &fattr3, b: &fattr3) -> bool {
    let times = |x: &fattr3| (x.mtime.seconds, x.mtime.nseconds, x.size);
    times(a) == times(b)
}
