//! The 22 procedures of NFSv3 (RFC 1813 §3.3): decode, ask the file system, encode.

use super::readdir;
use crate::proto::*;
use crate::vfs::*;
use crate::xdr::{Decoded, Garbage, Put, Reader};

/// What a procedure's arguments led to: results were written, or they did not decode.
pub type Answered = Decoded<()>;

const OK: u32 = 0;

/// What "." and ".." are to a procedure.
#[derive(Clone, Copy)]
enum Dots {
    /// LOOKUP's: a directory itself and the one above.
    Names,
    /// Of something new: they are there (§3.3.8 to §3.3.11).
    Taken,
    /// Of what is moved or linked (§3.3.14, §3.3.15).
    Wrong,
    /// Of what is to go (§3.3.13).
    InUse,
}

/// Refuses what no file system may see as a name (RFC 1813 §3.2, general comments on filenames).
fn check_name(name: &[u8], dots: Dots) -> Result<()> {
    use nfsstat3::{NFS3ERR_EXIST, NFS3ERR_INVAL};
    if name.len() > NAME_MAX {
        return Err(nfsstat3::NFS3ERR_NAMETOOLONG);
    }
    if name.is_empty() || name.iter().any(|b| *b == b'/' || *b == 0) {
        return Err(nfsstat3::NFS3ERR_ACCES);
    }
    match (name, dots) {
        (b"." | b"..", Dots::Taken) | (b"..", Dots::InUse) => Err(NFS3ERR_EXIST),
        (b"." | b"..", Dots::Wrong) | (b".", Dots::InUse) => Err(NFS3ERR_INVAL),
        _ => Ok(()),
    }
}

/// One call under way: the file system, who calls, and the reply.
pub struct Proc<'a> {
    pub vfs: &'a dyn Vfs,
    pub cx: Cx<'a>,
    pub out: &'a mut Vec<u8>,
    /// The file system would have waited: nothing was done, and `out` says nothing.
    pub blocked: bool,
    /// Most bytes of a READ, a WRITE or a listing on this connection, [`crate::rpc::IO_MAX`] at most.
    pub transfer: u32,
}

/// Bytes of READ3resok before its data.
const READ_HEAD: usize = 4 + 84 + 4 + 4 + 4;

impl Proc<'_> {
    /// Runs procedure `number`; `None` where there is no such procedure.
    pub fn run(&mut self, number: u32, args: &mut Reader<'_>) -> Option<Answered> {
        Some(match number {
            0 => Ok(()),
            1 => self.getattr(args),
            2 => self.setattr(args),
            3 => self.lookup(args),
            4 => self.access(args),
            5 => self.readlink(args),
            6 => self.read(args),
            7 => self.write(args),
            8 => self.create(args),
            9 => self.mkdir(args),
            10 => self.symlink(args),
            11 => self.mknod(args),
            12 => self.remove(args, false),
            13 => self.remove(args, true),
            14 => self.rename(args),
            15 => self.link(args),
            16 => readdir::readdir(self, args),
            17 => readdir::readdirplus(self, args),
            18 => self.fsstat(args),
            19 => self.fsinfo(args),
            20 => self.pathconf(args),
            21 => self.commit(args),
            _ => return None,
        })
    }

    pub fn status(&mut self, status: nfsstat3) {
        self.blocked |= self.cx.nowait && status as u32 == WOULD_BLOCK as u32;
        self.out.u32(status as u32);
    }

    /// Attributes for a failed reply: what can be had.
    fn attr_of(&self, fh: &Fh) -> Option<fattr3> {
        if self.blocked {
            return None;
        }
        self.vfs.getattr(&self.cx, fh).ok()
    }

    fn put_wcc(&mut self, wcc: &Wcc) {
        let before = &wcc.before;
        self.out.bool(true);
        self.out.u64(before.size);
        for time in [before.mtime, before.ctime] {
            self.out.u32(time.seconds);
            self.out.u32(time.nseconds);
        }
        self.out.attr(Some(&wcc.after));
    }

    /// A failure that carries wcc_data: nothing changed, so there is nothing before.
    fn fail_wcc(&mut self, status: nfsstat3, fh: &Fh) {
        self.status(status);
        self.out.bool(false);
        let attr = self.attr_of(fh);
        self.out.attr(attr.as_ref());
    }

    pub fn fail_attr(&mut self, status: nfsstat3, fh: &Fh) {
        self.status(status);
        let attr = self.attr_of(fh);
        self.out.attr(attr.as_ref());
    }

    /// §3.3.1
    fn getattr(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        match self.vfs.getattr(&self.cx, &fh) {
            Ok(attr) => {
                self.out.u32(OK);
                self.out.fattr(&attr);
            }
            Err(status) => self.status(status),
        }
        Ok(())
    }

    /// §3.3.2
    fn setattr(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        let new = args.sattr()?;
        let guard = if args.bool()? {
            Some(args.time()?)
        } else {
            None
        };
        match self.vfs.setattr(&self.cx, &fh, &new, guard) {
            Ok(wcc) => {
                self.out.u32(OK);
                self.put_wcc(&wcc);
            }
            Err(status) => self.fail_wcc(status, &fh),
        }
        Ok(())
    }

    /// §3.3.3
    fn lookup(&mut self, args: &mut Reader<'_>) -> Answered {
        let dir = args.fh()?;
        let name = args.name()?;
        let found =
            check_name(name, Dots::Names).and_then(|()| self.vfs.lookup(&self.cx, &dir, name));
        match found {
            Ok(found) => {
                self.out.u32(OK);
                self.out.fh(&found.fh);
                self.out.attr(Some(&found.attr));
                self.out.attr(Some(&found.dir));
            }
            Err(status) => self.fail_attr(status, &dir),
        }
        Ok(())
    }

    /// §3.3.4
    fn access(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        let want = args.u32()?;
        match self.vfs.access(&self.cx, &fh, want) {
            Ok((granted, attr)) => {
                self.out.u32(OK);
                self.out.attr(Some(&attr));
                self.out.u32(granted & want);
            }
            Err(status) => self.fail_attr(status, &fh),
        }
        Ok(())
    }

    /// §3.3.5
    fn readlink(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        match self.vfs.readlink(&self.cx, &fh) {
            Ok((target, attr)) => {
                self.out.u32(OK);
                self.out.attr(Some(&attr));
                self.out.opaque(&target);
            }
            Err(status) => self.fail_attr(status, &fh),
        }
        Ok(())
    }

    /// §3.3.6. The data goes straight into the reply; its lengths are filled in afterwards.
    fn read(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        let offset = args.u64()?;
        let count = args.u32()?.min(self.transfer);
        let start = self.out.len();
        self.out.u32(OK);
        // Written once it is known.
        self.out.extend_from_slice(&[0; READ_HEAD]);
        let data_at = self.out.len();
        match self.vfs.read(&self.cx, &fh, offset, count, self.out) {
            Ok(done) => {
                let got = self.out.len() - data_at;
                let end = self.out.len();
                self.put_read_head(&done, got);
                self.out.copy_within(end.., data_at - READ_HEAD);
                self.out.truncate(end);
                self.out.pad(got);
            }
            Err(status) => {
                self.out.truncate(start);
                self.fail_attr(status, &fh);
            }
        }
        Ok(())
    }

    /// READ3resok before its data: attributes, count, eof and the opaque's length.
    fn put_read_head(&mut self, done: &ReadDone, got: usize) {
        self.out.attr(Some(&done.attr));
        self.out.u32(got as u32);
        self.out.bool(done.eof);
        self.out.u32(got as u32);
    }

    /// §3.3.7
    fn write(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        let offset = args.u64()?;
        let count = args.u32()? as usize;
        let stable = match args.u32()? {
            0 => Stable::Unstable,
            1 => Stable::DataSync,
            2 => Stable::FileSync,
            _ => return Err(Garbage),
        };
        let data = args.unbounded()?;
        if data.len() != count {
            return Err(Garbage);
        }
        // More than FSINFO says is written in part.
        let data = &data[..count.min(self.transfer as usize)];
        // Of before: where another call's failure moves it meanwhile, this data may be gone too.
        let verifier = self.vfs.write_verifier();
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= i64::MAX as u64);
        let written = match end {
            Some(_) => self.vfs.write(&self.cx, &fh, offset, data, stable),
            None => Err(nfsstat3::NFS3ERR_FBIG),
        };
        match written {
            Ok(done) => {
                self.out.u32(OK);
                self.put_wcc(&done.wcc);
                self.out.u32(done.count);
                self.out.u32(done.committed as u32);
                self.out.extend_from_slice(&verifier);
            }
            Err(status) => self.fail_wcc(status, &fh),
        }
        Ok(())
    }

    fn made(&mut self, dir: &Fh, made: Result<Made>) -> Answered {
        match made {
            Ok(made) => {
                self.out.u32(OK);
                self.out.bool(true);
                self.out.fh(&made.fh);
                self.out.attr(Some(&made.attr));
                self.put_wcc(&made.dir);
            }
            Err(status) => self.fail_wcc(status, dir),
        }
        Ok(())
    }

    /// §3.3.8
    fn create(&mut self, args: &mut Reader<'_>) -> Answered {
        let dir = args.fh()?;
        let name = args.name()?;
        let how = match args.u32()? {
            0 => CreateHow::Unchecked(args.sattr()?),
            1 => CreateHow::Guarded(args.sattr()?),
            2 => CreateHow::Exclusive(args.array()?),
            _ => return Err(Garbage),
        };
        let made = check_name(name, Dots::Taken)
            .and_then(|()| self.vfs.create(&self.cx, &dir, name, &how));
        self.made(&dir, made)
    }

    /// §3.3.9
    fn mkdir(&mut self, args: &mut Reader<'_>) -> Answered {
        let dir = args.fh()?;
        let name = args.name()?;
        let attr = args.sattr()?;
        let made = check_name(name, Dots::Taken)
            .and_then(|()| self.vfs.mkdir(&self.cx, &dir, name, &attr));
        self.made(&dir, made)
    }

    /// §3.3.10
    fn symlink(&mut self, args: &mut Reader<'_>) -> Answered {
        let dir = args.fh()?;
        let name = args.name()?;
        let attr = args.sattr()?;
        let target = args.name()?;
        let made = check_name(name, Dots::Taken).and_then(|()| {
            if target.len() > PATH_MAX {
                return Err(nfsstat3::NFS3ERR_NAMETOOLONG);
            }
            if target.is_empty() || target.contains(&0) {
                return Err(nfsstat3::NFS3ERR_INVAL);
            }
            self.vfs.symlink(&self.cx, &dir, name, target, &attr)
        });
        self.made(&dir, made)
    }

    /// §3.3.11
    fn mknod(&mut self, args: &mut Reader<'_>) -> Answered {
        let dir = args.fh()?;
        let name = args.name()?;
        let kind = args.u32()?;
        let (attr, kind) = match kind {
            3 | 4 => {
                let attr = args.sattr()?;
                let device = specdata3 {
                    specdata1: args.u32()?,
                    specdata2: args.u32()?,
                };
                let kind = if kind == 3 {
                    NodeKind::Block(device)
                } else {
                    NodeKind::Char(device)
                };
                (attr, Ok(kind))
            }
            6 => (args.sattr()?, Ok(NodeKind::Socket)),
            7 => (args.sattr()?, Ok(NodeKind::Fifo)),
            1 | 2 | 5 => (sattr3::default(), Err(nfsstat3::NFS3ERR_BADTYPE)),
            _ => return Err(Garbage),
        };
        let made = check_name(name, Dots::Taken)
            .and(kind)
            .and_then(|kind| self.vfs.mknod(&self.cx, &dir, name, kind, &attr));
        self.made(&dir, made)
    }

    /// §3.3.12, §3.3.13
    fn remove(&mut self, args: &mut Reader<'_>, directory: bool) -> Answered {
        let dir = args.fh()?;
        let name = args.name()?;
        let done = check_name(name, Dots::InUse).and_then(|()| {
            if directory {
                self.vfs.rmdir(&self.cx, &dir, name)
            } else {
                self.vfs.remove(&self.cx, &dir, name)
            }
        });
        match done {
            Ok(wcc) => {
                self.out.u32(OK);
                self.put_wcc(&wcc);
            }
            Err(status) => self.fail_wcc(status, &dir),
        }
        Ok(())
    }

    /// §3.3.14
    fn rename(&mut self, args: &mut Reader<'_>) -> Answered {
        let from = args.fh()?;
        let name = args.name()?;
        let to = args.fh()?;
        let new = args.name()?;
        let done = check_name(name, Dots::Wrong)
            .and_then(|()| check_name(new, Dots::Wrong))
            .and_then(|()| self.vfs.rename(&self.cx, &from, name, &to, new));
        match done {
            Ok((a, b)) => {
                self.out.u32(OK);
                self.put_wcc(&a);
                self.put_wcc(&b);
            }
            Err(status) => {
                self.fail_wcc(status, &from);
                self.out.bool(false);
                let attr = self.attr_of(&to);
                self.out.attr(attr.as_ref());
            }
        }
        Ok(())
    }

    /// §3.3.15
    fn link(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        let dir = args.fh()?;
        let name = args.name()?;
        let done =
            check_name(name, Dots::Wrong).and_then(|()| self.vfs.link(&self.cx, &fh, &dir, name));
        match done {
            Ok((attr, wcc)) => {
                self.out.u32(OK);
                self.out.attr(Some(&attr));
                self.put_wcc(&wcc);
            }
            Err(status) => {
                self.fail_attr(status, &fh);
                self.out.bool(false);
                let attr = self.attr_of(&dir);
                self.out.attr(attr.as_ref());
            }
        }
        Ok(())
    }

    /// §3.3.18
    fn fsstat(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        match self.vfs.fsstat(&self.cx, &fh) {
            Ok((fs, attr)) => {
                self.out.u32(OK);
                self.out.attr(Some(&attr));
                for word in [
                    fs.total_bytes,
                    fs.free_bytes,
                    fs.avail_bytes,
                    fs.total_files,
                    fs.free_files,
                    fs.avail_files,
                ] {
                    self.out.u64(word);
                }
                // invarsec: it may change at any moment.
                self.out.u32(0);
            }
            Err(status) => self.fail_attr(status, &fh),
        }
        Ok(())
    }

    /// §3.3.19
    fn fsinfo(&mut self, args: &mut Reader<'_>) -> Answered {
        /// FSF3_LINK, FSF3_SYMLINK, FSF3_HOMOGENEOUS, FSF3_CANSETTIME.
        const PROPERTIES: u32 = 0x1b;
        /// Preferred READDIR size, as most clients ask.
        const DTPREF: u32 = 32 << 10;
        let fh = args.fh()?;
        match self.vfs.fsinfo(&self.cx, &fh) {
            Ok((info, attr)) => {
                let io = info.io_max.min(self.transfer);
                self.out.u32(OK);
                self.out.attr(Some(&attr));
                for word in [io, io, 4096, io, io, 4096, DTPREF] {
                    self.out.u32(word);
                }
                self.out.u64(info.max_file_size);
                // time_delta: one nanosecond.
                self.out.u32(0);
                self.out.u32(1);
                self.out.u32(PROPERTIES);
            }
            Err(status) => self.fail_attr(status, &fh),
        }
        Ok(())
    }

    /// §3.3.20
    fn pathconf(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        match self.vfs.fsinfo(&self.cx, &fh) {
            Ok((info, attr)) => {
                self.out.u32(OK);
                self.out.attr(Some(&attr));
                self.out.u32(info.link_max);
                self.out.u32(NAME_MAX as u32);
                // no_trunc, chown_restricted, case_insensitive, case_preserving.
                for flag in [true, true, false, true] {
                    self.out.bool(flag);
                }
            }
            Err(status) => self.fail_attr(status, &fh),
        }
        Ok(())
    }

    /// §3.3.21
    fn commit(&mut self, args: &mut Reader<'_>) -> Answered {
        let fh = args.fh()?;
        let offset = args.u64()?;
        let count = args.u32()?;
        match self.vfs.commit(&self.cx, &fh, offset, count) {
            Ok(wcc) => {
                self.out.u32(OK);
                self.put_wcc(&wcc);
                self.out.extend_from_slice(&self.vfs.write_verifier());
            }
            Err(status) => self.fail_wcc(status, &fh),
        }
        Ok(())
    }
}
