//! A file system in memory, served by the real engine: owner, mode, times, links, extended
//! attributes, and the first answer again for a call that is sent twice.

mod vfs;

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

    /// What the server has of the file with this name in the root.
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let state = self.state.lock();
        let (_, id) = state.nodes[&ROOT].kid(name.as_bytes()).expect("a file");
        state.nodes[&id].data.clone()
    }

    /// The names in the root, hidden or not.
    pub fn names(&self) -> Vec<Vec<u8>> {
        let state = self.state.lock();
        let kids = state.nodes[&ROOT].kids.values();
        kids.map(|(name, _)| name.clone()).collect()
    }

    /// Removes a name of the root, as another client does.
    pub fn remove_name(&self, name: &[u8]) {
        let mut state = self.state.lock();
        state.take(&fh(ROOT), name).expect("a name");
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
