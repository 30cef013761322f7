//! The NFS file system: each call goes to the tree its handle names.

use super::at::{At, ROFS, STALE, change, wcc, work_attr};
use super::granted::granted;
use super::handle::Name;
use super::host::is_of_disk;
use super::{Exports, convert};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use pocker_store::tree::Tree;
use pocker_store::types::{self as st, ROOT};
use pocker_store::work::{LINK_MAX, MAX_FILE, WorkClass};
use std::os::fd::OwnedFd;

/// Largest READ and WRITE: a power of two, as some clients need.
pub(super) const IO_MAX: u32 = 1 << 20;

impl Vfs for Exports {
    fn elsewhere(&self, fh: &Fh) -> Option<(&dyn Elsewhere, u64)> {
        let grafter = self.grafter.as_deref()?;
        match self.codec.decode(fh) {
            Ok(Name::Host { graft, .. }) => Some((grafter.channels(), graft)),
            _ => None,
        }
    }

    fn hurried(&self, call: &mut dyn FnMut()) {
        pocker_store::without_waiting(call);
    }

    fn mount(&self, _cx: &Cx, path: &[u8]) -> Result<Fh> {
        // An unknown path and a wrong secret look the same.
        self.resolve(path).ok_or(nfsstat3::NFS3ERR_NOENT)
    }

    fn umount(&self, _cx: &Cx, _path: &[u8]) {}

    fn shown(&self, path: &[u8]) -> Vec<u8> {
        // kind, id and secret: the last one is shown to nobody.
        let mut slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
        match slashes.nth(2) {
            Some((at, _)) if !path.starts_with(b"/chroot/") => path[..at].to_vec(),
            _ => path.to_vec(),
        }
    }

    fn exports(&self) -> Vec<ExportLine> {
        // Writable exports are reached by their secret only and are not told.
        vec![ExportLine {
            path: b"/chroot".to_vec(),
            hosts: Vec::new(),
        }]
    }

    fn getattr(&self, cx: &Cx, fh: &Fh) -> Result<fattr3> {
        match self.at(cx, fh)? {
            At::Sealed {
                tree, row, node, ..
            } => {
                let attr = tree.getattr(node).map_err(convert::status)?;
                Ok(Exports::row_attr(row, &attr))
            }
            At::Work { tree, id, node } => {
                Ok(work_attr(id, &tree.getattr(node).map_err(convert::status)?))
            }
            At::Synthetic(id) => self.synthetic_attr(id),
            At::Host(graft, file) => self.grafts.getattr(graft, &file),
        }
    }

    fn setattr(&self, cx: &Cx, fh: &Fh, new: &sattr3, guard: Option<nfstime3>) -> Result<Wcc> {
        if let At::Host(graft, file) = self.at(cx, fh)? {
            return self.grafts.setattr(cx, graft, &file, new, guard);
        }
        let (tree, id, node) = self.work(cx, fh)?;
        let new = convert::set_attr(new);
        let guard = guard.map(convert::guard_time);
        let changed = change(cx, |op| tree.setattr(op, node, &new, guard))?;
        Ok(wcc(id, &changed.wcc))
    }

    fn lookup(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Found> {
        let creds = convert::creds(cx.caller);
        match self.at(cx, dir)? {
            At::Sealed {
                row,
                node: ROOT,
                name: owner,
                tree,
            } if name == b".." => {
                // Above a step's root is its pocker's directory in the view.
                let attr = tree.getattr(ROOT).map_err(convert::status)?;
                let id = self
                    .browse
                    .read()
                    .names
                    .get(&owner)
                    .map(|r| r.id)
                    .ok_or(STALE)?;
                let fh = self.codec.encode(&Name::Synthetic { id });
                let dir = Exports::row_attr(row, &attr);
                Ok(Found {
                    fh,
                    attr: self.synthetic_attr(id)?,
                    dir,
                })
            }
            At::Sealed {
                tree, row, node, ..
            } => {
                let found = tree.lookup(&creds, node, name).map_err(convert::status)?;
                Ok(Found {
                    fh: self.row_handle(row, found.node.node),
                    attr: Exports::row_attr(row, &found.node),
                    dir: Exports::row_attr(row, &found.dir),
                })
            }
            At::Work { tree, id, node } => {
                let found = tree.lookup(&creds, node, name).map_err(convert::status)?;
                Ok(Found {
                    fh: self.work_handle(id, found.node.node),
                    attr: work_attr(id, &found.node),
                    dir: work_attr(id, &found.dir),
                })
            }
            At::Synthetic(id) => self.synthetic_lookup(id, name),
            At::Host(graft, file) => self.grafts.lookup(cx, graft, &file, name),
        }
    }

    fn access(&self, cx: &Cx, fh: &Fh, want: u32) -> Result<(u32, fattr3)> {
        if let At::Host(graft, file) = self.at(cx, fh)? {
            return self.grafts.access(cx, graft, &file, want);
        }
        let attr = self.getattr(cx, fh)?;
        let writable = matches!(self.at(cx, fh)?, At::Work { id, .. } if !id.read_only());
        Ok((granted(cx.caller, &attr, writable) & want, attr))
    }

    fn readlink(&self, cx: &Cx, fh: &Fh) -> Result<(Vec<u8>, fattr3)> {
        match self.at(cx, fh)? {
            At::Sealed {
                tree, row, node, ..
            } => {
                let (target, attr) = tree.readlink(node).map_err(convert::status)?;
                Ok((target, Exports::row_attr(row, &attr)))
            }
            At::Work { tree, id, node } => {
                let (target, attr) = tree.readlink(node).map_err(convert::status)?;
                Ok((target, work_attr(id, &attr)))
            }
            At::Synthetic(id) => self.synthetic_readlink(id),
            At::Host(graft, file) => self.grafts.readlink(graft, &file),
        }
    }

    fn read(
        &self,
        cx: &Cx,
        fh: &Fh,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<ReadDone> {
        let creds = convert::creds(cx.caller);
        match self.at(cx, fh)? {
            At::Sealed {
                tree, row, node, ..
            } => {
                let done = tree
                    .read(&creds, node, offset, count, out)
                    .map_err(convert::status)?;
                Ok(ReadDone {
                    attr: Exports::row_attr(row, &done.attr),
                    eof: done.eof,
                })
            }
            At::Work { tree, id, node } => {
                let done = tree
                    .read(&creds, node, offset, count, out)
                    .map_err(convert::status)?;
                Ok(ReadDone {
                    attr: work_attr(id, &done.attr),
                    eof: done.eof,
                })
            }
            At::Synthetic(_) => Err(nfsstat3::NFS3ERR_ISDIR),
            At::Host(graft, file) => self.grafts.read(cx, graft, &file, offset, count, out),
        }
    }

    fn write(&self, cx: &Cx, fh: &Fh, offset: u64, data: &[u8], stable: Stable) -> Result<Written> {
        if let At::Host(graft, file) = self.at(cx, fh)? {
            let done = self.grafts.write(cx, graft, &file, offset, data, stable);
            return self.noted(done);
        }
        let (tree, id, node) = self.work(cx, fh)?;
        let stable = match tree.is_volume() {
            true => stable,
            // A work tree is thrown away with the machine, so its writes are as stable
            // as it will ever be: what NFS calls FILE_SYNC (design: Durability).
            false => Stable::FileSync,
        };
        let sync = tree.is_volume() && stable != Stable::Unstable;
        if sync && !pocker_store::may_wait() {
            return Err(WOULD_BLOCK);
        }
        let done = self.noted(change(cx, |op| tree.write(op, node, offset, data)))?;
        if sync {
            self.noted(tree.commit(node).map_err(convert::status))?;
        }
        Ok(Written {
            count: data.len() as u32,
            committed: match stable {
                Stable::Unstable => Stable::Unstable,
                Stable::DataSync | Stable::FileSync => Stable::FileSync,
            },
            wcc: wcc(id, &done.wcc),
        })
    }

    fn create(&self, cx: &Cx, dir: &Fh, name: &[u8], how: &CreateHow) -> Result<Made> {
        if let At::Host(graft, file) = self.at(cx, dir)? {
            return self.grafts.create(cx, graft, &file, name, how);
        }
        let (tree, id, node) = self.work(cx, dir)?;
        let (how, attr) = match how {
            CreateHow::Unchecked(attr) => (st::Create::Unchecked, convert::set_attr(attr)),
            CreateHow::Guarded(attr) => (st::Create::Guarded, convert::set_attr(attr)),
            CreateHow::Exclusive(v) => (st::Create::Exclusive(*v), st::SetAttr::default()),
        };
        let changed = change(cx, |op| tree.create(op, node, name, how, &attr))?;
        Ok(self.made(id, &changed))
    }

    fn mkdir(&self, cx: &Cx, dir: &Fh, name: &[u8], attr: &sattr3) -> Result<Made> {
        if let At::Host(graft, file) = self.at(cx, dir)? {
            return self.grafts.mkdir(cx, graft, &file, name, attr);
        }
        let (tree, id, node) = self.work(cx, dir)?;
        let attr = convert::set_attr(attr);
        let changed = change(cx, |op| tree.mkdir(op, node, name, &attr))?;
        Ok(self.made(id, &changed))
    }

    fn symlink(
        &self,
        cx: &Cx,
        dir: &Fh,
        name: &[u8],
        target: &[u8],
        attr: &sattr3,
    ) -> Result<Made> {
        if let At::Host(graft, file) = self.at(cx, dir)? {
            return self.grafts.symlink(cx, graft, &file, name, target, attr);
        }
        let (tree, id, node) = self.work(cx, dir)?;
        let attr = convert::set_attr(attr);
        let changed = change(cx, |op| tree.symlink(op, node, name, target, &attr))?;
        Ok(self.made(id, &changed))
    }

    fn mknod(&self, cx: &Cx, dir: &Fh, name: &[u8], kind: NodeKind, attr: &sattr3) -> Result<Made> {
        if let At::Host(graft, file) = self.at(cx, dir)? {
            return self.grafts.mknod(cx, graft, &file, name, kind, attr);
        }
        let (tree, id, node) = self.work(cx, dir)?;
        let rdev = |d: specdata3| st::Rdev {
            major: d.specdata1,
            minor: d.specdata2,
        };
        let (kind, rdev) = match kind {
            NodeKind::Fifo => (st::Kind::Fifo, st::Rdev::default()),
            NodeKind::Socket => (st::Kind::Socket, st::Rdev::default()),
            // Devices come from bases and builds; a running pocker makes none.
            NodeKind::Char(_) | NodeKind::Block(_) if tree.class() != WorkClass::Build => {
                return Err(nfsstat3::NFS3ERR_PERM);
            }
            NodeKind::Char(d) => (st::Kind::Char, rdev(d)),
            NodeKind::Block(d) => (st::Kind::Block, rdev(d)),
        };
        let attr = convert::set_attr(attr);
        let changed = change(cx, |op| tree.mknod(op, node, name, kind, rdev, &attr))?;
        Ok(self.made(id, &changed))
    }

    fn remove(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc> {
        if let At::Host(graft, file) = self.at(cx, dir)? {
            let what = nix::unistd::UnlinkatFlags::NoRemoveDir;
            return self.grafts.unlink(cx, graft, &file, name, what);
        }
        let (tree, id, node) = self.work(cx, dir)?;
        Ok(wcc(id, &change(cx, |op| tree.remove(op, node, name))?.wcc))
    }

    fn rmdir(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc> {
        if let At::Host(graft, file) = self.at(cx, dir)? {
            let what = nix::unistd::UnlinkatFlags::RemoveDir;
            return self.grafts.unlink(cx, graft, &file, name, what);
        }
        let (tree, id, node) = self.work(cx, dir)?;
        Ok(wcc(id, &change(cx, |op| tree.rmdir(op, node, name))?.wcc))
    }

    fn rename(&self, cx: &Cx, from: &Fh, name: &[u8], to: &Fh, new: &[u8]) -> Result<(Wcc, Wcc)> {
        match (self.at(cx, from)?, self.at(cx, to)?) {
            (At::Host(a, from), At::Host(b, to)) if a == b => {
                self.grafts.rename(cx, a, &from, name, &to, new)
            }
            (
                At::Work { tree, id, node },
                At::Work {
                    id: other,
                    node: target,
                    ..
                },
            ) if id == other && !id.read_only() => {
                let changed = change(cx, |op| tree.rename(op, node, name, target, new))?;
                let from = wcc(id, &changed.wcc);
                Ok((from, changed.to.as_ref().map_or(from, |to| wcc(id, to))))
            }
            (At::Sealed { .. } | At::Synthetic(_), _) => Err(ROFS),
            (At::Work { id, .. }, _) if id.read_only() => Err(ROFS),
            _ => Err(nfsstat3::NFS3ERR_XDEV),
        }
    }

    fn link(&self, cx: &Cx, fh: &Fh, dir: &Fh, name: &[u8]) -> Result<(fattr3, Wcc)> {
        match (self.at(cx, fh)?, self.at(cx, dir)?) {
            (At::Host(a, file), At::Host(b, dir)) if a == b => {
                self.grafts.link(cx, a, &file, &dir, name)
            }
            (
                At::Work { tree, id, node },
                At::Work {
                    id: other,
                    node: target,
                    ..
                },
            ) if id == other && !id.read_only() => {
                let changed = change(cx, |op| tree.link(op, node, target, name))?;
                Ok((work_attr(id, &changed.node), wcc(id, &changed.wcc)))
            }
            (_, At::Sealed { .. } | At::Synthetic(_)) => Err(ROFS),
            (_, At::Work { id, .. }) if id.read_only() => Err(ROFS),
            _ => Err(nfsstat3::NFS3ERR_XDEV),
        }
    }

    fn readdir(
        &self,
        cx: &Cx,
        dir: &Fh,
        cookie: u64,
        plus: bool,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone> {
        let creds = convert::creds(cx.caller);
        match self.at(cx, dir)? {
            At::Sealed {
                tree, row, node, ..
            } => {
                let done = tree.readdir(&creds, node, cookie, plus, &mut |e| {
                    let found = e
                        .attr
                        .map(|a| (self.row_handle(row, e.node), Exports::row_attr(row, &a)));
                    let fileid = Exports::browse_fileid(row, e.node);
                    emit(Entry {
                        fileid,
                        name: e.name,
                        cookie: e.cookie,
                        plus: found,
                    })
                });
                let done = done.map_err(convert::status)?;
                Ok(DirDone {
                    attr: Exports::row_attr(row, &done.attr),
                    eof: done.eof,
                })
            }
            At::Work { tree, id, node } => {
                let done = tree.readdir(&creds, node, cookie, plus, &mut |e| {
                    let found = e
                        .attr
                        .map(|a| (self.work_handle(id, e.node), work_attr(id, &a)));
                    emit(Entry {
                        fileid: e.node,
                        name: e.name,
                        cookie: e.cookie,
                        plus: found,
                    })
                });
                let done = done.map_err(convert::status)?;
                Ok(DirDone {
                    attr: work_attr(id, &done.attr),
                    eof: done.eof,
                })
            }
            At::Synthetic(id) => self.synthetic_readdir(id, cookie, plus, emit),
            At::Host(graft, file) => self.grafts.readdir(cx, graft, &file, cookie, plus, emit),
        }
    }

    fn fsstat(&self, cx: &Cx, fh: &Fh) -> Result<(FsStat, fattr3)> {
        if let At::Host(graft, file) = self.at(cx, fh)? {
            return self.grafts.fsstat(graft, &file);
        }
        let attr = self.getattr(cx, fh)?;
        let space = match self.at(cx, fh)? {
            At::Work { tree, .. } => tree.space().map_err(convert::status)?,
            _ => self.store.statfs().map_err(|_| nfsstat3::NFS3ERR_IO)?,
        };
        let stat = FsStat {
            total_bytes: space.total_bytes,
            free_bytes: space.free_bytes,
            avail_bytes: space.avail_bytes,
            total_files: space.total_files,
            free_files: space.free_files,
            avail_files: space.free_files,
        };
        Ok((stat, attr))
    }

    fn fsinfo(&self, cx: &Cx, fh: &Fh) -> Result<(FsInfo, fattr3)> {
        if let At::Host(graft, file) = self.at(cx, fh)? {
            return self.grafts.fsinfo(graft, &file, IO_MAX);
        }
        let attr = self.getattr(cx, fh)?;
        Ok((
            FsInfo {
                io_max: IO_MAX,
                max_file_size: MAX_FILE,
                link_max: LINK_MAX,
            },
            attr,
        ))
    }

    fn commit(&self, cx: &Cx, fh: &Fh, _offset: u64, _count: u32) -> Result<Wcc> {
        if let At::Host(graft, file) = self.at(cx, fh)? {
            return self.noted(self.grafts.commit(graft, &file));
        }
        if let At::Work { tree, id, node } = self.at(cx, fh)?
            && tree.is_volume()
        {
            let done = self.noted(tree.commit(node).map_err(convert::status))?;
            return Ok(wcc(id, &done.wcc));
        }
        // Every WRITE to others was answered FILE_SYNC: there is nothing unstable.
        let attr = self.getattr(cx, fh)?;
        let before = wcc_attr {
            size: attr.size,
            mtime: attr.mtime,
            ctime: attr.ctime,
        };
        Ok(Wcc {
            before,
            after: attr,
        })
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.store.write_verifier()
    }

    fn getxattr(&self, cx: &Cx, fh: &Fh, name: &[u8]) -> Result<Vec<u8>> {
        match self.at(cx, fh)? {
            At::Sealed { tree, node, .. } => tree.getxattr(node, name).map_err(convert::status),
            At::Work { tree, node, .. } => tree.getxattr(node, name).map_err(convert::status),
            At::Synthetic(_) => Err(nfsstat3::NFS3ERR_NOENT),
            At::Host(graft, file) => self.grafts.getxattr(graft, &file, name),
        }
    }

    fn listxattr(&self, cx: &Cx, fh: &Fh) -> Result<Vec<Vec<u8>>> {
        match self.at(cx, fh)? {
            At::Sealed { tree, node, .. } => tree.listxattr(node).map_err(convert::status),
            At::Work { tree, node, .. } => tree.listxattr(node).map_err(convert::status),
            At::Synthetic(_) => Ok(Vec::new()),
            At::Host(graft, file) => self.grafts.listxattr(graft, &file),
        }
    }

    fn setxattr(&self, cx: &Cx, fh: &Fh, name: &[u8], value: &[u8], how: XattrHow) -> Result<()> {
        if let At::Host(graft, file) = self.at(cx, fh)? {
            return self.grafts.setxattr(cx, graft, &file, name, value, how);
        }
        let (tree, _, node) = self.work(cx, fh)?;
        let how = match how {
            XattrHow::Either => pocker_store::work::XattrHow::Either,
            XattrHow::Create => pocker_store::work::XattrHow::Create,
            XattrHow::Replace => pocker_store::work::XattrHow::Replace,
        };
        change(cx, |op| tree.setxattr(op, node, name, value, how)).map(drop)
    }

    fn removexattr(&self, cx: &Cx, fh: &Fh, name: &[u8]) -> Result<()> {
        if let At::Host(graft, file) = self.at(cx, fh)? {
            return self.grafts.removexattr(cx, graft, &file, name);
        }
        let (tree, _, node) = self.work(cx, fh)?;
        change(cx, |op| tree.removexattr(op, node, name)).map(drop)
    }

    fn descriptor(&self, cx: &Cx, fh: &Fh) -> Result<OwnedFd> {
        let At::Sealed { tree, node, .. } = self.at(cx, fh)? else {
            return Err(nfsstat3::NFS3ERR_NOTSUPP);
        };
        let file = tree.file(&convert::creds(cx.caller), node);
        let file = file.map_err(convert::status)?;
        file.map(OwnedFd::from).ok_or(nfsstat3::NFS3ERR_NOTSUPP)
    }
}

impl Exports {
    /// A failed write or fsync moves the write verifier: clients send again what may be gone.
    fn noted<T>(&self, done: Result<T>) -> Result<T> {
        if done.as_ref().is_err_and(is_of_disk)
            && let Err(e) = self.store.bump_error_epoch()
        {
            tracing::error!("cannot move the write verifier after a failed write: {e}");
        }
        done
    }
}
