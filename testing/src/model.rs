//! POSIX in maps: what every side must agree with.

use crate::call::TARGET;
use pocker_store::types::*;
use std::collections::{BTreeMap, HashMap};

pub type Id = usize;
pub const ROOT_ID: Id = 0;

#[derive(Clone, Debug)]
pub struct MNode {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    /// A caller chose mtime: it is the same on sides with a clock of their own.
    pub given: bool,
    pub data: Vec<u8>,
    pub target: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub names: BTreeMap<Vec<u8>, Id>,
    pub parent: Id,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub nodes: HashMap<Id, MNode>,
    pub next: Id,
    pub now: Time,
    /// What operations are drawn from: the removed ones too.
    pub drawn: Vec<Id>,
}

type Res<T = Id> = Result<T, Errno>;

fn tick(now: Time, prev: Time) -> Time {
    let p = prev.secs as i128 * 1_000_000_000 + prev.nanos as i128 + 1;
    let n = now.secs as i128 * 1_000_000_000 + now.nanos as i128;
    let t = p.max(n);
    Time {
        secs: (t / 1_000_000_000) as i64,
        nanos: (t % 1_000_000_000) as u32,
    }
}

impl Model {
    pub fn new(now: Time) -> Model {
        let mut m = Model {
            nodes: HashMap::new(),
            next: 0,
            now,
            drawn: Vec::new(),
        };
        let root = m.fresh(Kind::Dir, 0o755, 0, 0);
        m.nodes.get_mut(&root).unwrap().parent = root;
        m
    }

    fn fresh(&mut self, kind: Kind, mode: u32, uid: u32, gid: u32) -> Id {
        let id = self.next;
        self.next += 1;
        let t = self.now;
        let nlink = if kind == Kind::Dir { 2 } else { 1 };
        self.nodes.insert(
            id,
            MNode {
                kind,
                mode,
                uid,
                gid,
                nlink,
                atime: t,
                mtime: t,
                ctime: t,
                given: false,
                data: vec![],
                target: vec![],
                xattrs: BTreeMap::new(),
                names: BTreeMap::new(),
                parent: 0,
            },
        );
        self.drawn.push(id);
        id
    }

    pub fn get(&self, id: Id) -> Res<&MNode> {
        self.nodes.get(&id).ok_or(Errno::Stale)
    }

    /// Whether the mode lets somebody do all of `want`, bits as access(2) has them.
    pub fn allows(&self, c: &Creds, id: Id, want: u32) -> bool {
        self.may(c, id, want).is_ok()
    }

    fn may(&self, c: &Creds, id: Id, want: u32) -> Res<()> {
        let n = self.get(id)?;
        let bits = if c.uid == 0 {
            7
        } else if c.uid == n.uid {
            n.mode >> 6
        } else if c.gid == n.gid || c.gids.contains(&n.gid) {
            n.mode >> 3
        } else {
            n.mode
        };
        if bits & want == want {
            Ok(())
        } else {
            Err(Errno::Access)
        }
    }

    fn dir(&self, c: &Creds, id: Id) -> Res<()> {
        if self.get(id)?.kind != Kind::Dir {
            return Err(Errno::NotDir);
        }
        self.may(c, id, 1)
    }

    pub fn lookup(&self, c: &Creds, dir: Id, name: &[u8]) -> Res {
        self.dir(c, dir)?;
        self.nodes[&dir]
            .names
            .get(name)
            .copied()
            .ok_or(Errno::NoEnt)
    }

    fn touch_dir(&mut self, dir: Id) {
        let now = self.now;
        let d = self.nodes.get_mut(&dir).unwrap();
        d.mtime = tick(now, d.mtime);
        d.ctime = tick(now, d.ctime);
        d.given = false;
    }

    fn add(&mut self, dir: Id, name: &[u8], id: Id) {
        self.nodes
            .get_mut(&dir)
            .unwrap()
            .names
            .insert(name.to_vec(), id);
        if self.nodes[&id].kind == Kind::Dir {
            self.nodes.get_mut(&dir).unwrap().nlink += 1;
            self.nodes.get_mut(&id).unwrap().parent = dir;
        }
        self.touch_dir(dir);
    }

    fn del(&mut self, dir: Id, name: &[u8]) {
        let id = self
            .nodes
            .get_mut(&dir)
            .unwrap()
            .names
            .remove(name)
            .unwrap();
        if self.nodes[&id].kind == Kind::Dir {
            self.nodes.get_mut(&dir).unwrap().nlink -= 1;
        }
        self.touch_dir(dir);
    }

    fn drop_ref(&mut self, id: Id) {
        let now = self.now;
        let n = self.nodes.get_mut(&id).unwrap();
        n.nlink = if n.kind == Kind::Dir { 0 } else { n.nlink - 1 };
        n.ctime = tick(now, n.ctime);
        if n.nlink == 0 {
            self.nodes.remove(&id);
        }
    }

    pub(crate) fn make(
        &mut self,
        c: &Creds,
        dir: Id,
        name: &[u8],
        kind: Kind,
        mode: u32,
        guarded: bool,
    ) -> Res {
        self.dir(c, dir)?;
        if let Some(old) = self.nodes[&dir].names.get(name) {
            return match (kind, self.nodes[old].kind) {
                _ if guarded => Err(Errno::Exist),
                (Kind::File, Kind::File) => Ok(*old),
                (Kind::File, Kind::Dir) => Err(Errno::IsDir),
                _ => Err(Errno::Exist),
            };
        }
        self.may(c, dir, 3)?;
        if kind == Kind::Char && c.uid != 0 {
            return Err(Errno::Perm);
        }
        let d = &self.nodes[&dir];
        let setgid = d.mode & 0o2000 != 0;
        let gid = if setgid { d.gid } else { c.gid };
        let mut mode = if kind == Kind::Symlink { 0o777 } else { mode };
        if c.uid != 0 && c.gid != gid && !c.gids.contains(&gid) {
            mode &= !0o2000;
        }
        if setgid && kind == Kind::Dir {
            mode |= 0o2000;
        }
        let id = self.fresh(kind, mode, c.uid, gid);
        if kind == Kind::Symlink {
            self.nodes.get_mut(&id).unwrap().target = TARGET.to_vec();
        }
        self.add(dir, name, id);
        Ok(id)
    }

    pub(crate) fn link(&mut self, c: &Creds, id: Id, dir: Id, name: &[u8]) -> Res {
        let kind = self.get(id)?.kind;
        self.dir(c, dir)?;
        if self.nodes[&dir].names.contains_key(name) {
            return Err(Errno::Exist);
        }
        self.may(c, dir, 3)?;
        if kind == Kind::Dir {
            return Err(Errno::Perm);
        }
        let now = self.now;
        let n = self.nodes.get_mut(&id).unwrap();
        n.nlink += 1;
        n.ctime = tick(now, n.ctime);
        self.add(dir, name, id);
        Ok(id)
    }

    fn sticky(&self, c: &Creds, dir: Id, id: Id) -> Res<()> {
        let d = &self.nodes[&dir];
        let held = d.mode & 0o1000 != 0 && c.uid != 0;
        if held && c.uid != d.uid && c.uid != self.nodes[&id].uid {
            return Err(Errno::Perm);
        }
        Ok(())
    }

    pub(crate) fn unlink(&mut self, c: &Creds, dir: Id, name: &[u8], rmdir: bool) -> Res {
        let id = self.lookup(c, dir, name)?;
        self.may(c, dir, 3)?;
        self.sticky(c, dir, id)?;
        let n = &self.nodes[&id];
        match (rmdir, n.kind == Kind::Dir) {
            (false, true) => return Err(Errno::IsDir),
            (true, false) => return Err(Errno::NotDir),
            (true, true) if !n.names.is_empty() => return Err(Errno::NotEmpty),
            _ => {}
        }
        self.del(dir, name);
        self.drop_ref(id);
        Ok(id)
    }

    pub(crate) fn rename(&mut self, c: &Creds, from: Id, name: &[u8], to: Id, new: &[u8]) -> Res {
        self.get(to)?;
        self.dir(c, from)?;
        self.dir(c, to)?;
        let id = self.lookup(c, from, name)?;
        let is_dir = self.nodes[&id].kind == Kind::Dir;
        let mut up = to;
        while up != id && up != ROOT_ID {
            up = self.nodes[&up].parent;
        }
        if is_dir && up == id {
            return Err(Errno::Inval);
        }
        let old = self.nodes[&to].names.get(new).copied();
        self.may(c, from, 3)?;
        self.sticky(c, from, id)?;
        self.may(c, to, 3)?;
        if let Some(o) = old.filter(|o| *o != id) {
            self.sticky(c, to, o)?;
            let n = &self.nodes[&o];
            match (is_dir, n.kind == Kind::Dir) {
                (true, false) => return Err(Errno::NotDir),
                (false, true) => return Err(Errno::IsDir),
                (true, true) if !n.names.is_empty() => return Err(Errno::NotEmpty),
                _ => {}
            }
        }
        if is_dir && from != to {
            self.may(c, id, 2)?;
        }
        if old == Some(id) {
            return Ok(id);
        }
        let now = self.now;
        // One change of each directory, whatever it is made of.
        let times = [from, to].map(|d| (self.nodes[&d].mtime, self.nodes[&d].ctime));
        if let Some(o) = old {
            self.del(to, new);
            self.drop_ref(o);
        }
        self.del(from, name);
        self.add(to, new, id);
        for (d, (m, ct)) in [from, to].into_iter().zip(times) {
            let d = self.nodes.get_mut(&d).unwrap();
            (d.mtime, d.ctime) = (tick(now, m), tick(now, ct));
        }
        let n = self.nodes.get_mut(&id).unwrap();
        n.ctime = tick(now, n.ctime);
        Ok(id)
    }

    fn writable(&self, c: &Creds, id: Id) -> Res<()> {
        if c.uid == self.get(id)?.uid {
            Ok(())
        } else {
            self.may(c, id, 2)
        }
    }

    fn is_file(&self, id: Id) -> Res<()> {
        match self.get(id)?.kind {
            Kind::File => Ok(()),
            Kind::Dir => Err(Errno::IsDir),
            _ => Err(Errno::Inval),
        }
    }

    fn strip(&mut self, c: &Creds, id: Id, always: bool) {
        let n = self.nodes.get_mut(&id).unwrap();
        if always || c.uid != 0 {
            n.mode &= !0o4000;
            let member = c.uid == 0 || c.gid == n.gid || c.gids.contains(&n.gid);
            if n.mode & 0o010 != 0 || !member {
                n.mode &= !0o2000;
            }
        }
        n.xattrs.remove(&b"security.capability"[..]);
    }

    pub(crate) fn write(&mut self, c: &Creds, id: Id, off: u64, data: &[u8]) -> Res {
        self.is_file(id)?;
        self.writable(c, id)?;
        if data.is_empty() {
            return Ok(id);
        }
        self.strip(c, id, false);
        let now = self.now;
        let n = self.nodes.get_mut(&id).unwrap();
        let end = off as usize + data.len();
        if n.data.len() < end {
            n.data.resize(end, 0);
        }
        n.data[off as usize..end].copy_from_slice(data);
        n.ctime = tick(now, n.ctime);
        n.mtime = n.ctime;
        n.given = false;
        Ok(id)
    }

    pub(crate) fn truncate(&mut self, c: &Creds, id: Id, size: u64) -> Res {
        self.is_file(id)?;
        self.writable(c, id)?;
        self.strip(c, id, false);
        let now = self.now;
        let n = self.nodes.get_mut(&id).unwrap();
        n.data.resize(size as usize, 0);
        n.ctime = tick(now, n.ctime);
        n.mtime = n.ctime;
        n.given = false;
        Ok(id)
    }

    pub(crate) fn chmod(&mut self, c: &Creds, id: Id, mode: u32) -> Res {
        let now = self.now;
        let n = self.nodes.get_mut(&id).ok_or(Errno::Stale)?;
        if c.uid != 0 && c.uid != n.uid {
            return Err(Errno::Perm);
        }
        if n.kind != Kind::Symlink {
            let member = c.uid == 0 || c.gid == n.gid || c.gids.contains(&n.gid);
            n.mode = if member { mode } else { mode & !0o2000 };
        }
        n.ctime = tick(now, n.ctime);
        Ok(id)
    }

    pub(crate) fn chown(&mut self, c: &Creds, id: Id, uid: Option<u32>, gid: Option<u32>) -> Res {
        let now = self.now;
        let n = self.get(id)?;
        let own = c.uid == n.uid;
        if c.uid != 0 {
            let bad_uid = uid.is_some_and(|u| !own || u != n.uid);
            let bad_gid =
                gid.is_some_and(|g| !own || (g != n.gid && c.gid != g && !c.gids.contains(&g)));
            if bad_uid || bad_gid {
                return Err(Errno::Perm);
            }
        }
        if uid.is_some() || gid.is_some() {
            if n.kind == Kind::Dir {
                let n = self.nodes.get_mut(&id).unwrap();
                n.xattrs.remove(&b"security.capability"[..]);
            } else {
                self.strip(c, id, true);
            }
            let n = self.nodes.get_mut(&id).unwrap();
            n.uid = uid.unwrap_or(n.uid);
            n.gid = gid.unwrap_or(n.gid);
            n.ctime = tick(now, n.ctime);
        }
        Ok(id)
    }

    pub(crate) fn utimes(&mut self, c: &Creds, id: Id, at: Option<Time>) -> Res {
        let now = self.now;
        let n = self.get(id)?;
        match at {
            Some(_) if c.uid != 0 && c.uid != n.uid => return Err(Errno::Perm),
            Some(_) => {}
            None => self.writable(c, id)?,
        }
        let n = self.nodes.get_mut(&id).unwrap();
        n.mtime = at.unwrap_or(now);
        n.given = at.is_some();
        n.atime = n.mtime;
        n.ctime = tick(now, n.ctime);
        Ok(id)
    }

    pub(crate) fn setxattr(&mut self, c: &Creds, id: Id, name: &[u8], value: Option<&[u8]>) -> Res {
        let n = self.get(id)?;
        if name.starts_with(b"user.") {
            if !matches!(n.kind, Kind::File | Kind::Dir) {
                return Err(Errno::Perm);
            }
            self.may(c, id, 2)?;
        } else if c.uid != 0 {
            return Err(Errno::Perm);
        }
        let now = self.now;
        let n = self.nodes.get_mut(&id).unwrap();
        match value {
            Some(v) => {
                n.xattrs.insert(name.to_vec(), v.to_vec());
            }
            None => {
                n.xattrs.remove(name).ok_or(Errno::NoData)?;
            }
        }
        n.ctime = tick(now, n.ctime);
        Ok(id)
    }

    /// A clone of the sealed tree: only mtime was kept.
    pub fn sealed(&mut self) {
        let nodes = &self.nodes;
        self.drawn.retain(|id| nodes.contains_key(id));
        for n in self.nodes.values_mut() {
            (n.atime, n.ctime) = (n.mtime, n.mtime);
        }
    }

    /// Every path, from "/" on, and what is there.
    pub fn paths(&self) -> BTreeMap<Vec<u8>, Id> {
        let mut all = BTreeMap::new();
        let mut stack = vec![(b"/".to_vec(), ROOT_ID)];
        while let Some((path, id)) = stack.pop() {
            for (name, child) in &self.nodes[&id].names {
                let mut path = path.clone();
                path.extend_from_slice(name);
                if self.nodes[child].kind == Kind::Dir {
                    path.push(b'/');
                }
                stack.push((path, *child));
            }
            all.insert(path, id);
        }
        all
    }

    /// A path of a node that has one.
    pub fn path(&self, id: Id) -> Option<Vec<u8>> {
        let mut found = self.paths().into_iter().filter(|(_, node)| *node == id);
        found.next().map(|(path, _)| path)
    }
}
