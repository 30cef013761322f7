//! The headers of a tar, one entry at a time, and no more of it in memory than a header may have.
//!
//! The tar library reads an extended header whole, however long it says that it is.

use crate::image::ImageError;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use tar::{EntryType, Header, PaxExtensions};

const BLOCK: usize = 512;
/// Longest extended header; a name of an image takes a tenth of a thousandth.
const HEADER_MAX: u64 = 1 << 20;
/// Extended headers of one entry: a name, a link and their records are four.
const HEADERS_MAX: usize = 16;

/// Where the bytes come from.
pub trait Bytes: Read {
    /// Goes past so many bytes; there may be fewer.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

impl Bytes for &File {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        self.seek(SeekFrom::Current(bytes)).map(drop)
    }
}

/// A stream of which all that passes is written to a file.
pub struct Aside<'a, R> {
    pub stream: &'a mut R,
    pub file: &'a File,
}

impl<R: Read> Read for Aside<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = self.stream.read(out)?;
        self.file.write_all(&out[..got])?;
        Ok(got)
    }
}

impl<R: Read> Bytes for Aside<'_, R> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        io::copy(&mut self.by_ref().take(bytes), &mut io::sink()).map(drop)
    }
}

pub struct Entry {
    pub name: Vec<u8>,
    pub link: Option<Vec<u8>>,
    pub kind: EntryType,
    /// Where its bytes begin.
    pub offset: u64,
    pub size: u64,
}

pub struct Heads<B> {
    bytes: B,
    at: u64,
    /// What is left of the last entry.
    rest: u64,
}

/// What extended headers say of the entry that follows.
#[derive(Default)]
struct Said {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<B: Bytes> Heads<B> {
    pub fn new(bytes: B) -> Heads<B> {
        Heads {
            bytes,
            at: 0,
            rest: 0,
        }
    }

    /// None at the end, and where something is no header: what follows is not looked at.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut said = Said::default();
        for _ in 0..HEADERS_MAX {
            self.bytes.skip(self.rest)?;
            self.at += self.rest;
            self.rest = 0;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let (kind, Ok(own)) = (header.entry_type(), header.entry_size()) else {
                return Ok(None);
            };
            let extended = match kind {
                EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader => true,
                EntryType::XGlobalHeader => true,
                // Blocks follow that its size does not count; no image has one.
                EntryType::GNUSparse => return Ok(None),
                _ => false,
            };
            if extended {
                let Some(bytes) = self.body(own)? else {
                    return Ok(None);
                };
                said.take(kind, bytes);
                continue;
            }
            let size = said.size.unwrap_or(own);
            // No stream is so long: the size is made up.
            let end = |rest: &u64| self.at.checked_add(*rest).is_some();
            let Some(rest) = padded(size).filter(end) else {
                return Ok(None);
            };
            self.rest = rest;
            return Ok(Some(Entry {
                name: said
                    .name
                    .unwrap_or_else(|| header.path_bytes().into_owned()),
                link: said
                    .link
                    .or_else(|| header.link_name_bytes().map(|link| link.into_owned())),
                kind,
                offset: self.at,
                size,
            }));
        }
        Ok(None)
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let mut block = Vec::with_capacity(BLOCK);
        (&mut self.bytes)
            .take(BLOCK as u64)
            .read_to_end(&mut block)?;
        self.at += block.len() as u64;
        if block.len() < BLOCK || block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        header.as_mut_bytes().copy_from_slice(&block);
        // Its sum is taken with its own field as spaces (POSIX pax, "ustar Interchange Format").
        let sum: u32 = (0..)
            .zip(&block)
            .map(|(at, byte)| match at {
                148..156 => u32::from(b' '),
                _ => u32::from(*byte),
            })
            .sum();
        Ok((header.cksum().ok() == Some(sum)).then_some(header))
    }

    /// An extended header's bytes; none where it is cut short.
    fn body(&mut self, size: u64) -> io::Result<Option<Vec<u8>>> {
        if size > HEADER_MAX {
            let message = format!("it has an extended header of {size} bytes");
            let hint = format!("{HEADER_MAX} are taken: it is damaged, or made to fill memory");
            return Err(ImageError::new(message, hint).into());
        }
        let Some(padded) = padded(size) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        (&mut self.bytes).take(padded).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        if (bytes.len() as u64) < padded {
            return Ok(None);
        }
        bytes.truncate(size as usize);
        Ok(Some(bytes))
    }
}

fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK as u64)
}

impl Said {
    fn take(&mut self, kind: EntryType, mut bytes: Vec<u8>) {
        let cut = |bytes: &mut Vec<u8>| {
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                bytes.truncate(end);
            }
        };
        match kind {
            EntryType::GNULongName => {
                cut(&mut bytes);
                self.name = Some(bytes);
            }
            EntryType::GNULongLink => {
                cut(&mut bytes);
                self.link = Some(bytes);
            }
            EntryType::XHeader => {
                for record in PaxExtensions::new(&bytes).flatten() {
                    let value = || record.value_bytes().to_vec();
                    match record.key_bytes() {
                        b"path" => self.name = Some(value()),
                        b"linkpath" => self.link = Some(value()),
                        b"size" => self.size = record.value().ok().and_then(|v| v.parse().ok()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(kind: EntryType, data: &[u8], says: u64) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(says);
        header.set_cksum();
        let mut out = header.as_bytes().to_vec();
        out.extend(data);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    /// Name, link, where its bytes are and how many.
    type Row = (String, Option<String>, u64, u64);

    fn all(bytes: &[u8]) -> io::Result<Vec<Row>> {
        let file = tempfile::tempfile()?;
        (&file).write_all(bytes)?;
        (&file).rewind()?;
        let mut found = [Vec::new(), Vec::new()];
        let copy = tempfile::tempfile()?;
        let mut stream = bytes;
        let aside = Aside {
            stream: &mut stream,
            file: &copy,
        };
        let (mut seeking, mut streaming) = (Heads::new(&file), Heads::new(aside));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let mut row = |at: usize, e: Entry| {
            found[at].push((text(e.name), e.link.map(text), e.offset, e.size));
        };
        while let Some(entry) = seeking.next()? {
            row(0, entry);
        }
        while let Some(entry) = streaming.next()? {
            row(1, entry);
        }
        assert_eq!(found[0], found[1], "the same, in a file and in a stream");
        let mut copied = Vec::new();
        (&copy).rewind()?;
        (&copy).read_to_end(&mut copied)?;
        assert!(bytes.starts_with(&copied), "put aside as it came");
        let [found, _] = found;
        Ok(found)
    }

    #[test]
    fn entries_are_found_where_the_library_finds_them() {
        let name = format!("blobs/sha256/{}", "a/long/name/".repeat(30));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(700);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, &name, &[1; 700][..])
            .expect("added");
        builder
            .append_pax_extensions([("path", &b"index.json"[..]), ("size", b"5")])
            .expect("added");
        let mut header = Header::new_ustar();
        header.set_size(5);
        header.set_cksum();
        builder.append(&header, &b"12345"[..]).expect("added");
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "l", "t").expect("added");
        let bytes = builder.into_inner().expect("finished");
        let mut library = tar::Archive::new(io::Cursor::new(&bytes));
        let entries = library.entries_with_seek().expect("entries");
        let theirs: Vec<_> = entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                (
                    text(&entry.path_bytes()),
                    entry.link_name_bytes().map(|link| text(&link)),
                    entry.raw_file_position(),
                    entry.size(),
                )
            })
            .collect();
        assert_eq!(theirs.len(), 3);
        assert_eq!(all(&bytes).expect("read"), theirs);
        for cut in 0..bytes.len() {
            assert!(all(&bytes[..cut]).expect("read").len() <= 3);
        }
    }

    /// What it says is believed of no header, and a file of zeros that long costs nothing.
    /// Neither the padding nor where the next one would begin is a number then.
    #[test]
    fn a_size_beyond_all_numbers_ends_the_list() {
        for size in [u64::MAX, u64::MAX - 1023, u64::MAX - 511] {
            let mut builder = tar::Builder::new(Vec::new());
            let text = size.to_string();
            builder
                .append_pax_extensions([("size", text.as_bytes())])
                .expect("added");
            let mut header = Header::new_ustar();
            header.set_size(0);
            header.set_path("x").expect("a name");
            header.set_cksum();
            builder.append(&header, &[][..]).expect("added");
            let bytes = builder.into_inner().expect("ended");
            assert!(all(&bytes).expect("read").is_empty(), "{size}");
        }
    }

    #[test]
    fn a_header_is_bounded_before_it_is_read() {
        for kind in [
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::XHeader,
            EntryType::XGlobalHeader,
        ] {
            for says in [HEADER_MAX + 1, 8 << 30] {
                let error = all(&long(kind, b"x", says)).expect_err("too long");
                let error = ImageError::inside(&error).expect("ours");
                assert!(error.message.contains("an extended header of"), "{error}");
            }
            assert!(all(&long(kind, b"x", 1)).expect("read").is_empty());
        }
        let many = long(EntryType::XHeader, b"", 0).repeat(1000);
        assert!(all(&many).expect("read").is_empty());
    }
}
