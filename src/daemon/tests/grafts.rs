//! Which directories a server that was started again serves to the runs that have them.

use super::*;
use crate::daemon::docs::{self, RunDoc};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn a_graft_is_served_again_only_while_its_directory_is_the_same() {
    served_again(world());
}

#[test]
fn so_is_one_that_a_grafter_serves() {
    // Anywhere, and yet of directories that were named.
    served_again(world_of(|options| options.graft_below = vec!["/".into()]));
}

fn served_again(world: World) {
    let top = world.dir.path().to_owned();
    let at = |name: &str| top.join(name);
    for dir in ["above", "above/g", "away"] {
        fs::create_dir(at(dir)).expect("mkdir");
    }
    let new = NewRun {
        grafts: vec![Graft {
            host: at("above/g").display().to_string(),
            target: "/g".into(),
            read_only: false,
            suid: false,
            dev: false,
        }],
        ..new_run("box")
    };
    let made = world.d.start_run(&new, here()).expect("a run");
    let path = &made.grafts[0].path;
    let again = |world: World| {
        let world = world.again();
        crate::daemon::regraft::reopen(&world.d);
        let served = world.mount(path).is_ok();
        (world, served)
    };
    let (world, served) = again(world);
    assert!(served, "as it was");
    // A run that has what is above it puts another in its place.
    fs::rename(at("above/g"), at("above/was")).expect("renamed");
    symlink(at("away"), at("above/g")).expect("a link");
    let (world, served) = again(world);
    assert!(!served, "a link to another");
    fs::remove_file(at("above/g")).expect("removed");
    fs::create_dir(at("above/g")).expect("mkdir");
    let (world, served) = again(world);
    assert!(!served, "another of that name");
    // It is the same wherever a link leads to it.
    fs::remove_dir(at("above/g")).expect("removed");
    symlink("was", at("above/g")).expect("a link");
    let (world, served) = again(world);
    assert!(served, "the same");

    // Of an older server's nothing is known but what may be grafted at all.
    let mut doc = docs::all::<RunDoc>(&world.d.store)
        .expect("a list")
        .remove(0);
    doc.grafts[0].root = None;
    docs::save(&world.d.store, &doc).expect("kept");
    fs::remove_file(at("above/g")).expect("removed");
    symlink(at("away"), at("above/g")).expect("a link");
    let (world, served) = again(world);
    assert!(served, "an older server's");
    fs::remove_file(at("above/g")).expect("removed");
    symlink("/", at("above/g")).expect("a link");
    let (_world, served) = again(world);
    assert!(!served, "the store is in it");
}
