//! Volumes: the same machinery, and every sync.

use super::trees::{changes, one, steps_of};
use super::{errno, find, made, prepare, write};
use crate::points::every_point;
use crate::script::{Script, Step};
use pocker_store::work::WorkClass;

#[test]
fn changes_of_a_volume() {
    let steps: Vec<Step> = steps_of!(volumes: 0 1 2 3 4 5 6 7 8 9 10);
    every_point(Script::new("a volume's changes", prepare, &steps));
}

#[test]
fn a_volume_made_and_removed() {
    every_point(Script::new(
        "volumes",
        prepare,
        &[
            |o| made(&o.volumes, None, WorkClass::Volume, "new").map(drop),
            |o| write(&*made(&o.volumes, None, WorkClass::Volume, "new")?, "f", b"kept"),
            |o| match find(&o.volumes, "one") {
                Some(tree) => o.volumes.drop_tree(tree.id()).map_err(errno),
                None => Ok(()),
            },
        ],
    ));
}
