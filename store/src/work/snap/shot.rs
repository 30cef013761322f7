//! A staged file as it was at one moment, read while it is written to.
//!
//! Whoever is about to change a block first puts aside what it was, in a file without a name. The
//! bytes of a block of the base are not in the file, so of these nothing need be put aside. A second
//! name of the file keeps it there when it is removed meanwhile. Nothing of this outlives the
//! process: the file itself is what its row says at every moment.

use crate::StoreError;
use crate::batch::Batch;
use crate::blob::{SMALL, write_sparse};
use crate::types::{Digest, Errno, Node};
use crate::work::area::{Area, failed};
use crate::work::blocks::BLOCK;
use crate::work::complete::hash_zeros;
use crate::work::staged::{Staged, parts};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

/// Read, and hashed, while who writes to the same file waits.
const STEP: u64 = 1 << 20;
/// Most blocks that one file's writers put aside: 64 GiB.
const ASIDE: usize = 1 << 20;

pub(in crate::work) struct Shot {
    /// What it was: size, times, and which blocks were the base's.
    frozen: Arc<Staged>,
    /// How often the live file had been changed.
    changes: u64,
    link: PathBuf,
    before: Mutex<Before>,
}

#[derive(Default)]
struct Before {
    file: Option<File>,
    blocks: HashSet<u64>,
    /// It could not be put aside: the snapshot fails, not the writer.
    failed: Option<Errno>,
    /// Nobody reads it any more.
    done: bool,
}

impl Shot {
    /// Bytes `from..to` are about to change: keeps what they were. The file's `io` is held.
    pub fn keep(&self, area: &Area, file: &File, from: u64, to: u64) {
        let mut before = self.before.lock();
        let size = self.frozen.state().size;
        let to = to.min(size);
        if before.done || before.failed.is_some() || from >= to {
            return;
        }
        for block in from / BLOCK..to.div_ceil(BLOCK) {
            if before.blocks.contains(&block) {
                continue;
            }
            let end = ((block + 1) * BLOCK).min(size);
            if let Err(e) = self.put_aside(&mut before, file, block * BLOCK, end) {
                before.failed = Some(failed(
                    "keep for a snapshot",
                    &area.path(self.frozen.key),
                    &e,
                ));
                return;
            }
            before.blocks.insert(block);
        }
    }

    fn put_aside(
        &self,
        before: &mut Before,
        file: &File,
        from: u64,
        to: u64,
    ) -> std::io::Result<()> {
        if before.blocks.len() >= ASIDE {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let aside = match &mut before.file {
            Some(aside) => aside,
            none => {
                let path = self.link.with_extension("before");
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(0o600);
                let aside = options.open(&path)?;
                std::fs::remove_file(&path)?;
                aside.set_len(self.frozen.state().size)?;
                none.insert(aside)
            }
        };
        let mut bytes = vec![0; (to - from) as usize];
        let got = fill(file, &mut bytes, from)?;
        write_sparse(aside, &bytes[..got], from).map(drop)
    }

    /// Of the file itself, as it was; never of its base.
    fn read(&self, live: &Staged, file: &File, at: u64, out: &mut [u8]) -> std::io::Result<()> {
        let _io = live.io.lock();
        let before = self.before.lock();
        let end = at + out.len() as u64;
        let mut from = at;
        while from < end {
            let aside = before.blocks.contains(&(from / BLOCK));
            let mut to = ((from / BLOCK + 1) * BLOCK).min(end);
            while to < end && before.blocks.contains(&(to / BLOCK)) == aside {
                to = (to + BLOCK).min(end);
            }
            let part = &mut out[(from - at) as usize..(to - at) as usize];
            let source = match &before.file {
                Some(before) if aside => before,
                _ => file,
            };
            if !aside && crate::sys::next_data(source, from) >= to {
                part.fill(0);
            } else if fill(source, part, from)? < part.len() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            from = to;
        }
        Ok(())
    }

    /// Hashes what it was, and writes it to `copy`.
    fn pass(&self, area: &Area, live: &Staged, copy: Option<&File>) -> Result<Digest, Errno> {
        let fail = |e| failed("read for a snapshot", &self.link, &e);
        let file = File::open(&self.link).map_err(fail)?;
        let parts = {
            let st = self.frozen.state();
            parts(&st, 0, st.size)
        };
        let mut hash = Sha256::new();
        let mut buffer = Vec::with_capacity(STEP as usize);
        for part in parts {
            let mut at = part.from;
            while at < part.to {
                let count = (part.to - at).min(STEP);
                buffer.clear();
                match (part.base, self.frozen.base) {
                    (true, Some(b)) => {
                        area.read_blob(&b.digest, b.size, at, count as u32, &mut buffer)?
                    }
                    _ => {
                        buffer.resize(count as usize, 0);
                        self.read(live, &file, at, &mut buffer).map_err(fail)?;
                    }
                }
                if buffer.len() as u64 != count {
                    tracing::error!(path = %self.link.display(), at, "short read for a snapshot");
                    return Err(Errno::Io);
                }
                match buffer.iter().all(|byte| *byte == 0) {
                    true => hash_zeros(&mut hash, count),
                    false => hash.update(&buffer),
                }
                if let Some(copy) = copy {
                    let wrote = write_sparse(copy, &buffer, at);
                    wrote.map_err(|e| failed("copy for a snapshot", &self.link, &e))?;
                }
                at += count;
            }
        }
        match self.before.lock().failed {
            Some(errno) => Err(errno),
            None => Ok(Digest(hash.finalize().into())),
        }
    }

    /// A file of its own with what it was.
    fn copied(&self, area: &Area, live: &Staged) -> Result<(PathBuf, Digest), Errno> {
        let path = self.link.with_extension("copy");
        let fail = |e| failed("copy for a snapshot", &path, &e);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let copy = options.open(&path).map_err(fail)?;
        copy.set_len(self.frozen.state().size).map_err(fail)?;
        let digest = self.pass(area, live, Some(&copy))?;
        Ok((path, digest))
    }
}

/// As many bytes as there are.
fn fill(file: &File, out: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut got = 0;
    while got < out.len() {
        match file.read_at(&mut out[got..], at + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

struct Taken {
    live: Arc<Staged>,
    shot: Arc<Shot>,
    /// What it was, once that is hashed.
    found: Option<(Digest, u64)>,
    copy: Option<PathBuf>,
}

impl Taken {
    /// The file itself is the snapshot's from here on, where it is what it was.
    fn share(&self) -> bool {
        self.live.share(|| {
            let same = self.live.changes() == self.shot.changes;
            self.shot.before.lock().done |= same;
            same
        })
    }

    fn copy_again(&self, area: &Area) -> Result<PathBuf, Errno> {
        let (path, again) = self.shot.copied(area, &self.live)?;
        if self.found.is_none_or(|(digest, _)| digest != again) {
            tracing::error!(path = %path.display(), "a snapshot's file changed under it");
            return Err(Errno::Io);
        }
        // Nobody reads what it was any more.
        self.shot.before.lock().done = true;
        Ok(path)
    }
}

/// The staged files of a tree as they were at one moment. Writers are free of it when this goes.
pub(in crate::work) struct Shots {
    dir: PathBuf,
    all: HashMap<Node, Taken>,
}

impl Shots {
    /// The tree is frozen until all of its files are taken.
    pub fn of(area: &Area, tree: u64) -> Result<Shots, Errno> {
        let dir = area.shots(tree);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).map_err(|e| failed("make", &dir, &e))?;
        let all = HashMap::new();
        Ok(Shots { dir, all })
    }

    /// The file as it is now.
    pub fn take(&mut self, area: &Area, live: &Arc<Staged>) -> Result<Arc<Staged>, Errno> {
        let (key, frozen) = (live.key, Arc::new(live.frozen()));
        let link = self.dir.join(key.1.to_string());
        std::fs::hard_link(area.path(key), &link).map_err(|e| failed("link", &link, &e))?;
        let shot = Arc::new(Shot {
            frozen: Arc::clone(&frozen),
            changes: live.changes(),
            link,
            before: Mutex::default(),
        });
        live.watch(Some(Arc::clone(&shot)));
        let taken = Taken {
            live: Arc::clone(live),
            shot,
            found: None,
            copy: None,
        };
        self.all.insert(key.1, taken);
        Ok(frozen)
    }

    /// What is in the file; where that is no more than a small blob, its bytes are put.
    pub fn store(
        &mut self,
        area: &Area,
        batch: &mut Batch,
        node: Node,
    ) -> Result<(Digest, u64), Errno> {
        let taken = self.all.get_mut(&node).ok_or(Errno::Io)?;
        let (shot, live) = (&taken.shot, &taken.live);
        let size = shot.frozen.state().size;
        let digest = if size <= SMALL {
            let (path, _) = shot.copied(area, live)?;
            let bytes = std::fs::read(&path).map_err(|e| failed("read", &path, &e))?;
            batch.put_small_blob(bytes).map_err(StoreError::log)?
        } else if shot.frozen.base.is_some() {
            let (path, digest) = shot.copied(area, live)?;
            taken.copy = Some(path);
            shot.before.lock().done = true;
            digest
        } else {
            shot.pass(area, live, None)?
        };
        taken.found = Some((digest, size));
        Ok((digest, size))
    }

    /// Gives the batch the files themselves, right before it is committed. One that was not changed
    /// is the blob from then on, and who writes to it gets a copy: so these come last, when the
    /// others are copied.
    pub fn close(&mut self, area: &Area, batch: &mut Batch) -> Result<(), Errno> {
        let large = |taken: &&mut Taken| taken.found.is_some_and(|(_, size)| size > SMALL);
        for taken in self.all.values_mut().filter(large) {
            if taken.copy.is_none() && taken.live.changes() != taken.shot.changes {
                taken.copy = Some(taken.copy_again(area)?);
            }
        }
        for taken in self.all.values_mut().filter(large) {
            let (digest, size) = taken.found.ok_or(Errno::Io)?;
            let path = match taken.copy.take() {
                Some(path) => path,
                None if taken.share() => taken.shot.link.clone(),
                None => taken.copy_again(area)?,
            };
            batch
                .put_large(path, digest, size)
                .map_err(StoreError::log)?;
        }
        Ok(())
    }

    /// Files that are what they were: the file, its count of changes, its digest and size.
    pub fn unchanged(&self) -> Vec<(Arc<Staged>, u64, Digest, u64)> {
        let same = |taken: &Taken| {
            let (digest, size) = taken.found?;
            let changes = taken.live.changes();
            (changes == taken.shot.changes)
                .then(|| (Arc::clone(&taken.live), changes, digest, size))
        };
        self.all.values().filter_map(same).collect()
    }
}

impl Drop for Shots {
    fn drop(&mut self) {
        for taken in self.all.values() {
            taken.live.watch(None);
        }
        if let Err(e) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(path = %self.dir.display(), error = %e, "remove what a snapshot needed");
        }
    }
}
