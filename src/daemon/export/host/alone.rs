//! Grafts as a whole NFS file system, for a process that serves nothing else ([`crate::daemon::grafter`]).

use super::super::handle::{HostFile, Name};
use super::super::vfs::IO_MAX;
use super::Grafts;
use nix::unistd::UnlinkatFlags;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Alone {
    grafts: Arc<Grafts>,
    /// Moved by each write that failed. It begins anew with each process, so clients write again what was not
    /// committed before.
    verifier: AtomicU64,
}

impl Alone {
    pub fn new(grafts: Arc<Grafts>, verifier: u64) -> Alone {
        Alone {
            grafts,
            verifier: AtomicU64::new(verifier),
        }
    }

    fn at(&self, fh: &Fh) -> Result<(u64, HostFile)> {
        match self.grafts.codec.decode(fh)? {
            Name::Host { graft, file } => Ok((graft, file)),
            _ => Err(nfsstat3::NFS3ERR_STALE),
        }
    }

    /// Two of one graft.
    fn both(&self, a: &Fh, b: &Fh) -> Result<(u64, HostFile, HostFile)> {
        let (graft, a) = self.at(a)?;
        // A handle of the store's is nothing here.
        match self.at(b) {
            Ok((other, b)) if other == graft => Ok((graft, a, b)),
            _ => Err(nfsstat3::NFS3ERR_XDEV),
        }
    }

    fn noted<T>(&self, done: Result<T>) -> Result<T> {
        if done.as_ref().is_err_and(is_of_disk) {
            self.verifier.fetch_add(1, Ordering::SeqCst);
        }
        done
    }
}

/// What was written before may be gone too.
pub fn is_of_disk(status: &nfsstat3) -> bool {
    use nfsstat3::*;
    matches!(status, NFS3ERR_IO | NFS3ERR_NOSPC | NFS3ERR_DQUOT)
}

impl Vfs for Alone {
    /// Their paths and secrets are the store's to know.
    fn mount(&self, _: &Cx, _: &[u8]) -> Result<Fh> {
        Err(nfsstat3::NFS3ERR_NOENT)
    }

    fn umount(&self, _: &Cx, _: &[u8]) {}

    fn exports(&self) -> Vec<ExportLine> {
        Vec::new()
    }

    fn shown(&self, _: &[u8]) -> Vec<u8> {
        b"/graft".to_vec()
    }

    fn getattr(&self, _: &Cx, fh: &Fh) -> Result<fattr3> {
        let (graft, file) = self.at(fh)?;
        self.grafts.getattr(graft, &file)
    }

    fn setattr(&self, cx: &Cx, fh: &Fh, new: &sattr3, guard: Option<nfstime3>) -> Result<Wcc> {
        let (graft, file) = self.at(fh)?;
        self.grafts.setattr(cx, graft, &file, new, guard)
    }

    fn lookup(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Found> {
        let (graft, dir) = self.at(dir)?;
        self.grafts.lookup(cx, graft, &dir, name)
    }

    fn access(&self, cx: &Cx, fh: &Fh, want: u32) -> Result<(u32, fattr3)> {
        let (graft, file) = self.at(fh)?;
        self.grafts.access(cx, graft, &file, want)
    }

    fn readlink(&self, _: &Cx, fh: &Fh) -> Result<(Vec<u8>, fattr3)> {
        let (graft, file) = self.at(fh)?;
        self.grafts.readlink(graft, &file)
    }

    fn read(
        &self,
        cx: &Cx,
        fh: &Fh,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<ReadDone> {
        let (graft, file) = self.at(fh)?;
        self.grafts.read(cx, graft, &file, offset, count, out)
    }

    fn write(&self, cx: &Cx, fh: &Fh, offset: u64, data: &[u8], stable: Stable) -> Result<Written> {
        let (graft, file) = self.at(fh)?;
        self.noted(self.grafts.write(cx, graft, &file, offset, data, stable))
    }

    fn create(&self, cx: &Cx, dir: &Fh, name: &[u8], how: &CreateHow) -> Result<Made> {
        let (graft, dir) = self.at(dir)?;
        self.grafts.create(cx, graft, &dir, name, how)
    }

    fn mkdir(&self, cx: &Cx, dir: &Fh, name: &[u8], attr: &sattr3) -> Result<Made> {
        let (graft, dir) = self.at(dir)?;
        self.grafts.mkdir(cx, graft, &dir, name, attr)
    }

    fn symlink(
        &self,
        cx: &Cx,
        dir: &Fh,
        name: &[u8],
        target: &[u8],
        attr: &sattr3,
    ) -> Result<Made> {
        let (graft, dir) = self.at(dir)?;
        self.grafts.symlink(cx, graft, &dir, name, target, attr)
    }

    fn mknod(&self, cx: &Cx, dir: &Fh, name: &[u8], kind: NodeKind, attr: &sattr3) -> Result<Made> {
        let (graft, dir) = self.at(dir)?;
        self.grafts.mknod(cx, graft, &dir, name, kind, attr)
    }

    fn remove(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc> {
        let (graft, dir) = self.at(dir)?;
        let what = UnlinkatFlags::NoRemoveDir;
        self.grafts.unlink(cx, graft, &dir, name, what)
    }

    fn rmdir(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc> {
        let (graft, dir) = self.at(dir)?;
        let what = UnlinkatFlags::RemoveDir;
        self.grafts.unlink(cx, graft, &dir, name, what)
    }

    fn rename(&self, cx: &Cx, from: &Fh, name: &[u8], to: &Fh, new: &[u8]) -> Result<(Wcc, Wcc)> {
        let (graft, from, to) = self.both(from, to)?;
        self.grafts.rename(cx, graft, &from, name, &to, new)
    }

    fn link(&self, cx: &Cx, fh: &Fh, dir: &Fh, name: &[u8]) -> Result<(fattr3, Wcc)> {
        let (graft, file, dir) = self.both(fh, dir)?;
        self.grafts.link(cx, graft, &file, &dir, name)
    }

    fn readdir(
        &self,
        cx: &Cx,
        dir: &Fh,
        cookie: u64,
        plus: bool,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone> {
        let (graft, dir) = self.at(dir)?;
        self.grafts.readdir(cx, graft, &dir, cookie, plus, emit)
    }

    fn fsstat(&self, _: &Cx, fh: &Fh) -> Result<(FsStat, fattr3)> {
        let (graft, file) = self.at(fh)?;
        self.grafts.fsstat(graft, &file)
    }

    fn fsinfo(&self, _: &Cx, fh: &Fh) -> Result<(FsInfo, fattr3)> {
        let (graft, file) = self.at(fh)?;
        self.grafts.fsinfo(graft, &file, IO_MAX)
    }

    fn commit(&self, _: &Cx, fh: &Fh, _: u64, _: u32) -> Result<Wcc> {
        let (graft, file) = self.at(fh)?;
        self.noted(self.grafts.commit(graft, &file))
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.verifier.load(Ordering::SeqCst).to_be_bytes()
    }

    fn getxattr(&self, _: &Cx, fh: &Fh, name: &[u8]) -> Result<Vec<u8>> {
        let (graft, file) = self.at(fh)?;
        self.grafts.getxattr(graft, &file, name)
    }

    fn listxattr(&self, _: &Cx, fh: &Fh) -> Result<Vec<Vec<u8>>> {
        let (graft, file) = self.at(fh)?;
        self.grafts.listxattr(graft, &file)
    }

    fn setxattr(&self, cx: &Cx, fh: &Fh, name: &[u8], value: &[u8], how: XattrHow) -> Result<()> {
        let (graft, file) = self.at(fh)?;
        self.grafts.setxattr(cx, graft, &file, name, value, how)
    }

    fn removexattr(&self, cx: &Cx, fh: &Fh, name: &[u8]) -> Result<()> {
        let (graft, file) = self.at(fh)?;
        self.grafts.removexattr(cx, graft, &file, name)
    }
}
