//! A manifest as a tar stream, made while it is read. Contents are hashed again on the way: a file that
//! changed since its digest went into the key is an error, never a wrong step.

use super::context::{Context, show};
use super::{Body, Item, Manifest, Owner};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BLOCK: usize = 512;
/// The header's field; longer targets go into a GNU long-link entry.
const MAX_SHORT_LINK: usize = 100;

/// Where a COPY's entries go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The directory of the tree that the stream is applied to, absolute.
    pub dest: String,
    /// A directory below `dest` that has to be made, and its mode; everything goes into it.
    pub make: Option<(String, u32)>,
    /// The new name of a single file.
    pub rename: Option<String>,
}

impl Placement {
    /// The rules of `docs/pockerfile.md`: `target` is absolute, `exists` says whether it is a directory of the tree.
    pub fn new(target: &str, manifest: &Manifest, exists: bool) -> Placement {
        let bare = target.trim_end_matches('/');
        if exists || bare.is_empty() {
            return Placement {
                dest: if bare.is_empty() { "/" } else { bare }.to_owned(),
                make: None,
                rename: None,
            };
        }
        let (above, name) = bare.rsplit_once('/').unwrap_or(("", bare));
        let dest = if above.is_empty() { "/" } else { above }.to_owned();
        match manifest.into_dir {
            true => Placement {
                dest,
                make: Some((name.to_owned(), manifest.dir_mode)),
                rename: None,
            },
            false => Placement {
                dest,
                make: None,
                rename: Some(name.to_owned()),
            },
        }
    }
}

pub struct TarStream<'a> {
    context: &'a Context,
    items: std::slice::Iter<'a, Item>,
    placement: &'a Placement,
    owner: Owner,
    /// Headers and padding on their way out.
    buffer: Vec<u8>,
    at: usize,
    file: Option<Current<'a>>,
    ended: bool,
    /// Told of each chunk of contents.
    on_bytes: &'a mut dyn FnMut(u64) -> io::Result<()>,
}

struct Current<'a> {
    item: &'a Item,
    file: File,
    left: u64,
    padding: usize,
    sha256: [u8; 32],
    hash: Sha256,
}

impl<'a> TarStream<'a> {
    /// `on_bytes` gets each count of content bytes sent; its error ends the stream.
    pub fn new(
        context: &'a Context,
        manifest: &'a Manifest,
        placement: &'a Placement,
        owner: Owner,
        on_bytes: &'a mut dyn FnMut(u64) -> io::Result<()>,
    ) -> io::Result<TarStream<'a>> {
        let mut stream = TarStream {
            context,
            items: manifest.items.iter(),
            placement,
            owner,
            buffer: Vec::new(),
            at: 0,
            file: None,
            ended: false,
            on_bytes,
        };
        if let Some((name, mode)) = &placement.make {
            let mut header = stream.header(tar::EntryType::Directory, *mode, 0, 0);
            stream.write_header(&mut header, name.as_bytes(), None)?;
        }
        Ok(stream)
    }

    fn header(&self, kind: tar::EntryType, mode: u32, size: u64, mtime: i64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(u64::from(self.owner.uid));
        header.set_gid(u64::from(self.owner.gid));
        // Times before 1970 have no place in the header's unsigned field.
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        header
    }

    fn write_header(
        &mut self,
        header: &mut tar::Header,
        name: &[u8],
        link: Option<&[u8]>,
    ) -> io::Result<()> {
        self.buffer = packed_header(header, name, link)?;
        self.at = 0;
        Ok(())
    }

    fn name(&self, item: &Item) -> Vec<u8> {
        let below = match &self.placement.rename {
            Some(name) => name.as_bytes().to_vec(),
            None => item.to.join(&b'/'),
        };
        match &self.placement.make {
            Some((dir, _)) => [dir.as_bytes(), &below].join(&b'/'),
            None => below,
        }
    }

    /// Fills the buffer with what comes next.
    fn next_piece(&mut self) -> io::Result<()> {
        let Some(item) = self.items.next() else {
            self.ended = true;
            self.buffer = vec![0; 2 * BLOCK];
            self.at = 0;
            return Ok(());
        };
        let name = self.name(item);
        match &item.body {
            Body::Dir => {
                let mut header = self.header(tar::EntryType::Directory, item.mode, 0, item.mtime);
                self.write_header(&mut header, &name, None)
            }
            Body::Symlink(target) => {
                let mut header = self.header(tar::EntryType::Symlink, item.mode, 0, item.mtime);
                self.write_header(&mut header, &name, Some(target))
            }
            Body::File { size, sha256 } => {
                let mut header = self.header(tar::EntryType::Regular, item.mode, *size, item.mtime);
                self.write_header(&mut header, &name, None)?;
                let opened = self.context.open_file(&item.from);
                let file = opened
                    .map_err(|why| io::Error::other(format!("{}: {why}", show(&item.from))))?;
                self.file = Some(Current {
                    item,
                    file,
                    left: *size,
                    padding: (BLOCK - (*size % BLOCK as u64) as usize) % BLOCK,
                    sha256: *sha256,
                    hash: Sha256::new(),
                });
                Ok(())
            }
        }
    }

    fn read_file(&mut self, mut current: Current<'a>, out: &mut [u8]) -> io::Result<usize> {
        let changed = |item: &Item| {
            let name = show(&item.from);
            io::Error::other(format!("{name} changed while it was copied"))
        };
        let want = out
            .len()
            .min(usize::try_from(current.left).unwrap_or(usize::MAX));
        let count = current.file.read(&mut out[..want])?;
        if count == 0 && current.left > 0 {
            return Err(changed(current.item));
        }
        current.hash.update(&out[..count]);
        current.left -= count as u64;
        (self.on_bytes)(count as u64)?;
        if current.left > 0 {
            self.file = Some(current);
            return Ok(count);
        }
        let found: [u8; 32] = current.hash.finalize().into();
        if found != current.sha256 {
            return Err(changed(current.item));
        }
        self.buffer = vec![0; current.padding];
        self.at = 0;
        Ok(count)
    }
}

/// An entry's header as bytes, with what goes before it where a name is long.
pub fn packed_header(
    header: &mut tar::Header,
    name: &[u8],
    link: Option<&[u8]>,
) -> io::Result<Vec<u8>> {
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

impl Read for TarStream<'_> {
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
                continue;
            }
            if self.ended {
                return Ok(0);
            }
            self.next_piece()?;
        }
        Ok(0)
    }
}
