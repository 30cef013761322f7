//! A manifest as a tar archive. Contents are hashed again on the way: a file that changed since its digest went
//! into the key is an error, never a wrong step.

use super::context::{Context, show};
use super::{Body, Item, Manifest, Owner};
use crate::build::tarred::{Archive, Entries, Entry};
use sha2::{Digest, Sha256};
use std::io;

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

/// `on_bytes` gets each count of content bytes sent; its error ends the archive.
pub fn stream<'a>(
    context: &'a Context,
    manifest: &'a Manifest,
    placement: &'a Placement,
    owner: Owner,
    on_bytes: &'a mut dyn FnMut(u64) -> io::Result<()>,
) -> Archive<Copied<'a>> {
    Archive::of(Copied {
        context,
        make: placement.make.as_ref(),
        items: manifest.items.iter(),
        placement,
        owner,
        file: None,
        on_bytes,
    })
}

pub struct Copied<'a> {
    context: &'a Context,
    /// Until it is sent.
    make: Option<&'a (String, u32)>,
    items: std::slice::Iter<'a, Item>,
    placement: &'a Placement,
    owner: Owner,
    file: Option<Checked<'a>>,
    on_bytes: &'a mut dyn FnMut(u64) -> io::Result<()>,
}

/// A file that is being read.
struct Checked<'a> {
    item: &'a Item,
    sha256: [u8; 32],
    hash: Sha256,
}

impl Checked<'_> {
    fn changed(&self) -> io::Error {
        let name = show(&self.item.from);
        io::Error::other(format!("{name} changed while it was copied"))
    }
}

impl Copied<'_> {
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
}

impl Entries for Copied<'_> {
    fn next(&mut self) -> io::Result<Option<Entry>> {
        use tar::EntryType::{Directory, Regular, Symlink};
        if let Some((name, mode)) = self.make.take() {
            let mut header = self.header(Directory, *mode, 0, 0);
            return Entry::new(&mut header, name.as_bytes(), None).map(Some);
        }
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let (kind, size, link) = match &item.body {
            Body::Dir => (Directory, 0, None),
            Body::Symlink(target) => (Symlink, 0, Some(target.as_slice())),
            Body::File { size, .. } => (Regular, *size, None),
        };
        let mut header = self.header(kind, item.mode, size, item.mtime);
        let entry = Entry::new(&mut header, &self.name(item), link)?;
        let Body::File { size, sha256 } = item.body else {
            return Ok(Some(entry));
        };
        let opened = self.context.open_file(&item.from);
        let file =
            opened.map_err(|why| io::Error::other(format!("{}: {why}", show(&item.from))))?;
        self.file = Some(Checked {
            item,
            sha256,
            hash: Sha256::new(),
        });
        Ok(Some(entry.with_file(file, size)))
    }

    fn passed(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.hash.update(bytes);
        }
        (self.on_bytes)(bytes.len() as u64)
    }

    fn whole(&mut self) -> io::Result<()> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let found: [u8; 32] = file.hash.finalize_reset().into();
        match found == file.sha256 {
            true => Ok(()),
            false => Err(file.changed()),
        }
    }

    fn cut(&self) -> io::Error {
        match &self.file {
            Some(file) => file.changed(),
            None => io::ErrorKind::UnexpectedEof.into(),
        }
    }
}
