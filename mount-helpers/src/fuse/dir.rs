//! Reading directories. The kernel takes a page of entries at a time; the server is
//! asked for more at once, and the rest waits here.

use super::attr::file_attr;
use super::export::Export;
use super::reading::Reading;
use super::remote::DirFailed;
use super::table::Seen;
use fuser::{Errno, FileAttr, Generation, ReplyDirectory, ReplyDirectoryPlus};
use pocker_nfs::client::DirEntry;
use pocker_nfs::proto::{fattr3, ftype3};
use pocker_nfs::vfs::Fh;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

/// What became of an entry.
enum Given {
    Added,
    /// It is not for the kernel, or not there any more.
    Skipped,
    /// It did not fit.
    Full,
}

/// The kernel's buffer: for names, or for names with their nodes.
pub(crate) enum Sink {
    Names(ReplyDirectory),
    Nodes(ReplyDirectoryPlus),
}

impl Sink {
    pub(crate) fn answer(self, outcome: Result<(), Errno>) {
        match (self, outcome) {
            (Sink::Names(reply), Ok(())) => reply.ok(),
            (Sink::Names(reply), Err(e)) => reply.error(e),
            (Sink::Nodes(reply), Ok(())) => reply.ok(),
            (Sink::Nodes(reply), Err(e)) => reply.error(e),
        }
    }

    fn add(&mut self, cookie: u64, name: &[u8], attr: &FileAttr, ttl: Duration) -> Given {
        let shown = OsStr::from_bytes(name);
        let full = match self {
            Sink::Names(reply) => reply.add(attr.ino, cookie, attr.kind, shown),
            Sink::Nodes(reply) => reply.add(attr.ino, cookie, shown, &ttl, attr, Generation(0)),
        };
        if full { Given::Full } else { Given::Added }
    }
}

impl Export {
    /// Gives entries after `cookie` to `sink` until it is full or none is left.
    pub(crate) async fn readdir(
        self: &Arc<Self>,
        ino: u64,
        handle: u64,
        mut cookie: u64,
        sink: &mut Sink,
    ) -> Result<(), Errno> {
        let reading = self.dirs.get(ino, handle);
        let mut reading = reading.lock().await;
        if cookie == 0 && !self.settled(ino) {
            // Others may have changed it since it was last begun.
            reading.filled = false;
        }
        let mut given = false;
        // Until something was given: an empty buffer is the end to the kernel.
        while !given {
            let losses = self.table.losses(ino);
            let at = match reading.after(cookie) {
                Some(at) if reading.losses == losses && reading.goes_on(at) => at,
                _ => {
                    self.fill(ino, cookie, &mut reading).await?;
                    0
                }
            };
            if at == 0 {
                let first = reading.start == 0;
                for next in self.walks(ino, first, &reading.entries) {
                    let export = Arc::clone(self);
                    tokio::spawn(async move { export.list_ahead(next).await });
                }
            }
            for i in at..reading.entries.len() {
                match self.give(ino, &reading, i, sink).await {
                    Given::Added => given = true,
                    Given::Skipped => {}
                    Given::Full => {
                        reading.next = i;
                        return Ok(());
                    }
                }
                cookie = reading.entries[i].cookie;
            }
            reading.next = reading.entries.len();
            if reading.eof {
                break;
            }
        }
        if !given {
            self.dirs.ended(ino, handle);
        }
        Ok(())
    }

    pub(super) async fn fill(
        &self,
        ino: u64,
        cookie: u64,
        reading: &mut Reading,
    ) -> Result<(), Errno> {
        let fh = self.table.handle(ino)?;
        let (sent, losses) = (self.table.now(), self.table.losses(ino));
        let mut verifier = if cookie == 0 {
            [0; 8]
        } else {
            reading.verifier
        };
        let reply = match self.remote.readdir(&fh, cookie, verifier).await {
            // Only a changed verifier can be the reason: ours never changes.
            Err(DirFailed::BadCookie) if cookie != 0 => {
                verifier = [0; 8];
                self.remote.readdir(&fh, cookie, verifier).await
            }
            other => other,
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(DirFailed::BadCookie) => return Err(Errno::EINVAL),
            Err(DirFailed::Errno(e)) => return Err(e),
        };
        if reply.entries.is_empty() && !reply.eof {
            // It would be asked for ever.
            return Err(Errno::EIO);
        }
        if let Some(attr) = &reply.attr {
            self.table.note(ino, attr, sent);
        }
        *reading = Reading {
            entries: reply.entries,
            start: cookie,
            eof: reply.eof,
            verifier: reply.verifier,
            losses,
            sent,
            next: 0,
            filled: true,
        };
        Ok(())
    }

    async fn give(&self, dir: u64, reading: &Reading, i: usize, sink: &mut Sink) -> Given {
        let entry = &reading.entries[i];
        let name = entry.name.as_slice();
        if self.reserved(dir, name) {
            return Given::Skipped;
        }
        let ino = self.table.id(entry.fileid);
        // Of "." and ".." the kernel takes number and type, never a node.
        let dots = matches!(name, b"." | b"..");
        match (entry.fh, entry.attr, &*sink) {
            _ if dots => sink.add(entry.cookie, name, &dot(ino), Duration::ZERO),
            (_, Some(attr), Sink::Names(_)) => sink.add(
                entry.cookie,
                name,
                &file_attr(ino, &attr, None),
                Duration::ZERO,
            ),
            (Some(fh), Some(attr), _) => self.give_node(dir, entry, (fh, attr), reading.sent, sink),
            _ => {
                let (parent, sent) = (self.table.handle(dir), self.table.now());
                match parent {
                    Ok(parent) => match self.remote.lookup(&parent, name).await {
                        Ok(found) => self.give_node(dir, entry, found, sent, sink),
                        // It went meanwhile.
                        Err(_) => Given::Skipped,
                    },
                    Err(_) => Given::Skipped,
                }
            }
        }
    }

    fn give_node(
        &self,
        dir: u64,
        entry: &DirEntry,
        (fh, attr): (Fh, fattr3),
        sent: u64,
        sink: &mut Sink,
    ) -> Given {
        let seen = Seen {
            parent: dir,
            name: &entry.name,
            fh: &fh,
            attr: &attr,
        };
        let node = self.entry(&seen, sent, false);
        let ino = node.attr.ino.0;
        // Newer than the entry, if this mount changed the node since.
        let attr = self.getattr_now(ino).map_or(node.attr, |e| e.attr);
        let given = sink.add(entry.cookie, &entry.name, &attr, node.ttl);
        if matches!(given, Given::Full) || matches!(sink, Sink::Names(_)) {
            // The kernel does not learn of the node.
            self.table.forget(ino, 1);
        }
        given
    }
}

fn dot(ino: u64) -> FileAttr {
    let attr = fattr3 {
        ftype: ftype3::NF3DIR,
        ..fattr3::default()
    };
    file_attr(ino, &attr, None)
}
