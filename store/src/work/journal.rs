//! What was changed and is not in `work.db` yet: frames in a file that outlives the process.
//!
//! A mutation is one write(2) here instead of a transaction of SQLite, which costs twenty
//! times as much; `work.db` gets many of them at once. Two files take turns. Each frame is
//! `length ‖ crc ‖ rows`, and the crc covers the turn's generation and random salt, so that what
//! an earlier turn left, or a file's content that looks like a frame, is none. A kill leaves at
//! most one frame half written, whose change nobody was told of.
//!
//! The journal of work trees does not survive the machine's crash, as nothing in `work.db`
//! does. That of volumes does ([`Durability::Disk`]): [`Journal::unsynced`] names the files to
//! sync before anyone is told. Their space is written once beforehand, so that a sync has no
//! metadata to write. A crash may keep any part of what was not synced. So a frame counts only
//! behind whole ones, a file's frames only where the file before it is read to its end, and
//! what lies behind the last whole frame is wiped before anything new is written there.

use super::area::failed;
use super::durability::Durability;
use super::rows::Row;
use crate::failpoint;
use crate::patience::may_wait;
use crate::quarantine::Quarantine;
use crate::types::Errno;
use crc32fast::Hasher;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Moves with each change of a row's form, so that another form's frames are none.
const MAGIC: &[u8; 8] = b"pckjrnl3";
/// Magic, generation, salt, and where the generation before ended.
const HEADER: u64 = 32;
/// Length and crc.
const FRAME: usize = 8;
/// Taken from the file system at once, so that a frame finds its place.
const STEP: u64 = 1 << 20;
/// So long a file gives way to the other one.
const TURN: u64 = 1 << 20;
/// Kept free ahead of the last frame: more than any mutation's rows take.
const AHEAD: u64 = 256 << 10;

/// How far a journal was carried over into `work.db`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub generation: u64,
    pub offset: u64,
}

struct Part {
    path: PathBuf,
    file: Arc<File>,
    durability: Durability,
    generation: u64,
    salt: u64,
    /// Where the file before it ended when this one's turn came; 0: it does not matter.
    follows: u64,
    end: u64,
    /// Bytes the file system has promised.
    room: u64,
    /// Something was written since the last sync.
    dirty: bool,
    /// It was read up to a frame that is not whole, with whole ones behind it.
    broken: bool,
    #[cfg(test)]
    limit: Option<u64>,
    /// The disk gives nothing more.
    #[cfg(test)]
    full: bool,
}

pub(super) struct Journal {
    parts: [Part; 2],
    current: usize,
    frame: Vec<u8>,
    /// Frames appended since it was opened.
    appended: u64,
    /// [`TURN`], save in tests.
    turn: u64,
}

impl Journal {
    /// Opens the two files in `dir`. The rows that are not in the database, which has
    /// everything up to `applied`.
    pub fn open(
        dir: &Path,
        durability: Durability,
        applied: Mark,
    ) -> io::Result<(Journal, Vec<Row>)> {
        let open = |at| Part::open(&path(dir, durability, at), durability);
        let mut parts = [open(0)?, open(1)?];
        let mut current = usize::from(parts[1].generation > parts[0].generation);
        let mut rows = Vec::new();
        parts[1 - current].replay(applied, &mut rows)?;
        if parts[current].continues(&parts[1 - current], applied) {
            parts[current].replay(applied, &mut rows)?;
            keep_broken(dir, &parts)?;
        } else {
            keep_broken(dir, &parts)?;
            // The end of the file before is lost, and with it this one's beginning.
            parts[current].void()?;
            current = 1 - current;
        }
        if durability.is_disk() {
            parts[current].wipe()?;
            // What was read may not be on disk yet, if it was the process that crashed; nor will
            // it ever be, where a sync failed, unless it is written once more.
            for part in &parts {
                part.rewrite()?;
                part.file.sync_all()?;
            }
        }
        let mut journal = Journal {
            parts,
            current,
            frame: Vec::new(),
            appended: 0,
            turn: TURN,
        };
        // New files; or the old ones were lost, and what they held was carried over.
        if journal.parts[current].generation < applied.generation.max(1) {
            journal.parts[current].begin(1 + applied.generation, 0)?;
        }
        Ok((journal, rows))
    }

    /// The two files.
    pub fn paths(dir: &Path, durability: Durability) -> [PathBuf; 2] {
        [0, 1].map(|at| path(dir, durability, at))
    }

    /// How many frames were appended: what a sync that begins now makes durable.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// The files with something to sync, for who syncs them now.
    pub fn unsynced(&mut self) -> Vec<(Arc<File>, PathBuf)> {
        let dirty = self.parts.iter_mut().filter(|part| part.dirty);
        dirty
            .map(|part| {
                part.dirty = false;
                (Arc::clone(&part.file), part.path.clone())
            })
            .collect()
    }

    /// The next [`Journal::applied`] gives the other file its turn, if it can.
    pub fn is_long(&self) -> bool {
        self.parts[self.current].end >= self.turn
    }

    /// Sees to it that the next frame has its place.
    pub fn prepare(&mut self) -> Result<(), Errno> {
        let part = &mut self.parts[self.current];
        part.reserve(part.end + AHEAD)
    }

    /// Appends one mutation's rows; after this they survive a kill.
    pub fn append(&mut self, rows: &[Row]) -> Result<usize, Errno> {
        let part = &mut self.parts[self.current];
        let frame = &mut self.frame;
        frame.clear();
        frame.extend_from_slice(&[0; FRAME]);
        for row in rows {
            row.encode(frame);
        }
        let len = frame.len() - FRAME;
        let crc = part.crc(&frame[FRAME..]);
        frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
        frame[4..FRAME].copy_from_slice(&crc.to_le_bytes());
        part.reserve(part.end + frame.len() as u64)?;
        part.write(frame)
            .map_err(|e| failed("write to", &part.path, &e))?;
        part.end += frame.len() as u64;
        part.dirty = true;
        self.appended += 1;
        failpoint::pass("journal.append.after");
        Ok(frame.len())
    }

    #[cfg(test)]
    pub fn turn_after(&mut self, bytes: u64) {
        self.turn = bytes;
    }

    #[cfg(test)]
    pub fn limit(&mut self, bytes: Option<u64>) {
        for part in &mut self.parts {
            part.limit = bytes.map(|b| part.end + b);
        }
    }

    /// Where the next frame goes.
    pub fn mark(&self) -> Mark {
        let part = &self.parts[self.current];
        Mark {
            generation: part.generation,
            offset: part.end,
        }
    }

    /// Everything up to `applied` is in the database, as durable as the journal is. Where that
    /// is a long way the other file's turn comes, if nothing in it is needed.
    pub fn applied(&mut self, applied: Mark) -> Result<(), Errno> {
        let part = &self.parts[self.current];
        if part.end < self.turn || applied.generation < part.generation {
            return Ok(());
        }
        // What is kept free ahead is there whichever file has its turn: on a full disk removals live on it.
        self.parts[1 - self.current].reserve(HEADER + AHEAD)?;
        self.turn_over()
    }

    /// The other file's turn comes, in which nothing is needed.
    fn turn_over(&mut self) -> Result<(), Errno> {
        let part = &self.parts[self.current];
        let (generation, end) = (part.generation + 1, part.end);
        let other = &mut self.parts[1 - self.current];
        failpoint::hit("journal.turn.before")
            .and_then(|()| other.begin(generation, end))
            .map_err(|e| failed("begin", &other.path, &e))?;
        self.current = 1 - self.current;
        failpoint::pass("journal.turn.after");
        Ok(())
    }

    /// Nobody is about to append, and the database has all of it: what it is to be told that it has.
    /// When it was told, [`Journal::shrink`] may follow.
    pub fn close(&mut self) -> Result<Mark, Errno> {
        self.turn_over()?;
        Ok(self.mark())
    }

    /// Gives back what neither file needs.
    pub fn shrink(&mut self) -> io::Result<()> {
        for (at, part) in self.parts.iter_mut().enumerate() {
            let end = if at == self.current { part.end } else { 0 };
            part.file.set_len(end)?;
            part.room = end;
        }
        Ok(())
    }
}

fn path(dir: &Path, durability: Durability, at: usize) -> PathBuf {
    dir.join(format!("{}{at}", durability.journal()))
}

/// Says of a file that changes behind a broken one are left out, and keeps it as it is. Where the
/// machine went down that is as it should be, as none of them was acknowledged; else the
/// disk has lost one that was.
fn keep_broken(store: &Path, parts: &[Part]) -> io::Result<()> {
    for part in parts.iter().filter(|part| part.broken) {
        let name = part.path.file_name().unwrap_or_default().to_string_lossy();
        tracing::error!(
            "{} is damaged at byte {}: the changes from there on are left out, and the file is \
             kept in {}/quarantine",
            part.path.display(),
            part.end,
            store.display()
        );
        Quarantine::of(store)
            .copy(&name, &part.path)
            .map_err(io::Error::other)?;
    }
    Ok(())
}

impl Part {
    fn open(path: &Path, durability: Durability) -> io::Result<Part> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let room = file.metadata()?.len();
        let mut header = [[0; 8]; 4];
        let whole = file.read_exact_at(header.as_flattened_mut(), 0).is_ok();
        let [magic, generation, salt, follows] = header;
        let generation = match whole && magic == *MAGIC {
            true => u64::from_le_bytes(generation),
            false => 0,
        };
        Ok(Part {
            path: path.to_owned(),
            file: Arc::new(file),
            durability,
            generation,
            salt: u64::from_le_bytes(salt),
            follows: u64::from_le_bytes(follows),
            end: HEADER,
            room,
            dirty: false,
            broken: false,
            #[cfg(test)]
            limit: None,
            #[cfg(test)]
            full: false,
        })
    }

    fn begin(&mut self, generation: u64, follows: u64) -> io::Result<()> {
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).map_err(|_| io::Error::other("no random bytes"))?;
        let salt = u64::from_le_bytes(salt);
        let header = header(generation, salt, follows);
        self.file.write_all_at(&header, 0)?;
        (self.generation, self.end) = (generation, HEADER);
        self.salt = salt;
        self.follows = follows;
        self.room = self.room.max(HEADER);
        self.dirty = true;
        Ok(())
    }

    /// Nothing in it counts any more.
    fn void(&mut self) -> io::Result<()> {
        self.file.write_all_at(&[0; HEADER as usize], 0)?;
        (self.generation, self.end) = (0, HEADER);
        self.room = self.room.max(HEADER);
        Ok(())
    }

    /// Zeros behind the last whole frame: what is there may be whole frames behind a torn one,
    /// which must not come to stand behind a new one.
    fn wipe(&mut self) -> io::Result<()> {
        zeros(&self.file, self.end, self.room)
    }

    /// Writes what was read. The kernel takes pages that it could not write for written ones.
    fn rewrite(&self) -> io::Result<()> {
        let mut bytes = vec![0; 64 << 10];
        let (mut at, end) = (0, self.end.min(self.room));
        while at < end {
            let part = &mut bytes[..(end - at).min(64 << 10) as usize];
            self.file.read_exact_at(part, at)?;
            self.file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Whether frames may be read from here, once `before` was read.
    fn continues(&self, before: &Part, applied: Mark) -> bool {
        self.generation <= applied.generation
            || self.follows == 0
            || before.generation + 1 == self.generation && before.end >= self.follows
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        failpoint::hit("journal.append.before")?;
        if failpoint::hit("journal.append.tear").is_err() {
            self.file
                .write_all_at(&frame[..frame.len() / 2], self.end)?;
            failpoint::hit("journal.append.torn")?;
        }
        self.file.write_all_at(frame, self.end)
    }

    fn reserve(&mut self, to: u64) -> Result<(), Errno> {
        #[cfg(test)]
        if self
            .limit
            .is_some_and(|limit| to > limit && to < self.end + AHEAD)
        {
            return Err(Errno::NoSpc);
        }
        if to <= self.room {
            return Ok(());
        }
        #[cfg(test)]
        if self.full {
            return Err(Errno::NoSpc);
        }
        if !may_wait() && to <= self.room + AHEAD {
            return Err(Errno::Again);
        }
        let room = to.div_ceil(STEP) * STEP;
        let enlarge = || match self.durability {
            Durability::Boot => super::sys::allocate(&self.file, self.room, room - self.room),
            // Space that was only promised would cost each sync the metadata that says it is used.
            Durability::Disk => {
                zeros(&self.file, self.room, room)?;
                self.file.sync_all()
            }
        };
        failpoint::hit("journal.enlarge.before")
            .and_then(|()| enlarge())
            .map_err(|e| failed("enlarge", &self.path, &e))?;
        self.room = room;
        failpoint::pass("journal.enlarge.after");
        Ok(())
    }

    fn crc(&self, rows: &[u8]) -> u32 {
        crc(self.generation, self.salt, rows)
    }

    /// A whole frame is there.
    fn is_whole(&self, at: u64) -> io::Result<bool> {
        let mut head = [0; FRAME];
        if at + FRAME as u64 > self.room {
            return Ok(false);
        }
        self.file.read_exact_at(&mut head, at)?;
        let [a, b, c, d, crc @ ..] = head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if len == 0 || at + (FRAME + len) as u64 > self.room {
            return Ok(false);
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at + FRAME as u64)?;
        Ok(self.crc(&bytes) == u32::from_le_bytes(crc))
    }

    /// Reads the frames that the database, which has all up to `applied`, has not.
    fn replay(&mut self, applied: Mark, rows: &mut Vec<Row>) -> io::Result<()> {
        if self.generation == 0 || self.generation < applied.generation {
            return Ok(());
        }
        if self.generation == applied.generation {
            self.end = applied.offset.max(HEADER);
            if self.end > self.room.max(HEADER) {
                let why = "the journal is shorter than what the database has of it";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        let mut bytes = Vec::new();
        loop {
            let mut head = [0; FRAME];
            if self.end + FRAME as u64 > self.room {
                return Ok(());
            }
            self.file.read_exact_at(&mut head, self.end)?;
            let [a, b, c, d, crc @ ..] = head;
            let len = u32::from_le_bytes([a, b, c, d]) as usize;
            let next = self.end + (FRAME + len) as u64;
            if len == 0 || next > self.room {
                return Ok(());
            }
            bytes.resize(len, 0);
            self.file
                .read_exact_at(&mut bytes, self.end + FRAME as u64)?;
            if self.crc(&bytes) != u32::from_le_bytes(crc) {
                self.broken = self.is_whole(next)?;
                return Ok(());
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let row = Row::decode(&mut rest).map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a whole frame with a broken row",
                    )
                })?;
                rows.push(row);
            }
            self.end = next;
        }
    }
}

fn header(generation: u64, salt: u64, follows: u64) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    let [generation, salt, follows] = [generation, salt, follows].map(u64::to_le_bytes);
    let words = [*MAGIC, generation, salt, follows];
    header.copy_from_slice(words.as_flattened());
    header
}

fn crc(generation: u64, salt: u64, rows: &[u8]) -> u32 {
    let mut crc = Hasher::new();
    crc.update(&generation.to_le_bytes());
    crc.update(&salt.to_le_bytes());
    crc.update(rows);
    crc.finalize()
}

/// A file's first bytes.
#[cfg(feature = "fuzz")]
pub(super) fn fuzz_header(generation: u64, salt: u64) -> Vec<u8> {
    header(generation, salt, 0).to_vec()
}

/// A whole frame of that turn around bytes that may be rows.
#[cfg(feature = "fuzz")]
pub(super) fn fuzz_frame(generation: u64, salt: u64, rows: &[u8]) -> Vec<u8> {
    let head = [rows.len() as u32, crc(generation, salt, rows)].map(u32::to_le_bytes);
    [head.as_flattened(), rows].concat()
}

/// Zeros from `from` up to `to`, which are then more than promised: they are there.
fn zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut at = from;
    while at < to {
        let part = (to - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..part as usize], at)?;
        at += part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_on_a_full_disk_takes_no_room_from_removals() {
        let dir = tempfile::tempdir().expect("a directory");
        let opened = Journal::open(dir.path(), Durability::Boot, Mark::default());
        let (mut journal, _) = opened.expect("opened");
        journal.turn_after(HEADER);
        journal.prepare().expect("there is room");
        let full = |journal: &mut Journal, full: bool| {
            journal.parts.iter_mut().for_each(|part| part.full = full);
        };
        full(&mut journal, true);
        journal.append(&[]).expect("within what is free ahead");
        let first = journal.current;
        assert!(journal.applied(journal.mark()).is_err());
        assert_eq!(journal.current, first);
        journal.append(&[]).expect("as before");
        full(&mut journal, false);
        journal
            .applied(journal.mark())
            .expect("there is room again");
        assert_ne!(journal.current, first);
        full(&mut journal, true);
        journal.append(&[]).expect("within what is free ahead");
    }
}
