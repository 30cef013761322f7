//! Files of the host as a tar archive that is made while it is read, on its way into the store.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BLOCK: usize = 512;
/// The header's field; longer targets go into a GNU long-link entry.
const MAX_SHORT_LINK: usize = 100;

/// What an archive is made of.
pub trait Entries {
    /// The next one, until there is none.
    fn next(&mut self) -> io::Result<Option<Entry>>;

    /// Told of each piece of the last one's file; an error ends the archive.
    fn passed(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Told when its file has been read, as long as its header says.
    fn whole(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Its file has less than that.
    fn cut(&self) -> io::Error;
}

pub struct Entry {
    header: Vec<u8>,
    file: Option<(File, u64)>,
}

impl Entry {
    /// With its name, and what it is a link to.
    pub fn new(header: &mut tar::Header, name: &[u8], link: Option<&[u8]>) -> io::Result<Entry> {
        Ok(Entry {
            header: packed(header, name, link)?,
            file: None,
        })
    }

    /// `size` bytes of it, as the header says.
    pub fn with_file(self, file: File, size: u64) -> Entry {
        Entry {
            file: Some((file, size)),
            ..self
        }
    }
}

/// An entry's header as bytes, with what goes before it where a name is long.
fn packed(header: &mut tar::Header, name: &[u8], link: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let path = Path::new(OsStr::from_bytes(name));
    let mut builder = tar::Builder::new(Vec::new());
    match link {
        // Contents follow by themselves, so the header's size stands while nothing is appended here.
        None => builder.append_data(header, path, io::empty())?,
        // Kept to the byte: the crate would tidy `a//b` away.
        Some(link) if link.len() <= MAX_SHORT_LINK => {
            header.set_link_name_literal(link)?;
            builder.append_data(header, path, io::empty())?;
        }
        Some(link) => builder.append_link(header, path, OsStr::from_bytes(link))?,
    }
    Ok(std::mem::take(builder.get_mut()))
}

/// The entries in their order, then the end of an archive.
pub struct Archive<E> {
    entries: E,
    /// Headers and padding on their way out.
    buffer: Vec<u8>,
    at: usize,
    file: Option<Current>,
    ended: bool,
}

struct Current {
    file: File,
    left: u64,
    padding: usize,
}

impl<E: Entries> Archive<E> {
    pub fn of(entries: E) -> Archive<E> {
        Archive {
            entries,
            buffer: Vec::new(),
            at: 0,
            file: None,
            ended: false,
        }
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.buffer = bytes;
        self.at = 0;
    }

    fn next_entry(&mut self) -> io::Result<()> {
        let Some(Entry { header, file }) = self.entries.next()? else {
            self.ended = true;
            self.send(vec![0; 2 * BLOCK]);
            return Ok(());
        };
        self.send(header);
        self.file = file.map(|(file, size)| Current {
            file,
            left: size,
            padding: (BLOCK - (size % BLOCK as u64) as usize) % BLOCK,
        });
        Ok(())
    }

    fn read_file(&mut self, mut current: Current, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(current.left).unwrap_or(usize::MAX);
        let want = out.len().min(left);
        let count = current.file.read(&mut out[..want])?;
        if count == 0 && current.left > 0 {
            return Err(self.entries.cut());
        }
        self.entries.passed(&out[..count])?;
        current.left -= count as u64;
        if current.left > 0 {
            self.file = Some(current);
        } else {
            self.entries.whole()?;
            self.send(vec![0; current.padding]);
        }
        Ok(count)
    }
}

impl<E: Entries> Read for Archive<E> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !out.is_empty() {
            if self.at < self.buffer.len() {
                let count = out.len().min(self.buffer.len() - self.at);
                out[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
                self.at += count;
                return Ok(count);
            }
            if let Some(current) = self.file.take() {
                let count = self.read_file(current, out)?;
                if count > 0 {
                    return Ok(count);
                }
            } else if self.ended {
                return Ok(0);
            } else {
                self.next_entry()?;
            }
        }
        Ok(0)
    }
}
