//! Small files read ahead. Whoever reads the files of a directory in turn, as tar(1) and
//! grep(1) do, will read the next ones, and the server answers many READs that come together
//! for little more than it costs to ask for one.
//!
//! Numbers of a sealed tree count its nodes as a walk meets them, so the files after a
//! file have the numbers after its number.

use super::export::Export;
use super::table::Table;
use parking_lot::Mutex;
use pocker_nfs::proto::ftype3;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// Largest file read ahead.
const FILE_MAX: u64 = 32 << 10;

/// Files read and not asked for yet, at most: with [`FILE_MAX`], memory of a mount.
const READY_MAX: usize = 128;

/// Files that one reader is ahead at most, and at least once it is one.
const WINDOW: (u64, u64) = (4, 32);

/// Readers that are told apart.
const READERS: usize = 8;

/// Two reads are in turn when their files' numbers differ by no more: between them may lie
/// a directory, links and empty files.
const STEP: u64 = 8;

/// One who may be reading file after file.
#[derive(Clone, Copy, Debug)]
struct Reader {
    last: u64,
    /// Nodes up to here were looked at.
    seen: u64,
    window: u64,
}

/// A file that is being read, or has been.
#[derive(Default)]
struct File {
    /// `None`: it could not be.
    content: OnceLock<Option<Vec<u8>>>,
    done: Notify,
}

#[derive(Default)]
struct Inner {
    /// The least recent first.
    readers: VecDeque<Reader>,
    files: HashMap<u64, Arc<File>>,
    order: VecDeque<u64>,
}

/// What one mount reads ahead.
#[derive(Default)]
pub(crate) struct Ahead {
    inner: Mutex<Inner>,
}

/// What there is to read of `content` at an offset.
fn part(content: &[u8], offset: u64, size: u32) -> Vec<u8> {
    let from = usize::try_from(offset).map_or(content.len(), |from| from.min(content.len()));
    let rest = &content[from..];
    rest[..rest.len().min(size as usize)].to_vec()
}

impl Ahead {
    /// A file is being read: the nodes to read ahead, which are counted as being read.
    pub(crate) fn follow(&self, ino: u64, table: &Table) -> Vec<u64> {
        let inner = &mut *self.inner.lock();
        let in_turn = |r: &Reader| ino > r.last && ino - r.last <= STEP;
        let Some(at) = inner.readers.iter().position(in_turn) else {
            if inner.readers.len() >= READERS {
                inner.readers.pop_front();
            }
            inner.readers.push_back(Reader {
                last: ino,
                seen: ino,
                window: WINDOW.0 / 2,
            });
            return Vec::new();
        };
        let Some(mut reader) = inner.readers.remove(at) else {
            return Vec::new();
        };
        reader.last = ino;
        reader.seen = reader.seen.max(ino);
        let mut wanted = Vec::new();
        if reader.seen - ino <= reader.window / 2 {
            reader.window = (reader.window * 2).clamp(WINDOW.0, WINDOW.1);
            while reader.seen < ino + reader.window {
                let next = reader.seen + 1;
                // The next directory is not known before somebody is there.
                let Ok(attr) = table.last_attr(next) else {
                    break;
                };
                reader.seen = next;
                let fits = (1..=FILE_MAX).contains(&attr.size);
                if matches!(attr.ftype, ftype3::NF3REG) && fits && inner.begin(next) {
                    wanted.push(next);
                }
            }
        }
        inner.readers.push_back(reader);
        wanted
    }

    /// What is here of a file that was read ahead. It is handed out once: the kernel keeps it.
    pub(crate) fn now(&self, ino: u64, offset: u64, size: u32) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        let content = inner.files.get(&ino)?.content.get()?.clone();
        inner.files.remove(&ino);
        content.map(|content| part(&content, offset, size))
    }

    /// The same, of one that is being read.
    async fn soon(&self, ino: u64, offset: u64, size: u32) -> Option<Vec<u8>> {
        let file = self.inner.lock().files.get(&ino)?.clone();
        let done = file.done.notified();
        tokio::pin!(done);
        // Before looking, so that no end between look and wait is missed.
        done.as_mut().enable();
        if file.content.get().is_none() {
            done.await;
        }
        self.now(ino, offset, size)
    }

    fn done(&self, ino: u64, content: Option<Vec<u8>>) {
        let file = self.inner.lock().files.get(&ino).cloned();
        if let Some(file) = file {
            // Set once: each file is begun once.
            let _ = file.content.set(content);
            file.done.notify_waiters();
        }
    }
}

impl Inner {
    /// False where the file is being read already.
    fn begin(&mut self, ino: u64) -> bool {
        if self.files.contains_key(&ino) {
            return false;
        }
        while self.files.len() >= READY_MAX {
            let Some(oldest) = self.order.pop_front() else {
                return false;
            };
            if let Some(file) = self.files.remove(&oldest)
                && file.content.get().is_none()
            {
                // Somebody may wait for it, and then reads it as others do.
                let _ = file.content.set(None);
                file.done.notify_waiters();
            }
        }
        self.order.push_back(ino);
        // Files that were handed out are still in the order.
        if self.order.len() > 2 * READY_MAX {
            let files = &self.files;
            self.order.retain(|ino| files.contains_key(ino));
            self.order.push_back(ino);
        }
        self.files.insert(ino, Arc::default());
        true
    }
}

impl Export {
    /// Reads one file ahead, which [`Ahead::follow`] wanted.
    pub(crate) async fn read_ahead(&self, ino: u64) {
        let size = self.table.last_attr(ino).map_or(0, |attr| attr.size);
        let content = match self.read_of_server(ino, 0, size as u32).await {
            Ok(content) if content.len() as u64 == size => Some(content),
            _ => None,
        };
        self.ahead.done(ino, content);
    }

    /// Exactly `size` bytes, or up to the end of the file.
    pub(crate) async fn read(
        &self,
        ino: u64,
        offset: u64,
        size: u32,
    ) -> Result<Vec<u8>, fuser::Errno> {
        match self.ahead.soon(ino, offset, size).await {
            Some(data) => Ok(data),
            None => self.read_of_server(ino, offset, size).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::table::{ROOT, Seen};
    use pocker_nfs::proto::fattr3;
    use pocker_nfs::vfs::Fh;

    /// Nodes 10 to 99 are files of a directory, but 50 is one itself, and 60 is large.
    fn table() -> Table {
        let attr = |fileid, ftype, size| fattr3 {
            ftype,
            size,
            fileid,
            ..fattr3::default()
        };
        let fh = |ino: u64| Fh::new(&ino.to_be_bytes()).unwrap();
        let table = Table::new(fh(1), attr(1, ftype3::NF3DIR, 0), Some(0));
        for ino in 10..100 {
            let attr = match ino {
                50 => attr(ino, ftype3::NF3DIR, 0),
                60 => attr(ino, ftype3::NF3REG, 1 << 20),
                _ => attr(ino, ftype3::NF3REG, 5),
            };
            let seen = Seen {
                parent: ROOT,
                name: &ino.to_be_bytes(),
                fh: &fh(ino),
                attr: &attr,
            };
            table.found(&seen, table.now(), false);
        }
        table
    }

    #[test]
    fn who_reads_in_turn_is_read_ahead_of_and_nobody_else() {
        let (table, ahead) = (table(), Ahead::default());
        for scattered in [90, 30, 70, 12] {
            assert!(ahead.follow(scattered, &table).is_empty());
        }
        let mut asked: Vec<u64> = Vec::new();
        for ino in 13..100 {
            asked.extend(ahead.follow(ino, &table));
            // What is read is not asked for again, and nothing is far ahead.
            assert!(asked.iter().all(|a| *a <= ino + WINDOW.1), "{asked:?}");
        }
        let expected: Vec<u64> = (14..100).filter(|n| ![50, 60].contains(n)).collect();
        assert_eq!(asked, expected);
    }

    #[test]
    fn what_was_read_ahead_is_given_once_and_never_too_much_is_kept() {
        let (table, ahead) = (table(), Ahead::default());
        ahead.follow(10, &table);
        let asked = ahead.follow(11, &table);
        assert!(!asked.is_empty());
        ahead.done(asked[0], Some(b"hello".to_vec()));
        ahead.done(asked[1], None);
        assert_eq!(ahead.now(asked[0], 1, 3), Some(b"ell".to_vec()));
        assert_eq!(ahead.now(asked[0], 1, 3), None);
        assert_eq!(ahead.now(asked[1], 0, 5), None);
        assert_eq!(ahead.now(asked[2], 0, 5), None);
        for ino in 1000..2000 {
            assert!(ahead.inner.lock().begin(ino));
        }
        let inner = ahead.inner.lock();
        assert_eq!(inner.files.len(), READY_MAX);
        assert!(inner.order.len() <= 2 * READY_MAX + 1);
        drop(inner);
        assert!(part(b"abc", u64::MAX, 1).is_empty());
    }
}
