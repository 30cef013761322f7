//! Reading a run's log, also while it is written.

use super::{LOG, OLD};
use crate::life::time::Stamp;
use crate::sandbox::Source;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A longer line is none of ours: a writer's chunk is smaller.
const LINE_MAX: usize = 64 << 10;

/// A line, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Stamp,
    pub from: Source,
    /// Its line break included, where it has come.
    pub text: Vec<u8>,
    pub whole: bool,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Line> {
        let line = line.strip_suffix(b"\n")?;
        let mut fields = line.splitn(4, |b| *b == b' ');
        let at = Stamp::parse(std::str::from_utf8(fields.next()?).ok()?)?;
        let from = match fields.next()? {
            b"stdout" => Source::Output,
            b"stderr" => Source::Errors,
            _ => return None,
        };
        let whole = match fields.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        let mut text = fields.next()?.to_vec();
        if whole {
            text.push(b'\n');
        }
        Some(Line {
            at,
            from,
            text,
            whole,
        })
    }
}

/// A file of a log, from where it was read to.
struct Reading {
    file: BufReader<File>,
    /// A line whose end was not written yet.
    begun: Vec<u8>,
    inode: u64,
}

impl Reading {
    fn open(path: &Path) -> io::Result<Option<Reading>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Reading {
                inode: file.metadata()?.ino(),
                file: BufReader::new(file),
                begun: Vec::new(),
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The next line that is there. What is none of ours is passed over.
    fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let room = (LINE_MAX - self.begun.len()) as u64;
            let mut limited = io::Read::take(&mut self.file, room);
            limited.read_until(b'\n', &mut self.begun)?;
            let whole = self.begun.last() == Some(&b'\n');
            if !whole && self.begun.len() < LINE_MAX {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.begun);
            if let Some(line) = Line::parse(&line) {
                return Ok(Some(line));
            }
        }
    }
}

/// The lines from `since` on, the last `tail` of them; and what to follow from there.
pub fn read(
    dir: &Path,
    since: Option<Stamp>,
    tail: Option<usize>,
    give: &mut dyn FnMut(&Line) -> io::Result<()>,
) -> io::Result<Follow> {
    // A log that is put aside between the two is read twice rather than not at all.
    let current = Reading::open(&dir.join(LOG))?;
    let old = Reading::open(&dir.join(OLD))?;
    let same = |a: &Reading, b: &Reading| a.inode == b.inode;
    let old = match (&old, &current) {
        (Some(a), Some(b)) if same(a, b) => None,
        _ => old,
    };
    let mut kept = VecDeque::new();
    let mut count = 0;
    let mut follow = Follow {
        dir: dir.to_owned(),
        current: None,
    };
    for mut reading in [old, current].into_iter().flatten() {
        while let Some(line) = reading.next()? {
            if since.is_some_and(|since| line.at < since) {
                continue;
            }
            let Some(tail) = tail else {
                give(&line)?;
                continue;
            };
            count += usize::from(line.whole);
            kept.push_back(line);
            while count > tail {
                count -= kept.pop_front().map_or(count, |l| usize::from(l.whole));
            }
        }
        follow.current = Some(reading);
    }
    for line in &kept {
        give(line)?;
    }
    Ok(follow)
}

/// A log that grows.
pub struct Follow {
    dir: PathBuf,
    current: Option<Reading>,
}

impl Follow {
    /// What was written since.
    pub fn more(&mut self, give: &mut dyn FnMut(&Line) -> io::Result<()>) -> io::Result<()> {
        loop {
            // Before the last look at this one: what is put aside gets no more lines.
            let now = std::fs::metadata(self.dir.join(LOG)).map(|m| m.ino()).ok();
            if let Some(reading) = &mut self.current {
                while let Some(line) = reading.next()? {
                    give(&line)?;
                }
            }
            let inode = self.current.as_ref().map(|r| r.inode);
            if now.is_none() || now == inode {
                return Ok(());
            }
            self.current = Reading::open(&self.dir.join(LOG))?;
        }
    }
}
