//! A large file of a work tree: one file under `staging/`, whose fstat alone
//! gives size and mtime, perhaps over a base blob whose blocks are copied as writes touch
//! them. Never a whole copy inside one call.
//!
//! Order, so that a kill loses nothing acknowledged: the rest of a block that a write
//! covers in part comes from the base first, then the data, then the row that says the
//! block is here. A block without a row is read from the base.
//!
//! A volume's file is made durable by [`Staged::sync`], and so that a crash of the machine
//! takes nothing that was stable, it is synced before a row is written that makes it stand in
//! place of something stable: of bytes that were in a row, or of a block of the base. Its times
//! are its row's, which every write renews.

use super::area::{Area, Key, failed};
use super::blocks::{BLOCK, Blocks};
use super::clock::bump;
use super::lasting::{Changing, Lasting};
use super::snap::shot::Shot;
use crate::failpoint;
use crate::patience::may_block;
use crate::types::{Digest, Errno, Time};
use parking_lot::{Mutex, MutexGuard};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Largest file: what every common file system takes, and far below where offsets overflow.
pub const MAX_FILE: u64 = 1 << 43;
/// Most that a write puts into the page cache where nothing may block.
const QUICK: usize = 32 << 10;
/// st_blocks counts these (POSIX leaves the unit open; all our systems agree).
const STAT_BLOCK: u64 = 512;

/// The blob below a staged file.
#[derive(Clone, Copy)]
pub(super) struct Base {
    pub digest: Digest,
    pub size: u64,
}

/// What WRITE moves.
#[derive(Clone)]
pub(super) struct State {
    pub size: u64,
    pub used: u64,
    /// Bytes on disk, when they were last asked for: what a quota counts.
    pub disk: u64,
    pub mtime: Time,
    pub ctime: Time,
    /// Bytes of the base still seen; a truncation lowers it for good.
    pub limit: u64,
    pub present: Blocks,
}

pub(super) struct Staged {
    pub key: Key,
    pub base: Option<Base>,
    /// Held over a change of the file's bytes. Taken before the tree's lock.
    pub io: Mutex<()>,
    /// Taken last, held for no call.
    state: Mutex<State>,
    /// Of a volume's file.
    lasting: Option<Box<Lasting>>,
    /// The snapshot that is being made of it, which wants to know what changes.
    shot: Mutex<Option<Arc<Shot>>>,
    /// A snapshot may have the file itself: whoever changes it needs a copy. Changes under `io`.
    shared: AtomicBool,
}

/// What a write did, to be put into [`State`] under the tree's lock.
pub(super) struct Wrote {
    size: u64,
    disk: u64,
    /// Blocks the file now holds itself.
    blocks: (u64, u64),
}

impl Staged {
    /// A new staged file that holds `bytes`.
    pub fn with_bytes(
        area: &Area,
        key: Key,
        bytes: &[u8],
        mtime: Time,
        ctime: Time,
    ) -> Result<Staged, Errno> {
        let file = area.create(key)?;
        failpoint::hit("staged.fill.before")
            .and_then(|()| file.write_all_at(bytes, 0))
            .map_err(|e| failed("write staged file", &area.path(key), &e))?;
        failpoint::pass("staged.fill.after");
        let staged = Staged::begin(area, key, &file, None, bytes.len() as u64, mtime, ctime)?;
        if !bytes.is_empty() {
            staged.sync(area)?;
        }
        Ok(staged)
    }

    /// A new staged file over `base`: with `share`, its blocks shared where the file system can.
    /// Shared blocks look like the file's own, which is not what a quota counts.
    pub fn over_blob(
        area: &Area,
        key: Key,
        base: Base,
        mtime: Time,
        ctime: Time,
        share: bool,
    ) -> Result<Staged, Errno> {
        // Where reads are checked, nothing is put on top of what rotted.
        area.check_blob(&base.digest)?;
        let file = area.create(key)?;
        let base_left = if share && area.reflink(&base.digest, &file)? {
            None
        } else {
            failpoint::hit("staged.size.before")
                .and_then(|()| file.set_len(base.size))
                .map_err(|e| failed("size staged file", &area.path(key), &e))?;
            failpoint::pass("staged.size.after");
            Some(base)
        };
        let staged = Staged::begin(area, key, &file, base_left, base.size, mtime, ctime)?;
        staged.sync(area)?;
        Ok(staged)
    }

    pub fn is_disk(&self) -> bool {
        self.lasting.is_some()
    }

    /// What was written is on disk when this returns, where it is to survive the machine.
    /// Those who wait for the same file share the sync.
    pub fn sync(&self, area: &Area) -> Result<(), Errno> {
        let Some(lasting) = &self.lasting else {
            return Ok(());
        };
        lasting.sync(|name| area.sync(self.key, &*area.file(self.key)?, name))
    }

    /// How often the bytes of a volume's file were changed since it was opened.
    pub fn changes(&self) -> u64 {
        self.lasting.as_ref().map_or(0, |lasting| lasting.changes())
    }

    /// `io` held, while bytes change.
    fn changing(&self) -> Changing<'_> {
        Changing::of(self.lasting.as_deref())
    }

    fn begin(
        area: &Area,
        key: Key,
        file: &File,
        base: Option<Base>,
        size: u64,
        mtime: Time,
        ctime: Time,
    ) -> Result<Staged, Errno> {
        set_mtime(area, key, file, mtime)?;
        let limit = base.map_or(0, |b| b.size);
        let staged = Staged {
            key,
            base,
            io: Mutex::new(()),
            state: Mutex::new(State {
                size,
                used: 0,
                disk: 0,
                mtime,
                ctime,
                limit,
                present: Blocks::new(limit),
            }),
            lasting: Lasting::of(area),
            shot: Mutex::default(),
            shared: AtomicBool::new(false),
        };
        let (_, disk) = staged.stat(area, file)?;
        let mut st = staged.state();
        st.disk = disk;
        st.used = disk + st.present.absent_bytes(limit);
        drop(st);
        Ok(staged)
    }

    /// As its row and its file say, after a restart. `row_times` are the node's.
    pub fn reopen(
        area: &Area,
        key: Key,
        base: Option<(Base, u64)>,
        row_times: (Time, Time),
        chunks: &[(usize, Vec<u8>)],
    ) -> Result<Staged, Errno> {
        let file = area.file(key)?;
        let path = area.path(key);
        let meta = file
            .metadata()
            .map_err(|e| failed("stat staged file", &path, &e))?;
        let found = Time {
            secs: meta.mtime(),
            nanos: meta.mtime_nsec() as u32,
        };
        let (mut mtime, mut ctime) = row_times;
        if found != mtime {
            // Written to since the row was: WRITE sets both times to the file's.
            mtime = found;
            ctime = bump(found, ctime);
        }
        Staged::found(area, key, base, &meta, (mtime, ctime), chunks)
    }

    /// As its row and its file say, after any crash. What the file has beyond the row's `size`
    /// goes, before anything can come to stand behind it.
    pub fn reopen_lasting(
        area: &Area,
        key: Key,
        base: Option<(Base, u64)>,
        size: u64,
        times: (Time, Time),
        chunks: &[(usize, Vec<u8>)],
    ) -> Result<Staged, Errno> {
        let file = area.file(key)?;
        let path = area.path(key);
        let stat = || file.metadata();
        let fail = |e| failed("stat staged file", &path, &e);
        let mut meta = stat().map_err(fail)?;
        if meta.len() > size {
            failpoint::hit("staged.cut.before")
                .and_then(|()| file.set_len(size))
                .map_err(|e| failed("truncate staged file", &path, &e))?;
            failpoint::pass("staged.cut.after");
            area.sync(key, &file, false)?;
            meta = stat().map_err(fail)?;
        }
        Staged::found(area, key, base, &meta, times, chunks)
    }

    fn found(
        area: &Area,
        key: Key,
        base: Option<(Base, u64)>,
        meta: &std::fs::Metadata,
        (mtime, ctime): (Time, Time),
        chunks: &[(usize, Vec<u8>)],
    ) -> Result<Staged, Errno> {
        // A kill between ftruncate and its row leaves the row's limit too high.
        let limit = base.map_or(0, |(_, limit)| limit.min(meta.len()));
        let mut present = Blocks::new(base.map_or(0, |(b, _)| b.size));
        for (chunk, bytes) in chunks {
            present.load_chunk(*chunk, bytes)?;
        }
        Ok(Staged {
            key,
            base: base.map(|(b, _)| b),
            io: Mutex::new(()),
            state: Mutex::new(State {
                size: meta.len(),
                used: meta.blocks() * STAT_BLOCK + present.absent_bytes(limit),
                disk: meta.blocks() * STAT_BLOCK,
                mtime,
                ctime,
                limit,
                present,
            }),
            lasting: Lasting::of(area),
            shot: Mutex::default(),
            shared: AtomicBool::new(false),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What is known of it, as a value that no write changes.
    pub fn frozen(&self) -> Staged {
        Staged {
            key: self.key,
            base: self.base,
            io: Mutex::new(()),
            state: Mutex::new(self.state().clone()),
            lasting: None,
            shot: Mutex::default(),
            shared: AtomicBool::new(false),
        }
    }

    pub fn watch(&self, shot: Option<Arc<Shot>>) {
        *self.shot.lock() = shot;
    }

    /// While nobody writes asks whether the file may be a snapshot's from here on.
    pub fn share(&self, may: impl FnOnce() -> bool) -> bool {
        let _io = self.io.lock();
        let may = may();
        if may {
            self.shared.store(true, Ordering::Release);
        }
        may
    }

    /// `io` held, before bytes `from..to` change: the file to change.
    fn to_change(&self, area: &Area, from: u64, to: u64) -> Result<Arc<File>, Errno> {
        let shot = self.shot.lock().clone();
        let shared = self.shared.load(Ordering::Acquire);
        if shared || shot.is_some() {
            may_block()?;
        }
        let file = area.file(self.key)?;
        if let Some(shot) = shot {
            shot.keep(area, &file, from, to);
        }
        if !shared {
            return Ok(file);
        }
        super::load::unshare(area, self.key)?;
        let file = area.file(self.key)?;
        if let Some(lasting) = &self.lasting {
            lasting.renamed();
        }
        self.shared.store(false, Ordering::Release);
        Ok(file)
    }

    /// Appends what is at `offset`, at most `count` bytes; true at the end of the file.
    pub fn read(
        &self,
        area: &Area,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<bool, Errno> {
        let (end, eof, parts) = {
            let st = self.state();
            let end = st.size.min(offset.saturating_add(u64::from(count)));
            (
                end,
                end == st.size || offset >= st.size,
                parts(&st, offset, end),
            )
        };
        if offset >= end {
            return Ok(eof);
        }
        let file = area.file(self.key)?;
        for part in parts {
            let want = part.to - part.from;
            let start = out.len();
            match (part.base, self.base) {
                (true, Some(b)) => {
                    area.read_blob(&b.digest, b.size, part.from, want as u32, out)?
                }
                _ => self.read_file(area, &file, part.from, want as usize, out)?,
            }
            if ((out.len() - start) as u64) < want {
                // Truncated by another caller in between.
                return Ok(true);
            }
        }
        Ok(eof)
    }

    pub(super) fn read_file(
        &self,
        area: &Area,
        file: &File,
        at: u64,
        want: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        if crate::sys::read_cached(file, out, at, want) {
            return Ok(());
        }
        may_block()?;
        let start = out.len();
        out.resize(start + want, 0);
        let mut got = 0;
        while got < want {
            match file.read_at(&mut out[start + got..], at + got as u64) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    out.truncate(start);
                    return Err(failed("read staged file", &area.path(self.key), &e));
                }
            }
        }
        out.truncate(start + got);
        Ok(())
    }

    /// The bytes of a write, `io` held. [`Staged::wrote`] makes them seen.
    pub fn write(
        &self,
        area: &Area,
        offset: u64,
        data: &[u8],
        mtime: Time,
    ) -> Result<Wrote, Errno> {
        // Large writes, and those that read their surroundings first, may take their time.
        if data.len() > QUICK || self.base.is_some() {
            may_block()?;
        }
        let end = offset + data.len() as u64;
        let file = self.to_change(area, offset, end)?;
        let wrote = self.put(area, &file, offset, data, mtime);
        // Of other trees nobody makes snapshots.
        if wrote.is_err() && self.is_disk() {
            self.cut_back(area, &file);
        }
        wrote
    }

    fn put(
        &self,
        area: &Area,
        file: &File,
        offset: u64,
        data: &[u8],
        mtime: Time,
    ) -> Result<Wrote, Errno> {
        let end = offset + data.len() as u64;
        let (first, last) = (offset / BLOCK, end.div_ceil(BLOCK));
        let changing = self.changing();
        self.copy_edge(area, file, first, offset, end)?;
        if last - 1 != first {
            self.copy_edge(area, file, last - 1, offset, end)?;
        }
        failpoint::hit("staged.write.before")
            .and_then(|()| area.write_all(file, data, offset))
            .map_err(|e| failed("write staged file", &area.path(self.key), &e))?;
        failpoint::pass("staged.write.after");
        set_mtime(area, self.key, file, mtime)?;
        failpoint::pass("staged.write.timed");
        drop(changing);
        if self.base.is_some() && self.is_disk() && self.takes_blocks(first, last) {
            self.sync(area)?;
        }
        let (size, disk) = self.stat(area, file)?;
        Ok(Wrote {
            size,
            disk,
            blocks: (first, last),
        })
    }

    /// What a write that failed put behind the end goes: a later one must not make it seen.
    fn cut_back(&self, area: &Area, file: &File) {
        let size = self.state().size;
        if self.stat(area, file).is_ok_and(|(len, _)| len > size) {
            let _changing = self.changing();
            if let Err(e) = file.set_len(size) {
                failed("cut staged file back", &area.path(self.key), &e);
            }
        }
    }

    /// Fills what `block` has of the base outside `from..to`, which is about to be written.
    fn copy_edge(
        &self,
        area: &Area,
        file: &File,
        block: u64,
        from: u64,
        to: u64,
    ) -> Result<(), Errno> {
        let Some(base) = self.base else { return Ok(()) };
        let (absent, limit) = {
            let st = self.state();
            (!st.present.has(block), st.limit)
        };
        if !absent {
            return Ok(());
        }
        let (start, end) = (block * BLOCK, ((block + 1) * BLOCK).min(limit));
        for (a, b) in [(start, end.min(from)), (start.max(to), end)] {
            if a < b {
                let mut bytes = Vec::with_capacity((b - a) as usize);
                area.read_blob(&base.digest, base.size, a, (b - a) as u32, &mut bytes)?;
                failpoint::hit("staged.copy-up.before")
                    .and_then(|()| file.write_all_at(&bytes, a))
                    .map_err(|e| failed("copy up", &area.path(self.key), &e))?;
                failpoint::pass("staged.copy-up.after");
            }
        }
        Ok(())
    }

    /// Some of these blocks are the base's until now.
    fn takes_blocks(&self, first: u64, last: u64) -> bool {
        let st = self.state();
        (first..last).any(|block| !st.present.has(block))
    }

    /// Makes a write seen; the chunks of the block map to record, and how much more the file
    /// takes on disk.
    pub fn wrote(&self, wrote: &Wrote, time: Time) -> (Vec<usize>, i64) {
        let mut st = self.state();
        let grew = wrote.disk as i64 - st.disk as i64;
        st.disk = wrote.disk;
        let chunks = st.present.mark(wrote.blocks.0, wrote.blocks.1);
        st.size = wrote.size;
        st.used = wrote.disk + st.present.absent_bytes(st.limit);
        st.mtime = time;
        st.ctime = bump(time, st.ctime).max(time);
        (chunks, grew)
    }

    /// Sets the size, `io` held; the caller then writes the node's row, and syncs
    /// the file before it answers.
    pub fn truncate(&self, area: &Area, size: u64, mtime: Time, ctime: Time) -> Result<(), Errno> {
        may_block()?;
        let file = self.to_change(area, size, u64::MAX)?;
        let changing = self.changing();
        failpoint::hit("staged.truncate.before")
            .and_then(|()| file.set_len(size))
            .map_err(|e| failed("truncate staged file", &area.path(self.key), &e))?;
        failpoint::pass("staged.truncate.after");
        set_mtime(area, self.key, &file, mtime)?;
        drop(changing);
        let (_, disk) = self.stat(area, &file)?;
        let mut st = self.state();
        st.size = size;
        st.disk = disk;
        st.limit = st.limit.min(size);
        st.used = disk + st.present.absent_bytes(st.limit);
        (st.mtime, st.ctime) = (mtime, ctime);
        Ok(())
    }

    /// utimes: the file's own mtime is what a restart finds.
    pub fn set_mtime(&self, area: &Area, mtime: Time) -> Result<(), Errno> {
        set_mtime(area, self.key, &*area.file(self.key)?, mtime)
    }

    pub(super) fn stat(&self, area: &Area, file: &File) -> Result<(u64, u64), Errno> {
        let meta = file
            .metadata()
            .map_err(|e| failed("stat staged file", &area.path(self.key), &e))?;
        Ok((meta.len(), meta.blocks() * STAT_BLOCK))
    }
}

pub(super) struct Part {
    pub base: bool,
    pub from: u64,
    pub to: u64,
}

/// `from..to` in runs that come from one place.
pub(super) fn parts(st: &State, from: u64, to: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut at = from;
    while at < to {
        let base = at < st.limit && !st.present.has(at / BLOCK);
        let mut end = to;
        if at < st.limit {
            end = end.min((at / BLOCK + 1) * BLOCK).min(st.limit);
        }
        match parts.last_mut() {
            Some(last) if last.base == base => last.to = end,
            _ => parts.push(Part {
                base,
                from: at,
                to: end,
            }),
        }
        at = end;
    }
    parts
}

pub(super) fn set_mtime(area: &Area, key: Key, file: &File, t: Time) -> Result<(), Errno> {
    use nix::sys::time::TimeSpec;
    if area.is_disk() {
        // Its row has it.
        return Ok(());
    }
    let mtime = TimeSpec::new(t.secs as _, t.nanos as _);
    failpoint::hit("staged.time.before")
        .and_then(|()| {
            Ok(nix::sys::stat::futimens(
                file,
                &TimeSpec::UTIME_OMIT,
                &mtime,
            )?)
        })
        .map_err(|e| failed("set time of staged file", &area.path(key), &e))?;
    failpoint::pass("staged.time.after");
    Ok(())
}
