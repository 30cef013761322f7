//! Fixed-width integers in and out of bytes, with bounds checked.

use crate::types::Digest;

pub(super) const MAGIC: &[u8; 4] = b"PKRD";
pub(super) const VERSION: u8 = 1;
pub(super) const PAGE: u8 = 1;
pub(super) const INDEX: u8 = 2;
pub(super) const SNAPSHOT: u8 = 3;
/// Magic, version, kind and two zero bytes.
pub(super) const PREFIX: usize = 8;

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {object} at byte {at}: {why}")]
pub struct Malformed {
    /// What the bytes were taken for.
    pub object: &'static str,
    pub at: usize,
    pub why: &'static str,
}

impl Malformed {
    pub(crate) fn new(object: &'static str, at: usize, why: &'static str) -> Malformed {
        Malformed { object, at, why }
    }
}

pub(super) fn prefix(out: &mut Vec<u8>, kind: u8) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind, 0, 0]);
}

/// The kind of an object of a version that is understood here.
pub(super) fn kind_of(bytes: &[u8]) -> Result<u8, Malformed> {
    let bad = |at, why| Err(Malformed::new("object", at, why));
    if bytes.len() < PREFIX {
        return bad(bytes.len(), "ends within its header");
    }
    if &bytes[..4] != MAGIC {
        return bad(0, "wrong magic");
    }
    if bytes[4] != VERSION {
        return bad(4, "unknown version");
    }
    if bytes[6..8] != [0, 0] {
        return bad(6, "reserved bytes are not zero");
    }
    Ok(bytes[5])
}

/// Reads fields in order; every length is checked against what is left.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pub at: usize,
    object: &'static str,
}

impl<'a> Cursor<'a> {
    pub fn new(object: &'static str, bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { bytes, at, object }
    }

    pub fn fail<T>(&self, why: &'static str) -> Result<T, Malformed> {
        Err(Malformed::new(self.object, self.at, why))
    }

    /// All bytes, from the start.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        if self.left() < n {
            return self.fail("ends within a field");
        }
        let field = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub fn digest(&mut self) -> Result<Digest, Malformed> {
        Ok(Digest(self.array()?))
    }

    pub fn end(&self) -> Result<(), Malformed> {
        if self.left() != 0 {
            return self.fail("bytes after the end");
        }
        Ok(())
    }
}

/// A field at a place that parsing has validated.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

/// As [`u32_at`].
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}
