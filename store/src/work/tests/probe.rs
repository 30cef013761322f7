//! A machine that loses its power: knows what was synced, and makes the folder that a crash
//! at this moment may leave.
//!
//! What was synced is there. Of the rest any part may be: of the journal any sectors, of other
//! files any pages and either size, of new and removed names any. The database is as its last
//! commit that was synced left it, or any later one.

use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const PAGE: usize = 4096;
const DATABASE: [&str; 2] = ["volumes.db", "volumes.db-wal"];

/// A folder as a crash left it, and what had been promised by then.
pub struct Image {
    pub dir: tempfile::TempDir,
    pub step: usize,
    /// The step was not answered yet.
    pub in_flight: bool,
}

#[derive(Default)]
pub struct Probe {
    power: Mutex<Option<Power>>,
    /// The next sync fails.
    pub broken: AtomicBool,
    /// The next write to a staged file fails halfway.
    pub torn: AtomicBool,
    /// Syncs do not end until this is false again.
    stuck: Mutex<bool>,
    freed: Condvar,
    /// Whoever has made a tree's row next waits until the sender is gone.
    pub made: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
}

struct Power {
    dir: PathBuf,
    rng: Rng,
    /// Of so many syncs one loses the power.
    one_in: u32,
    step: usize,
    /// As last synced.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Names below `volumes/` that are on disk.
    names: BTreeSet<PathBuf>,
    database: BTreeMap<&'static str, Vec<u8>>,
    images: Vec<Image>,
}

impl Probe {
    /// From here on the power may fail. What there is is on disk.
    pub fn watch(&self, dir: &Path, seed: u64, one_in: u32) {
        let mut power = Power {
            dir: dir.to_owned(),
            rng: Rng(seed),
            one_in,
            step: 0,
            files: BTreeMap::new(),
            names: BTreeSet::new(),
            database: BTreeMap::new(),
            images: Vec::new(),
        };
        for path in power.watched() {
            power.files.insert(path.clone(), power.read(&path));
        }
        power.names = power.staged().into_iter().collect();
        power.database = power.database_now();
        *self.power.lock() = Some(power);
    }

    /// The disk takes its time, or is done.
    pub fn stick(&self, stuck: bool) {
        *self.stuck.lock() = stuck;
        self.freed.notify_all();
    }

    /// The carrier would write to the database while an image is made.
    pub fn holds_the_carrier(&self) -> bool {
        self.power.lock().is_some()
    }

    /// Step number `step` was answered; the power fails, or it does not.
    pub fn answered(&self, step: usize) {
        let mut power = self.power.lock();
        let power = power.as_mut().expect("watched");
        power.step = step + 1;
        if power.fails() {
            power.image(Some(step));
        }
    }

    /// No more; what crashes left.
    pub fn images(&self) -> Vec<Image> {
        self.power.lock().take().expect("watched").images
    }

    pub fn sync(&self, path: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.broken.swap(false, Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        let mut stuck = self.stuck.lock();
        while *stuck {
            self.freed.wait(&mut stuck);
        }
        drop(stuck);
        let mut power = self.power.lock();
        let Some(power) = power.as_mut() else {
            return sync();
        };
        if power.fails() {
            power.image(None);
        }
        let relative = path.strip_prefix(&power.dir).expect("below it").to_owned();
        if path.is_dir() {
            let now = power.staged();
            sync()?;
            power.names.retain(|name| name.parent() != Some(&relative));
            let in_it = |name: &PathBuf| name.parent() == Some(&relative);
            power.names.extend(now.into_iter().filter(in_it));
        } else {
            let now = power.read(&relative);
            sync()?;
            power.files.insert(relative, now);
        }
        Ok(())
    }

    pub fn write(&self, file: &std::fs::File, bytes: &[u8], at: u64) -> io::Result<()> {
        if !self.torn.swap(false, Ordering::Relaxed) {
            return file.write_all_at(bytes, at);
        }
        file.write_all_at(&bytes[..bytes.len() / 2], at)?;
        Err(io::Error::from_raw_os_error(nix::libc::EIO))
    }

    /// Where the power may fail although nothing is synced.
    pub fn moment(&self) {
        if let Some(power) = self.power.lock().as_mut()
            && power.fails()
        {
            power.image(None);
        }
    }

    /// The database took rows. With a write-ahead log SQLite syncs after each transaction if
    /// `PRAGMA synchronous` is FULL (2) or more; with NORMAL it does not.
    pub fn committed(&self, conn: &rusqlite::Connection) {
        let synchronous = |r: &rusqlite::Row| r.get::<_, u8>(0);
        let synchronous = conn.query_row("PRAGMA synchronous", [], synchronous);
        if synchronous.expect("a number") < 2 {
            return;
        }
        if let Some(power) = self.power.lock().as_mut() {
            power.database = power.database_now();
        }
    }
}

impl Power {
    fn fails(&mut self) -> bool {
        self.rng.one_in(u64::from(self.one_in))
    }

    fn read(&self, path: &Path) -> Vec<u8> {
        std::fs::read(self.dir.join(path)).unwrap_or_default()
    }

    fn database_now(&self) -> BTreeMap<&'static str, Vec<u8>> {
        let there = |name: &&str| self.dir.join(name).exists();
        let now = DATABASE.into_iter().filter(there);
        now.map(|name| (name, self.read(Path::new(name)))).collect()
    }

    fn journals() -> [PathBuf; 2] {
        ["volumes.journal.0".into(), "volumes.journal.1".into()]
    }

    /// Files and folders below `volumes/`.
    fn staged(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![PathBuf::from("volumes")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(self.dir.join(&dir)).into_iter().flatten() {
                let entry = entry.unwrap();
                let path = dir.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(path.clone());
                }
                found.push(path);
            }
        }
        found
    }

    fn watched(&self) -> Vec<PathBuf> {
        let mut all = self.staged();
        all.retain(|path| self.dir.join(path).is_file());
        all.extend(Power::journals());
        all
    }

    fn image(&mut self, answered: Option<usize>) {
        let dir = folder();
        copy(&self.dir, dir.path(), &|name| {
            !name.starts_with("volumes") && !name.starts_with("lock")
        });
        let database = match self.rng.one_in(2) {
            true => self.database.clone(),
            false => self.database_now(),
        };
        for (name, bytes) in database {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        std::fs::create_dir(dir.path().join("volumes")).unwrap();
        for path in Power::journals() {
            let bytes = self.mixed(&path, SECTOR);
            std::fs::write(dir.path().join(path), bytes).unwrap();
        }
        let mut names: BTreeSet<PathBuf> = self.staged().into_iter().collect();
        names.extend(self.names.iter().cloned());
        for path in names {
            let (now, kept) = (self.dir.join(&path).exists(), self.names.contains(&path));
            if now != kept && self.rng.one_in(2) {
                continue;
            }
            let to = dir.path().join(&path);
            if self.dir.join(&path).is_dir() {
                std::fs::create_dir_all(to).unwrap();
                continue;
            }
            let bytes = match now {
                true => self.mixed(&path, PAGE),
                false => self.files.get(&path).cloned().unwrap_or_default(),
            };
            if to.parent().unwrap().is_dir() {
                std::fs::write(to, bytes).unwrap();
            }
        }
        self.images.push(Image {
            dir,
            step: answered.unwrap_or(self.step),
            in_flight: answered.is_none(),
        });
    }

    /// What was synced, and of what was written since any part.
    fn mixed(&mut self, path: &Path, unit: usize) -> Vec<u8> {
        let old = self.files.get(path).cloned().unwrap_or_default();
        let new = self.read(path);
        let share = [0, 5, 9, 10][self.rng.below(4) as usize];
        let mut len = match self.rng.below(10) < share {
            true => new.len(),
            false => old.len(),
        };
        if unit == SECTOR {
            // The journal's size is synced when it changes.
            len = new.len();
        }
        let mut bytes = vec![0; len];
        for at in (0..len).step_by(unit) {
            let from = match self.rng.below(10) < share {
                true => &new,
                false => &old,
            };
            let end = (at + unit).min(len).min(from.len());
            if at < end {
                bytes[at..end].copy_from_slice(&from[at..end]);
            }
        }
        bytes
    }
}

/// In memory, where a sync costs nothing, if that has room for all that a test keeps.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match crate::sys::space(memory) {
        Ok(space) if space.avail_bytes > 1 << 30 => pocker_testing::image::folder(),
        _ => tempfile::tempdir().unwrap(),
    }
}

fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if !wanted(name.to_str().unwrap()) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(to.join(&name)).unwrap();
            copy(&entry.path(), &to.join(&name), &|_| true);
        } else {
            std::fs::copy(entry.path(), to.join(&name)).unwrap();
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): a number more is all its state.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
