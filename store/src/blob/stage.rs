//! A new large blob: written once, hashed on the way, holes left out.

use super::files::Area;
use crate::error::StoreError;
use crate::types::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// Read and written at once; a multiple of [`BLOCK`], so that blocks stay aligned.
const BUFFER: usize = 256 * 1024;
/// What is all zeros at this grain becomes a hole.
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A file in `staging/`, not yet part of the store. Dropped, it is removed.
#[derive(Debug)]
pub struct Staged {
    pub(crate) path: PathBuf,
    pub digest: Digest,
    pub size: u64,
    /// Bytes that are not in holes.
    pub used: u64,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Renamed into the blob area it is no longer there; else the start-up sweep is a second chance.
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(super) fn stage(area: &Area, reader: &mut dyn Read, limit: u64) -> Result<Staged, StoreError> {
    let path = area.fresh();
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| StoreError::io("create", &path, e))?;
    let mut staged = Staged {
        path,
        digest: Digest([0; 32]),
        size: 0,
        used: 0,
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let want = (limit - staged.size).min(BUFFER as u64) as usize;
        let got = fill(reader, &mut buffer[..want]).map_err(StoreError::Input)?;
        hash.update(&buffer[..got]);
        staged.used += write_sparse(&file, &buffer[..got], staged.size)
            .map_err(|e| StoreError::io("write", &staged.path, e))?;
        staged.size += got as u64;
        if got < BUFFER {
            break;
        }
    }
    // A hole at the end is only there once the length says so.
    file.set_len(staged.size)
        .map_err(|e| StoreError::io("set the size of", &staged.path, e))?;
    crate::sys::begin_writing(&file);
    staged.digest = Digest(hash.finalize().into());
    Ok(staged)
}

/// Reads until the buffer is full or the input ends.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Writes the runs of blocks that are not all zeros; how many bytes those were.
pub(crate) fn write_sparse(file: &File, data: &[u8], at: u64) -> io::Result<u64> {
    let mut used = 0;
    let mut start = 0;
    let mut flush = |from: usize, to: usize| {
        used += (to - from) as u64;
        file.write_all_at(&data[from..to], at + from as u64)
    };
    for (i, block) in data.chunks(BLOCK).enumerate() {
        if *block == ZEROS[..block.len()] {
            flush(start, i * BLOCK)?;
            start = i * BLOCK + block.len();
        }
    }
    flush(start, data.len())?;
    Ok(used)
}
