//! One entry as bytes: the same wherever in a page it stands.
//!
//! name length u8, kind u8, mode u16, uid u32, gid u32, mtime seconds i64, nanoseconds u32;
//! the name; then by kind: a file its blob digest and size u64, a directory its digest and
//! counts (nodes, bytes, entries, subdirectories, u64 each), a symlink its length u16 and
//! target, a device its major and minor u32; then the number of xattrs u16 and each
//! one's name length u8, value length u32, name, value.

use super::limits;
use super::wire::{Cursor, Malformed};
use super::{Body, Counts, Entry, Meta, Xattrs};
use crate::types::{Digest, Kind, Rdev, Time};

const OBJECT: &str = "directory entry";
const NANOS: u32 = 1_000_000_000;

/// [`Body`], borrowed from a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRef<'a> {
    File { blob: Digest, size: u64 },
    Dir { digest: Digest, counts: Counts },
    Symlink(&'a [u8]),
    Fifo,
    Socket,
    Char(Rdev),
    Block(Rdev),
}

impl BodyRef<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            BodyRef::File { .. } => Kind::File,
            BodyRef::Dir { .. } => Kind::Dir,
            BodyRef::Symlink(_) => Kind::Symlink,
            BodyRef::Fifo => Kind::Fifo,
            BodyRef::Socket => Kind::Socket,
            BodyRef::Char(_) => Kind::Char,
            BodyRef::Block(_) => Kind::Block,
        }
    }

    /// Nodes the entry stands for: 1, or 1 + all below.
    pub fn nodes(&self) -> u64 {
        match self {
            BodyRef::Dir { counts, .. } => 1 + counts.nodes,
            _ => 1,
        }
    }

    /// Bytes of regular files the entry stands for.
    pub fn bytes(&self) -> u64 {
        match self {
            BodyRef::File { size, .. } => *size,
            BodyRef::Dir { counts, .. } => counts.bytes,
            _ => 0,
        }
    }

    pub fn to_body(self) -> Body {
        match self {
            BodyRef::File { blob, size } => Body::File { blob, size },
            BodyRef::Dir { digest, counts } => Body::Dir { digest, counts },
            BodyRef::Symlink(target) => Body::Symlink(target.to_vec()),
            BodyRef::Fifo => Body::Fifo,
            BodyRef::Socket => Body::Socket,
            BodyRef::Char(r) => Body::Char(r),
            BodyRef::Block(r) => Body::Block(r),
        }
    }
}

/// [`Entry`], borrowed from a page.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    pub name: &'a [u8],
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub body: BodyRef<'a>,
    xattrs: &'a [u8],
    xattr_count: u16,
}

impl<'a> EntryRef<'a> {
    /// Name and value pairs, sorted by name.
    pub fn xattrs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut c = Cursor::new(OBJECT, self.xattrs, 0);
        (0..self.xattr_count).map_while(move |_| xattr(&mut c).ok())
    }

    pub fn xattr(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.xattrs().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    pub fn to_meta(&self) -> Meta {
        Meta {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: self
                .xattrs()
                .map(|(n, v)| (n.to_vec(), v.to_vec()))
                .collect(),
        }
    }

    pub fn to_entry(&self) -> Entry {
        Entry {
            name: self.name.to_vec(),
            meta: self.to_meta(),
            body: self.body.to_body(),
        }
    }
}

fn kind_byte(kind: Kind) -> u8 {
    kind as u8
}

pub(super) fn put_meta_head(out: &mut Vec<u8>, meta: &Meta) {
    out.extend_from_slice(&(meta.mode as u16).to_le_bytes());
    out.extend_from_slice(&meta.uid.to_le_bytes());
    out.extend_from_slice(&meta.gid.to_le_bytes());
    out.extend_from_slice(&meta.mtime.secs.to_le_bytes());
    out.extend_from_slice(&meta.mtime.nanos.to_le_bytes());
}

pub(super) fn put_counts(out: &mut Vec<u8>, c: &Counts) {
    for n in [c.nodes, c.bytes, c.entries, c.subdirs] {
        out.extend_from_slice(&n.to_le_bytes());
    }
}

pub(super) fn put_xattrs(out: &mut Vec<u8>, xattrs: &Xattrs) {
    out.extend_from_slice(&(xattrs.len() as u16).to_le_bytes());
    for (name, value) in xattrs {
        out.push(name.len() as u8);
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
}

/// Lengths and the mode must fit their fields, or what is written would be something else.
pub(super) fn check_meta(meta: &Meta) -> Result<(), Malformed> {
    let bad = |why| Err(Malformed::new(OBJECT, 0, why));
    if meta.mode > 0o7777 {
        return bad("mode has more than 12 bits");
    }
    if meta.xattrs.len() > limits::XATTRS {
        return bad("too many xattrs");
    }
    for (name, value) in &meta.xattrs {
        if name.len() > limits::XATTR_NAME || value.len() > limits::XATTR_VALUE {
            return bad("xattr too long");
        }
    }
    Ok(())
}

/// Appends `entry`'s record to `out`, unless the entry breaks a rule of the format.
pub(super) fn encode(entry: &Entry, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let bad = |why| Err(Malformed::new(OBJECT, 0, why));
    check_meta(&entry.meta)?;
    if entry.name.len() > limits::NAME {
        return bad("name longer than 255 bytes");
    }
    let start = out.len();
    out.push(entry.name.len() as u8);
    out.push(kind_byte(entry.body.kind()));
    put_meta_head(out, &entry.meta);
    out.extend_from_slice(&entry.name);
    match &entry.body {
        Body::File { blob, size } => {
            out.extend_from_slice(&blob.0);
            out.extend_from_slice(&size.to_le_bytes());
        }
        Body::Dir { digest, counts } => {
            out.extend_from_slice(&digest.0);
            put_counts(out, counts);
        }
        Body::Symlink(target) => {
            if target.len() > limits::SYMLINK {
                return bad("symlink target too long");
            }
            out.extend_from_slice(&(target.len() as u16).to_le_bytes());
            out.extend_from_slice(target);
        }
        Body::Fifo | Body::Socket => {}
        Body::Char(r) | Body::Block(r) => {
            out.extend_from_slice(&r.major.to_le_bytes());
            out.extend_from_slice(&r.minor.to_le_bytes());
        }
    }
    put_xattrs(out, &entry.meta.xattrs);
    // One validator: what is written must be readable.
    let mut c = Cursor::new(OBJECT, out, start);
    decode(&mut c)?;
    c.end()
}

fn xattr<'a>(c: &mut Cursor<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let name = usize::from(c.u8()?);
    let value = c.u32()? as usize;
    if name == 0 || value > limits::XATTR_VALUE {
        return c.fail("xattr length out of range");
    }
    Ok((c.take(name)?, c.take(value)?))
}

/// The bytes of the xattrs and their number, checked: sorted, unique, bounded.
pub(super) fn xattrs<'a>(
    c: &mut Cursor<'a>,
    bytes: &'a [u8],
) -> Result<(&'a [u8], u16), Malformed> {
    let count = c.u16()?;
    if usize::from(count) > limits::XATTRS {
        return c.fail("too many xattrs");
    }
    let start = c.at;
    let mut last: &[u8] = b"";
    for _ in 0..count {
        let (name, _) = xattr(c)?;
        if name <= last || name.contains(&0) {
            return c.fail("xattr names not sorted, or one holds NUL");
        }
        last = name;
    }
    if c.at - start > limits::XATTRS_BYTES {
        return c.fail("xattrs too large together");
    }
    Ok((&bytes[start..c.at], count))
}

/// As [`xattrs`], copied out.
pub(super) fn xattrs_owned(c: &mut Cursor<'_>) -> Result<Xattrs, Malformed> {
    let all = c.bytes();
    let (bytes, count) = xattrs(c, all)?;
    let mut c = Cursor::new(OBJECT, bytes, 0);
    (0..count)
        .map(|_| xattr(&mut c).map(|(n, v)| (n.to_vec(), v.to_vec())))
        .collect()
}

pub(super) fn time(secs: i64, nanos: u32, c: &Cursor<'_>) -> Result<Time, Malformed> {
    if nanos >= NANOS {
        return c.fail("nanoseconds out of range");
    }
    Ok(Time { secs, nanos })
}

pub(super) fn counts(c: &mut Cursor<'_>) -> Result<Counts, Malformed> {
    let counts = Counts {
        nodes: c.u64()?,
        bytes: c.u64()?,
        entries: c.u64()?,
        subdirs: c.u64()?,
    };
    if counts.nodes >= limits::NODES
        || counts.entries > counts.nodes
        || counts.subdirs > counts.entries
        || (counts.entries == 0) != (counts.nodes == 0)
    {
        return c.fail("counts contradict each other");
    }
    Ok(counts)
}

/// True for what may name an entry: 1 to 255 bytes without "/" and NUL, not "." or "..".
pub fn name_ok(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= limits::NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(|b| *b == b'/' || *b == 0)
}

fn body<'a>(c: &mut Cursor<'a>, kind: u8) -> Result<BodyRef<'a>, Malformed> {
    Ok(match kind {
        1 => {
            let (blob, size) = (c.digest()?, c.u64()?);
            if size > limits::FILE_SIZE {
                return c.fail("file size out of range");
            }
            BodyRef::File { blob, size }
        }
        2 => BodyRef::Dir {
            digest: c.digest()?,
            counts: counts(c)?,
        },
        3 => {
            let len = usize::from(c.u16()?);
            let target = c.take(len)?;
            if len == 0 || len > limits::SYMLINK || target.contains(&0) {
                return c.fail("symlink target empty, too long or holding NUL");
            }
            BodyRef::Symlink(target)
        }
        4 => BodyRef::Fifo,
        5 => BodyRef::Socket,
        6 => BodyRef::Char(Rdev {
            major: c.u32()?,
            minor: c.u32()?,
        }),
        7 => BodyRef::Block(Rdev {
            major: c.u32()?,
            minor: c.u32()?,
        }),
        _ => return c.fail("unknown kind of node"),
    })
}

/// The record at the cursor, fully checked.
pub(super) fn decode<'a>(c: &mut Cursor<'a>) -> Result<EntryRef<'a>, Malformed> {
    let name_len = usize::from(c.u8()?);
    let kind = c.u8()?;
    let mode = u32::from(c.u16()?);
    if mode > 0o7777 {
        return c.fail("mode has more than 12 bits");
    }
    let (uid, gid) = (c.u32()?, c.u32()?);
    let (secs, nanos) = (c.i64()?, c.u32()?);
    let mtime = time(secs, nanos, c)?;
    let name = c.take(name_len)?;
    if !name_ok(name) {
        return c.fail("bad name");
    }
    let body = body(c, kind)?;
    let all = c.bytes();
    let (xattrs, xattr_count) = xattrs(c, all)?;
    Ok(EntryRef {
        name,
        mode,
        uid,
        gid,
        mtime,
        body,
        xattrs,
        xattr_count,
    })
}

/// The name of a record that has been validated.
pub(super) fn name_of(record: &[u8]) -> &[u8] {
    &record[NAME_AT..NAME_AT + usize::from(record[0])]
}

/// Where a record's name starts.
const NAME_AT: usize = 1 + 1 + 2 + 4 + 4 + 8 + 4;
