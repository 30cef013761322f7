//! A directory of the host as a tar archive: what proot made.

use crate::build::tarred::{self, Archive, Entries};
use std::collections::BTreeMap;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A whole OpenBSD with all its sets has a tenth of it.
const MOST: usize = 1_000_000;

/// What no base set has and no tree may have, whatever made it: passwords, keys, the state of the host's random
/// numbers, what is its own to know. `/` at the end means all below, `*` what begins so.
const SECRET: [&str; 21] = [
    "etc/acme/",
    "etc/doas.conf",
    "etc/hostname.*",
    "etc/iked/private/",
    "etc/isakmpd/private/",
    "etc/mail/secrets*",
    "etc/master.passwd",
    "etc/pocker*",
    // Not secret, and of the same users as the two beside it.
    "etc/pwd.db",
    "etc/random.seed",
    "etc/skey/",
    "etc/soii.key",
    "etc/spwd.db",
    "etc/ssh/ssh_host_*",
    "etc/ssl/private/",
    "home/",
    "root/",
    "var/backups/",
    "var/cron/tabs/",
    "var/db/host.random",
    "var/mail/",
];
/// Here a file that not everybody may read is nobody's but the host's.
const PRIVATE: [&str; 4] = ["etc/", "home/", "root/", "var/"];

enum Body {
    Dir,
    File {
        size: u64,
    },
    Symlink(Vec<u8>),
    /// Another name of this path.
    Link(Vec<u8>),
}

struct Entry {
    path: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    body: Body,
}

/// What lies in a directory, directories before what is in them.
pub struct Listing {
    root: PathBuf,
    entries: Vec<Entry>,
    /// What a tree does not get: secrets, and what is neither file, directory nor symlink.
    pub left_out: Vec<PathBuf>,
}

impl Listing {
    pub fn of(root: &Path) -> io::Result<Listing> {
        let mut listing = Listing {
            root: root.to_owned(),
            entries: Vec::new(),
            left_out: Vec::new(),
        };
        let mut names = BTreeMap::new();
        let mut left = vec![PathBuf::new()];
        while let Some(dir) = left.pop() {
            let list = std::fs::read_dir(root.join(&dir))?;
            let mut list = list.collect::<io::Result<Vec<_>>>()?;
            list.sort_by_key(std::fs::DirEntry::file_name);
            for found in list {
                let path = dir.join(found.file_name());
                let meta = found.metadata()?;
                if meta.is_dir() {
                    left.push(path.clone());
                }
                listing.add(path, &meta, &mut names)?;
            }
        }
        listing.left_out.sort();
        Ok(listing)
    }

    fn add(
        &mut self,
        path: PathBuf,
        meta: &Metadata,
        names: &mut BTreeMap<(u64, u64), Vec<u8>>,
    ) -> io::Result<()> {
        if self.entries.len() >= MOST {
            return Err(io::Error::other(format!("more than {MOST} files")));
        }
        let kind = meta.file_type();
        let strange =
            kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device();
        let bytes = path.as_os_str().as_bytes();
        if strange || (!kind.is_dir() && is_secret(bytes, meta)) {
            self.left_out.push(path);
            return Ok(());
        }
        let body = if kind.is_dir() {
            Body::Dir
        } else if kind.is_symlink() {
            let target = std::fs::read_link(self.root.join(&path))?;
            Body::Symlink(target.as_os_str().as_bytes().to_vec())
        } else if meta.nlink() > 1 {
            // Other names may lie outside, where proot linked the host's own file.
            match names.get(&(meta.dev(), meta.ino())) {
                Some(first) => Body::Link(first.clone()),
                None => {
                    names.insert((meta.dev(), meta.ino()), bytes.to_vec());
                    Body::File { size: meta.size() }
                }
            }
        } else {
            Body::File { size: meta.size() }
        };
        self.entries.push(Entry {
            path: bytes.to_vec(),
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            mtime: meta.mtime(),
            body,
        });
        Ok(())
    }

    /// Whether it has a file of that name, or a link to one.
    pub fn has(&self, path: &str) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|e| e.path == path.as_bytes() && !matches!(e.body, Body::Dir))
    }

    pub fn stream(&self) -> Archive<Tree<'_>> {
        Archive::of(Tree {
            listing: self,
            left: self.entries.iter(),
            file: None,
        })
    }
}

fn is_secret(path: &[u8], meta: &Metadata) -> bool {
    let listed = SECRET.iter().any(|rule| {
        let begins = rule
            .strip_suffix('*')
            .or(rule.ends_with('/').then_some(*rule));
        match begins {
            Some(begins) => path.starts_with(begins.as_bytes()),
            None => path == rule.as_bytes(),
        }
    });
    let private = PRIVATE.iter().any(|dir| path.starts_with(dir.as_bytes()));
    listed || (private && meta.is_file() && meta.mode() & 0o004 == 0)
}

pub struct Tree<'a> {
    listing: &'a Listing,
    left: std::slice::Iter<'a, Entry>,
    /// Whose file is being read.
    file: Option<&'a Entry>,
}

fn shown(entry: &Entry) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(&entry.path))
}

fn named(entry: &Entry, why: &str) -> io::Error {
    io::Error::other(format!("/{}: {why}", shown(entry).display()))
}

impl Entries for Tree<'_> {
    fn next(&mut self) -> io::Result<Option<tarred::Entry>> {
        let Some(entry) = self.left.next() else {
            return Ok(None);
        };
        let mut header = tar::Header::new_gnu();
        let (kind, size, link) = match &entry.body {
            Body::Dir => (tar::EntryType::Directory, 0, None),
            Body::File { size } => (tar::EntryType::Regular, *size, None),
            Body::Symlink(target) => (tar::EntryType::Symlink, 0, Some(target.as_slice())),
            Body::Link(first) => (tar::EntryType::Link, 0, Some(first.as_slice())),
        };
        header.set_entry_type(kind);
        header.set_mode(entry.mode);
        header.set_size(size);
        header.set_uid(u64::from(entry.owner.0));
        header.set_gid(u64::from(entry.owner.1));
        header.set_mtime(u64::try_from(entry.mtime).unwrap_or(0));
        let made = tarred::Entry::new(&mut header, &entry.path, link)?;
        let Body::File { size } = entry.body else {
            return Ok(Some(made));
        };
        self.file = Some(entry);
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(self.listing.root.join(shown(entry)));
        let file = file.map_err(|e| named(entry, &e.to_string()))?;
        Ok(Some(made.with_file(file, size)))
    }

    fn cut(&self) -> io::Error {
        let why = "it became shorter while it was read";
        self.file
            .map_or_else(|| io::Error::other(why), |entry| named(entry, why))
    }
}
