//! `serve --read-only`: the same exports, none of which can be changed.

use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use std::os::fd::OwnedFd;
use std::sync::Arc;

const ROFS: nfsstat3 = nfsstat3::NFS3ERR_ROFS;
/// What ACCESS never grants here.
const CHANGES: u32 = access::MODIFY | access::EXTEND | access::DELETE;

pub struct ReadOnly<V>(pub Arc<V>);

impl<V: Vfs> Vfs for ReadOnly<V> {
    fn mount(&self, cx: &Cx, path: &[u8]) -> Result<Fh> {
        self.0.mount(cx, path)
    }

    fn umount(&self, cx: &Cx, path: &[u8]) {
        self.0.umount(cx, path);
    }

    fn exports(&self) -> Vec<ExportLine> {
        self.0.exports()
    }

    fn shown(&self, path: &[u8]) -> Vec<u8> {
        self.0.shown(path)
    }

    fn getattr(&self, cx: &Cx, fh: &Fh) -> Result<fattr3> {
        self.0.getattr(cx, fh)
    }

    fn setattr(&self, _: &Cx, _: &Fh, _: &sattr3, _: Option<nfstime3>) -> Result<Wcc> {
        Err(ROFS)
    }

    fn lookup(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Found> {
        self.0.lookup(cx, dir, name)
    }

    fn access(&self, cx: &Cx, fh: &Fh, want: u32) -> Result<(u32, fattr3)> {
        self.0.access(cx, fh, want & !CHANGES)
    }

    fn readlink(&self, cx: &Cx, fh: &Fh) -> Result<(Vec<u8>, fattr3)> {
        self.0.readlink(cx, fh)
    }

    fn read(&self, cx: &Cx, fh: &Fh, at: u64, count: u32, out: &mut Vec<u8>) -> Result<ReadDone> {
        self.0.read(cx, fh, at, count, out)
    }

    fn write(&self, _: &Cx, _: &Fh, _: u64, _: &[u8], _: Stable) -> Result<Written> {
        Err(ROFS)
    }

    fn create(&self, _: &Cx, _: &Fh, _: &[u8], _: &CreateHow) -> Result<Made> {
        Err(ROFS)
    }

    fn mkdir(&self, _: &Cx, _: &Fh, _: &[u8], _: &sattr3) -> Result<Made> {
        Err(ROFS)
    }

    fn symlink(&self, _: &Cx, _: &Fh, _: &[u8], _: &[u8], _: &sattr3) -> Result<Made> {
        Err(ROFS)
    }

    fn mknod(&self, _: &Cx, _: &Fh, _: &[u8], _: NodeKind, _: &sattr3) -> Result<Made> {
        Err(ROFS)
    }

    fn remove(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<Wcc> {
        Err(ROFS)
    }

    fn rmdir(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<Wcc> {
        Err(ROFS)
    }

    fn rename(&self, _: &Cx, _: &Fh, _: &[u8], _: &Fh, _: &[u8]) -> Result<(Wcc, Wcc)> {
        Err(ROFS)
    }

    fn link(&self, _: &Cx, _: &Fh, _: &Fh, _: &[u8]) -> Result<(fattr3, Wcc)> {
        Err(ROFS)
    }

    fn readdir(
        &self,
        cx: &Cx,
        dir: &Fh,
        cookie: u64,
        plus: bool,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone> {
        self.0.readdir(cx, dir, cookie, plus, emit)
    }

    fn fsstat(&self, cx: &Cx, fh: &Fh) -> Result<(FsStat, fattr3)> {
        self.0.fsstat(cx, fh)
    }

    fn fsinfo(&self, cx: &Cx, fh: &Fh) -> Result<(FsInfo, fattr3)> {
        self.0.fsinfo(cx, fh)
    }

    fn commit(&self, cx: &Cx, fh: &Fh, offset: u64, count: u32) -> Result<Wcc> {
        self.0.commit(cx, fh, offset, count)
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.0.write_verifier()
    }

    fn getxattr(&self, cx: &Cx, fh: &Fh, name: &[u8]) -> Result<Vec<u8>> {
        self.0.getxattr(cx, fh, name)
    }

    fn listxattr(&self, cx: &Cx, fh: &Fh) -> Result<Vec<Vec<u8>>> {
        self.0.listxattr(cx, fh)
    }

    fn setxattr(&self, _: &Cx, _: &Fh, _: &[u8], _: &[u8], _: XattrHow) -> Result<()> {
        Err(ROFS)
    }

    fn removexattr(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<()> {
        Err(ROFS)
    }

    fn descriptor(&self, cx: &Cx, fh: &Fh) -> Result<OwnedFd> {
        self.0.descriptor(cx, fh)
    }

    fn elsewhere(&self, fh: &Fh) -> Option<(&dyn Elsewhere, u64)> {
        // Which refuses the same.
        self.0.elsewhere(fh)
    }

    fn hurried(&self, call: &mut dyn FnMut()) {
        self.0.hurried(call);
    }
}
