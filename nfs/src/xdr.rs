//! XDR (RFC 4506) as this crate reads it: borrowed from a record that was capped
//! first, so that no length from the wire allocates; and a growing reply.

use crate::proto::*;
use crate::vfs::Fh;

/// The arguments do not decode: GARBAGE_ARGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

pub type Decoded<T> = Result<T, Garbage>;

/// A cursor over one record.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn bytes(&mut self, n: usize) -> Decoded<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Garbage)?;
        self.rest = tail;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| Garbage)
    }

    pub fn u32(&mut self) -> Decoded<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Decoded<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn bool(&mut self) -> Decoded<bool> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Garbage),
        }
    }

    /// Variable-length opaque data of at most `max` bytes, with its padding.
    pub fn opaque(&mut self, max: usize) -> Decoded<&'a [u8]> {
        let len = self.u32()? as usize;
        if len > max {
            return Err(Garbage);
        }
        let data = self.bytes(len)?;
        self.bytes(len.wrapping_neg() & 3)?;
        Ok(data)
    }

    pub fn fh(&mut self) -> Decoded<Fh> {
        Fh::new(self.opaque(FHSIZE)?).ok_or(Garbage)
    }

    /// Opaque data as long as the record that holds it.
    pub fn unbounded(&mut self) -> Decoded<&'a [u8]> {
        self.opaque(self.rest.len())
    }

    /// A name or a symlink's target: judged by the caller, so that a long one gets
    /// NAMETOOLONG, not GARBAGE_ARGS.
    pub fn name(&mut self) -> Decoded<&'a [u8]> {
        self.unbounded()
    }

    pub fn time(&mut self) -> Decoded<nfstime3> {
        Ok(nfstime3 {
            seconds: self.u32()?,
            nseconds: self.u32()?,
        })
    }

    pub fn sattr(&mut self) -> Decoded<sattr3> {
        let mut new = sattr3::default();
        if self.bool()? {
            new.mode = set_mode3::mode(self.u32()?);
        }
        if self.bool()? {
            new.uid = set_uid3::uid(self.u32()?);
        }
        if self.bool()? {
            new.gid = set_gid3::gid(self.u32()?);
        }
        if self.bool()? {
            new.size = set_size3::size(self.u64()?);
        }
        new.atime = match self.u32()? {
            0 => set_atime::DONT_CHANGE,
            1 => set_atime::SET_TO_SERVER_TIME,
            2 => set_atime::SET_TO_CLIENT_TIME(self.time()?),
            _ => return Err(Garbage),
        };
        new.mtime = match self.u32()? {
            0 => set_mtime::DONT_CHANGE,
            1 => set_mtime::SET_TO_SERVER_TIME,
            2 => set_mtime::SET_TO_CLIENT_TIME(self.time()?),
            _ => return Err(Garbage),
        };
        Ok(new)
    }

    pub fn fattr(&mut self) -> Decoded<fattr3> {
        let ftype = match self.u32()? {
            1 => ftype3::NF3REG,
            2 => ftype3::NF3DIR,
            3 => ftype3::NF3BLK,
            4 => ftype3::NF3CHR,
            5 => ftype3::NF3LNK,
            6 => ftype3::NF3SOCK,
            7 => ftype3::NF3FIFO,
            _ => return Err(Garbage),
        };
        Ok(fattr3 {
            ftype,
            mode: self.u32()?,
            nlink: self.u32()?,
            uid: self.u32()?,
            gid: self.u32()?,
            size: self.u64()?,
            used: self.u64()?,
            rdev: specdata3 {
                specdata1: self.u32()?,
                specdata2: self.u32()?,
            },
            fsid: self.u64()?,
            fileid: self.u64()?,
            atime: self.time()?,
            mtime: self.time()?,
            ctime: self.time()?,
        })
    }

    pub fn post_op_attr(&mut self) -> Decoded<Option<fattr3>> {
        if self.bool()? {
            self.fattr().map(Some)
        } else {
            Ok(None)
        }
    }

    /// wcc_data; only the attributes afterwards matter to this crate's client.
    pub fn wcc_after(&mut self) -> Decoded<Option<fattr3>> {
        if self.bool()? {
            self.bytes(8 + 8 + 8)?;
        }
        self.post_op_attr()
    }

    pub fn post_op_fh(&mut self) -> Decoded<Option<Fh>> {
        if self.bool()? {
            self.fh().map(Some)
        } else {
            Ok(None)
        }
    }
}

/// XDR written into one growing buffer.
pub trait Put {
    fn u32(&mut self, v: u32);
    fn u64(&mut self, v: u64);
    fn bool(&mut self, v: bool) {
        self.u32(u32::from(v));
    }
    fn opaque(&mut self, bytes: &[u8]);
    /// What follows opaque data of `len` bytes.
    fn pad(&mut self, len: usize);
    /// Anything of nfsserve's vocabulary.
    fn xdr(&mut self, value: &impl XDR);
    /// fattr3 (RFC 1813 §2.5), 84 bytes.
    fn fattr(&mut self, attr: &fattr3);
    fn attr(&mut self, attr: Option<&fattr3>) {
        self.bool(attr.is_some());
        if let Some(attr) = attr {
            self.fattr(attr);
        }
    }
    fn fh(&mut self, fh: &Fh) {
        self.opaque(fh.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_be_bytes());
    }

    fn u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_be_bytes());
    }

    fn opaque(&mut self, bytes: &[u8]) {
        // Nothing in this crate is longer than a record, which is far below 2^32.
        self.u32(bytes.len() as u32);
        self.extend_from_slice(bytes);
        self.pad(bytes.len());
    }

    fn pad(&mut self, len: usize) {
        self.extend_from_slice(&[0; 3][..len.wrapping_neg() & 3]);
    }

    fn fattr(&mut self, a: &fattr3) {
        let (wide, time) = (
            |n: u64| [(n >> 32) as u32, n as u32],
            |t: &nfstime3| [t.seconds, t.nseconds],
        );
        let ([size, size_low], [used, used_low]) = (wide(a.size), wide(a.used));
        let ([fsid, fsid_low], [fileid, fileid_low]) = (wide(a.fsid), wide(a.fileid));
        let ([at, at_ns], [mt, mt_ns], [ct, ct_ns]) =
            (time(&a.atime), time(&a.mtime), time(&a.ctime));
        let words = [
            a.ftype as u32,
            a.mode,
            a.nlink,
            a.uid,
            a.gid,
            size,
            size_low,
            used,
            used_low,
            a.rdev.specdata1,
            a.rdev.specdata2,
            fsid,
            fsid_low,
            fileid,
            fileid_low,
            at,
            at_ns,
            mt,
            mt_ns,
            ct,
            ct_ns,
        ];
        let mut bytes = [0; 84];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        self.extend_from_slice(&bytes);
    }

    fn xdr(&mut self, value: &impl XDR) {
        // A Vec takes everything.
        let _ = value.serialize(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_as_the_vocabulary_has_them() {
        let time = |n| nfstime3 {
            seconds: n,
            nseconds: n + 1,
        };
        let attr = fattr3 {
            ftype: ftype3::NF3LNK,
            mode: 0o4755,
            nlink: 3,
            uid: 4,
            gid: 5,
            size: 0x0102_0304_0506_0708,
            used: 0x1112_1314_1516_1718,
            rdev: specdata3 {
                specdata1: 6,
                specdata2: 7,
            },
            fsid: 0x2122_2324_2526_2728,
            fileid: 0x3132_3334_3536_3738,
            atime: time(8),
            mtime: time(10),
            ctime: time(12),
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        ours.attr(Some(&attr));
        theirs.xdr(&post_op_attr::attributes(attr));
        assert_eq!(ours, theirs);
        assert_eq!(ours.len(), 4 + 84);
        let read = Reader::new(&ours)
            .post_op_attr()
            .expect("decodes")
            .expect("attributes");
        ours.clear();
        ours.attr(Some(&read));
        assert_eq!(ours, theirs);
    }
}
