//! Loads that change nothing.

use crate::link::{Link, Load};
use crate::wire::{self, Fh, NFS, Put, Reader};
use std::io;
use std::time::Instant;

/// A cheap sequence that visits what it is asked for in no order.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The same kind of call until a time, with arguments from a list.
pub struct Repeat {
    pub procedure: u32,
    pub arguments: Vec<Vec<u8>>,
    pub until: Instant,
    pub random: Random,
    pub sent: u64,
    /// Ordered by the list, as a walk is.
    pub in_order: bool,
    /// NULL has no status.
    pub status: bool,
    /// Bytes that READ brought.
    pub bytes: u64,
}

impl Load for Repeat {
    fn next(&mut self, _: usize, xid: u32, out: &mut Vec<u8>) -> bool {
        self.sent += 1;
        // The clock is not looked at for each of a million calls.
        if self.sent.is_multiple_of(32) && Instant::now() >= self.until {
            self.until = Instant::now() - std::time::Duration::from_secs(1);
            return false;
        }
        let n = self.arguments.len() as u64;
        let at = if self.in_order {
            self.sent % n
        } else {
            self.random.below(n)
        };
        let args = &self.arguments[at as usize];
        wire::call(out, xid, NFS, self.procedure, |out| {
            out.extend_from_slice(args)
        });
        true
    }

    fn reply(&mut self, _: usize, results: Option<Reader<'_>>) -> Result<(), ()> {
        let mut r = results.ok_or(())?;
        if self.status && r.u32() != 0 {
            return Err(());
        }
        if self.procedure == 6 {
            r.post_op_attr();
            self.bytes += u64::from(r.u32());
        }
        Ok(())
    }
}

/// READDIR or READDIRPLUS of directories, each from its beginning to its end.
pub struct List {
    pub plus: bool,
    pub dirs: Vec<Fh>,
    /// Of each slot: its directory, and where it is in it.
    pub places: Vec<(usize, (u64, u64))>,
    pub random: Random,
    pub until: Instant,
    pub entries: u64,
}

/// What clients ask for at once.
const DIR_BYTES: u32 = 64 << 10;

pub fn put_readdir(out: &mut Vec<u8>, plus: bool, dir: &Fh, at: (u64, u64)) {
    out.opaque(dir);
    out.u64(at.0);
    out.u64(at.1);
    if plus {
        out.u32(DIR_BYTES);
    }
    out.u32(DIR_BYTES);
}

impl Load for List {
    fn next(&mut self, slot: usize, xid: u32, out: &mut Vec<u8>) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        let (dir, at) = self.places[slot];
        wire::call(out, xid, NFS, if self.plus { 17 } else { 16 }, |out| {
            put_readdir(out, self.plus, &self.dirs[dir], at)
        });
        true
    }

    fn reply(&mut self, slot: usize, results: Option<Reader<'_>>) -> Result<(), ()> {
        let mut r = results.ok_or(())?;
        if r.u32() != 0 {
            return Err(());
        }
        r.post_op_attr();
        let verifier = r.u64();
        let mut last = self.places[slot].1.0;
        while r.u32() == 1 {
            r.u64();
            r.opaque();
            last = r.u64();
            self.entries += 1;
            if self.plus {
                r.post_op_attr();
                if r.u32() == 1 {
                    r.opaque();
                }
            }
        }
        let eof = r.u32() == 1;
        self.places[slot] = if eof {
            let next = self.random.below(self.dirs.len() as u64);
            (next as usize, (0, 0))
        } else {
            (self.places[slot].0, (last, verifier))
        };
        Ok(())
    }
}

/// A node below the root, and where it is.
pub struct Node {
    pub fh: Fh,
    pub parent: Fh,
    pub name: Vec<u8>,
    /// Its ftype3.
    pub kind: Option<u32>,
}

/// Of what is walked.
pub const REGULAR: u32 = 1;
pub const DIRECTORY: u32 = 2;

/// Up to `most` nodes below `root`, by READDIRPLUS, or LOOKUP where handles are not given.
pub fn walk(link: &mut Link, root: &Fh, most: usize) -> io::Result<Vec<Node>> {
    let mut found = Vec::new();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        let mut at = (0, 0);
        loop {
            let (entries, next) =
                link.ask(NFS, 17, |out| put_readdir(out, true, &dir, at), entries)?;
            for (name, kind, handle) in entries {
                if name == b"." || name == b".." {
                    continue;
                }
                let fh = match handle {
                    Some(handle) => handle,
                    None => link.lookup(&dir, &name)?,
                };
                if kind == Some(DIRECTORY) {
                    dirs.push(fh.clone());
                }
                let parent = dir.clone();
                found.push(Node {
                    fh,
                    parent,
                    name,
                    kind,
                });
            }
            match next {
                Some(next) if found.len() < most => at = next,
                _ => break,
            }
        }
        if found.len() >= most {
            break;
        }
    }
    found.truncate(most);
    Ok(found)
}

type Listed = (Vec<(Vec<u8>, Option<u32>, Option<Fh>)>, Option<(u64, u64)>);

fn entries(mut r: Reader<'_>) -> Option<Listed> {
    if r.u32() != 0 {
        return None;
    }
    r.post_op_attr();
    let verifier = r.u64();
    let (mut entries, mut last) = (Vec::new(), 0);
    while r.u32() == 1 {
        r.u64();
        let name = r.opaque().to_vec();
        last = r.u64();
        let attr = r.post_op_attr();
        let handle = (r.u32() == 1).then(|| r.opaque().to_vec());
        entries.push((name, attr.map(|a| a.0), handle));
    }
    let eof = r.u32() == 1;
    Some((entries, (!eof).then_some((last, verifier))))
}
