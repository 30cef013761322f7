//! The tree in memory becomes objects: one walk in pre-order numbers the
//! nodes, and writes each directory when all below it is written.

use super::arena::{Arena, Id, Named, ROOT_ID, What};
use crate::batch::Batch;
use crate::error::StoreError;
use crate::object::{Body, Entry, Groups, Meta, SnapshotData};
use crate::types::{Node, ROOT, Time};
use std::collections::{BTreeMap, HashMap, btree_map};

/// A directory whose entries are being made.
struct Frame {
    name: Vec<u8>,
    meta: Meta,
    names: btree_map::IntoIter<Vec<u8>, Named>,
    entries: Vec<Entry>,
}

pub(super) fn write(
    batch: &mut Batch,
    mut arena: Arena,
    clamp: Option<i64>,
) -> Result<SnapshotData, StoreError> {
    let mut places: HashMap<Id, Vec<Node>> = HashMap::new();
    let mut next = ROOT;
    let root = open(&mut arena, ROOT_ID, Vec::new(), clamp);
    let root_meta = root.meta.clone();
    let mut stack = vec![root];
    loop {
        let Some(top) = stack.last_mut() else {
            let why = crate::object::Malformed::new("directory", 0, "no root");
            return Err(why.into());
        };
        let Some((name, Named { id, .. })) = top.names.next() else {
            let (digest, counts) = batch.put_dir(std::mem::take(&mut top.entries))?;
            let (name, meta) = (std::mem::take(&mut top.name), top.meta.clone());
            stack.pop();
            match stack.last_mut() {
                Some(parent) => {
                    let body = Body::Dir { digest, counts };
                    parent.entries.push(Entry { name, meta, body });
                }
                None => {
                    let lists = places.into_values().filter(|l| l.len() > 1).collect();
                    let groups = Groups::new(lists, ROOT + counts.nodes)?;
                    return Ok(SnapshotData {
                        root_meta,
                        root_dir: digest,
                        counts,
                        groups,
                    });
                }
            }
            continue;
        };
        next += 1;
        let node = &arena.nodes[id];
        match &node.what {
            What::Dir(_) => stack.push(open(&mut arena, id, name, clamp)),
            What::Leaf(body) => {
                if node.linked {
                    places.entry(id).or_default().push(next);
                }
                let meta = clamped(node.meta.clone(), clamp);
                top.entries.push(Entry {
                    name,
                    meta,
                    body: body.clone(),
                });
            }
        }
    }
}

fn open(arena: &mut Arena, id: Id, name: Vec<u8>, clamp: Option<i64>) -> Frame {
    let node = &mut arena.nodes[id];
    let names = match &mut node.what {
        What::Dir(names) => std::mem::take(names),
        What::Leaf(_) => BTreeMap::new(),
    };
    let meta = clamped(node.meta.clone(), clamp);
    Frame {
        name,
        meta,
        names: names.into_iter(),
        entries: Vec::new(),
    }
}

fn clamped(mut meta: Meta, clamp: Option<i64>) -> Meta {
    if let Some(secs) = clamp {
        meta.mtime = meta.mtime.min(Time { secs, nanos: 0 });
    }
    meta
}
