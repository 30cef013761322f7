//! A graft's table as a file, so that a server that was started again, or killed, finds its
//! clients' files where they are.
//!
//! Rows are appended as they are learnt, with no sync: who has the graft mounted ends with the
//! machine. A row is only a hint, so what is torn or damaged costs a search and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is read of one; nothing writes more.
const FILE_MAX: u64 = 256 << 20;
const MAGIC: &[u8; 8] = b"pockerg1";
/// What, the file's number, a directory's or a tag, the name's length.
const HEAD: usize = 1 + 8 + 8 + 2;
/// Rows that are not kept after one that could not be, before the file is written anew.
const RETRY_AFTER: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    Has {
        file: u64,
        parent: u64,
        name: &'a [u8],
    },
    HasNot {
        file: u64,
        parent: u64,
        name: &'a [u8],
    },
    Ended {
        file: u64,
        tag: u64,
    },
}

impl<'a> Row<'a> {
    fn put(self, out: &mut Vec<u8>) {
        let (what, file, word, name): (u8, u64, u64, &[u8]) = match self {
            Row::Has { file, parent, name } => (1, file, parent, name),
            Row::HasNot { file, parent, name } => (2, file, parent, name),
            Row::Ended { file, tag } => (3, file, tag, &[]),
        };
        // A name that long is no file system's.
        let Ok(len) = u16::try_from(name.len()) else {
            return;
        };
        out.push(what);
        out.extend_from_slice(&file.to_le_bytes());
        out.extend_from_slice(&word.to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(name);
    }

    /// The first row and what is behind it; none where there is no whole one.
    fn take(bytes: &'a [u8]) -> Option<(Row<'a>, &'a [u8])> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
        let word = |at: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(w)
        };
        let len = usize::from(u16::from_le_bytes([head[17], head[18]]));
        let (name, rest) = rest.split_at_checked(len)?;
        let (file, parent) = (word(1), word(9));
        let row = match head[0] {
            1 => Row::Has { file, parent, name },
            2 => Row::HasNot { file, parent, name },
            3 => Row::Ended { file, tag: parent },
            _ => return None,
        };
        Some((row, rest))
    }
}

pub struct Kept {
    file: File,
    path: PathBuf,
    pending: Vec<u8>,
    len: u64,
    /// Rows that were not kept since one could not be; the file lacks them until it is written anew.
    lost: Option<usize>,
}

impl Kept {
    /// What was kept there, row by row, and the file for more.
    pub fn open(path: &Path, each: &mut dyn FnMut(Row<'_>)) -> io::Result<Kept> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(FILE_MAX).read_to_end(&mut bytes)?;
        let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
        while let Some((row, after)) = Row::take(rest) {
            each(row);
            rest = after;
        }
        let whole = bytes.len() - rest.len();
        let mut kept = Kept {
            file,
            path: path.to_owned(),
            pending: Vec::new(),
            len: whole as u64,
            lost: None,
        };
        if bytes.starts_with(MAGIC) {
            kept.file.set_len(kept.len)?;
        } else {
            kept.file.set_len(0)?;
            kept.len = 0;
            kept.pending.extend_from_slice(MAGIC);
            kept.flush()?;
        }
        Ok(kept)
    }

    pub fn push(&mut self, row: Row<'_>) {
        match &mut self.lost {
            Some(lost) => *lost += 1,
            None => row.put(&mut self.pending),
        }
    }

    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty() && !self.must_be_rewritten()
    }

    /// It lacks rows, and there may be room by now.
    pub fn must_be_rewritten(&self) -> bool {
        self.lost.is_some_and(|lost| lost >= RETRY_AFTER)
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// What was pushed is in the file after.
    pub fn flush(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if let Err(e) = self.file.write_all(&pending) {
            self.lost = Some(0);
            // No part of a row stays before the next.
            self.file.set_len(self.len)?;
            return Err(e);
        }
        self.len += pending.len() as u64;
        Ok(())
    }

    /// The same with no more than these rows.
    pub fn rewrite<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>) -> io::Result<()> {
        self.pending = Vec::new();
        let written = self.try_rewrite(rows);
        self.lost = match written {
            Ok(()) => None,
            Err(_) => Some(0),
        };
        if written.is_err() {
            let _ = fs::remove_file(new(&self.path));
        }
        written
    }

    fn try_rewrite<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>) -> io::Result<()> {
        let new = new(&self.path);
        let mut bytes = MAGIC.to_vec();
        rows.for_each(|row| row.put(&mut bytes));
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&new)?;
        file.set_len(0)?;
        file.write_all(&bytes)?;
        fs::rename(&new, &self.path)?;
        self.file = file;
        self.len = bytes.len() as u64;
        Ok(())
    }

    /// Nothing of it stays.
    pub fn remove(self) {
        for path in [new(&self.path), self.path] {
            let _ = fs::remove_file(path);
        }
    }
}

/// Where it is written anew.
fn new(path: &Path) -> PathBuf {
    path.with_extension("new")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(path: &Path) -> Vec<String> {
        let mut all = Vec::new();
        Kept::open(path, &mut |row| all.push(format!("{row:?}"))).expect("opened");
        all
    }

    #[test]
    fn whole_rows_are_read_whatever_becomes_of_the_last() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("7");
        let written = [
            Row::Has {
                file: 5,
                parent: 1,
                name: b"\xffname",
            },
            Row::HasNot {
                file: 5,
                parent: 1,
                name: b"x",
            },
            Row::Ended { file: 5, tag: 77 },
        ];
        let mut kept = Kept::open(&path, &mut |_| panic!("a new one has rows")).expect("made");
        written.iter().for_each(|row| kept.push(*row));
        kept.flush().expect("written");
        let all: Vec<String> = written.iter().map(|row| format!("{row:?}")).collect();
        assert_eq!(rows(&path), all);

        // Cut anywhere: the rows before it are there, and what is added then is read after them.
        let bytes = fs::read(&path).expect("read");
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).expect("cut");
            let mut kept = Kept::open(&path, &mut |_| {}).expect("opened");
            kept.push(written[2]);
            kept.flush().expect("written");
            let after = rows(&path);
            assert_eq!(after.last(), all.last());
            assert_eq!(after[..after.len() - 1], all[..after.len() - 1]);
        }

        kept = Kept::open(&path, &mut |_| {}).expect("opened");
        kept.rewrite(written[..1].iter().copied()).expect("written");
        kept.push(written[2]);
        kept.flush().expect("written");
        assert_eq!(rows(&path), [all[0].clone(), all[2].clone()]);
        assert_eq!(kept.len(), fs::metadata(&path).expect("it").len());
    }

    #[test]
    fn what_cannot_be_written_is_not_tried_again_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("7");
        let row = Row::Ended { file: 5, tag: 77 };
        let mut kept = Kept::open(&path, &mut |_| {}).expect("made");
        // A disk without room.
        kept.file = File::options().write(true).open("/dev/full").expect("open");
        kept.push(row);
        assert!(kept.flush().is_err());
        for _ in 1..RETRY_AFTER {
            kept.push(row);
            assert!(kept.is_flushed() && kept.pending.is_empty());
        }
        kept.push(row);
        assert!(!kept.is_flushed() && kept.must_be_rewritten());
        // What is in the way makes it fail; nothing is left behind.
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("mkdir");
        assert!(kept.rewrite([row].into_iter()).is_err());
        assert!(!new(&path).exists());
        assert!(kept.is_flushed() && !kept.must_be_rewritten());
        fs::remove_dir(&path).expect("removed");
        (0..RETRY_AFTER).for_each(|_| kept.push(row));
        assert!(kept.must_be_rewritten());
        kept.rewrite([row].into_iter()).expect("written");
        kept.push(row);
        kept.flush().expect("written");
        assert_eq!(rows(&path), vec![format!("{row:?}"); 2]);
        fs::write(new(&path), "").expect("written");
        kept.remove();
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }
}
