//! The store's work trees beside the model: besides what can be seen, the attributes and
//! the weak cache consistency data of each answer, and that one file is one number.

use crate::call::{TARGET, What, pattern};
use crate::language::at;
use crate::model::{Id, Model, ROOT_ID};
use crate::side::{Seen, Side, Turn};
use pocker_store::tree::Tree;
use pocker_store::types::*;
use pocker_store::work::{SealOptions, WorkClass, WorkTree, Works, XattrHow};
use pocker_store::{FsckOptions, OpenOptions, Store};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A store in a folder of its own.
pub struct Bench {
    pub store: Arc<Store>,
    works: Option<Works>,
    sealed: Option<Digest>,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let options = OpenOptions {
            create: true,
            boot_id: b"this boot".to_vec(),
        };
        let store = Store::open(dir.path(), options).expect("a store");
        let works = Works::open_or_create(Arc::clone(&store)).expect("work trees");
        Bench {
            store,
            works: Some(works),
            sealed: None,
            _dir: dir,
        }
    }

    pub fn works(&self) -> &Works {
        self.works.as_ref().expect("open")
    }

    /// The snapshot that was sealed last.
    pub fn last_sealed(&self) -> Option<Digest> {
        self.sealed
    }

    fn clone_of(&self, base: Option<Digest>) -> Arc<WorkTree> {
        let made = self.works().create(base, WorkClass::Run, b"test", at(1));
        made.expect("a clone")
    }
}

impl Default for Bench {
    fn default() -> Bench {
        Bench::new()
    }
}

/// One work tree.
pub struct StoreSide<'a> {
    bench: &'a mut Bench,
    tree: Option<Arc<WorkTree>>,
    /// The number of each model node ever seen.
    numbers: HashMap<Id, Node>,
    /// A snapshot just made, not looked at yet.
    fresh: Option<Digest>,
    /// Costs as much as all the rest, as snapshots gather: not in every case.
    pub checks: bool,
}

impl<'a> StoreSide<'a> {
    pub fn new(bench: &'a mut Bench, base: Option<Digest>) -> StoreSide<'a> {
        let tree = Some(bench.clone_of(base));
        let mut side = StoreSide {
            bench,
            tree,
            numbers: HashMap::from([(ROOT_ID, ROOT)]),
            fresh: None,
            checks: false,
        };
        if base.is_some() {
            side.numbers.clear();
        }
        side
    }

    fn tree(&self) -> Arc<WorkTree> {
        Arc::clone(self.tree.as_ref().expect("a tree"))
    }

    /// Calls name model nodes: the numbers of a clone are found by their paths.
    pub fn find_numbers(&mut self, model: &Model) {
        let tree = self.tree();
        self.numbers = walk(&*tree, model).1;
    }

    fn number(&self, id: Id) -> Node {
        self.numbers[&id]
    }

    /// An answer shows what is: the attributes, and those of the directories changed.
    fn answered(&mut self, turn: &Turn<'_>, id: Id, changed: &Changed) {
        let what = format!("store: {:?}", turn.call);
        match turn.after.nodes.get(&id) {
            Some(m) => {
                let a = &changed.node;
                let ours = (
                    a.kind, a.mode, a.uid, a.gid, a.nlink, a.atime, a.mtime, a.ctime,
                );
                let theirs = (
                    m.kind, m.mode, m.uid, m.gid, m.nlink, m.atime, m.mtime, m.ctime,
                );
                assert_eq!(ours, theirs, "{what}: its attributes");
            }
            None => assert_eq!(changed.node.nlink, 0, "{what}: removed"),
        }
        for wcc in [Some(changed.wcc), changed.to].into_iter().flatten() {
            assert_eq!(wcc.before.node, wcc.after.node);
            assert!(wcc.before.ctime <= wcc.after.ctime);
            let now = self.tree().getattr(wcc.after.node);
            assert_eq!(now, Ok(wcc.after), "{what}: wcc");
        }
        let number = *self.numbers.entry(id).or_insert(changed.node.node);
        assert_eq!(number, changed.node.node, "{what}: a node is itself");
    }
}

impl Side for StoreSide<'_> {
    fn name(&self) -> &'static str {
        "store"
    }

    fn exact(&self) -> bool {
        true
    }

    fn make(&mut self, turn: &Turn<'_>) -> Result<(), Errno> {
        let tree = self.tree();
        let cx = OpCx {
            creds: &turn.call.who,
            now: turn.after.now,
            once: None,
        };
        let n = |id: &Id| self.number(*id);
        let none = SetAttr::default();
        let with_mode = |mode| SetAttr {
            mode: Some(mode),
            ..none
        };
        let done = match &turn.call.what {
            What::Make {
                kind,
                dir,
                name,
                mode,
                guarded,
            } => {
                let (dir, new) = (n(dir), with_mode(*mode));
                let how = if *guarded {
                    Create::Guarded
                } else {
                    Create::Unchecked
                };
                match kind {
                    Kind::File => tree.create(&cx, dir, name, how, &new),
                    Kind::Dir => tree.mkdir(&cx, dir, name, &new),
                    Kind::Symlink => tree.symlink(&cx, dir, name, TARGET, &new),
                    _ => tree.mknod(&cx, dir, name, *kind, Rdev { major: 1, minor: 3 }, &new),
                }
            }
            What::Link { file, dir, name } => tree.link(&cx, n(file), n(dir), name),
            What::Remove { dir, name } => tree.remove(&cx, n(dir), name),
            What::Rmdir { dir, name } => tree.rmdir(&cx, n(dir), name),
            What::Rename {
                from,
                name,
                to,
                new,
            } => tree.rename(&cx, n(from), name, n(to), new),
            What::Write {
                file,
                offset,
                len,
                seed,
            } => tree.write(&cx, n(file), *offset, &pattern(*seed, *len)),
            What::Truncate { file, size } => {
                let size = Some(*size);
                tree.setattr(&cx, n(file), &SetAttr { size, ..none }, None)
            }
            What::Chmod { node, mode } => tree.setattr(&cx, n(node), &with_mode(*mode), None),
            What::Chown { node, uid, gid } => {
                let (uid, gid) = (*uid, *gid);
                tree.setattr(&cx, n(node), &SetAttr { uid, gid, ..none }, None)
            }
            What::Utimes { node, at } => {
                let time = Some(at.map_or(SetTime::Now, SetTime::At));
                let (atime, mtime) = (time, time);
                let new = SetAttr {
                    atime,
                    mtime,
                    ..none
                };
                tree.setattr(&cx, n(node), &new, None)
            }
            What::SetXattr { node, name, value } => {
                tree.setxattr(&cx, n(node), name, value, XattrHow::Either)
            }
            What::RemoveXattr { node, name } => tree.removexattr(&cx, n(node), name),
        };
        if let (Ok(changed), Ok(id)) = (&done, turn.outcome) {
            self.answered(turn, id, changed);
        }
        done.map(drop)
    }

    fn look(&mut self, model: &Model) -> BTreeMap<Vec<u8>, Seen> {
        let tree = self.tree();
        if let Some(fresh) = self.fresh.take() {
            // The snapshot itself, and not only its clone.
            let snapshot = self.bench.store.sealed(&fresh).expect("the snapshot");
            let (sealed, numbers) = walk(&*snapshot, model);
            self.numbers = numbers;
            assert_eq!(
                sealed,
                walk(&*tree, model).0,
                "store: a snapshot and its clone"
            );
        }
        let (seen, numbers) = walk(&*tree, model);
        for (id, number) in &self.numbers {
            match numbers.get(id) {
                Some(now) => assert_eq!(now, number, "store: number of {id}"),
                None => {
                    let gone = tree.getattr(*number);
                    assert_eq!(gone, Err(Errno::Stale), "store: {id} is gone");
                }
            }
        }
        self.numbers.extend(numbers);
        seen
    }

    /// All that a killed process leaves is on disk: nothing is flushed on drop.
    fn reopen(&mut self) {
        let id = self.tree().id();
        self.tree = None;
        self.bench.works = None;
        let works = Works::open_or_create(Arc::clone(&self.bench.store));
        self.bench.works = Some(works.expect("work trees"));
        self.tree = Some(self.bench.works().get(id).expect("the tree"));
    }

    fn seal(&mut self) {
        let old = self.tree();
        let mut told = Vec::new();
        let differs = old.diff(&mut |d| {
            told.push((d.path.to_vec(), d.kind, d.change, d.sizes));
            true
        });
        differs.expect("compared");
        let base = old.info().base;
        let sealed = self.bench.works().seal(old.id(), &SealOptions::default());
        let sealed = sealed.expect("sealed").snapshot;
        assert_eq!(old.getattr(ROOT), Err(Errno::Stale));
        // What was told before is what two sealed trees show.
        if let Some(base) = base {
            let mut both = Vec::new();
            let differs = self.bench.store.diff(&base, &sealed, &mut |d| {
                both.push((d.path.to_vec(), d.kind, d.change, d.sizes));
                true
            });
            differs.expect("compared");
            assert_eq!(told, both, "what changed since the tree was cloned");
        }
        self.tree = Some(self.bench.clone_of(Some(sealed)));
        self.numbers.clear();
        self.fresh = Some(sealed);
        self.bench.sealed = Some(sealed);
    }

    fn finish(&mut self) {
        if self.checks {
            let options = FsckOptions {
                works: Some(self.bench.works()),
                ..FsckOptions::default()
            };
            let report = self.bench.store.fsck(&options, &|_| ());
            let report = report.expect("checked");
            assert_eq!(report.findings, []);
            assert!(!report.incomplete && report.checked.work_trees > 0);
        }
        let id = self.tree().id();
        self.tree = None;
        self.bench.works().drop_tree(id).expect("dropped");
    }
}

fn seen(tree: &dyn Tree, n: Node) -> Seen {
    let a = tree.getattr(n).expect("attributes");
    let names = tree.listxattr(n).expect("listed");
    let value = |name: Vec<u8>| {
        let value = tree.getxattr(n, &name).expect("its value");
        (name, value)
    };
    Seen {
        number: n,
        kind: a.kind,
        mode: a.mode,
        uid: a.uid,
        gid: a.gid,
        nlink: a.nlink,
        size: a.size,
        atime: a.atime,
        mtime: a.mtime,
        ctime: a.ctime,
        data: match a.kind {
            Kind::File => slurp(tree, n),
            _ => Vec::new(),
        },
        target: match a.kind {
            Kind::Symlink => tree.readlink(n).expect("a target").0,
            _ => Vec::new(),
        },
        xattrs: names.into_iter().map(value).collect(),
    }
}

/// Everything below the root, and the number of each model node that is met.
fn walk(tree: &dyn Tree, model: &Model) -> (BTreeMap<Vec<u8>, Seen>, HashMap<Id, Node>) {
    let (mut all, mut numbers) = (BTreeMap::new(), HashMap::new());
    let mut stack = vec![(Some(ROOT_ID), ROOT, ROOT, b"/".to_vec())];
    while let Some((id, n, parent, path)) = stack.pop() {
        if let Some(id) = id {
            numbers.insert(id, n);
        }
        let found = seen(tree, n);
        if found.kind == Kind::Dir {
            let up = tree.lookup(&Creds::ROOT, n, b"..").expect("..").node.node;
            assert_eq!(up, parent, "store: {} has another ..", path.escape_ascii());
            let names = id.and_then(|id| model.nodes.get(&id)).map(|m| &m.names);
            for (name, listed) in list(tree, n, 100) {
                let child = tree.lookup(&Creds::ROOT, n, &name).expect("listed").node;
                assert_eq!(child.node, listed, "store: LOOKUP and READDIR");
                let mut below = path.clone();
                below.extend_from_slice(&name);
                if child.kind == Kind::Dir {
                    below.push(b'/');
                }
                let id = names.and_then(|names| names.get(&name)).copied();
                stack.push((id, listed, n, below));
            }
        }
        all.insert(path, found);
    }
    (all, numbers)
}

fn slurp(tree: &dyn Tree, node: Node) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let at = out.len();
        let read = tree.read(&Creds::ROOT, node, at as u64, 50_000, &mut out);
        let done = read.expect("read");
        assert!(done.eof || out.len() > at, "nothing read, and not the end");
        if done.eof {
            return out;
        }
    }
}

/// Names but "." and "..", read `batch` at a time.
fn list(tree: &dyn Tree, dir: Node, batch: usize) -> Vec<(Vec<u8>, Node)> {
    let (mut all, mut cookie) = (Vec::new(), 0);
    loop {
        let mut left = batch;
        let done = tree.readdir(&Creds::ROOT, dir, cookie, true, &mut |e| {
            if left == 0 {
                return false;
            }
            left -= 1;
            cookie = e.cookie;
            assert_eq!(e.attr.expect("asked for").node, e.node);
            if e.name != b"." && e.name != b".." {
                all.push((e.name.to_vec(), e.node));
            }
            true
        });
        if done.expect("listed").eof {
            return all;
        }
    }
}
