//! A snapshot from a stream of entries in archive order.
//!
//! Nothing of an archive touches the host's file system by name: paths are walked in a tree in memory,
//! and content goes to blobs. Later entries replace earlier ones.

mod arena;
mod error;
mod finish;
mod path;

pub use error::{DEPTH_MAX, IngestError, IngestLimits};

use crate::batch::Batch;
use crate::blob::SMALL;
use crate::error::StoreError;
use crate::object::{Body, Meta, limits};
use crate::sealed::SealedTree;
use crate::store::Store;
use crate::types::{Digest, Rdev, Time};
use arena::{Arena, What};
use std::io::{self, Read};
use std::sync::Arc;

/// A node that is neither file, directory nor symlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Fifo,
    Socket,
    Char(Rdev),
    Block(Rdev),
}

/// What an ingest made.
pub struct IngestDone {
    pub snapshot: Digest,
    pub ordinal: u32,
    /// The root included.
    pub nodes: u64,
    /// Of regular files, by name.
    pub bytes: u64,
    /// Open: garbage collection leaves the snapshot alone as long as this is held.
    pub tree: Arc<SealedTree>,
}

/// Builds one snapshot. Dropped unfinished, it leaves nothing that anything refers to.
pub struct Ingest {
    batch: Batch,
    arena: Arena,
    limits: IngestLimits,
    entries: u64,
    bytes: u64,
}

impl Store {
    /// Starts an ingest with the usual limits.
    pub fn ingest(self: &Arc<Store>) -> Ingest {
        self.ingest_within(IngestLimits::default())
    }

    pub fn ingest_within(self: &Arc<Store>, limits: IngestLimits) -> Ingest {
        let root = Meta {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        let arena = Arena::new(root);
        Ingest {
            batch: self.write_batch(),
            arena,
            limits,
            entries: 0,
            bytes: 0,
        }
    }
}

impl Ingest {
    /// A directory; one that is there keeps its entries. "" and "." are the root.
    pub fn dir(&mut self, path: &[u8], meta: Meta) -> Result<(), IngestError> {
        let meta = self.admit(path, meta)?;
        self.arena.dir(path, meta, &mut self.entries, &self.limits)
    }

    /// A regular file of exactly `size` bytes from `reader`.
    pub fn file(
        &mut self,
        path: &[u8],
        meta: Meta,
        size: u64,
        reader: &mut dyn Read,
    ) -> Result<(), IngestError> {
        let meta = self.admit(path, meta)?;
        let place = self.arena.place(path, &mut self.entries, &self.limits)?;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(error::limit(path, "bytes in all", self.limits.bytes));
        }
        let blob = self.content(path, size, reader)?;
        self.arena
            .set(place, meta, What::Leaf(Body::File { blob, size }));
        Ok(())
    }

    fn content(
        &mut self,
        path: &[u8],
        size: u64,
        reader: &mut dyn Read,
    ) -> Result<Digest, IngestError> {
        let mut reader = Read::take(reader, size);
        let short = |got| IngestError::Short {
            path: path.to_vec(),
            size,
            got,
        };
        let input = |source: io::Error| IngestError::Input {
            path: path.to_vec(),
            source,
        };
        if size > SMALL {
            let staged = self.batch.store().blobs().stage(&mut reader, size);
            let staged = staged.map_err(|e| match e {
                StoreError::Input(source) => input(source),
                e => e.into(),
            })?;
            if staged.size != size {
                return Err(short(staged.size));
            }
            return Ok(self.batch.put_staged(staged)?);
        }
        let mut bytes = Vec::with_capacity(size as usize);
        reader.read_to_end(&mut bytes).map_err(input)?;
        if bytes.len() as u64 != size {
            return Err(short(bytes.len() as u64));
        }
        Ok(self.batch.put_small_blob(bytes)?)
    }

    pub fn symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), IngestError> {
        if target.is_empty() || target.contains(&0) {
            return Err(error::bad(path, "symlink target is empty or holds NUL"));
        }
        if target.len() > limits::SYMLINK {
            return Err(error::limit(
                path,
                "bytes of symlink target",
                limits::SYMLINK as u64,
            ));
        }
        self.leaf(path, meta, Body::Symlink(target.to_vec()))
    }

    pub fn special(&mut self, path: &[u8], meta: Meta, what: Special) -> Result<(), IngestError> {
        let body = match what {
            Special::Fifo => Body::Fifo,
            Special::Socket => Body::Socket,
            Special::Char(rdev) => Body::Char(rdev),
            Special::Block(rdev) => Body::Block(rdev),
        };
        self.leaf(path, meta, body)
    }

    fn leaf(&mut self, path: &[u8], meta: Meta, body: Body) -> Result<(), IngestError> {
        let meta = self.admit(path, meta)?;
        let place = self.arena.place(path, &mut self.entries, &self.limits)?;
        self.arena.set(place, meta, What::Leaf(body));
        Ok(())
    }

    /// Another name of `target`, which must be there and not be a directory.
    pub fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), IngestError> {
        self.arena
            .link(path, target, &mut self.entries, &self.limits)
    }

    /// New attributes for what is at `path`, under all its names.
    pub fn set_meta(&mut self, path: &[u8], meta: Meta) -> Result<(), IngestError> {
        let meta = self.admit(path, meta)?;
        self.arena.set_meta(path, meta, &self.limits)
    }

    /// What comes now is a layer that lies on all that came before.
    pub fn next_layer(&mut self) {
        self.arena.next_layer();
    }

    /// Takes away what lower layers have at `path`, if they have anything there.
    pub fn hide(&mut self, path: &[u8]) -> Result<(), IngestError> {
        self.arena.hide(path, &mut self.entries, &self.limits)
    }

    /// Takes away what lower layers have below the directory at `path`.
    pub fn hide_below(&mut self, path: &[u8]) -> Result<(), IngestError> {
        self.arena.hide_below(path, &mut self.entries, &self.limits)
    }

    /// Checks the attributes, and sorts the xattrs.
    fn admit(&self, path: &[u8], mut meta: Meta) -> Result<Meta, IngestError> {
        if meta.mode > 0o7777 || meta.mtime.nanos >= 1_000_000_000 {
            return Err(error::bad(path, "mode or nanoseconds out of range"));
        }
        let mut total = 0;
        for (name, value) in &meta.xattrs {
            if name.is_empty() || name.len() > limits::XATTR_NAME || name.contains(&0) {
                return Err(error::bad(
                    path,
                    "an xattr's name is empty, too long or holds NUL",
                ));
            }
            if value.len() > limits::XATTR_VALUE {
                return Err(error::limit(
                    path,
                    "bytes of one xattr",
                    limits::XATTR_VALUE as u64,
                ));
            }
            // The name's and the value's length take five bytes.
            total += name.len() + value.len() + 5;
        }
        if meta.xattrs.len() > limits::XATTRS || total > limits::XATTRS_BYTES {
            return Err(error::limit(
                path,
                "bytes of xattrs",
                limits::XATTRS_BYTES as u64,
            ));
        }
        meta.xattrs.sort();
        if meta.xattrs.windows(2).any(|w| w[0].0 == w[1].0) {
            return Err(error::bad(path, "an xattr is there twice"));
        }
        Ok(meta)
    }

    /// Writes the directories and the snapshot, and makes all of it durable. `clamp_mtime`: no
    /// mtime is later than this second.
    pub fn finish(mut self, clamp_mtime: Option<i64>) -> Result<IngestDone, IngestError> {
        let data = finish::write(&mut self.batch, self.arena, clamp_mtime)?;
        let snapshot = self.batch.put_snapshot(&data)?;
        let done = self.batch.commit()?;
        let missing = StoreError::Missing {
            kind: "snapshot",
            digest: snapshot,
        };
        let tree = done.trees.into_iter().next().ok_or(missing)?;
        Ok(IngestDone {
            snapshot,
            ordinal: tree.ordinal(),
            nodes: 1 + data.counts.nodes,
            bytes: data.counts.bytes,
            tree,
        })
    }
}
