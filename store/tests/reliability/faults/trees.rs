//! Work trees: made, changed, sealed, dropped.

use super::points::every_point;
use super::script::{Script, Step};
use crate::bench::{
    create, cx, errno, find, large, made, mode, node, pocker, prepare, small, step, text, write,
};
use pocker_store::types::{Digest, ROOT, SetAttr};
use pocker_store::work::{SealOptions, WorkClass, WorkTree, Works, XattrHow};
use std::sync::Arc;

/// The tree that the steps change.
pub fn one(works: &Works) -> Result<Arc<WorkTree>, String> {
    find(works, "one").ok_or_else(|| "there is no tree".to_owned())
}

/// A change of the tree that is dropped next, so that its rows are still on their way.
pub fn change(works: &Works) -> Result<(), String> {
    match find(works, "one") {
        Some(tree) => create(&tree, "last").map(drop),
        None => Ok(()),
    }
}

/// Each kind of change, on a tree.
pub fn changes(tree: &WorkTree, n: usize) -> Result<(), String> {
    let gone = |name: &str| node(tree, name).is_none();
    let of = |name: &str| node(tree, name).ok_or_else(|| format!("{name} is gone"));
    match n {
        0 => create(tree, "new").map(drop),
        1 => write(tree, "new", &small(3)),
        2 => create(tree, "big").map(drop),
        // Larger than a row may be.
        11 => write(tree, "big", &large(4)),
        3 => {
            let size = Some(10);
            let set = SetAttr {
                size,
                ..SetAttr::default()
            };
            tree.setattr(&cx(), of("large-file")?, &set, None)
                .map(drop)
                .map_err(errno)
        }
        4 if gone("made") => tree
            .mkdir(&cx(), ROOT, b"made", &mode(0o750))
            .map(drop)
            .map_err(errno),
        5 if gone("made/in") => {
            let (file, dir) = (of("new")?, of("made")?);
            tree.link(&cx(), file, dir, b"in").map(drop).map_err(errno)
        }
        6 if gone("made/moved") => {
            let dir = of("made")?;
            tree.rename(&cx(), ROOT, b"small-file", dir, b"moved")
                .map(drop)
                .map_err(errno)
        }
        7 => tree
            .setxattr(&cx(), of("made")?, b"user.b", b"w", XattrHow::Either)
            .map(drop)
            .map_err(errno),
        // Of the base, which is copied first.
        8 => {
            let file = of("dir/large")?;
            tree.write(&cx(), file, 41_192, &[1; 50]).map_err(errno)?;
            tree.commit(file).map(drop).map_err(errno)
        }
        9 if !gone("link") => tree.remove(&cx(), ROOT, b"link").map(drop).map_err(errno),
        10 if !gone("new") => tree.remove(&cx(), ROOT, b"new").map(drop).map_err(errno),
        _ => Ok(()),
    }
}

macro_rules! steps_of {
    ($works:ident: $($n:literal)*) => {
        vec![$(|o| changes(&*one(&o.$works)?, $n)),*]
    };
}
pub(super) use steps_of;

#[test]
fn changes_of_a_work_tree() {
    let steps: Vec<Step> = steps_of!(works: 0 1 2 11 3 4 5 6 7 8 9 10);
    every_point(Script::new("a work tree's changes", prepare, &steps));
}

#[test]
fn a_work_tree_made_and_dropped() {
    every_point(Script::new(
        "work trees",
        prepare,
        &[
            |o| made(&o.works, None, WorkClass::Build, "new").map(drop),
            |o| {
                let base = o.store.step(&Digest([1; 32])).map_err(text)?;
                let base = base.map(|step| step.snapshot);
                made(&o.works, base, WorkClass::Mount, "clone").map(drop)
            },
            |o| change(&o.works),
            |o| match find(&o.works, "one") {
                Some(tree) => o.works.drop_tree(tree.id()).map_err(errno),
                None => Ok(()),
            },
        ],
    ));
}

#[test]
fn a_seal() {
    let mut script = Script::new(
        "a seal",
        prepare,
        &[
            |o| {
                let Some(tree) = find(&o.works, "one") else {
                    return Ok(());
                };
                let options = SealOptions {
                    step: Some(step(7, Digest([0; 32]))),
                    ..SealOptions::default()
                };
                o.works.seal(tree.id(), &options).map(drop).map_err(errno)
            },
            |o| o.store.put_pocker(&pocker("sealed", &[7])).map_err(text),
        ],
    );
    // Where its row cannot be removed the snapshot is there nonetheless.
    script.may_stay = Some((1, "work one"));
    every_point(script);
}
