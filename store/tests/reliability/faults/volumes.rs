//! Volumes: the same machinery, and every sync.

use super::points::every_point;
use super::script::{Script, Step};
use super::trees::{change, changes, one, steps_of};
use crate::bench::{create, errno, find, made, pocker, prepare, small, step, text, write};
use crate::state::Opened;
use pocker_store::types::Digest;
use pocker_store::work::WorkClass;

#[test]
fn changes_of_a_volume() {
    let steps: Vec<Step> = steps_of!(volumes: 0 1 2 11 3 4 5 6 7 8 9 10);
    let mut script = Script::new("a volume's changes", prepare, &steps);
    script.restarts = true;
    every_point(script);
}

/// The snapshot that the first step of [`snapshots`] made.
fn snapshot(o: &Opened) -> Result<Digest, String> {
    let step = o.store.step(&Digest([7; 32])).map_err(text)?;
    step.map(|step| step.snapshot)
        .ok_or_else(|| "there is no snapshot".to_owned())
}

#[test]
fn snapshots() {
    let mut script = Script::new(
        "snapshots",
        prepare,
        &[
            |o| {
                let made = o.volumes.snapshot(one(&o.volumes)?.id()).map_err(errno)?;
                let step = step(7, made.sealed.snapshot);
                o.store.replace_step(step).map_err(text)?;
                o.store.put_pocker(&pocker("kept", &[7])).map_err(text)
            },
            // Its file is the snapshot's blob now.
            |o| write(&*one(&o.volumes)?, "large-file", &small(5)),
            |o| made(&o.volumes, Some(snapshot(o)?), WorkClass::Volume, "clone").map(drop),
            |o| {
                let id = one(&o.volumes)?.id();
                o.volumes
                    .roll_back(id, snapshot(o)?)
                    .map(drop)
                    .map_err(errno)
            },
            |o| create(&*one(&o.volumes)?, "later").map(drop),
        ],
    );
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
