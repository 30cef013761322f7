mod counters;
mod data;
mod dirs;
mod journals;
mod large;
mod many;
mod perms;
mod power;
pub(super) mod probe;
mod quota;
mod recovery;
mod sealing;
mod snapshots;
mod volumes;
mod world;

use super::*;
use crate::Store;
use crate::tree::Tree;
use crate::types::*;
use std::sync::Arc;

/// A store in a folder of its own, and its work trees.
pub struct Bench {
    pub store: Arc<Store>,
    works: Option<Works>,
    durability: Durability,
    pub(in crate::work) syncs: Arc<durability::Syncs>,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        Bench::at(dir, Durability::Boot, b"this boot")
    }

    /// The trees are volumes.
    pub fn volumes() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        Bench::at(dir, Durability::Disk, b"this boot")
    }

    pub fn at(dir: tempfile::TempDir, durability: Durability, boot: &[u8]) -> Bench {
        let store = open_store_on(dir.path(), boot);
        let syncs = Arc::<durability::Syncs>::default();
        let works = Works::open(store.clone(), durability, syncs.clone());
        Bench {
            store,
            works: Some(works.unwrap()),
            durability,
            syncs,
            _dir: dir,
        }
    }

    pub fn works(&self) -> &Works {
        self.works.as_ref().unwrap()
    }

    /// All that a killed process leaves is on disk: nothing is flushed on drop.
    pub fn reopen(&mut self) {
        self.works = None;
        let works = Works::open(self.store.clone(), self.durability, self.syncs.clone());
        self.works = Some(works.unwrap());
    }

    /// The folder lives on, for who opens it next.
    pub fn close(self) -> tempfile::TempDir {
        drop(self.works);
        self._dir
    }

    pub fn empty(&self) -> Arc<WorkTree> {
        self.works()
            .create(None, WorkClass::Build, b"test", at(1))
            .unwrap()
    }

    pub fn clone_of(&self, snapshot: Digest) -> Arc<WorkTree> {
        self.works()
            .create(Some(snapshot), WorkClass::Run, b"test", at(1))
            .unwrap()
    }
}

pub fn open_store(dir: &std::path::Path) -> Arc<Store> {
    open_store_on(dir, b"this boot")
}

pub fn open_store_on(dir: &std::path::Path, boot: &[u8]) -> Arc<Store> {
    let options = crate::OpenOptions {
        create: true,
        boot_id: boot.to_vec(),
    };
    Store::open(dir, options).unwrap()
}

pub fn at(secs: i64) -> Time {
    Time {
        secs: 1_700_000_000 + secs,
        nanos: 0,
    }
}

pub fn user(uid: u32, gid: u32, gids: &[u32]) -> Creds {
    Creds {
        uid,
        gid,
        gids: gids.to_vec(),
    }
}

pub fn cx(creds: &Creds, secs: i64) -> OpCx<'_> {
    OpCx {
        creds,
        now: at(secs),
        once: None,
    }
}

pub fn root(secs: i64) -> OpCx<'static> {
    static ROOT: Creds = Creds::ROOT;
    cx(&ROOT, secs)
}

pub fn mode(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

impl WorkTree {
    pub fn file(&self, dir: Node, name: &[u8], data: &[u8]) -> Node {
        let made = self
            .create(&root(2), dir, name, Create::Guarded, &mode(0o644))
            .unwrap();
        if !data.is_empty() {
            self.write(&root(3), made.node.node, 0, data).unwrap();
        }
        made.node.node
    }

    pub fn dir(&self, dir: Node, name: &[u8]) -> Node {
        self.mkdir(&root(2), dir, name, &mode(0o755))
            .unwrap()
            .node
            .node
    }

    pub fn find(&self, dir: Node, name: &[u8]) -> Result<Attr, Errno> {
        Ok(self.lookup(&Creds::ROOT, dir, name)?.node)
    }

    pub fn slurp(&self, node: Node) -> Vec<u8> {
        slurp(self, node)
    }

    pub fn names(&self, dir: Node) -> Vec<Vec<u8>> {
        list(self, dir, 7)
            .into_iter()
            .map(|(name, _, _)| name)
            .collect()
    }
}

pub fn slurp(tree: &dyn Tree, node: Node) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let at = out.len();
        let done = tree
            .read(&Creds::ROOT, node, at as u64, 50_000, &mut out)
            .unwrap();
        assert!(
            done.eof || out.len() > at,
            "a read of nothing that is not the end"
        );
        if done.eof {
            return out;
        }
    }
}

/// Name, node and cookie of all but "." and "..", read `batch` at a time.
pub fn list(tree: &dyn Tree, dir: Node, batch: usize) -> Vec<(Vec<u8>, Node, u64)> {
    let mut all = Vec::new();
    let mut cookie = 0;
    loop {
        let mut left = batch;
        let done = tree
            .readdir(&Creds::ROOT, dir, cookie, true, &mut |e| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                cookie = e.cookie;
                assert_eq!(e.attr.unwrap().node, e.node);
                if e.name != b"." && e.name != b".." {
                    all.push((e.name.to_vec(), e.node, e.cookie));
                }
                true
            })
            .unwrap();
        if done.eof {
            return all;
        }
    }
}
