//! Contents of changed files of up to the size of a small blob. Their rows keep them; what is
//! here is read. Up to a bound, for all trees together, they are in the heap. Beyond it they go
//! to a file without a name, of which the kernel holds in memory what is in use: a build that
//! writes a million small files needs disk for them, not memory.

use super::area::failed;
use crate::blob::SMALL;
use crate::patience::may_block;
use crate::types::Errno;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of contents in the heap. The tests' models are to see both places.
const HEAP: usize = if cfg!(test) { 4 << 10 } else { 64 << 20 };
/// Places in the file come in powers of two from this on.
const LEAST: u64 = 256;
const CLASSES: usize = (SMALL / LEAST).ilog2() as usize + 1;

/// One file's content; a copy shares its bytes.
#[derive(Clone, Default)]
pub(super) struct Small(Option<Arc<Held>>);

struct Held {
    len: u32,
    at: Place,
    of: Arc<Smalls>,
}

enum Place {
    Heap(Box<[u8]>),
    File {
        file: Arc<File>,
        at: u64,
    },
    /// Its row is gone or cut, so that nobody knows the bytes.
    Lost,
}

/// All of a store's small contents.
pub(super) struct Smalls {
    /// Where the file is made.
    dir: PathBuf,
    heap: AtomicUsize,
    spill: Mutex<Spill>,
    /// It was told that there is no place in the file.
    told: AtomicBool,
}

#[derive(Default)]
struct Spill {
    file: Option<Arc<File>>,
    end: u64,
    /// Places in use.
    used: u64,
    free: [Vec<u64>; CLASSES],
}

fn class(len: usize) -> usize {
    let size = (len as u64).next_power_of_two().max(LEAST);
    (size / LEAST).ilog2() as usize
}

impl Smalls {
    pub fn new(dir: PathBuf) -> Arc<Smalls> {
        Arc::new(Smalls {
            dir,
            heap: AtomicUsize::new(0),
            spill: Mutex::default(),
            told: AtomicBool::new(false),
        })
    }

    /// Bytes in the heap, and the size of the file.
    pub fn used(&self) -> (u64, u64) {
        (
            self.heap.load(Ordering::Relaxed) as u64,
            self.spill.lock().end,
        )
    }

    /// Takes `len` bytes of the heap's share, if it has them.
    fn reserve(&self, len: usize) -> bool {
        let (now, seen) = (Ordering::Relaxed, Ordering::Relaxed);
        let more = |used: usize| (used + len <= HEAP).then_some(used + len);
        self.heap.fetch_update(now, seen, more).is_ok()
    }

    fn put(&self, bytes: &[u8]) -> io::Result<Place> {
        let (file, at) = self.spill.lock().take(self, bytes.len())?;
        let wrote = file.write_all_at(bytes, at);
        if let Err(e) = wrote {
            self.spill.lock().give(bytes.len(), at);
            return Err(e);
        }
        Ok(Place::File { file, at })
    }

    fn path(&self) -> PathBuf {
        self.dir.join("contents")
    }

    /// The file, whose name is taken away at once: nobody wants it after this server.
    fn make(&self) -> io::Result<File> {
        let path = self.path();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

impl Spill {
    fn take(&mut self, of: &Smalls, len: usize) -> io::Result<(Arc<File>, u64)> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(Arc::new(of.make()?))),
        };
        let class = class(len);
        let at = self.free[class].pop().unwrap_or_else(|| {
            let at = self.end;
            self.end += LEAST << class;
            at
        });
        self.used += 1;
        Ok((file, at))
    }

    fn give(&mut self, len: usize, at: u64) {
        self.used -= 1;
        self.free[class(len)].push(at);
        if self.used == 0 {
            // With the file its disk space goes.
            *self = Spill::default();
        }
    }
}

impl Small {
    pub fn new(of: &Arc<Smalls>, bytes: Vec<u8>) -> Small {
        if bytes.is_empty() {
            return Small::default();
        }
        let len = bytes.len() as u32;
        let at = match of.reserve(bytes.len()) {
            true => Place::Heap(bytes.into()),
            false => of.put(&bytes).unwrap_or_else(|e| {
                // It is kept by its row already, and nothing is lost by memory's use.
                if !of.told.swap(true, Ordering::Relaxed) {
                    failed(
                        "write small contents beyond what memory is for",
                        &of.path(),
                        &e,
                    );
                }
                of.heap.fetch_add(bytes.len(), Ordering::Relaxed);
                Place::Heap(bytes.into())
            }),
        };
        let of = Arc::clone(of);
        Small(Some(Arc::new(Held { len, at, of })))
    }

    /// A content of `len` bytes that can no longer be had.
    pub fn lost(of: &Arc<Smalls>, len: u64) -> Small {
        let (len, at, of) = (len as u32, Place::Lost, Arc::clone(of));
        Small(Some(Arc::new(Held { len, at, of })))
    }

    pub fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |held| u64::from(held.len))
    }

    /// Appends the bytes `from..to`, which are within [`Small::len`].
    pub fn read(&self, from: u64, to: u64, out: &mut Vec<u8>) -> Result<(), Errno> {
        let Some(held) = self.0.as_ref().filter(|_| from < to) else {
            return Ok(());
        };
        let (file, at) = match &held.at {
            Place::Heap(bytes) => {
                out.extend_from_slice(&bytes[from as usize..to as usize]);
                return Ok(());
            }
            Place::File { file, at } => (file, at + from),
            Place::Lost => return Err(Errno::Io),
        };
        let want = (to - from) as usize;
        if crate::sys::read_cached(file, out, at, want) {
            return Ok(());
        }
        may_block()?;
        let start = out.len();
        out.resize(start + want, 0);
        file.read_exact_at(&mut out[start..], at).map_err(|e| {
            out.truncate(start);
            failed("read small contents", &held.of.path(), &e)
        })
    }

    pub fn to_vec(&self) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::with_capacity(self.len() as usize);
        self.read(0, self.len(), &mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let len = self.len as usize;
        match self.at {
            Place::Heap(_) => drop(self.of.heap.fetch_sub(len, Ordering::Relaxed)),
            Place::File { at, .. } => self.of.spill.lock().give(len, at),
            Place::Lost => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn smalls() -> (tempfile::TempDir, Arc<Smalls>) {
        let dir = tempfile::tempdir().unwrap();
        let smalls = Smalls::new(dir.path().into());
        (dir, smalls)
    }

    fn disk(of: &Smalls) -> Option<u64> {
        let file = of.spill.lock().file.clone();
        file.map(|file| file.metadata().unwrap().len())
    }

    #[test]
    fn beyond_the_heaps_share_they_are_in_the_file_and_leave_nothing() {
        let (dir, of) = smalls();
        let held: Vec<Small> = (0..200)
            .map(|n| Small::new(&of, vec![n as u8; 80 * n]))
            .collect();
        assert!(of.heap.load(Ordering::Relaxed) <= HEAP);
        assert!(disk(&of).unwrap() > 1 << 20);
        for (n, small) in held.iter().enumerate() {
            assert_eq!(small.to_vec().unwrap(), vec![n as u8; 80 * n]);
        }
        drop(held);
        assert_eq!((of.heap.load(Ordering::Relaxed), disk(&of)), (0, None));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn without_a_place_in_the_file_they_stay_in_the_heap() {
        let (dir, of) = smalls();
        drop(dir);
        let held = [1, 2].map(|n| Small::new(&of, vec![n; HEAP]));
        assert_eq!(of.heap.load(Ordering::Relaxed), 2 * HEAP);
        assert_eq!(held[1].to_vec().unwrap(), vec![2; HEAP]);
    }

    #[test]
    fn the_file_does_not_grow_by_what_comes_and_goes() {
        let (_dir, of) = smalls();
        let _kept = [0; 2].map(|n| Small::new(&of, vec![n; HEAP]));
        for n in 0..1000 {
            Small::new(&of, vec![n as u8; 5000 + n]);
        }
        assert!(disk(&of).unwrap() <= 3 * SMALL);
    }

    proptest! {
        #[test]
        fn they_are_what_was_put(ops in prop::collection::vec((0..20_usize, 0..SMALL as usize), 0..200)) {
            let (_dir, of) = smalls();
            let mut held: Vec<(Small, Vec<u8>)> = vec![Default::default(); 20];
            for (n, (slot, len)) in ops.into_iter().enumerate() {
                let bytes = vec![n as u8; len];
                held[slot] = (Small::new(&of, bytes.clone()), bytes);
                let (from, to) = (len / 3, len / 2);
                let mut part = vec![7];
                held[slot].0.read(from as u64, to as u64, &mut part).unwrap();
                prop_assert_eq!(&part[1..], &held[slot].1[from..to]);
                for (small, bytes) in &held {
                    prop_assert_eq!(small.len(), bytes.len() as u64);
                    prop_assert_eq!(&small.to_vec().unwrap(), bytes);
                }
            }
        }
    }
}
