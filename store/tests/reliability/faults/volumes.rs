//! Volumes: the same machinery, and every sync.

use super::points::every_point;
use super::script::{Script, Step};
use super::trees::{change, changes, one, steps_of};
use crate::bench::{create, errno, find, made, prepare, write};
use pocker_store::work::WorkClass;

#[test]
fn changes_of_a_volume() {
    let steps: Vec<Step> = steps_of!(volumes: 0 1 2 11 3 4 5 6 7 8 9 10);
    let mut script = Script::new("a volume's changes", prepare, &steps);
    script.restarts = true;
    every_point(script);
}

#[test]
fn a_volume_made_and_removed() {
    let mut script = Script::new(
        "volumes",
        prepare,
        &[
            |o| made(&o.volumes, None, WorkClass::Volume, "new").map(drop),
            |o| create(&*made(&o.volumes, None, WorkClass::Volume, "new")?, "f").map(drop),
            |o| {
                write(
                    &*made(&o.volumes, None, WorkClass::Volume, "new")?,
                    "f",
                    b"kept",
                )
            },
            |o| change(&o.volumes),
            |o| match find(&o.volumes, "one") {
                Some(tree) => o.volumes.drop_tree(tree.id()).map_err(errno),
                None => Ok(()),
            },
        ],
    );
    script.restarts = true;
    every_point(script);
}
