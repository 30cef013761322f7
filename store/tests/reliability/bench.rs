//! Small stores whose bytes are always the same, and what is done to them. What makes something
//! may be called again after it failed, also where it had an effect after all.

use crate::state::Opened;
use pocker_store::object::Meta;
use pocker_store::types::{Creds, Digest, Node, OpCx, ROOT, SetAttr, Time};
use pocker_store::work::{WorkClass, WorkTree, Works};
use pocker_store::{IngestDone, Pocker, Step, Store};
use std::sync::Arc;

/// Larger than a row may be, so that it is a file; with a hole, and no two the same.
pub fn large(seed: u8) -> Vec<u8> {
    let mut bytes = vec![seed; 30_000];
    bytes.extend([0; 8192]);
    bytes.extend([seed ^ 0x55; 3_000]);
    bytes
}

pub fn small(seed: u8) -> Vec<u8> {
    vec![seed; 100]
}

pub fn meta(mode: u32) -> Meta {
    Meta {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time {
            secs: 1_000,
            nanos: 7,
        },
        xattrs: vec![(b"user.a".to_vec(), b"v".to_vec())],
    }
}

/// A tree of a large, a small and a linked file.
pub fn ingest(store: &Arc<Store>, seed: u8) -> Result<IngestDone, String> {
    let (large, small) = (large(seed), small(seed));
    let mut into = store.ingest();
    into.file(
        b"dir/large",
        meta(0o644),
        large.len() as u64,
        &mut &large[..],
    )
    .map_err(text)?;
    into.file(
        b"dir/small",
        meta(0o600),
        small.len() as u64,
        &mut &small[..],
    )
    .map_err(text)?;
    into.hardlink(b"link", b"dir/small").map_err(text)?;
    into.symlink(b"soft", meta(0o777), b"dir").map_err(text)?;
    into.finish(None).map_err(text)
}

pub fn step(key: u8, snapshot: Digest) -> Step {
    Step {
        key: Digest([key; 32]),
        snapshot,
        parent: None,
        instruction: b"EXEC true".to_vec(),
        inputs: Vec::new(),
        upstream: None,
        created: 100,
    }
}

pub fn pocker(name: &str, keys: &[u8]) -> Pocker {
    Pocker {
        name: name.as_bytes().to_vec(),
        steps: keys.iter().map(|key| Digest([*key; 32])).collect(),
        config: name.as_bytes().to_vec(),
        created: 1,
    }
}

/// A tree, a step that leads to it, a pocker that names the step.
pub fn named(store: &Arc<Store>, name: &str, key: u8) -> Result<Digest, String> {
    let snapshot = ingest(store, key)?.snapshot;
    store.put_step(step(key, snapshot)).map_err(text)?;
    store.put_pocker(&pocker(name, &[key])).map_err(text)?;
    Ok(snapshot)
}

/// What most scripts begin with.
pub fn prepare(opened: &Opened) {
    let store = &opened.store;
    let base = named(store, "base", 1).expect("a pocker");
    store
        .put_record(crate::state::RECORD, b"a", b"1")
        .expect("a record");
    for (works, class) in [
        (&opened.works, WorkClass::Run),
        (&opened.volumes, WorkClass::Volume),
    ] {
        for label in ["one", "two"] {
            let tree = made(works, Some(base), class, label).expect("a tree");
            write(&tree, "large-file", &large(9)).expect("a file");
            write(&tree, "small-file", &small(9)).expect("a file");
        }
    }
}

pub fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

pub fn errno(e: pocker_store::types::Errno) -> String {
    format!("{e:?}")
}

pub fn cx() -> OpCx<'static> {
    static ROOT_USER: Creds = Creds::ROOT;
    OpCx {
        creds: &ROOT_USER,
        now: Time {
            secs: 2_000,
            nanos: 0,
        },
        once: None,
    }
}

pub fn mode(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

/// The tree with this label, which is made where there is none.
pub fn made(
    works: &Works,
    base: Option<Digest>,
    class: WorkClass,
    label: &str,
) -> Result<Arc<WorkTree>, String> {
    match find(works, label) {
        Some(tree) => Ok(tree),
        None => works
            .create(base, class, label.as_bytes(), cx().now)
            .map_err(errno),
    }
}

pub fn find(works: &Works, label: &str) -> Option<Arc<WorkTree>> {
    let all = works.list();
    let info = all.iter().find(|info| info.label == label.as_bytes())?;
    Some(works.get(info.id).expect("a listed tree opens"))
}

pub fn node(tree: &WorkTree, name: &str) -> Option<Node> {
    use pocker_store::tree::Tree;
    let mut at = ROOT;
    for part in name.split('/') {
        let found = tree.lookup(&Creds::ROOT, at, part.as_bytes()).ok()?;
        at = found.node.node;
    }
    Some(at)
}

/// A file of the root with these bytes, made where there is none.
pub fn write(tree: &WorkTree, name: &str, data: &[u8]) -> Result<(), String> {
    let file = match node(tree, name) {
        Some(file) => file,
        None => create(tree, name)?,
    };
    tree.write(&cx(), file, 0, data).map_err(errno)?;
    tree.commit(file).map(drop).map_err(errno)
}

pub fn create(tree: &WorkTree, name: &str) -> Result<Node, String> {
    use pocker_store::types::Create;
    let how = Create::Unchecked;
    let made = tree.create(&cx(), ROOT, name.as_bytes(), how, &mode(0o640));
    Ok(made.map_err(errno)?.node.node)
}
