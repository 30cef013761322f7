//! Large blobs that nobody has used for long, as zstd frames in `packed/`.
//!
//! The first who opens one gets it back: it is unpacked to the place that it had, checked against
//! its digest on the way, and read from there as any other. A blob is in one place or in both,
//! whole and on disk in each, whatever moment a process or machine ends at: it is taken from one when
//! it is durable in the other.

use super::{BlobStore, stage};
use crate::error::StoreError;
use crate::types::Digest;
use parking_lot::{Condvar, Mutex};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The level of zstd's from which on it saves little more and takes much longer.
const LEVEL: i32 = 9;
/// Packed only where at least one byte in this many is saved.
const SAVES: u64 = 8;
/// Looked at before all of a blob is packed, to see whether it is worth it.
const SAMPLE: u64 = 256 << 10;
/// st_blocks counts these.
const STAT_BLOCK: u64 = 512;

/// `packed/` of one store.
pub(crate) struct Packs {
    dir: PathBuf,
    /// What is there, and what each takes on disk.
    known: HashMap<Digest, u64>,
}

impl Packs {
    pub fn open(root: &Path) -> Result<Packs, StoreError> {
        let mut packs = Packs {
            dir: root.join("packed"),
            known: HashMap::new(),
        };
        let list = |dir: &Path| match fs::read_dir(dir) {
            Ok(entries) => Some(Ok(entries)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => Some(Err(StoreError::io("list", dir, e))),
        };
        for first in 0..=u8::MAX {
            let dir = packs.dir.join(hex::encode([first]));
            let Some(entries) = list(&dir).transpose()? else {
                if first == 0 && !packs.dir.exists() {
                    break;
                }
                continue;
            };
            for entry in entries {
                let entry = entry.map_err(|e| StoreError::io("list", &dir, e))?;
                let name = entry.file_name();
                if let Some(digest) = name.to_str().and_then(|n| n.parse::<Digest>().ok()) {
                    let meta = entry.metadata();
                    let meta = meta.map_err(|e| StoreError::io("stat", &entry.path(), e))?;
                    packs.known.insert(digest, meta.blocks() * STAT_BLOCK);
                }
            }
        }
        Ok(packs)
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.dir.join(&hex[..2]).join(&hex)
    }
}

/// Blobs that are packed or unpacked now, each by one thread.
#[derive(Default)]
pub(super) struct Packing {
    busy: Mutex<HashSet<Digest>>,
    done: Condvar,
}

pub(super) struct Taken<'a>(&'a Packing, Digest);

impl Packing {
    /// Waits while another has it.
    pub fn take(&self, digest: &Digest) -> Taken<'_> {
        let mut busy = self.busy.lock();
        while !busy.insert(*digest) {
            self.done.wait(&mut busy);
        }
        Taken(self, *digest)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().remove(&self.1);
        self.0.done.notify_all();
    }
}

/// What packing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackReport {
    pub blobs: u64,
    /// Bytes that they took on disk before, and take now.
    pub before: u64,
    pub after: u64,
}

impl BlobStore {
    /// All packed blobs, and what they take on disk.
    pub(crate) fn packed(&self) -> Vec<(Digest, u64)> {
        let packs = self.packs.lock();
        packs.known.iter().map(|(d, bytes)| (*d, *bytes)).collect()
    }

    pub(crate) fn packed_size(&self, digest: &Digest) -> Option<u64> {
        self.packs.lock().known.get(digest).copied()
    }

    pub(crate) fn packed_path(&self, digest: &Digest) -> Option<PathBuf> {
        let packs = self.packs.lock();
        packs.known.contains_key(digest).then(|| packs.path(digest))
    }

    /// The bytes of a packed blob, unpacked as they are read; none where it is not packed.
    pub(crate) fn unpacked(
        &self,
        digest: &Digest,
    ) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let path = {
            let packs = self.packs.lock();
            match packs.known.contains_key(digest) {
                true => packs.path(digest),
                false => return Ok(None),
            }
        };
        let fail = |e| StoreError::io("open packed blob", &path, e);
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(fail(e)),
            Ok(file) => {
                let reader = zstd::stream::read::Decoder::new(file).map_err(fail)?;
                Ok(Some(Box::new(reader)))
            }
        }
    }

    /// Gives a packed blob its place back; false where it is not packed.
    pub(crate) fn unpack(&self, digest: &Digest) -> Result<bool, StoreError> {
        // What is not packed waits for no other.
        if !self.packs.lock().known.contains_key(digest) {
            return Ok(self.area.path(digest).exists());
        }
        // Once, and never while it is packed.
        let _one = self.packing.take(digest);
        if self.area.path(digest).exists() {
            return Ok(true);
        }
        let Some(mut bytes) = self.unpacked(digest)? else {
            return Ok(false);
        };
        let staged = match stage::stage(&self.area, &mut bytes, u64::MAX) {
            Ok(staged) if staged.digest == *digest => staged,
            Ok(staged) => {
                return Err(StoreError::Rotted {
                    digest: *digest,
                    found: staged.digest,
                });
            }
            // What is no frame any more.
            Err(StoreError::Input(e)) => {
                let path = self.packs.lock().path(digest);
                return Err(StoreError::io("unpack", &path, e));
            }
            Err(e) => return Err(e),
        };
        self.area.adopt(&[(staged.path.clone(), *digest)])?;
        self.forget_packed(digest)?;
        Ok(true)
    }

    /// Removes a blob's packed file, where there is one.
    pub(crate) fn forget_packed(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut packs = self.packs.lock();
        if packs.known.remove(digest).is_none() {
            return Ok(());
        }
        let path = packs.path(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove packed blob", &path, e))
            }
            _ => Ok(()),
        }
    }

    /// Packs a blob whose file is in its place, where that saves enough. `still` says, at the
    /// last moment, whether its file may go.
    pub(crate) fn pack(
        &self,
        digest: &Digest,
        still: impl FnOnce() -> bool,
        report: &mut PackReport,
    ) -> Result<(), StoreError> {
        let _one = self.packing.take(digest);
        let path = self.area.path(digest);
        let fail = |e| StoreError::io("pack", &path, e);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(fail(e)),
        };
        let meta = file.metadata().map_err(fail)?;
        let before = meta.blocks() * STAT_BLOCK;
        // A backup or a work tree has the file too: nothing would be saved.
        if meta.nlink() > 1 || !is_worth_it(&file, meta.len()).map_err(fail)? {
            return Ok(());
        }
        let new = self.area.fresh();
        let made = self.frame(&file, &new);
        let made = made.and_then(|()| holds(&new, digest));
        let made = made.and_then(|whole| Ok((whole, fs::metadata(&new)?)));
        let after = match made {
            // It rotted, or was read wrongly: a check names it as long as its file is there.
            Ok((false, _)) => {
                let _ = fs::remove_file(&new);
                return Ok(());
            }
            Ok((true, meta)) => meta.blocks() * STAT_BLOCK,
            Err(e) => {
                let _ = fs::remove_file(&new);
                return Err(StoreError::io("write", &new, e));
            }
        };
        if after > before - before / SAVES {
            let _ = fs::remove_file(&new);
            return Ok(());
        }
        self.adopt_packed(&new, digest, after)?;
        // Whoever has it open reads on.
        if still() {
            self.forget_open(digest);
            fs::remove_file(&path).map_err(|e| StoreError::io("remove blob", &path, e))?;
            report.blobs += 1;
            report.before += before;
            report.after += after;
        } else {
            self.forget_packed(digest)?;
        }
        Ok(())
    }

    fn frame(&self, file: &File, to: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let out = options.write(true).create_new(true).mode(0o600).open(to)?;
        zstd::stream::copy_encode(file, &out, LEVEL)?;
        out.sync_all()
    }

    fn adopt_packed(&self, new: &Path, digest: &Digest, bytes: u64) -> Result<(), StoreError> {
        let mut packs = self.packs.lock();
        let place = packs.path(digest);
        let dir = place.parent().unwrap_or(&packs.dir).to_path_buf();
        let fail = |e| StoreError::io("keep packed blob", &place, e);
        let sync = |path: &Path| File::open(path).and_then(|dir| dir.sync_all());
        if !dir.exists() {
            let mut make = DirBuilder::new();
            make.recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(fail)?;
            sync(&packs.dir).map_err(fail)?;
            sync(packs.dir.parent().unwrap_or(&packs.dir)).map_err(fail)?;
        }
        fs::rename(new, &place)
            .and_then(|()| sync(&dir))
            .map_err(fail)?;
        packs.known.insert(*digest, bytes);
        Ok(())
    }
}

/// Whether what a frame unpacks to is the blob.
fn holds(frame: &Path, digest: &Digest) -> io::Result<bool> {
    let mut bytes = zstd::stream::read::Decoder::new(File::open(frame)?)?;
    let mut sum = Sha256::new();
    let mut part = vec![0; 1 << 16];
    loop {
        match bytes.read(&mut part)? {
            0 => return Ok(sum.finalize()[..] == digest.0[..]),
            got => sum.update(&part[..got]),
        }
    }
}

/// A part of its middle is packed to see.
fn is_worth_it(file: &File, size: u64) -> io::Result<bool> {
    let len = size.min(SAMPLE) as usize;
    let mut sample = vec![0; len];
    file.read_exact_at(&mut sample, (size - len as u64) / 2)?;
    let packed = zstd::bulk::compress(&sample, 1)?.len() as u64;
    Ok(packed <= len as u64 - len as u64 / SAVES)
}
