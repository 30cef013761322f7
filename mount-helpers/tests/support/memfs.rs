//! A file system in memory, served by the real engine: owner, mode, times, links, extended
//! attributes, and the first answer again for a call that is sent twice.

use parking_lot::Mutex;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const ROOT: u64 = 64;
pub const HIDDEN: &[u8] = b".pocker-hidden";

#[derive(Clone)]
struct Node {
    attr: fattr3,
    data: Vec<u8>,
    /// Name to fileid and cookie.
    kids: BTreeMap<u64, (Vec<u8>, u64)>,
    parent: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Node {
    fn kid(&self, name: &[u8]) -> Option<(u64, u64)> {
        self.kids
            .iter()
            .find(|(_, (n, _))| n == name)
            .map(|(c, (_, id))| (*c, *id))
    }
}

#[derive(Default)]
struct State {
    nodes: HashMap<u64, Node>,
    next: u64,
    cookie: u64,
    once: HashMap<OnceKey, Box<dyn Any + Send>>,
}

pub struct MemFs {
    state: Mutex<State>,
    /// Calls served, by name.
    pub calls: Mutex<HashMap<&'static str, u64>>,
    pub verifier: AtomicU64,
}

fn now() -> nfstime3 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    nfstime3 {
        seconds: since.as_secs() as u32,
        nseconds: since.subsec_nanos(),
    }
}

fn fh(id: u64) -> Fh {
    Fh::new(&id.to_be_bytes()).unwrap()
}

fn wcc(before: &fattr3, after: &fattr3) -> Wcc {
    Wcc {
        before: wcc_attr {
            size: before.size,
            mtime: before.mtime,
            ctime: before.ctime,
        },
        after: *after,
    }
}

impl State {
    fn node(&mut self, fh: &Fh) -> Result<&mut Node> {
        let id = u64::from_be_bytes(
            fh.as_bytes()
                .try_into()
                .map_err(|_| nfsstat3::NFS3ERR_BADHANDLE)?,
        );
        self.nodes.get_mut(&id).ok_or(nfsstat3::NFS3ERR_STALE)
    }

    fn dir(&mut self, fh: &Fh) -> Result<&mut Node> {
        let node = self.node(fh)?;
        if !matches!(node.attr.ftype, ftype3::NF3DIR) {
            return Err(nfsstat3::NFS3ERR_NOTDIR);
        }
        Ok(node)
    }

    fn changed(&mut self, id: u64, data_too: bool) -> Wcc {
        let Some(node) = self.nodes.get_mut(&id) else {
            return wcc(&fattr3::default(), &fattr3::default());
        };
        let before = node.attr;
        let at = now();
        let later = (at.seconds, at.nseconds) > (before.ctime.seconds, before.ctime.nseconds);
        node.attr.ctime = if later {
            at
        } else {
            nfstime3 {
                nseconds: before.ctime.nseconds + 1,
                ..before.ctime
            }
        };
        if data_too {
            node.attr.mtime = node.attr.ctime;
        }
        wcc(&before, &node.attr)
    }

    fn make(
        &mut self,
        dir: &Fh,
        name: &[u8],
        kind: ftype3,
        new: &sattr3,
        data: Vec<u8>,
    ) -> Result<Made> {
        if self.dir(dir)?.kid(name).is_some() {
            return Err(nfsstat3::NFS3ERR_EXIST);
        }
        let parent = self.dir(dir)?.attr.fileid;
        self.next = self.next.wrapping_add(1);
        let id = self.next;
        let mut attr = fattr3 {
            ftype: kind,
            mode: 0o644,
            nlink: if matches!(kind, ftype3::NF3DIR) { 2 } else { 1 },
            size: data.len() as u64,
            fileid: id,
            atime: now(),
            mtime: now(),
            ctime: now(),
            ..fattr3::default()
        };
        apply(&mut attr, new);
        let node = Node {
            attr,
            data,
            kids: BTreeMap::new(),
            parent,
            xattrs: BTreeMap::new(),
        };
        self.nodes.insert(id, node);
        self.add(parent, name, id);
        if matches!(kind, ftype3::NF3DIR) {
            self.nodes.get_mut(&parent).unwrap().attr.nlink += 1;
        }
        Ok(Made {
            fh: fh(id),
            attr,
            dir: self.changed(parent, true),
        })
    }

    fn add(&mut self, dir: u64, name: &[u8], id: u64) {
        self.cookie += 1;
        let cookie = self.cookie;
        self.nodes
            .get_mut(&dir)
            .unwrap()
            .kids
            .insert(cookie, (name.to_vec(), id));
    }

    fn take(&mut self, dir: &Fh, name: &[u8]) -> Result<()> {
        let d = self.dir(dir)?;
        let parent = d.attr.fileid;
        let (cookie, id) = d.kid(name).ok_or(nfsstat3::NFS3ERR_NOENT)?;
        d.kids.remove(&cookie);
        let node = self.nodes.get_mut(&id).unwrap();
        if matches!(node.attr.ftype, ftype3::NF3DIR) {
            self.nodes.remove(&id);
            self.nodes.get_mut(&parent).unwrap().attr.nlink -= 1;
        } else {
            node.attr.nlink -= 1;
            if node.attr.nlink == 0 {
                self.nodes.remove(&id);
            } else {
                self.changed(id, false);
            }
        }
        Ok(())
    }
}

fn apply(attr: &mut fattr3, new: &sattr3) {
    if let set_mode3::mode(mode) = new.mode {
        attr.mode = mode & 0o7777;
    }
    if let set_uid3::uid(uid) = new.uid {
        attr.uid = uid;
    }
    if let set_gid3::gid(gid) = new.gid {
        attr.gid = gid;
    }
    match new.atime {
        set_atime::SET_TO_CLIENT_TIME(t) => attr.atime = t,
        set_atime::SET_TO_SERVER_TIME => attr.atime = now(),
        set_atime::DONT_CHANGE => {}
    }
    match new.mtime {
        set_mtime::SET_TO_CLIENT_TIME(t) => attr.mtime = t,
        set_mtime::SET_TO_SERVER_TIME => attr.mtime = now(),
        set_mtime::DONT_CHANGE => {}
    }
}

impl MemFs {
    pub fn new() -> MemFs {
        let mut state = State {
            next: ROOT + 1,
            cookie: 2,
            ..State::default()
        };
        let attr = fattr3 {
            ftype: ftype3::NF3DIR,
            mode: 0o755,
            nlink: 2,
            fileid: ROOT,
            atime: now(),
            mtime: now(),
            ctime: now(),
            ..fattr3::default()
        };
        let root = Node {
            attr,
            data: Vec::new(),
            kids: BTreeMap::new(),
            parent: ROOT,
            xattrs: BTreeMap::new(),
        };
        state.nodes.insert(ROOT, root);
        MemFs {
            state: Mutex::new(state),
            calls: Mutex::default(),
            verifier: AtomicU64::new(1),
        }
    }

    fn served(&self, name: &'static str) {
        *self.calls.lock().entry(name).or_default() += 1;
    }

    pub fn count(&self, name: &str) -> u64 {
        self.calls.lock().get(name).copied().unwrap_or(0)
    }

    /// How many files exist, named or hidden.
    pub fn files(&self) -> usize {
        let regular = |n: &&Node| matches!(n.attr.ftype, ftype3::NF3REG);
        self.state.lock().nodes.values().filter(regular).count()
    }

    /// Changes a file as somebody else would: no client is told.
    pub fn overwrite(&self, name: &[u8], data: &[u8]) {
        let mut state = self.state.lock();
        let (_, id) = state.nodes[&ROOT].kid(name).unwrap();
        let node = state.nodes.get_mut(&id).unwrap();
        node.data = data.to_vec();
        node.attr.size = data.len() as u64;
        state.changed(id, true);
    }

    pub fn plant(&self, name: &[u8], data: &[u8], mode: u32) {
        let mut attr = keep();
        attr.mode = set_mode3::mode(mode);
        self.state
            .lock()
            .make(&fh(ROOT), name, ftype3::NF3REG, &attr, data.to_vec())
            .unwrap();
    }

    pub fn plant_id(&self, name: &[u8], data: &[u8], id: u64) {
        let mut state = self.state.lock();
        let next = std::mem::replace(&mut state.next, id.wrapping_sub(1));
        state
            .make(&fh(ROOT), name, ftype3::NF3REG, &keep(), data.to_vec())
            .unwrap();
        state.next = next;
    }

    fn once<T: Clone + Send + 'static>(
        &self,
        cx: &Cx,
        name: &'static str,
        work: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        self.served(name);
        let mut state = self.state.lock();
        let known = cx.once.and_then(|key| state.once.get(&key));
        if let Some(before) = known.and_then(|b| b.downcast_ref::<T>()) {
            return Ok(before.clone());
        }
        let outcome = work(&mut state)?;
        if let Some(key) = cx.once {
            state.once.insert(key, Box::new(outcome.clone()));
        }
        Ok(outcome)
    }
}

pub fn keep() -> sattr3 {
    sattr3 {
        mode: set_mode3::Void,
        uid: set_uid3::Void,
        gid: set_gid3::Void,
        size: set_size3::Void,
        atime: set_atime::DONT_CHANGE,
        mtime: set_mtime::DONT_CHANGE,
    }
}

impl Vfs for MemFs {
    fn mount(&self, _: &Cx, path: &[u8]) -> Result<Fh> {
        match path {
            b"/t" => Ok(fh(ROOT)),
            _ => Err(nfsstat3::NFS3ERR_NOENT),
        }
    }

    fn umount(&self, _: &Cx, _: &[u8]) {}

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

    fn write(&self, _: &Cx, fh: &Fh, offset: u64, data: &[u8], _: Stable) -> Result<Written> {
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
            committed: Stable::Unstable,
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
