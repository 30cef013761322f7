//! PAX records that hold a newline, which the tar library cannot read: it takes a newline for
//! the end of a record, where POSIX has the record's length say so (pax(1), "pax Extended
//! Header"). They are lifted out of the stream before the library sees it, and a record of
//! the same length that means nothing takes their place.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

const BLOCK: usize = 512;
/// Longest extended header that is taken.
const HEADER_MAX: u64 = 1 << 20;

/// Key and value of each record that was lifted out since they were last taken.
pub type Lifted = Rc<RefCell<Vec<(Vec<u8>, Vec<u8>)>>>;

/// A tar stream without the records the library cannot read.
pub struct Lifting<R> {
    inner: R,
    lifted: Lifted,
    /// Read from `inner` and not yet given out.
    ready: Vec<u8>,
    given: usize,
    state: State,
    /// The size that an extended header gives the next entry.
    size: Option<u64>,
    ended: Ended,
}

/// Whether the archive's own end was seen: a block of zeros where a header may stand.
pub type Ended = Rc<Cell<bool>>;

enum State {
    /// A header comes next.
    Header,
    /// So many bytes pass as they are; then a header comes.
    Pass(u64),
    /// GNU's blocks of a sparse map come first, then so many bytes.
    Sparse(u64),
    /// Behind the end, or no tar at all: all passes.
    End,
}

impl<R: Read> Lifting<R> {
    pub fn new(inner: R) -> (Lifting<R>, Lifted) {
        let lifted = Lifted::default();
        let lifting = Lifting {
            inner,
            lifted: lifted.clone(),
            ready: Vec::new(),
            given: 0,
            state: State::Header,
            size: None,
            ended: Ended::default(),
        };
        (lifting, lifted)
    }

    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Appends up to `count` bytes to what is ready; how many there were.
    fn load(&mut self, count: u64) -> io::Result<u64> {
        let got = (&mut self.inner).take(count).read_to_end(&mut self.ready)?;
        Ok(got as u64)
    }

    /// A header, and the whole of an extended one.
    fn header(&mut self) -> io::Result<()> {
        let whole = self.load(BLOCK as u64)? == BLOCK as u64;
        if !whole || self.ready.iter().all(|b| *b == 0) {
            self.ended.set(whole);
            self.state = State::End;
            return Ok(());
        }
        let kind = self.ready[156];
        let Some(own) = number(&self.ready[124..136]) else {
            self.state = State::End;
            return Ok(());
        };
        let extended = matches!(kind, b'x' | b'g' | b'L' | b'K');
        if extended && own > HEADER_MAX {
            // The library would read all of it into memory.
            let why = format!("an extended header of {own} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        // A size of its own is for the entry that follows, not for its other headers.
        let size = if extended {
            own
        } else {
            self.size.take().unwrap_or(own)
        };
        let padded = size.saturating_add(BLOCK as u64 - 1) / BLOCK as u64 * BLOCK as u64;
        self.state = match kind {
            b'x' => {
                self.load(padded)?;
                let end = (BLOCK + size as usize).min(self.ready.len());
                self.records(end);
                State::Header
            }
            b'S' if self.ready[482] != 0 => State::Sparse(padded),
            _ => State::Pass(padded),
        };
        Ok(())
    }

    /// Goes through the records in `ready` behind the header; what is malformed is left to
    /// the library to refuse.
    fn records(&mut self, end: usize) {
        let mut at = BLOCK;
        while at < end {
            let rest = &self.ready[at..end];
            let Some(space) = rest.iter().position(|b| *b == b' ') else {
                return;
            };
            let digits = std::str::from_utf8(&rest[..space]).ok();
            let Some(len) = digits.and_then(|d| d.parse::<usize>().ok()) else {
                return;
            };
            if len < space + 3 || len > rest.len() || rest[len - 1] != b'\n' {
                return;
            }
            let body = &rest[space + 1..len - 1];
            let Some(equals) = body.iter().position(|b| *b == b'=') else {
                return;
            };
            let (key, value) = (&body[..equals], &body[equals + 1..]);
            if key == b"size" {
                let text = std::str::from_utf8(value).ok();
                self.size = text.and_then(|t| t.parse().ok());
            }
            if body.contains(&b'\n') {
                let record = (key.to_vec(), value.to_vec());
                self.lifted.borrow_mut().push(record);
                let body = &mut self.ready[at + space + 1..at + len - 1];
                body.fill(b'x');
                body[1] = b'=';
            }
            at += len;
        }
    }
}

impl<R: Read> Read for Lifting<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
            match self.state {
                State::Header | State::Pass(0) => self.header()?,
                State::Sparse(then) => {
                    self.load(BLOCK as u64)?;
                    // isextended of the block of a sparse map.
                    if self.ready.get(504).is_none_or(|more| *more == 0) {
                        self.state = State::Pass(then);
                    }
                }
                State::Pass(left) => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
                    let n = self.inner.read(&mut out[..most])?;
                    self.state = State::Pass(left - n as u64);
                    return Ok(n);
                }
                State::End => return self.inner.read(out),
            }
        }
        let n = out.len().min(self.ready.len() - self.given);
        out[..n].copy_from_slice(&self.ready[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}

/// A header's number: octal text, or GNU's base-256 with the first bit set, of which the
/// last eight bytes count. As the library reads it: both have to find the same next header.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let last = &field[field.len().saturating_sub(8)..];
        return Some(last.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
    }
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    let text = std::str::from_utf8(&field[..end]).ok()?;
    u64::from_str_radix(text.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> (String, Vec<u8>) {
        (key.to_string(), value.to_vec())
    }

    type Made<'a> = (&'a [(String, Vec<u8>)], &'a str, &'a [u8]);

    fn archive(entries: &[Made<'_>]) -> Vec<u8> {
        let mut made = tar::Builder::new(Vec::new());
        for (records, path, data) in entries {
            let records = records.iter().map(|(k, v)| (k.as_str(), v.as_slice()));
            made.append_pax_extensions(records).expect("tar");
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(data.len() as u64);
            made.append_data(&mut header, path, *data).expect("tar");
        }
        made.into_inner().expect("tar")
    }

    #[test]
    fn records_with_newlines_come_to_their_entry_and_others_stay() {
        let bytes = archive(&[
            (&[record("mtime", b"1.5")], "a", b"one"),
            (
                &[
                    record("SCHILY.xattr.user.x", b"\n\n"),
                    record("mtime", b"2.5"),
                    record("path", b"b\nc"),
                ],
                "b",
                &[b'\n'; 700],
            ),
            (&[], "d", b""),
        ]);
        let (lifting, lifted) = Lifting::new(&bytes[..]);
        let mut archive = tar::Archive::new(lifting);
        let mut seen = Vec::new();
        for entry in archive.entries().expect("tar") {
            let mut entry = entry.expect("tar");
            let own = std::mem::take(&mut *lifted.borrow_mut());
            let pax = entry
                .pax_extensions()
                .expect("pax")
                .map_or(0, Iterator::count);
            let mut data = Vec::new();
            entry.read_to_end(&mut data).expect("data");
            seen.push((own, pax, data.len()));
        }
        let own = vec![
            (b"SCHILY.xattr.user.x".to_vec(), b"\n\n".to_vec()),
            (b"path".to_vec(), b"b\nc".to_vec()),
        ];
        assert_eq!(seen, [(vec![], 1, 3), (own, 3, 700), (vec![], 0, 0)]);
    }

    /// Whatever the stream is, as many bytes come out as went in, and none is changed
    /// outside of extended headers.
    #[test]
    fn what_is_no_tar_passes_unchanged() {
        let noise: Vec<u8> = (0..40_000u32).map(|n| ((n * n) >> 7) as u8 | 1).collect();
        for len in [0, 1, 511, 512, 513, 5000, 40_000] {
            let (mut lifting, _) = Lifting::new(&noise[..len]);
            let mut out = Vec::new();
            lifting.read_to_end(&mut out).expect("read");
            assert!(out == noise[..len], "{len}");
        }
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"00000001750\0"), Some(1000));
        assert_eq!(number(b"     1750 \0\0"), Some(1000));
        assert_eq!(
            number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]),
            Some(1 << 33)
        );
        assert_eq!(number(b"nonsense\0\0\0\0"), None);
    }
}
