//! Loads that change a tree.

use crate::link::Load;
use crate::wire::{self, Fh, NFS, Put, Reader};
use std::time::Instant;

#[derive(Clone, Default)]
enum At {
    #[default]
    Create,
    Write(Fh),
    Commit(Fh),
}

/// Makes files: each slot CREATE, WRITE of all of it (unless they are to be empty), COMMIT.
pub struct Make {
    pub dir: Fh,
    pub until: Instant,
    pub most: u64,
    pub made: u64,
    data: Vec<u8>,
    slots: Vec<At>,
    next: u64,
}

pub fn name(n: u64) -> Vec<u8> {
    format!("file-{n:07}").into_bytes()
}

impl Make {
    pub fn new(dir: Fh, until: Instant, most: u64, size: usize) -> Make {
        Make {
            dir,
            until,
            most,
            made: 0,
            data: vec![b'x'; size],
            slots: vec![At::Create; 64],
            next: 0,
        }
    }
}

impl Load for Make {
    fn next(&mut self, slot: usize, xid: u32, out: &mut Vec<u8>) -> bool {
        match &self.slots[slot] {
            At::Create => {
                if self.next >= self.most || Instant::now() >= self.until {
                    return false;
                }
                let name = name(self.next);
                self.next += 1;
                wire::call(out, xid, NFS, 8, |out| {
                    out.opaque(&self.dir);
                    out.opaque(&name);
                    out.u32(0);
                    wire::sattr(out, 0o644);
                });
            }
            At::Write(fh) => wire::call(out, xid, NFS, 7, |out| {
                put_write(out, fh, 0, UNSTABLE, &self.data)
            }),
            At::Commit(fh) => wire::call(out, xid, NFS, 21, |out| put_commit(out, fh)),
        }
        true
    }

    fn reply(&mut self, slot: usize, results: Option<Reader<'_>>) -> Result<(), ()> {
        let at = std::mem::take(&mut self.slots[slot]);
        // Where a server has no COMMIT the file is made all the same, and the error counted.
        self.made += u64::from(matches!(at, At::Commit(_)));
        let mut r = results.ok_or(())?;
        if r.u32() != 0 {
            return Err(());
        }
        match at {
            At::Create if !self.data.is_empty() && r.u32() == 1 => {
                self.slots[slot] = At::Write(r.opaque().to_vec());
            }
            At::Write(fh) => self.slots[slot] = At::Commit(fh),
            At::Create => self.made += 1,
            At::Commit(_) => {}
        }
        Ok(())
    }
}

/// As clients that commit later ask; FILE_SYNC is 2.
const UNSTABLE: u32 = 0;

pub fn put_write(out: &mut Vec<u8>, fh: &Fh, offset: u64, stable: u32, data: &[u8]) {
    out.opaque(fh);
    out.u64(offset);
    out.u32(data.len() as u32);
    out.u32(stable);
    out.opaque(data);
}

/// All of the file.
pub fn put_commit(out: &mut Vec<u8>, fh: &Fh) {
    out.opaque(fh);
    out.u64(0);
    out.u32(0);
}

/// REMOVE or RENAME of files that [`Make`] made, each once.
pub struct Names {
    pub dir: Fh,
    pub rename: bool,
    pub from: u64,
    pub to: u64,
    pub until: Instant,
}

impl Load for Names {
    fn next(&mut self, _: usize, xid: u32, out: &mut Vec<u8>) -> bool {
        if self.from >= self.to || Instant::now() >= self.until {
            return false;
        }
        let name = name(self.from);
        self.from += 1;
        wire::call(out, xid, NFS, if self.rename { 14 } else { 12 }, |out| {
            out.opaque(&self.dir);
            out.opaque(&name);
            if self.rename {
                let mut new = name.clone();
                new.extend_from_slice(b"-new");
                out.opaque(&self.dir);
                out.opaque(&new);
            }
        });
        true
    }

    fn reply(&mut self, _: usize, results: Option<Reader<'_>>) -> Result<(), ()> {
        let mut r = results.ok_or(())?;
        if r.u32() == 0 { Ok(()) } else { Err(()) }
    }
}
