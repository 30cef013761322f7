//! A work tree and a model of it, side by side.

use super::model::{Id, MNode, Model, ROOT_ID};
use super::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub struct World<'a> {
    pub bench: &'a mut Bench,
    pub tree: Option<Arc<WorkTree>>,
    pub model: Model,
    /// Every node ever seen, the removed ones too.
    pub pairs: Vec<(Id, Node)>,
}

impl World<'_> {
    pub fn tree(&self) -> Arc<WorkTree> {
        Arc::clone(self.tree.as_ref().unwrap())
    }

    /// The same outcome on both sides, and the same attributes shown.
    pub fn agree(&mut self, what: &str, ours: Result<Changed, Errno>, theirs: Result<Id, Errno>) {
        let (ours, id) = match (ours, theirs) {
            (Ok(ours), Ok(id)) => (ours, id),
            (ours, theirs) => {
                assert_eq!(ours.err(), theirs.err(), "{what}: tree, then model");
                return;
            }
        };
        match self.model.nodes.get(&id) {
            Some(m) => same_attr(what, &ours.node, m),
            None => assert_eq!(ours.node.nlink, 0, "{what}: removed"),
        }
        for wcc in [Some(ours.wcc), ours.to].into_iter().flatten() {
            assert_eq!(wcc.before.node, wcc.after.node);
            assert!(wcc.before.ctime <= wcc.after.ctime);
            let now = self.tree().getattr(wcc.after.node);
            assert_eq!(now, Ok(wcc.after), "{what}: wcc");
        }
        let number = ours.node.node;
        match self.pairs.iter().find(|(m, n)| *m == id || *n == number) {
            Some(pair) => assert_eq!(*pair, (id, number), "{what}: a node is itself"),
            None => self.pairs.push((id, number)),
        }
    }

    /// The whole tree, and that what is gone is gone.
    pub fn same(&self, what: &str) {
        let tree = self.tree();
        let found = same_tree(what, &*tree, &self.model);
        for (id, n) in &self.pairs {
            match found.get(id) {
                Some(number) => assert_eq!(number, n, "{what}: number of {id}"),
                None => assert_eq!(tree.getattr(*n), Err(Errno::Stale), "{what}: {id} is gone"),
            }
        }
    }

    /// A check of the store finds nothing wrong.
    pub fn checked(&self) {
        let options = crate::FsckOptions {
            works: Some(self.bench.works()),
            ..Default::default()
        };
        let report = self.bench.store.fsck(&options, &|_| ()).unwrap();
        assert_eq!(report.findings, []);
        assert!(!report.incomplete && report.checked.work_trees > 0);
    }

    /// What kill -9 and a restart leave.
    pub fn reopen(&mut self) {
        let id = self.tree().id();
        self.tree = None;
        self.bench.reopen();
        self.tree = Some(self.bench.works().get(id).unwrap());
    }

    /// Seals, and goes on with a clone of the snapshot.
    pub fn seal(&mut self) -> Sealed {
        let old = self.tree();
        let sealed = self
            .bench
            .works()
            .seal(old.id(), &SealOptions::default())
            .unwrap();
        assert_eq!(old.getattr(ROOT), Err(Errno::Stale));
        self.model.sealed();
        let snapshot = self.bench.store.sealed(&sealed.snapshot).unwrap();
        let found = same_tree("sealed", &*snapshot, &self.model);
        self.tree = Some(self.bench.clone_of(sealed.snapshot));
        self.pairs = found.into_iter().collect();
        self.pairs.sort_unstable();
        sealed
    }
}

fn same_attr(what: &str, a: &Attr, m: &MNode) {
    let ours = (
        a.kind, a.mode, a.uid, a.gid, a.nlink, a.atime, a.mtime, a.ctime,
    );
    let theirs = (
        m.kind, m.mode, m.uid, m.gid, m.nlink, m.atime, m.mtime, m.ctime,
    );
    assert_eq!(ours, theirs, "{what}: tree, then model");
    match m.kind {
        Kind::File => assert_eq!(a.size, m.data.len() as u64, "{what}: size"),
        Kind::Symlink => assert_eq!(a.size, m.target.len() as u64, "{what}: size"),
        _ => {}
    }
}

/// Compares everything below the root; the number of each model node.
pub fn same_tree(what: &str, tree: &dyn Tree, model: &Model) -> HashMap<Id, Node> {
    let mut found: HashMap<Id, Node> = HashMap::new();
    let mut numbers: BTreeSet<Node> = BTreeSet::new();
    let mut stack = vec![(ROOT_ID, ROOT, "/".to_owned())];
    while let Some((id, n, path)) = stack.pop() {
        let what = format!("{what}: {path}");
        if let Some(before) = found.get(&id) {
            assert_eq!(*before, n, "{what}: one file, one number");
            continue;
        }
        assert!(numbers.insert(n), "{what}: number {n} is another file's");
        found.insert(id, n);
        let m = &model.nodes[&id];
        same_attr(&what, &tree.getattr(n).unwrap(), m);
        same_xattrs(&what, tree, n, m);
        match m.kind {
            Kind::File => assert!(slurp(tree, n) == m.data, "{what}: data"),
            Kind::Symlink => assert_eq!(tree.readlink(n).unwrap().0, m.target, "{what}"),
            Kind::Dir => {
                let up = tree.lookup(&Creds::ROOT, n, b"..").unwrap().node.node;
                assert_eq!(up, found[&m.parent], "{what}: ..");
                let listed: BTreeMap<Vec<u8>, Node> = list(tree, n, 100)
                    .into_iter()
                    .map(|(name, n, _)| (name, n))
                    .collect();
                let ours: Vec<_> = listed.keys().collect();
                assert_eq!(ours, m.names.keys().collect::<Vec<_>>(), "{what}: names");
                for (name, child) in &m.names {
                    let node = tree.lookup(&Creds::ROOT, n, name).unwrap().node.node;
                    assert_eq!(node, listed[name], "{what}: LOOKUP and READDIR");
                    let path = format!("{path}{}/", String::from_utf8_lossy(name));
                    stack.push((*child, node, path));
                }
            }
            _ => {}
        }
    }
    found
}

fn same_xattrs(what: &str, tree: &dyn Tree, n: Node, m: &MNode) {
    let ours: BTreeMap<Vec<u8>, Vec<u8>> = tree
        .listxattr(n)
        .unwrap()
        .into_iter()
        .map(|name| {
            let value = tree.getxattr(n, &name).unwrap();
            (name, value)
        })
        .collect();
    assert_eq!(ours, m.xattrs, "{what}: xattrs");
}
