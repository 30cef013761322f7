//! What can be seen of a store.

use pocker_store::tree::Tree;
use pocker_store::types::{Creds, Digest, Errno, Kind, Node, ROOT};
use pocker_store::work::Works;
use pocker_store::{FsckOptions, FsckReport, GcOptions, GcRoots, OpenOptions, Store, StoreError};
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A line for each thing, by its name.
pub type State = BTreeMap<String, String>;

/// The kind of record that scripts put.
pub const RECORD: &str = "test";

/// A store that is open, with its work trees and volumes.
pub struct Opened {
    pub store: Arc<Store>,
    pub works: Works,
    pub volumes: Works,
}

impl Opened {
    pub fn at(dir: &Path) -> Result<Opened, StoreError> {
        let options = OpenOptions {
            create: true,
            boot_id: b"this boot".to_vec(),
        };
        let store = Store::open(dir, options)?;
        Ok(Opened {
            works: Works::open_or_create(Arc::clone(&store))?,
            volumes: Works::volumes(Arc::clone(&store))?,
            store,
        })
    }

    pub fn fsck(&self, repair: bool) -> Result<FsckReport, StoreError> {
        let options = FsckOptions {
            repair,
            works: Some(&self.works),
            volumes: Some(&self.volumes),
            cancel: None,
        };
        self.store.fsck(&options, &|_| ())
    }

    pub fn gc(&self) -> Result<(), StoreError> {
        self.collect(GcOptions::default())
    }

    /// As beside builds, whose steps no pocker names yet.
    pub fn gc_beside_builds(&self) -> Result<(), StoreError> {
        self.collect(GcOptions {
            keep_steps_since: Some(0),
            ..GcOptions::default()
        })
    }

    fn collect(&self, options: GcOptions) -> Result<(), StoreError> {
        let bases = |works: &Works| works.list().into_iter().filter_map(|info| info.base);
        let roots = GcRoots {
            snapshots: bases(&self.works).chain(bases(&self.volumes)).collect(),
            blobs: self.volumes.blobs().expect("volumes"),
            ..GcRoots::default()
        };
        self.store.gc_with(|| Ok((options, roots))).map(drop)
    }

    /// All of it but what a collection may take: steps that no pocker names, which must
    /// nonetheless be whole as long as they are listed.
    pub fn state(&self) -> State {
        let mut state = State::new();
        let (store, mut named) = (&self.store, Vec::new());
        for pocker in store.pockers().expect("pockers") {
            let name = format!("pocker {}", pocker.name.escape_ascii());
            state.insert(name, format!("{:?} {:?}", pocker.steps, pocker.config));
            named.extend(pocker.steps);
        }
        for pinned in store.pinned_steps().expect("pins") {
            let name = format!("pin {}", pinned.key);
            state.insert(name, pinned.label.escape_ascii().to_string());
            named.push(pinned.key);
        }
        for step in store.steps().expect("steps") {
            let mut lines = State::new();
            let name = format!("step {}", step.key);
            let whole = match store.sealed(&step.snapshot) {
                Ok(tree) => walk(&*tree, &name, &mut lines),
                Err(e) => lines.insert(name.clone(), e.to_string()).is_some(),
            };
            if named.contains(&step.key) {
                lines.entry(name).or_insert(step.snapshot.to_string());
                state.extend(lines);
            } else if !whole {
                state.insert(name, "listed, and not whole".to_owned());
            }
        }
        for (id, bytes) in store.records(RECORD).expect("records") {
            let name = format!("record {}", id.escape_ascii());
            state.insert(name, bytes.escape_ascii().to_string());
        }
        for (kind, works) in [("work", &self.works), ("volume", &self.volumes)] {
            for info in works.list() {
                let name = format!("{kind} {}", info.label.escape_ascii());
                let line = match works.get(info.id) {
                    Ok(tree) => {
                        walk(&*tree, &name, &mut state);
                        format!("{:?} {:?}", info.class, info.base)
                    }
                    Err(e) => format!("{e:?}"),
                };
                state.insert(name, line);
            }
        }
        state
    }
}

/// A line for each name below the root; whether all of it can be read.
fn walk(tree: &dyn Tree, above: &str, state: &mut State) -> bool {
    let mut whole = true;
    let mut stack = vec![(ROOT, above.to_owned())];
    while let Some((dir, path)) = stack.pop() {
        let names = names(tree, dir).unwrap_or_else(|e| {
            whole = false;
            state.insert(path.clone(), format!("{e:?}"));
            Vec::new()
        });
        for (name, node) in names {
            let path = format!("{path}/{}", name.escape_ascii());
            let line = node_line(tree, node);
            if matches!(tree.getattr(node), Ok(attr) if attr.kind == Kind::Dir) {
                stack.push((node, path.clone()));
            }
            whole &= line.is_ok();
            state.insert(
                path,
                line.unwrap_or_else(|(line, e)| format!("{line} {e:?}")),
            );
        }
    }
    whole
}

/// What is seen of a node; where its content cannot be had, why.
fn node_line(tree: &dyn Tree, node: Node) -> Result<String, (String, Errno)> {
    let attr = tree.getattr(node).map_err(|e| (String::new(), e))?;
    let xattrs = tree.listxattr(node).map_err(|e| (String::new(), e))?;
    let content = match attr.kind {
        Kind::File => bytes(tree, node, attr.size).map(|b| digest(&b)),
        Kind::Symlink => tree
            .readlink(node)
            .map(|(t, _)| t.escape_ascii().to_string()),
        _ => Ok(String::new()),
    };
    let line = format!(
        "{:?} {:o} {} {} {xattrs:?}",
        attr.kind, attr.mode, attr.nlink, attr.size
    );
    match content {
        Ok(content) => Ok(format!("{line} {content}")),
        Err(e) => Err((line, e)),
    }
}

fn digest(bytes: &[u8]) -> String {
    Digest(sha2::Sha256::digest(bytes).into()).to_string()
}

/// The bytes of a file, or why they cannot be had.
pub fn bytes(tree: &dyn Tree, node: Node, size: u64) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    while (out.len() as u64) < size {
        let at = out.len() as u64;
        let done = tree.read(&Creds::ROOT, node, at, 1 << 20, &mut out)?;
        if done.eof {
            break;
        }
    }
    assert_eq!(out.len() as u64, size, "all of it is read");
    Ok(out)
}

fn names(tree: &dyn Tree, dir: Node) -> Result<Vec<(Vec<u8>, Node)>, Errno> {
    let mut all = Vec::new();
    tree.readdir(&Creds::ROOT, dir, 0, false, &mut |e| {
        if e.name != b"." && e.name != b".." {
            all.push((e.name.to_vec(), e.node));
        }
        true
    })?;
    Ok(all)
}
