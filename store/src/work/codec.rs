//! Rows of `work.db` and `volumes.db` as bytes: little-endian, fixed order, lengths before
//! variable parts. The first is private to one boot, the second has a format's number, so a
//! row that does not decode is damage, answered with `Errno::Io`.

use super::node::{Content, Dir, Few, Node as Inode, What};
use super::small::Small;
use super::staged::Base;
use crate::blob::SMALL;
use crate::object::Xattrs;
use crate::types::{Attr, Changed, Digest, Errno, Kind, Rdev, Time, Wcc};

#[derive(Default)]
pub(super) struct Enc(pub Vec<u8>);

impl Enc {
    pub fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    pub fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    pub fn time(&mut self, t: Time) {
        self.u64(t.secs as u64);
        self.u32(t.nanos);
    }
    pub fn rdev(&mut self, r: Rdev) {
        self.u32(r.major);
        self.u32(r.minor);
    }
    pub fn bytes(&mut self, b: &[u8]) {
        self.u32(b.len() as u32);
        self.0.extend_from_slice(b);
    }
}

pub(super) struct Dec<'a>(pub &'a [u8]);

impl<'a> Dec<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Errno> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Errno::Io)?;
        self.0 = rest;
        Ok(head)
    }
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        self.take(N)?.try_into().map_err(|_| Errno::Io)
    }
    pub fn u8(&mut self) -> Result<u8, Errno> {
        Ok(self.array::<1>()?[0])
    }
    pub fn u32(&mut self) -> Result<u32, Errno> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub fn u64(&mut self) -> Result<u64, Errno> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    pub fn time(&mut self) -> Result<Time, Errno> {
        Ok(Time {
            secs: self.u64()? as i64,
            nanos: self.u32()?,
        })
    }
    pub fn rdev(&mut self) -> Result<Rdev, Errno> {
        Ok(Rdev {
            major: self.u32()?,
            minor: self.u32()?,
        })
    }
    pub fn flag(&mut self) -> Result<bool, Errno> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Errno::Io),
        }
    }
    /// Nothing follows: what is behind a row was never written by us.
    pub fn end(&self) -> Result<(), Errno> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Errno::Io)
        }
    }
    pub fn bytes(&mut self) -> Result<&'a [u8], Errno> {
        let n = self.u32()? as usize;
        self.take(n)
    }
}

/// A node's row, its file data left out. What the data is, the row says.
pub(super) fn encode_node(n: &Inode) -> Vec<u8> {
    encode(n, false)
}

/// The row of a node whose staged file is about to be changed by a mutation: the times in it
/// hold, whatever the file says, until that mutation's own row is there.
pub(super) fn encode_held(n: &Inode) -> Vec<u8> {
    encode(n, true)
}

fn encode(n: &Inode, held: bool) -> Vec<u8> {
    let mut e = Enc(Vec::with_capacity(128));
    let (mtime, ctime) = n.times();
    e.u8(n.what.kind() as u8);
    e.u32(n.mode);
    e.u32(n.uid);
    e.u32(n.gid);
    e.u32(n.nlink);
    e.time(n.atime.into());
    e.time(mtime);
    e.time(ctime);
    match n.verifier {
        None => e.u8(0),
        Some(v) => {
            e.u8(1);
            e.0.extend_from_slice(&v);
        }
    }
    e.u32(n.xattrs.len() as u32);
    for (name, value) in n.xattrs.iter() {
        e.bytes(name);
        e.bytes(value);
    }
    match &n.what {
        What::Dir(dir) => {
            e.u64(dir.parent);
            e.u64(dir.next_seq);
            e.u64(dir.entries);
        }
        What::File(content) => {
            if held {
                e.u8(HELD);
            }
            encode_content(&mut e, content);
        }
        What::Symlink(target) => e.bytes(target),
        What::Fifo | What::Socket => {}
        What::Char(r) | What::Block(r) => e.rdev(*r),
    }
    e.0
}

/// Before what a staged file is.
const HELD: u8 = 9;

fn encode_content(e: &mut Enc, content: &Content) {
    match content {
        Content::Blob(blob) => {
            e.u8(0);
            e.0.extend_from_slice(&blob.digest.0);
            e.u64(blob.size);
        }
        Content::Inline(small) => {
            e.u8(4);
            e.u32(small.len() as u32);
        }
        Content::Staged(staged) => {
            let (limit, size) = {
                let st = staged.state();
                (st.limit, st.size)
            };
            if staged.is_disk() {
                e.u8(3);
                e.u64(size);
            } else {
                e.u8(2);
            }
            match staged.base {
                None => e.u8(0),
                Some(base) => {
                    e.u8(1);
                    e.0.extend_from_slice(&base.digest.0);
                    e.u64(base.size);
                    e.u64(limit);
                }
            }
        }
    }
}

/// What a row says of a regular file's data.
pub(super) enum ContentRow {
    Blob {
        digest: Digest,
        size: u64,
    },
    /// How long its content's row is; unknown in rows of format 4.
    Inline {
        size: Option<u64>,
    },
    /// The base, and how much of it is still seen. A volume's row has the size too: what
    /// the file has beyond it was never stable, or is truncated and only the row knows.
    Staged {
        base: Option<(Base, u64)>,
        held: bool,
        size: Option<u64>,
    },
}

/// A decoded row: a file's data is for the loader to attach.
pub(super) fn decode_node(row: &[u8]) -> Result<(Inode, Option<ContentRow>), Errno> {
    let d = &mut Dec(row);
    let kind = d.u8()?;
    let mut n = Inode {
        mode: d.u32()?,
        uid: d.u32()?,
        gid: d.u32()?,
        nlink: d.u32()?,
        atime: d.time()?.into(),
        mtime: d.time()?.into(),
        ctime: d.time()?.into(),
        verifier: match d.flag()? {
            false => None,
            true => Some(d.array()?),
        },
        xattrs: Few::default(),
        what: What::Fifo,
    };
    let mut xattrs = Xattrs::new();
    for _ in 0..d.u32()? {
        xattrs.push((d.bytes()?.to_vec(), d.bytes()?.to_vec()));
    }
    n.xattrs = xattrs.into();
    let mut content = None;
    n.what = match kind {
        k if k == Kind::Dir as u8 => What::Dir(Box::new(Dir {
            parent: d.u64()?,
            next_seq: d.u64()?,
            entries: d.u64()?,
        })),
        k if k == Kind::File as u8 => {
            content = Some(decode_content(d)?);
            What::File(Content::Inline(Small::default()))
        }
        k if k == Kind::Symlink as u8 => What::Symlink(d.bytes()?.into()),
        k if k == Kind::Fifo as u8 => What::Fifo,
        k if k == Kind::Socket as u8 => What::Socket,
        k if k == Kind::Char as u8 => What::Char(d.rdev()?),
        k if k == Kind::Block as u8 => What::Block(d.rdev()?),
        _ => return Err(Errno::Io),
    };
    d.end()?;
    Ok((n, content))
}

fn decode_content(d: &mut Dec) -> Result<ContentRow, Errno> {
    let (tag, held) = match d.u8()? {
        HELD => (d.u8()?, true),
        tag => (tag, false),
    };
    Ok(match tag {
        0 if !held => ContentRow::Blob {
            digest: Digest(d.array()?),
            size: d.u64()?,
        },
        1 if !held => ContentRow::Inline { size: None },
        4 if !held => match u64::from(d.u32()?) {
            size if size <= SMALL => ContentRow::Inline { size: Some(size) },
            _ => return Err(Errno::Io),
        },
        tag @ (2 | 3) => ContentRow::Staged {
            held,
            size: match tag {
                3 => Some(d.u64()?),
                _ => None,
            },
            base: match d.flag()? {
                false => None,
                true => Some((
                    Base {
                        digest: Digest(d.array()?),
                        size: d.u64()?,
                    },
                    d.u64()?,
                )),
            },
        },
        _ => return Err(Errno::Io),
    })
}

/// A recorded outcome, for the reply cache.
pub(super) fn encode_changed(c: &Changed) -> Vec<u8> {
    let mut e = Enc(Vec::with_capacity(560));
    encode_attr(&mut e, &c.node);
    for wcc in [Some(&c.wcc), c.to.as_ref()] {
        match wcc {
            None => e.u8(0),
            Some(w) => {
                e.u8(1);
                encode_attr(&mut e, &w.before);
                encode_attr(&mut e, &w.after);
            }
        }
    }
    e.0
}

pub(super) fn decode_changed(row: &[u8]) -> Result<Changed, Errno> {
    let d = &mut Dec(row);
    let node = decode_attr(d)?;
    let wcc = decode_wcc(d)?.ok_or(Errno::Io)?;
    let to = decode_wcc(d)?;
    d.end()?;
    Ok(Changed { node, wcc, to })
}

fn decode_wcc(d: &mut Dec) -> Result<Option<Wcc>, Errno> {
    Ok(match d.flag()? {
        false => None,
        true => Some(Wcc {
            before: decode_attr(d)?,
            after: decode_attr(d)?,
        }),
    })
}

fn encode_attr(e: &mut Enc, a: &Attr) {
    e.u64(a.node);
    e.u8(a.kind as u8);
    for v in [a.mode, a.nlink, a.uid, a.gid] {
        e.u32(v);
    }
    e.u64(a.size);
    e.u64(a.used);
    e.rdev(a.rdev);
    for t in [a.atime, a.mtime, a.ctime] {
        e.time(t);
    }
}

fn decode_attr(d: &mut Dec) -> Result<Attr, Errno> {
    Ok(Attr {
        node: d.u64()?,
        kind: decode_kind(d.u8()?)?,
        mode: d.u32()?,
        nlink: d.u32()?,
        uid: d.u32()?,
        gid: d.u32()?,
        size: d.u64()?,
        used: d.u64()?,
        rdev: d.rdev()?,
        atime: d.time()?,
        mtime: d.time()?,
        ctime: d.time()?,
    })
}

fn decode_kind(k: u8) -> Result<Kind, Errno> {
    use Kind::*;
    [File, Dir, Symlink, Fifo, Socket, Char, Block]
        .into_iter()
        .find(|kind| *kind as u8 == k)
        .ok_or(Errno::Io)
}
