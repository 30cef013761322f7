//! The files of a graft by path, where the kernel has no handles for them.
//!
//! A handle carries the file's inode number and what tells it from the next file of that number. A
//! table knows where each file is that was given a handle; to open one, its path is gone down from
//! the graft's root name by name, no link followed, and every number on it compared. What is
//! elsewhere by then, as the host's own processes move files too, is looked for (`find`).

// The widths of fields of struct stat differ.
#![allow(clippy::unnecessary_cast)]

mod find;
mod kept;
mod table;

use super::super::handle::HostFile;
use super::Node;
use kept::{Kept, Row};
use lru::LruCache;
use nix::sys::stat::FileStat;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};
use table::{NoWay, Table, Way};

/// The type of a handle made here; the kernel's own types are never negative.
const BY_PATH: i32 = -1;
/// Rows of a table's file beyond twice what is in the table, after which it is written anew.
const KEPT_SLACK: u64 = 4 << 20;
/// Files that were looked for in vain, and for how long nobody looks again.
const MISSED_MAX: NonZero<usize> = NonZero::new(4096).unwrap();
const MISSED_FOR: Duration = Duration::from_secs(30);

/// How many times as long as a search took nothing else is searched for.
const QUIET: u32 = 20;
/// A search that found its file and took no longer is not followed by that.
const SHORT: Duration = Duration::from_millis(5);

/// What a handle made here says of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    pub ino: u64,
    /// When it was made or of which generation it is; where the file system tells neither: how many
    /// files of that number were seen to end before it.
    pub tag: u64,
    device: u64,
    /// Of its mode, what says which kind it is.
    kind: u8,
}

fn kind(stat: &FileStat) -> u8 {
    ((stat.st_mode & libc::S_IFMT) >> 12) as u8
}

impl Id {
    pub fn encode(&self) -> HostFile {
        let mut bytes = [0; 25];
        bytes[..8].copy_from_slice(&self.ino.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.tag.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.device.to_be_bytes());
        bytes[24] = self.kind;
        HostFile::new(BY_PATH, &bytes).unwrap_or_else(|| unreachable!("25 bytes fit"))
    }

    /// None where the kernel, or nobody, made it.
    pub fn decode(file: &HostFile) -> Option<Id> {
        let bytes: &[u8; 25] = file.bytes().try_into().ok()?;
        let word = |at: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(w)
        };
        (file.kind == BY_PATH).then(|| Id {
            ino: word(0),
            tag: word(8),
            device: word(16),
            kind: bytes[24],
        })
    }
}

pub struct Names {
    /// Files carry something that tells them from the next one of their number.
    tagged: bool,
    known: Mutex<Known>,
    /// Held for reading while a path is gone down and what is there is done, for writing while names move.
    still: RwLock<()>,
    missed: Mutex<LruCache<Id, Instant>>,
    /// One search at a time.
    searching: Mutex<()>,
    /// The last search: until when there is none.
    searched: Mutex<Option<Quiet>>,
}

/// After a search.
#[derive(Clone, Copy)]
struct Quiet {
    until: Instant,
    /// All that it could meet is in the table: what is not is taken for gone.
    met_all: bool,
}

/// How a search ended.
#[derive(PartialEq, Eq)]
enum Found {
    It,
    Nothing,
    /// It failed on the way.
    Unknown,
}

/// Whether a search may begin.
enum Search {
    Now,
    Later,
    InVain,
}

struct Known {
    table: Table,
    kept: Option<Kept>,
}

/// No name that this server moves moves meanwhile. What was learnt is kept when it goes.
pub struct Still<'a> {
    names: &'a Names,
    _lock: Lock<'a>,
}

enum Lock<'a> {
    Shared { _guard: RwLockReadGuard<'a, ()> },
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        self.names.flush();
    }
}

impl Names {
    pub fn new(tagged: bool, all: Arc<AtomicUsize>) -> Names {
        Names {
            tagged,
            known: Mutex::new(Known {
                table: Table::new(all),
                kept: None,
            }),
            still: RwLock::new(()),
            missed: Mutex::new(LruCache::new(MISSED_MAX)),
            searching: Mutex::new(()),
            searched: Mutex::new(None),
        }
    }

    pub fn are_tagged(&self) -> bool {
        self.tagged
    }

    /// Takes up what was kept there, and keeps it there from here on.
    pub fn keep(&self, path: &Path) -> io::Result<()> {
        let known = &mut *self.known.lock();
        let table = &mut known.table;
        known.kept = Some(Kept::open(path, &mut |row| match row {
            Row::Has { file, parent, name } => drop(table.learn(file, parent, name)),
            Row::HasNot { file, parent, name } => drop(table.forget(file, parent, name)),
            Row::Ended { file, tag } => table.end(file, tag),
        })?);
        Ok(())
    }

    pub fn still(&self) -> Still<'_> {
        Still {
            names: self,
            _lock: Lock::Shared {
                _guard: self.still.read(),
            },
        }
    }

    /// The same for who moves names.
    pub fn moving(&self) -> Still<'_> {
        Still {
            names: self,
            _lock: Lock::Alone {
                _guard: self.still.write(),
            },
        }
    }

    fn flush(&self) {
        let Known { table, kept } = &mut *self.known.lock();
        let Some(file) = kept else { return };
        if file.is_flushed() {
            return;
        }
        let done = if file.must_be_rewritten() || file.len() > KEPT_SLACK + 2 * table.bytes() as u64
        {
            let places = table.places().map(|(file, place)| Row::Has {
                file,
                parent: place.parent,
                name: &place.name,
            });
            let ends = table.ends().map(|(file, tag)| Row::Ended { file, tag });
            file.rewrite(ends.chain(places))
        } else {
            file.flush()
        };
        if let Err(e) = done {
            tracing::warn!("where a graft's files are cannot be kept: {e}");
        }
    }

    /// The graft goes, and what is kept of it; a call that still has it keeps nothing.
    pub fn end(&self) {
        if let Some(kept) = self.known.lock().kept.take() {
            kept.remove();
        }
    }

    /// A file is there by that name.
    pub fn met(&self, node: &Node, parent: u64, name: &[u8]) {
        if self.tagged {
            self.known.lock().table.met(node.stat.st_ino, node.tag);
        }
        self.learn(node.stat.st_ino, parent, name);
    }

    pub fn learn(&self, file: u64, parent: u64, name: &[u8]) {
        let known = &mut *self.known.lock();
        if known.table.learn(file, parent, name)
            && let Some(kept) = &mut known.kept
        {
            kept.push(Row::Has { file, parent, name });
        }
    }

    /// The same, unless that would cost a row that is there.
    fn learn_if_room(&self, file: u64, parent: u64, name: &[u8]) {
        if self.known.lock().table.has_room() {
            self.learn(file, parent, name);
        }
    }

    pub fn forget(&self, file: u64, parent: u64, name: &[u8]) {
        let known = &mut *self.known.lock();
        if known.table.forget(file, parent, name)
            && let Some(kept) = &mut known.kept
        {
            kept.push(Row::HasNot { file, parent, name });
        }
    }

    /// A name of that file was taken away here; as it was before.
    pub fn lost(&self, was: &Node, parent: u64, name: &[u8]) {
        if !was.is(libc::S_IFDIR) && was.stat.st_nlink > 1 {
            return self.forget(was.stat.st_ino, parent, name);
        }
        let id = self.id(was);
        let known = &mut *self.known.lock();
        known.table.end(id.ino, id.tag);
        if let Some(kept) = &mut known.kept {
            kept.push(Row::Ended {
                file: id.ino,
                tag: id.tag,
            });
        }
    }

    /// What a handle of that file says.
    pub fn id(&self, node: &Node) -> Id {
        let ino = node.stat.st_ino;
        Id {
            ino,
            tag: match self.tagged {
                true => node.tag,
                false => self.generation(ino),
            },
            device: node.stat.st_dev as u64,
            kind: kind(&node.stat),
        }
    }

    fn generation(&self, ino: u64) -> u64 {
        let ended = self.known.lock().table.ended(ino);
        ended.map_or(0, |last| last.saturating_add(1))
    }

    /// Whether that handle was given for this file.
    fn names(&self, id: &Id, node: &Node) -> bool {
        let now = self.id(node);
        let tag = match self.tagged {
            true => id.tag == now.tag,
            // A count that was forgotten starts anew.
            false => id.tag >= now.tag,
        };
        tag && (id.ino, id.device, id.kind) == (now.ino, now.device, now.kind)
    }

    /// Whether its file is known to be no more.
    fn ended(&self, id: &Id) -> bool {
        let Some(last) = self.known.lock().table.ended(id.ino) else {
            return false;
        };
        match self.tagged {
            true => id.tag == last,
            false => id.tag <= last,
        }
    }

    fn way(&self, root: u64, file: u64) -> Result<Way, NoWay> {
        self.known.lock().table.way(root, file)
    }

    #[cfg(test)]
    pub fn knows(&self, root: u64, file: u64) -> bool {
        self.way(root, file).is_ok()
    }

    fn missed_lately(&self, id: &Id) -> bool {
        let mut missed = self.missed.lock();
        missed
            .get(id)
            .is_some_and(|when| when.elapsed() < MISSED_FOR)
    }

    /// A search took so long. Not again at once, or who asks for many files that are elsewhere or
    /// gone has the graft read as often.
    fn searched(&self, took: Duration, how: &Found) {
        if *how == Found::It && took < SHORT {
            return;
        }
        *self.searched.lock() = Some(Quiet {
            until: Instant::now() + took * QUIET,
            met_all: *how == Found::Nothing && self.known.lock().table.has_room(),
        });
    }

    fn may_search(&self) -> Search {
        match *self.searched.lock() {
            Some(quiet) if Instant::now() < quiet.until => match quiet.met_all {
                true => Search::InVain,
                false => Search::Later,
            },
            _ => Search::Now,
        }
    }

    fn miss(&self, id: &Id) {
        self.missed.lock().put(*id, Instant::now());
    }
}
