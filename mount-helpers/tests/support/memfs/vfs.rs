//! The file system as the engine calls it.

use super::*;

impl Vfs for MemFs {
    fn mount(&self, _: &Cx, path: &[u8]) -> Result<Fh> {
        match path {
            b"/t" => Ok(fh(ROOT)),
            _ => Err(nfsstat3::NFS3ERR_NOENT),
        }
    }

    fn umount(&self, _: &Cx, _: &[u8]) {}

    fn shown(&self, path: &[u8]) -> Vec<u8> {
        path.to_vec()
    }
    fn exports(&self) -> Vec<ExportLine> {
        Vec::new()
    }

    fn getattr(&self, _: &Cx, fh: &Fh) -> Result<fattr3> {
        self.served("getattr");
        Ok(self.state.lock().node(fh)?.attr)
    }

    fn setattr(&self, cx: &Cx, fh: &Fh, new: &sattr3, _: Option<nfstime3>) -> Result<Wcc> {
        self.once(cx, "setattr", |s| {
            let node = s.node(fh)?;
            let before = node.attr;
            apply(&mut node.attr, new);
            let id = node.attr.fileid;
            if let set_size3::size(size) = new.size {
                node.data.resize(size as usize, 0);
                node.attr.size = size;
            }
            let sized = matches!(new.size, set_size3::size(_));
            let after = s.changed(id, sized).after;
            Ok(wcc(&before, &after))
        })
    }

    fn lookup(&self, _: &Cx, dir: &Fh, name: &[u8]) -> Result<Found> {
        self.served("lookup");
        let mut s = self.state.lock();
        let d = s.dir(dir)?;
        let (parent, dir_attr) = (d.parent, d.attr);
        let id = match name {
            b"." => dir_attr.fileid,
            b".." => parent,
            _ => d.kid(name).ok_or(nfsstat3::NFS3ERR_NOENT)?.1,
        };
        Ok(Found {
            fh: fh(id),
            attr: s.nodes[&id].attr,
            dir: dir_attr,
        })
    }

    fn access(&self, _: &Cx, fh: &Fh, want: u32) -> Result<(u32, fattr3)> {
        Ok((want, self.state.lock().node(fh)?.attr))
    }

    fn readlink(&self, _: &Cx, fh: &Fh) -> Result<(Vec<u8>, fattr3)> {
        self.served("readlink");
        let mut s = self.state.lock();
        let node = s.node(fh)?;
        Ok((node.data.clone(), node.attr))
    }

    fn read(
        &self,
        _: &Cx,
        fh: &Fh,
        offset: u64,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<ReadDone> {
        self.served("read");
        let mut s = self.state.lock();
        let node = s.node(fh)?;
        let from = (offset as usize).min(node.data.len());
        let to = (from + count as usize).min(node.data.len());
        out.extend_from_slice(&node.data[from..to]);
        Ok(ReadDone {
            attr: node.attr,
            eof: to == node.data.len(),
        })
    }

    fn write(&self, _: &Cx, fh: &Fh, offset: u64, data: &[u8], stable: Stable) -> Result<Written> {
        self.served("write");
        let mut s = self.state.lock();
        let node = s.node(fh)?;
        // Short, as a server may be.
        let data = &data[..data.len().min(300_000)];
        let end = offset as usize + data.len();
        if node.data.len() < end {
            node.data.resize(end, 0);
        }
        node.data[offset as usize..end].copy_from_slice(data);
        node.attr.size = node.data.len() as u64;
        node.attr.used = node.attr.size;
        let id = node.attr.fileid;
        let wcc = s.changed(id, true);
        Ok(Written {
            count: data.len() as u32,
            committed: stable,
            wcc,
        })
    }

    fn create(&self, cx: &Cx, dir: &Fh, name: &[u8], how: &CreateHow) -> Result<Made> {
        let CreateHow::Guarded(new) = *how else {
            return Err(nfsstat3::NFS3ERR_NOTSUPP);
        };
        self.once(cx, "create", |s| {
            s.make(dir, name, ftype3::NF3REG, &new, Vec::new())
        })
    }

    fn mkdir(&self, cx: &Cx, dir: &Fh, name: &[u8], attr: &sattr3) -> Result<Made> {
        self.once(cx, "mkdir", |s| {
            s.make(dir, name, ftype3::NF3DIR, attr, Vec::new())
        })
    }

    fn symlink(
        &self,
        cx: &Cx,
        dir: &Fh,
        name: &[u8],
        target: &[u8],
        attr: &sattr3,
    ) -> Result<Made> {
        self.once(cx, "symlink", |s| {
            s.make(dir, name, ftype3::NF3LNK, attr, target.to_vec())
        })
    }

    fn mknod(&self, cx: &Cx, dir: &Fh, name: &[u8], kind: NodeKind, attr: &sattr3) -> Result<Made> {
        self.once(cx, "mknod", |s| {
            let (kind, dev) = match kind {
                NodeKind::Fifo => (ftype3::NF3FIFO, specdata3::default()),
                NodeKind::Socket => (ftype3::NF3SOCK, specdata3::default()),
                NodeKind::Char(dev) => (ftype3::NF3CHR, dev),
                NodeKind::Block(dev) => (ftype3::NF3BLK, dev),
            };
            let mut made = s.make(dir, name, kind, attr, Vec::new())?;
            s.node(&made.fh)?.attr.rdev = dev;
            made.attr.rdev = dev;
            Ok(made)
        })
    }

    fn remove(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc> {
        self.once(cx, "remove", |s| {
            s.take(dir, name)?;
            let id = s.dir(dir)?.attr.fileid;
            Ok(s.changed(id, true))
        })
    }

    fn rmdir(&self, cx: &Cx, dir: &Fh, name: &[u8]) -> Result<Wcc> {
        self.once(cx, "rmdir", |s| {
            let (_, id) = s.dir(dir)?.kid(name).ok_or(nfsstat3::NFS3ERR_NOENT)?;
            if !s.nodes[&id].kids.is_empty() {
                return Err(nfsstat3::NFS3ERR_NOTEMPTY);
            }
            s.take(dir, name)?;
            let id = s.dir(dir)?.attr.fileid;
            Ok(s.changed(id, true))
        })
    }

    fn rename(&self, cx: &Cx, from: &Fh, name: &[u8], to: &Fh, new: &[u8]) -> Result<(Wcc, Wcc)> {
        self.once(cx, "rename", |s| {
            let (cookie, id) = s.dir(from)?.kid(name).ok_or(nfsstat3::NFS3ERR_NOENT)?;
            let there = s.dir(to)?.kid(new);
            let (a, b) = (s.dir(from)?.attr.fileid, s.dir(to)?.attr.fileid);
            if there.map(|t| t.1) != Some(id) {
                if there.is_some() {
                    s.take(to, new)?;
                }
                s.dir(from)?.kids.remove(&cookie);
                s.add(b, new, id);
                let is_dir = matches!(s.nodes[&id].attr.ftype, ftype3::NF3DIR);
                if is_dir && a != b {
                    s.nodes.get_mut(&a).unwrap().attr.nlink -= 1;
                    s.nodes.get_mut(&b).unwrap().attr.nlink += 1;
                    s.nodes.get_mut(&id).unwrap().parent = b;
                }
                s.changed(id, false);
            }
            Ok((s.changed(a, true), s.changed(b, true)))
        })
    }

    fn link(&self, cx: &Cx, fh: &Fh, dir: &Fh, name: &[u8]) -> Result<(fattr3, Wcc)> {
        self.once(cx, "link", |s| {
            if s.dir(dir)?.kid(name).is_some() {
                return Err(nfsstat3::NFS3ERR_EXIST);
            }
            let parent = s.dir(dir)?.attr.fileid;
            let node = s.node(fh)?;
            node.attr.nlink += 1;
            let id = node.attr.fileid;
            s.add(parent, name, id);
            Ok((s.changed(id, false).after, s.changed(parent, true)))
        })
    }

    fn readdir(
        &self,
        _: &Cx,
        dir: &Fh,
        cookie: u64,
        plus: bool,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone> {
        self.served("readdir");
        let mut s = self.state.lock();
        let d = s.dir(dir)?.clone();
        let dots = [
            (1, b".".to_vec(), d.attr.fileid),
            (2, b"..".to_vec(), d.parent),
        ];
        let kids = d.kids.iter().map(|(c, (n, id))| (*c, n.clone(), *id));
        for (at, name, id) in dots.into_iter().chain(kids).filter(|e| e.0 > cookie) {
            if name == HIDDEN {
                continue;
            }
            let plus = plus.then(|| (fh(id), s.nodes[&id].attr));
            if !emit(Entry {
                fileid: id,
                name: &name,
                cookie: at,
                plus,
            }) {
                return Ok(DirDone {
                    attr: d.attr,
                    eof: false,
                });
            }
        }
        Ok(DirDone {
            attr: d.attr,
            eof: true,
        })
    }

    fn fsstat(&self, _: &Cx, fh: &Fh) -> Result<(FsStat, fattr3)> {
        let stat = FsStat {
            total_bytes: 1 << 30,
            free_bytes: 1 << 29,
            avail_bytes: 1 << 28,
            total_files: 1000,
            free_files: 900,
            avail_files: 800,
        };
        Ok((stat, self.state.lock().node(fh)?.attr))
    }

    fn fsinfo(&self, _: &Cx, fh: &Fh) -> Result<(FsInfo, fattr3)> {
        let info = FsInfo {
            io_max: 512 << 10,
            max_file_size: 1 << 40,
            link_max: 32_000,
        };
        Ok((info, self.state.lock().node(fh)?.attr))
    }

    fn commit(&self, _: &Cx, fh: &Fh, _: u64, _: u32) -> Result<Wcc> {
        self.served("commit");
        let attr = self.state.lock().node(fh)?.attr;
        Ok(wcc(&attr, &attr))
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.verifier.load(Ordering::Relaxed).to_be_bytes()
    }

    fn getxattr(&self, _: &Cx, fh: &Fh, name: &[u8]) -> Result<Vec<u8>> {
        self.served("getxattr");
        let mut s = self.state.lock();
        s.node(fh)?
            .xattrs
            .get(name)
            .cloned()
            .ok_or(nfsstat3::NFS3ERR_NOENT)
    }

    fn listxattr(&self, _: &Cx, fh: &Fh) -> Result<Vec<Vec<u8>>> {
        Ok(self.state.lock().node(fh)?.xattrs.keys().cloned().collect())
    }

    fn setxattr(&self, _: &Cx, fh: &Fh, name: &[u8], value: &[u8], how: XattrHow) -> Result<()> {
        let mut s = self.state.lock();
        let node = s.node(fh)?;
        match (how, node.xattrs.contains_key(name)) {
            (XattrHow::Create, true) => return Err(nfsstat3::NFS3ERR_EXIST),
            (XattrHow::Replace, false) => return Err(nfsstat3::NFS3ERR_NOENT),
            _ => {}
        }
        node.xattrs.insert(name.to_vec(), value.to_vec());
        let id = node.attr.fileid;
        s.changed(id, false);
        Ok(())
    }

    fn removexattr(&self, _: &Cx, fh: &Fh, name: &[u8]) -> Result<()> {
        let mut s = self.state.lock();
        let node = s.node(fh)?;
        node.xattrs
            .remove(name)
            .map(drop)
            .ok_or(nfsstat3::NFS3ERR_NOENT)
    }
}
