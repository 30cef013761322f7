//! The nodes the kernel knows: their handles, attributes, names and users.
//!
//! Node ids are fileids, so that st_ino is what the server says. What the
//! kernel was told is kept here too, as in most exports nobody else changes it:
//! attributes that a reply brought are believed until something is done that may have
//! changed them ([`Table::invalidate`]). A reply counts only if its call was sent
//! after the last such thing ([`Table::now`]), and does not set a ctime back.

use super::absent::Absent;
use super::unstable::Unstable;
use fuser::Errno;
use parking_lot::Mutex;
use pocker_nfs::proto::{fattr3, ftype3, nfstime3};
use pocker_nfs::vfs::Fh;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The id of the root (linux/fuse.h, FUSE_ROOT_ID).
pub(crate) const ROOT: u64 = 1;

/// Set in the ids of fileids 0 and 1, which mean "none" and the root to the kernel.
const SHIFTED: u64 = 1 << 63;

/// Set in ids given to a file whose fileid still belongs to an older one.
const REUSED: u64 = 1 << 62;

/// What an open file's name came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    Linked,
    /// Its last name is being removed; who opens it now has to wait.
    Removing,
    /// It has a name in the hidden directory only.
    Hidden(Vec<u8>),
    /// It has no name and is gone from the server.
    Removed,
}

#[derive(Debug)]
struct Node {
    fh: Fh,
    /// Directories on the way from the root, where it was first seen.
    level: u8,
    lookups: u64,
    opens: u32,
    attr: fattr3,
    believed: bool,
    /// The clock's value when `attr` was last doubted.
    doubted: u64,
    life: Life,
    /// Names by which the kernel knows it.
    names: Vec<(u64, Box<[u8]>)>,
    /// For a directory: names the kernel knows in it.
    children: HashMap<Box<[u8]>, u64>,
    /// For a directory: grows when a name goes away.
    losses: u64,
    /// For a directory: grows when a name appears.
    gains: u64,
    absent: Absent,
    no_caps: Option<Instant>,
    unstable: Unstable,
}

/// What to do with a name that is to go away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Remove it, and tell [`Table::removed`].
    Remove,
    /// It is the last name of an open file: hide that.
    Hide(u64),
}

/// Whether a node can be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    Yes,
    /// Ask again once a removal has ended.
    Wait,
}

#[derive(Debug)]
struct Inner {
    nodes: HashMap<u64, Node>,
    /// Ids of nodes whose fileid was taken.
    reused: HashMap<Fh, u64>,
    next_reused: u64,
    root_fileid: u64,
    /// See [`Table::settled`].
    settled_from: Option<u8>,
    clock: u64,
}

#[derive(Debug)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
}

impl Table {
    /// `settled_from`: the level of [`Table::settled`], if anything is.
    pub(crate) fn new(root: Fh, attr: fattr3, settled_from: Option<u8>) -> Table {
        let mut nodes = HashMap::new();
        nodes.insert(ROOT, Node::new(root, 0, attr, false));
        Table {
            inner: Mutex::new(Inner {
                nodes,
                reused: HashMap::new(),
                next_reused: REUSED,
                root_fileid: attr.fileid,
                settled_from,
                clock: 1,
            }),
        }
    }

    /// The id under which readdir shows a fileid.
    pub(crate) fn id(&self, fileid: u64) -> u64 {
        self.inner.lock().id(fileid)
    }

    /// Whether nobody else changes a node: a directory of the level from which on all is
    /// settled, or anything below one.
    pub(crate) fn settled(&self, ino: u64) -> bool {
        let inner = self.inner.lock();
        let (Some(from), Some(node)) = (inner.settled_from, inner.nodes.get(&ino)) else {
            return false;
        };
        let dir = matches!(node.attr.ftype, ftype3::NF3DIR);
        node.level > from || (dir && node.level == from)
    }

    pub(crate) fn handle(&self, ino: u64) -> Result<Fh, Errno> {
        let inner = self.inner.lock();
        inner.nodes.get(&ino).map(|n| n.fh).ok_or(Errno::ESTALE)
    }

    /// When a call is about to be sent: what [`Table::note`] compares with.
    pub(crate) fn now(&self) -> u64 {
        self.inner.lock().clock
    }

    /// The last attributes seen, true or not any more.
    pub(crate) fn last_attr(&self, ino: u64) -> Result<fattr3, Errno> {
        let inner = self.inner.lock();
        inner.nodes.get(&ino).map(|n| n.attr).ok_or(Errno::ESTALE)
    }

    /// Attributes that are true as far as this mount's own calls go, and the
    /// count of links to show where it is not the server's.
    pub(crate) fn believed_attr(&self, ino: u64) -> Option<(fattr3, Option<u32>)> {
        let inner = self.inner.lock();
        let node = inner.nodes.get(&ino)?;
        (node.believed || node.life == Life::Removed).then(|| (node.attr, node.links()))
    }

    /// The count of links to show, where it is not the server's.
    pub(crate) fn links(&self, ino: u64) -> Option<u32> {
        self.inner.lock().nodes.get(&ino).and_then(Node::links)
    }

    /// A reply to a call sent at `sent` brought attributes.
    pub(crate) fn note(&self, ino: u64, attr: &fattr3, sent: u64) {
        if let Some(node) = self.inner.lock().nodes.get_mut(&ino) {
            node.note(attr, sent);
        }
    }

    /// As [`Table::note`]; without attributes, what is known is doubted.
    pub(crate) fn note_or_doubt(&self, ino: u64, attr: Option<&fattr3>, sent: u64) {
        match attr {
            Some(attr) => self.note(ino, attr, sent),
            None => self.invalidate(ino),
        }
    }

    /// Something was done that may have changed a node's attributes.
    pub(crate) fn invalidate(&self, ino: u64) {
        self.inner.lock().doubt(ino);
    }

    /// The kernel is told of a node under a name: counts one lookup. `fresh`: this
    /// mount just made it, so nothing of it is unknown.
    pub(crate) fn found(&self, seen: &Seen<'_>, sent: u64, fresh: bool) -> u64 {
        let inner = &mut *self.inner.lock();
        let ino = inner.id_of(seen.fh, seen.attr.fileid);
        let level = inner.nodes.get(&seen.parent).map_or(0, |dir| dir.level);
        let node = inner
            .nodes
            .entry(ino)
            .or_insert_with(|| Node::new(*seen.fh, level.saturating_add(1), *seen.attr, fresh));
        node.lookups += 1;
        if node.life == Life::Removed && sent >= node.doubted {
            // It had another name after all.
            node.life = Life::Linked;
        }
        node.note(seen.attr, sent);
        if fresh {
            node.no_caps = Some(Instant::now());
            if matches!(seen.attr.ftype, ftype3::NF3DIR) {
                node.absent = Absent::all();
            }
        }
        inner.bind(seen.parent, seen.name, ino);
        ino
    }

    pub(crate) fn forget(&self, ino: u64, count: u64) {
        let inner = &mut *self.inner.lock();
        let Some(node) = inner.nodes.get_mut(&ino) else {
            return;
        };
        node.lookups = node.lookups.saturating_sub(count);
        if ino == ROOT || node.lookups > 0 || node.opens > 0 {
            return;
        }
        if let Some(node) = inner.nodes.remove(&ino) {
            for (parent, name) in node.names {
                if let Some(dir) = inner.nodes.get_mut(&parent) {
                    dir.children.remove(&name);
                }
            }
            inner.reused.remove(&node.fh);
        }
    }

    pub(crate) fn child(&self, parent: u64, name: &[u8]) -> Option<u64> {
        let inner = self.inner.lock();
        inner.nodes.get(&parent)?.children.get(name).copied()
    }

    /// The node of a name, if it is an open file.
    pub(crate) fn open_child(&self, parent: u64, name: &[u8]) -> Option<u64> {
        let inner = self.inner.lock();
        let ino = *inner.nodes.get(&parent)?.children.get(name)?;
        (inner.nodes.get(&ino)?.opens > 0).then_some(ino)
    }

    /// Counts one more open file.
    pub(crate) fn open(&self, ino: u64) -> Result<Opened, Errno> {
        let mut inner = self.inner.lock();
        let node = inner.nodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        match node.life {
            Life::Removing => Ok(Opened::Wait),
            // The kernel then looks the name up again.
            Life::Removed => Err(Errno::ESTALE),
            Life::Linked | Life::Hidden(_) => {
                node.opens += 1;
                Ok(Opened::Yes)
            }
        }
    }

    /// Counts one less; the last of a hidden file returns its hidden name.
    pub(crate) fn release(&self, ino: u64) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        let node = inner.nodes.get_mut(&ino)?;
        node.opens = node.opens.saturating_sub(1);
        if node.opens > 0 {
            return None;
        }
        match std::mem::replace(&mut node.life, Life::Removed) {
            Life::Hidden(name) => Some(name),
            other => {
                node.life = other;
                None
            }
        }
    }

    /// What removing a name means. Where that takes a file's last name, nobody
    /// can open the file until [`Table::removed`].
    pub(crate) fn begin_removal(&self, parent: u64, name: &[u8]) -> Removal {
        let mut inner = self.inner.lock();
        let Some(ino) = inner.lose(parent, name) else {
            return Removal::Remove;
        };
        match inner.nodes.get_mut(&ino) {
            Some(node) if node.is_last_name() => {
                if node.opens > 0 {
                    return Removal::Hide(ino);
                }
                node.life = Life::Removing;
            }
            _ => {}
        }
        Removal::Remove
    }

    /// A removal has ended, well or not.
    pub(crate) fn removed(&self, parent: u64, name: &[u8], done: bool) {
        let inner = &mut *self.inner.lock();
        let Some(ino) = inner.lose(parent, name) else {
            return;
        };
        if done {
            inner.unbind(parent, name);
            inner.lost(parent, name);
        }
        if let Some(node) = inner.nodes.get_mut(&ino)
            && node.life == Life::Removing
        {
            node.life = if done { Life::Removed } else { Life::Linked };
        }
        inner.doubt(ino);
    }

    /// A directory was removed: whoever stands in it sees it without links.
    pub(crate) fn directory_removed(&self, ino: u64) {
        if let Some(node) = self.inner.lock().nodes.get_mut(&ino) {
            node.life = Life::Removed;
        }
    }

    /// An open file's last name was taken away; it lives on as `hidden`.
    pub(crate) fn hidden(&self, parent: u64, name: &[u8], ino: u64, hidden: Vec<u8>) {
        let inner = &mut *self.inner.lock();
        inner.lose(parent, name);
        inner.unbind(parent, name);
        inner.lost(parent, name);
        if let Some(node) = inner.nodes.get_mut(&ino) {
            node.life = Life::Hidden(hidden);
        }
        inner.doubt(ino);
    }

    /// Whether the file was closed while it was being hidden, so that nobody
    /// will release it: returns its hidden name.
    pub(crate) fn hidden_unused(&self, ino: u64) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        let node = inner.nodes.get_mut(&ino)?;
        match &node.life {
            Life::Hidden(name) if node.opens == 0 => {
                let name = name.clone();
                node.life = Life::Removed;
                Some(name)
            }
            _ => None,
        }
    }

    /// A name moved.
    pub(crate) fn renamed(&self, from: (u64, &[u8]), to: (u64, &[u8])) {
        let inner = &mut *self.inner.lock();
        let moved = inner.lose(from.0, from.1);
        inner.unbind(from.0, from.1);
        inner.lost(from.0, from.1);
        inner.gained(to.0, to.1);
        let Some(ino) = moved else {
            return;
        };
        inner.bind(to.0, to.1, ino);
        inner.doubt(ino);
    }

    /// Whether a directory is known not to hold a name, if nobody else changes it.
    pub(crate) fn is_absent(&self, parent: u64, name: &[u8]) -> bool {
        let inner = self.inner.lock();
        let dir = inner.nodes.get(&parent);
        dir.is_some_and(|d| d.absent.holds(name))
    }

    /// How often names appeared in a directory.
    pub(crate) fn gains(&self, dir: u64) -> u64 {
        self.inner.lock().nodes.get(&dir).map_or(0, |n| n.gains)
    }

    /// The server said that there is no such name, to a call sent when `gains` was
    /// what [`Table::gains`] says.
    pub(crate) fn note_absent(&self, parent: u64, name: &[u8], gains: u64) {
        if let Some(dir) = self.inner.lock().nodes.get_mut(&parent)
            && dir.gains == gains
        {
            dir.absent.lost(name);
        }
    }

    /// How often names went away from a directory.
    pub(crate) fn losses(&self, dir: u64) -> u64 {
        self.inner.lock().nodes.get(&dir).map_or(0, |n| n.losses)
    }

    /// Whether the node is known to have no file capabilities, as of `within`.
    pub(crate) fn has_no_caps(&self, ino: u64, within: Option<Duration>) -> bool {
        let inner = self.inner.lock();
        let known = inner.nodes.get(&ino).and_then(|n| n.no_caps);
        known.is_some_and(|at| within.is_none_or(|limit| at.elapsed() < limit))
    }

    pub(crate) fn set_no_caps(&self, ino: u64, absent: bool) {
        if let Some(node) = self.inner.lock().nodes.get_mut(&ino) {
            node.no_caps = absent.then(Instant::now);
        }
    }

    /// Does something with what is not known to be stable of a node's writes; nothing where
    /// the kernel has forgotten it.
    pub(crate) fn unstable(&self, ino: u64, act: impl FnOnce(&mut Unstable)) {
        if let Some(node) = self.inner.lock().nodes.get_mut(&ino) {
            act(&mut node.unstable);
        }
    }

    /// The node most of whose writes are not known to be stable.
    pub(crate) fn least_stable(&self) -> Option<u64> {
        let inner = self.inner.lock();
        let most = inner.nodes.iter().max_by_key(|(_, n)| n.unstable.bytes());
        most.map(|(ino, _)| *ino)
    }

    /// Hidden names of files that nobody will release any more.
    pub(crate) fn take_hidden(&self) -> Vec<Vec<u8>> {
        let mut inner = self.inner.lock();
        let take = |node: &mut Node| match std::mem::replace(&mut node.life, Life::Removed) {
            Life::Hidden(name) => Some(name),
            other => {
                node.life = other;
                None
            }
        };
        inner.nodes.values_mut().filter_map(take).collect()
    }
}

/// A node under a name, as a reply brought it.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub parent: u64,
    pub name: &'a [u8],
    pub fh: &'a Fh,
    pub attr: &'a fattr3,
}

impl Node {
    fn new(fh: Fh, level: u8, attr: fattr3, fresh: bool) -> Node {
        Node {
            fh,
            level,
            lookups: 0,
            opens: 0,
            attr,
            believed: true,
            doubted: 0,
            life: Life::Linked,
            names: Vec::new(),
            children: HashMap::new(),
            losses: 0,
            gains: 0,
            absent: Absent::default(),
            no_caps: None,
            unstable: Unstable::new(fresh),
        }
    }

    fn note(&mut self, attr: &fattr3, sent: u64) {
        if sent < self.doubted || (self.believed && before(attr.ctime, self.attr.ctime)) {
            return;
        }
        self.attr = *attr;
        self.believed = true;
    }

    fn is_last_name(&self) -> bool {
        self.life == Life::Linked
            && !matches!(self.attr.ftype, ftype3::NF3DIR)
            && self.attr.nlink <= 1
    }

    fn links(&self) -> Option<u32> {
        matches!(self.life, Life::Hidden(_) | Life::Removed).then_some(0)
    }
}

fn before(a: nfstime3, b: nfstime3) -> bool {
    (a.seconds, a.nseconds) < (b.seconds, b.nseconds)
}

impl Inner {
    fn id(&self, fileid: u64) -> u64 {
        match fileid {
            f if f == self.root_fileid => ROOT,
            f @ (0 | 1) => f | SHIFTED,
            f => f,
        }
    }

    /// A fileid that the kernel still knows for another file (host file systems
    /// reuse them) gets an id of its own.
    fn id_of(&mut self, fh: &Fh, fileid: u64) -> u64 {
        if let Some(&ino) = self.reused.get(fh) {
            return ino;
        }
        let ino = self.id(fileid);
        match self.nodes.get(&ino) {
            Some(node) if node.fh != *fh => {
                self.next_reused += 1;
                self.reused.insert(*fh, self.next_reused);
                self.next_reused
            }
            _ => ino,
        }
    }

    /// A name is gone from a directory.
    fn lost(&mut self, parent: u64, name: &[u8]) {
        if let Some(dir) = self.nodes.get_mut(&parent) {
            dir.absent.lost(name);
        }
    }

    /// A name is in a directory.
    fn gained(&mut self, parent: u64, name: &[u8]) {
        if let Some(dir) = self.nodes.get_mut(&parent) {
            dir.gains += 1;
            dir.absent.gained(name);
        }
    }

    fn bind(&mut self, parent: u64, name: &[u8], ino: u64) {
        self.gained(parent, name);
        let Some(dir) = self.nodes.get_mut(&parent) else {
            return;
        };
        match dir.children.insert(name.into(), ino) {
            Some(old) if old == ino => return,
            Some(old) => self.drop_name(old, parent, name),
            None => {}
        }
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.names.push((parent, name.into()));
        }
    }

    fn unbind(&mut self, parent: u64, name: &[u8]) {
        let dir = self.nodes.get_mut(&parent);
        if let Some(ino) = dir.and_then(|d| d.children.remove(name)) {
            self.drop_name(ino, parent, name);
        }
    }

    fn drop_name(&mut self, ino: u64, parent: u64, name: &[u8]) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.names.retain(|(p, n)| *p != parent || **n != *name);
        }
    }

    /// A directory loses a name: whose node is it?
    fn lose(&mut self, parent: u64, name: &[u8]) -> Option<u64> {
        let dir = self.nodes.get_mut(&parent)?;
        dir.losses += 1;
        dir.children.get(name).copied()
    }

    fn doubt(&mut self, ino: u64) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.believed = false;
            node.doubted = clock;
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
