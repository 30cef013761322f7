//! The model and its calls, as this crate's own types have them: those that the model is made
//! of are of the same crate compiled without its tests.

use super::*;
use pocker_testing::call::{Call, TARGET, What, pattern};
use pocker_testing::model::{Id, MNode, Model, ROOT_ID};
use std::collections::{BTreeMap, HashMap};

/// The number of each model node.
pub type Numbers = HashMap<Id, Node>;

/// Makes the call, which must be answered as the model did.
pub fn make<E: std::fmt::Debug>(
    tree: &WorkTree,
    numbers: &mut Numbers,
    model: &Model,
    call: &Call,
    outcome: Result<Id, E>,
) {
    let creds = user(call.who.uid, call.who.gid, &call.who.gids);
    let cx = OpCx {
        creds: &creds,
        now: Time {
            secs: model.now.secs,
            nanos: model.now.nanos,
        },
        once: None,
    };
    let n = |id: &Id| numbers[id];
    let none = SetAttr::default();
    let done = match &call.what {
        What::Make {
            kind,
            dir,
            name,
            mode: bits,
            guarded,
        } => {
            let how = match guarded {
                true => Create::Guarded,
                false => Create::Unchecked,
            };
            match kind_of(*kind as u8) {
                Kind::File => tree.create(&cx, n(dir), name, how, &mode(*bits)),
                Kind::Dir => tree.mkdir(&cx, n(dir), name, &mode(*bits)),
                Kind::Symlink => tree.symlink(&cx, n(dir), name, TARGET, &mode(*bits)),
                kind => tree.mknod(
                    &cx,
                    n(dir),
                    name,
                    kind,
                    Rdev { major: 1, minor: 3 },
                    &mode(*bits),
                ),
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
        What::Chmod { node, mode: bits } => tree.setattr(&cx, n(node), &mode(*bits), None),
        What::Chown { node, uid, gid } => {
            let (uid, gid) = (*uid, *gid);
            tree.setattr(&cx, n(node), &SetAttr { uid, gid, ..none }, None)
        }
        What::Utimes { node, at } => {
            let at = at.map(|t| Time {
                secs: t.secs,
                nanos: t.nanos,
            });
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
    let shown = |e: &dyn std::fmt::Debug| format!("{e:?}");
    match (done, outcome) {
        (Ok(changed), Ok(id)) => {
            let number = *numbers.entry(id).or_insert(changed.node.node);
            assert_eq!(number, changed.node.node, "{call:?}: a node is itself");
        }
        (Err(ours), Err(theirs)) => assert_eq!(shown(&ours), shown(&theirs), "{call:?}"),
        (ours, theirs) => panic!("{call:?}: {ours:?}, and the model {theirs:?}"),
    }
}

pub fn kind_of(number: u8) -> Kind {
    use Kind::*;
    let kinds = [File, Dir, Symlink, Fifo, Socket, Char, Block];
    let found = kinds.into_iter().find(|kind| *kind as u8 == number);
    found.expect("a kind")
}

/// Compares everything below the root; the number of each model node.
pub fn same_tree(what: &str, tree: &dyn Tree, model: &Model) -> Numbers {
    let mut found = Numbers::new();
    let mut of = HashMap::new();
    let mut stack = vec![(ROOT_ID, ROOT, "/".to_owned())];
    while let Some((id, n, path)) = stack.pop() {
        let what = format!("{what}: {path}");
        if let Some(before) = found.get(&id) {
            assert_eq!(*before, n, "{what}: one file, one number");
            continue;
        }
        assert!(of.insert(n, id).is_none(), "{what}: another file's number");
        found.insert(id, n);
        let m = &model.nodes[&id];
        same_node(&what, tree, n, m);
        if m.kind as u8 != Kind::Dir as u8 {
            continue;
        }
        let up = tree.lookup(&Creds::ROOT, n, b"..").unwrap().node.node;
        assert_eq!(up, found[&m.parent], "{what}: ..");
        let listed: BTreeMap<Vec<u8>, Node> = list(tree, n, 100)
            .into_iter()
            .map(|(name, n, _)| (name, n))
            .collect();
        let ours: Vec<_> = listed.keys().collect();
        assert_eq!(ours, m.names.keys().collect::<Vec<_>>(), "{what}: names");
        for (name, child) in &m.names {
            let path = format!("{path}{}/", name.escape_ascii());
            stack.push((*child, listed[name], path));
        }
    }
    found
}

fn same_node(what: &str, tree: &dyn Tree, n: Node, m: &MNode) {
    let a = tree.getattr(n).unwrap();
    let time = |t: Time| (t.secs, t.nanos);
    let ours = (a.kind as u8, a.mode, a.uid, a.gid, a.nlink);
    assert_eq!(
        ours,
        (m.kind as u8, m.mode, m.uid, m.gid, m.nlink),
        "{what}"
    );
    let theirs = [m.atime, m.mtime, m.ctime].map(|t| (t.secs, t.nanos));
    assert_eq!(
        [a.atime, a.mtime, a.ctime].map(time),
        theirs,
        "{what}: times"
    );
    match a.kind {
        Kind::File => {
            assert_eq!(a.size, m.data.len() as u64, "{what}: size");
            assert!(slurp(tree, n) == m.data, "{what}: data");
        }
        Kind::Symlink => assert_eq!(tree.readlink(n).unwrap().0, m.target, "{what}"),
        _ => {}
    }
    let names = tree.listxattr(n).unwrap().into_iter();
    let xattrs: BTreeMap<Vec<u8>, Vec<u8>> = names
        .map(|name| (name.clone(), tree.getxattr(n, &name).unwrap()))
        .collect();
    assert_eq!(xattrs, m.xattrs, "{what}: xattrs");
}
