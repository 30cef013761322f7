//! What was changed and is not in `work.db` yet: frames in a file that outlives the process.
//!
//! A mutation is one write(2) here instead of a transaction of SQLite, which costs twenty
//! times as much; `work.db` gets many of them at once. Two files take turns. Each frame is
//! `length ‖ crc ‖ rows`, and the crc covers the turn's generation and random salt, so that what
//! an earlier turn left, or a file's content that looks like a frame, is none. A kill leaves at most one frame half written, whose change nobody was
//! told of. The machine's crash is not survived, as nothing in `work.db` is.

use super::area::failed;
use super::rows::Row;
use crate::failpoint;
use crate::patience::may_wait;
use crate::types::Errno;
use crc32fast::Hasher;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `work.journal.0` and `work.journal.1`.
const NAME: &str = "work.journal.";
/// Moves with each change of a row's form, so that another form's frames are none.
const MAGIC: &[u8; 8] = b"pckjrnl2";
/// Magic, generation and salt.
const HEADER: u64 = 24;
/// Length and crc.
const FRAME: usize = 8;
/// Taken from the file system at once, so that a frame finds its place.
const STEP: u64 = 1 << 20;
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
    file: File,
    generation: u64,
    salt: u64,
    end: u64,
    /// Bytes the file system has promised.
    room: u64,
    #[cfg(test)]
    limit: Option<u64>,
}

pub(super) struct Journal {
    parts: [Part; 2],
    current: usize,
    frame: Vec<u8>,
}

impl Journal {
    /// Opens the two files in `dir`. The rows that are not in `work.db`, which has everything
    /// up to `applied`.
    pub fn open(dir: &Path, applied: Mark) -> io::Result<(Journal, Vec<Row>)> {
        let mut parts = [Part::open(dir, 0)?, Part::open(dir, 1)?];
        let current = usize::from(parts[1].generation > parts[0].generation);
        let mut rows = Vec::new();
        for at in [1 - current, current] {
            let part = &mut parts[at];
            let from = match part.generation.cmp(&applied.generation) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => applied.offset.max(HEADER),
                std::cmp::Ordering::Greater => HEADER,
            };
            if from > part.room.max(HEADER) {
                let why = "the journal is shorter than what work.db has of it";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            part.end = from;
            if part.generation > 0 {
                part.replay(&mut rows)?;
            }
        }
        let mut journal = Journal {
            parts,
            current,
            frame: Vec::new(),
        };
        // New files; or the old ones were lost, and what they held was carried over.
        if journal.parts[current].generation < applied.generation.max(1) {
            journal.parts[current].begin(1 + applied.generation)?;
        }
        Ok((journal, rows))
    }

    /// Removes both files: they are of another boot.
    pub fn remove(dir: &Path) {
        for at in 0..2 {
            let _ = std::fs::remove_file(dir.join(format!("{NAME}{at}")));
        }
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
        failpoint::pass("journal.append.after");
        Ok(frame.len())
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

    /// Everything up to `applied` is in `work.db`. Where that is a long way the other file's
    /// turn comes, if nothing in it is needed.
    pub fn applied(&mut self, applied: Mark) -> Result<(), Errno> {
        let part = &self.parts[self.current];
        if part.end < STEP || applied.generation < part.generation {
            return Ok(());
        }
        let generation = part.generation + 1;
        let other = &mut self.parts[1 - self.current];
        failpoint::hit("journal.turn.before")
            .and_then(|()| other.begin(generation))
            .map_err(|e| failed("begin", &other.path, &e))?;
        self.current = 1 - self.current;
        failpoint::pass("journal.turn.after");
        Ok(())
    }
}

impl Part {
    fn open(dir: &Path, at: usize) -> io::Result<Part> {
        let path = dir.join(format!("{NAME}{at}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        let room = file.metadata()?.len();
        let mut header = [[0; 8]; 3];
        let whole = file.read_exact_at(header.as_flattened_mut(), 0).is_ok();
        let [magic, generation, salt] = header;
        let generation = match whole && magic == *MAGIC {
            true => u64::from_le_bytes(generation),
            false => 0,
        };
        Ok(Part {
            path,
            file,
            generation,
            salt: u64::from_le_bytes(salt),
            end: HEADER,
            room,
            #[cfg(test)]
            limit: None,
        })
    }

    fn begin(&mut self, generation: u64) -> io::Result<()> {
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).map_err(|_| io::Error::other("no random bytes"))?;
        let salt = u64::from_le_bytes(salt);
        self.file.write_all_at(&header(generation, salt), 0)?;
        (self.generation, self.end) = (generation, HEADER);
        self.salt = salt;
        self.room = self.room.max(HEADER);
        Ok(())
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        failpoint::hit("journal.append.before")?;
        if failpoint::hit("journal.append.tear").is_err() {
            self.file.write_all_at(&frame[..frame.len() / 2], self.end)?;
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
        if !may_wait() && to <= self.room + AHEAD {
            return Err(Errno::Again);
        }
        let room = to.div_ceil(STEP) * STEP;
        failpoint::hit("journal.enlarge.before")
            .and_then(|()| super::sys::allocate(&self.file, self.room, room - self.room))
            .map_err(|e| failed("enlarge", &self.path, &e))?;
        self.room = room;
        failpoint::pass("journal.enlarge.after");
        Ok(())
    }

    fn crc(&self, rows: &[u8]) -> u32 {
        crc(self.generation, self.salt, rows)
    }

    /// Reads frames from `end` on, up to what is none.
    fn replay(&mut self, rows: &mut Vec<Row>) -> io::Result<()> {
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

fn header(generation: u64, salt: u64) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    let words = [*MAGIC, generation.to_le_bytes(), salt.to_le_bytes()];
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
    header(generation, salt).to_vec()
}

/// A whole frame of that turn around bytes that may be rows.
#[cfg(feature = "fuzz")]
pub(super) fn fuzz_frame(generation: u64, salt: u64, rows: &[u8]) -> Vec<u8> {
    let head = [rows.len() as u32, crc(generation, salt, rows)].map(u32::to_le_bytes);
    [head.as_flattened(), rows].concat()
}
