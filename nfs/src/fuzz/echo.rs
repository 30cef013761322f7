//! A file system that agrees to everything and writes down what it was asked, as XDR.

use crate::proto::*;
use crate::vfs::*;
use crate::xdr::Put;
use parking_lot::Mutex;

/// Arguments encoded again, and which of their bytes are padding, of which RFC 4506 §4.10
/// says nothing that a reader must check.
#[derive(Default)]
pub struct Again {
    pub procedure: u32,
    pub bytes: Vec<u8>,
    pub padding: Vec<bool>,
}

impl Again {
    fn of(procedure: u32) -> Again {
        Again {
            procedure,
            ..Again::default()
        }
    }

    fn plain(mut self, put: impl FnOnce(&mut Vec<u8>)) -> Again {
        put(&mut self.bytes);
        self.padding.resize(self.bytes.len(), false);
        self
    }

    fn opaque(mut self, bytes: &[u8]) -> Again {
        self.bytes.opaque(bytes);
        self.padding
            .resize(self.padding.len() + 4 + bytes.len(), false);
        self.padding.resize(self.bytes.len(), true);
        self
    }

    fn fh(self, fh: &Fh) -> Again {
        self.opaque(fh.as_bytes())
    }

    fn sattr(self, attr: &sattr3) -> Again {
        self.plain(|out| out.xdr(attr))
    }

    /// True where `args` begin with these bytes.
    pub fn leads(&self, args: &[u8]) -> bool {
        let same = |(at, byte): (usize, &u8)| self.padding[at] || args.get(at) == Some(byte);
        args.len() >= self.bytes.len() && self.bytes.iter().enumerate().all(same)
    }
}

/// The first operation since it was last asked is kept.
#[derive(Default)]
pub struct Echo(Mutex<Option<Again>>);

impl Echo {
    pub fn seen(&self) -> Option<Again> {
        self.0.lock().take()
    }

    fn see(&self, again: Again) {
        self.0.lock().get_or_insert(again);
    }
}

/// Entries that every directory has.
const ENTRIES: u64 = 40;

/// What the engine promises of a name (the trait's own words).
fn check(name: &[u8], dots: bool) {
    assert!(
        !name.is_empty() && name.len() <= NAME_MAX,
        "a name's length"
    );
    assert!(
        !name.contains(&b'/') && !name.contains(&0),
        "a name's bytes"
    );
    assert!(dots || name != b"." && name != b"..", "a name of dots");
}

fn wcc() -> Wcc {
    Wcc {
        before: wcc_attr::default(),
        after: fattr3::default(),
    }
}

fn made() -> Made {
    Made {
        fh: Fh::new(&[9; 33]).unwrap_or_else(|| unreachable!("a handle")),
        attr: fattr3::default(),
        dir: wcc(),
    }
}

impl Vfs for Echo {
    fn mount(&self, _: &Cx, path: &[u8]) -> Result<Fh> {
        self.see(Again::of(1).opaque(path));
        Ok(made().fh)
    }
    fn umount(&self, _: &Cx, path: &[u8]) {
        self.see(Again::of(3).opaque(path));
    }
    fn shown(&self, path: &[u8]) -> Vec<u8> {
        path.to_vec()
    }
    fn exports(&self) -> Vec<ExportLine> {
        vec![ExportLine {
            path: b"/e".to_vec(),
            hosts: vec![b"host".to_vec(), b"10.0.0.0/8".to_vec()],
        }]
    }
    fn getattr(&self, _: &Cx, fh: &Fh) -> Result<fattr3> {
        self.see(Again::of(1).fh(fh));
        Ok(fattr3::default())
    }
    fn setattr(&self, _: &Cx, fh: &Fh, new: &sattr3, guard: Option<nfstime3>) -> Result<Wcc> {
        let again = Again::of(2).fh(fh).sattr(new).plain(|out| {
            out.bool(guard.is_some());
            if let Some(guard) = &guard {
                out.xdr(guard);
            }
        });
        self.see(again);
        Ok(wcc())
    }
    fn lookup(&self, _: &Cx, dir: &Fh, name: &[u8]) -> Result<Found> {
        check(name, true);
        self.see(Again::of(3).fh(dir).opaque(name));
        Ok(Found {
            fh: *dir,
            attr: fattr3::default(),
            dir: fattr3::default(),
        })
    }
    fn access(&self, _: &Cx, fh: &Fh, want: u32) -> Result<(u32, fattr3)> {
        self.see(Again::of(4).fh(fh).plain(|out| out.u32(want)));
        Ok((u32::MAX, fattr3::default()))
    }
    fn readlink(&self, _: &Cx, fh: &Fh) -> Result<(Vec<u8>, fattr3)> {
        self.see(Again::of(5).fh(fh));
        Ok((vec![b'x'; PATH_MAX], fattr3::default()))
    }
    fn read(
        &self,
        _: &Cx,
        fh: &Fh,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<ReadDone> {
        assert!(count <= crate::rpc::IO_MAX, "a read of {count} bytes");
        self.see(Again::of(6).fh(fh).plain(|out| {
            out.u64(offset);
            out.u32(count);
        }));
        out.resize(out.len() + count as usize, 7);
        Ok(ReadDone {
            attr: fattr3::default(),
            eof: false,
        })
    }
    fn write(&self, _: &Cx, fh: &Fh, offset: u64, data: &[u8], stable: Stable) -> Result<Written> {
        let end = offset.checked_add(data.len() as u64);
        assert!(end.is_some_and(|end| end <= i64::MAX as u64), "its end");
        let again = Again::of(7).fh(fh).plain(|out| {
            out.u64(offset);
            out.u32(data.len() as u32);
            out.u32(stable as u32);
        });
        self.see(again.opaque(data));
        Ok(Written {
            count: data.len() as u32,
            committed: stable,
            wcc: wcc(),
        })
    }
    fn create(&self, _: &Cx, dir: &Fh, name: &[u8], how: &CreateHow) -> Result<Made> {
        check(name, false);
        let again = Again::of(8).fh(dir).opaque(name).plain(|out| match how {
            CreateHow::Unchecked(attr) => {
                out.u32(0);
                out.xdr(attr);
            }
            CreateHow::Guarded(attr) => {
                out.u32(1);
                out.xdr(attr);
            }
            CreateHow::Exclusive(verifier) => {
                out.u32(2);
                out.extend_from_slice(verifier);
            }
        });
        self.see(again);
        Ok(made())
    }
    fn mkdir(&self, _: &Cx, dir: &Fh, name: &[u8], attr: &sattr3) -> Result<Made> {
        check(name, false);
        self.see(Again::of(9).fh(dir).opaque(name).sattr(attr));
        Ok(made())
    }
    fn symlink(&self, _: &Cx, dir: &Fh, name: &[u8], target: &[u8], attr: &sattr3) -> Result<Made> {
        check(name, false);
        assert!(!target.is_empty() && target.len() <= PATH_MAX && !target.contains(&0));
        let again = Again::of(10).fh(dir).opaque(name).sattr(attr);
        self.see(again.opaque(target));
        Ok(made())
    }
    fn mknod(&self, _: &Cx, dir: &Fh, name: &[u8], kind: NodeKind, attr: &sattr3) -> Result<Made> {
        check(name, false);
        let (number, device) = match kind {
            NodeKind::Block(device) => (3, Some(device)),
            NodeKind::Char(device) => (4, Some(device)),
            NodeKind::Socket => (6, None),
            NodeKind::Fifo => (7, None),
        };
        let again = Again::of(11).fh(dir).opaque(name);
        let again = again.plain(|out| out.u32(number)).sattr(attr);
        self.see(again.plain(|out| {
            if let Some(device) = &device {
                out.xdr(device);
            }
        }));
        Ok(made())
    }
    fn remove(&self, _: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc> {
        check(name, false);
        self.see(Again::of(12).fh(dir).opaque(name));
        Ok(wcc())
    }
    fn rmdir(&self, _: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc> {
        check(name, false);
        self.see(Again::of(13).fh(dir).opaque(name));
        Ok(wcc())
    }
    fn rename(&self, _: &Cx, from: &Fh, name: &[u8], to: &Fh, new: &[u8]) -> Result<(Wcc, Wcc)> {
        check(name, false);
        check(new, false);
        let again = Again::of(14).fh(from).opaque(name);
        self.see(again.fh(to).opaque(new));
        Ok((wcc(), wcc()))
    }
    fn link(&self, _: &Cx, fh: &Fh, dir: &Fh, name: &[u8]) -> Result<(fattr3, Wcc)> {
        check(name, false);
        self.see(Again::of(15).fh(fh).fh(dir).opaque(name));
        Ok((fattr3::default(), wcc()))
    }
    fn readdir(
        &self,
        _: &Cx,
        dir: &Fh,
        cookie: u64,
        plus: bool,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone> {
        let procedure = if plus { 17 } else { 16 };
        self.see(Again::of(procedure).fh(dir).plain(|out| out.u64(cookie)));
        let mut eof = true;
        for at in cookie..ENTRIES {
            let name = vec![b'n'; 1 + (at as usize * 37) % NAME_MAX];
            let entry = Entry {
                fileid: at,
                name: &name,
                cookie: at + 1,
                // One without: it went away meanwhile.
                plus: (plus && at != 3).then(|| (made().fh, fattr3::default())),
            };
            if !emit(entry) {
                eof = false;
                break;
            }
        }
        Ok(DirDone {
            attr: fattr3::default(),
            eof,
        })
    }
    fn fsstat(&self, _: &Cx, fh: &Fh) -> Result<(FsStat, fattr3)> {
        self.see(Again::of(18).fh(fh));
        Ok((FsStat::default(), fattr3::default()))
    }
    fn fsinfo(&self, _: &Cx, fh: &Fh) -> Result<(FsInfo, fattr3)> {
        // FSINFO's and PATHCONF's arguments are one.
        self.see(Again::of(19).fh(fh));
        let info = FsInfo {
            io_max: 1 << 20,
            max_file_size: 1 << 43,
            link_max: 1 << 16,
        };
        Ok((info, fattr3::default()))
    }
    fn commit(&self, _: &Cx, fh: &Fh, offset: u64, count: u32) -> Result<Wcc> {
        self.see(Again::of(21).fh(fh).plain(|out| {
            out.u64(offset);
            out.u32(count);
        }));
        Ok(wcc())
    }
    fn write_verifier(&self) -> [u8; 8] {
        [5; 8]
    }
    fn getxattr(&self, _: &Cx, fh: &Fh, name: &[u8]) -> Result<Vec<u8>> {
        assert!(!name.is_empty() && !name.contains(&0));
        self.see(Again::of(2).fh(fh).opaque(name));
        Ok(vec![b'v'; 333])
    }
    fn listxattr(&self, _: &Cx, fh: &Fh) -> Result<Vec<Vec<u8>>> {
        self.see(Again::of(3).fh(fh));
        Ok(vec![b"user.a".to_vec(), b"security.capability".to_vec()])
    }
    fn setxattr(&self, _: &Cx, fh: &Fh, name: &[u8], value: &[u8], how: XattrHow) -> Result<()> {
        assert!(!name.is_empty() && !name.contains(&0));
        let how = match how {
            XattrHow::Either => 0,
            XattrHow::Create => 1,
            XattrHow::Replace => 2,
        };
        let again = Again::of(4).fh(fh).opaque(name).opaque(value);
        self.see(again.plain(|out| out.u32(how)));
        Ok(())
    }
    fn removexattr(&self, _: &Cx, fh: &Fh, name: &[u8]) -> Result<()> {
        assert!(!name.is_empty() && !name.contains(&0));
        self.see(Again::of(5).fh(fh).opaque(name));
        Ok(())
    }
}
