//! `quarantine/`: what rotted or is damaged is kept there, as it may be all that is left.
//!
//! It is there, durably, before it goes from its place.

use crate::error::StoreError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Copies of one name that are kept: no name rots this often.
const COPIES: u32 = 1000;

pub(crate) struct Quarantine {
    dir: PathBuf,
}

impl Quarantine {
    /// Made when something comes in.
    pub fn of(store: &Path) -> Quarantine {
        Quarantine {
            dir: store.join("quarantine"),
        }
    }

    /// A second name for `file`.
    pub fn link(&self, name: &str, file: &Path) -> Result<(), StoreError> {
        self.put(name, |to| fs::hard_link(file, to))
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put(name, |to| {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(to)?;
            file.write_all(bytes)?;
            file.sync_all()
        })
    }

    pub fn copy(&self, name: &str, file: &Path) -> Result<(), StoreError> {
        self.put(name, |to| {
            let mut from = File::open(file)?;
            let mut options = OpenOptions::new();
            let mut to = options.write(true).create_new(true).mode(0o600).open(to)?;
            io::copy(&mut from, &mut to)?;
            to.sync_all()
        })
    }

    /// Moves `file` here.
    pub fn take(&self, name: &str, file: &Path) -> Result<(), StoreError> {
        self.link(name, file)?;
        fs::remove_file(file).map_err(|e| StoreError::io("remove", file, e))
    }

    fn put(&self, name: &str, f: impl Fn(&Path) -> io::Result<()>) -> Result<(), StoreError> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("create", &self.dir, e));
            }
            Ok(()) => sync(self.dir.parent().unwrap_or(&self.dir))?,
            Err(_) => {}
        }
        let mut copy = 0;
        loop {
            let to = match copy {
                0 => self.dir.join(name),
                n => self.dir.join(format!("{name}.{n}")),
            };
            match f(&to) {
                Ok(()) => return sync(&self.dir),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && copy < COPIES => copy += 1,
                Err(e) => return Err(StoreError::io("put in quarantine", &to, e)),
            }
        }
    }
}

fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| StoreError::io("sync", dir, e))
}
