//! Calls whose answer was lost come again: what they did is done once.

use super::*;
use crate::control::volumes::NewSnapshot;

fn named(token: &str) -> NewRun {
    NewRun {
        token: token.into(),
        volumes: vec![VolumeMount {
            name: "data".into(),
            target: "/v".into(),
            read_only: false,
        }],
        ..new_run("box")
    }
}

#[test]
fn a_run_that_is_asked_for_again_is_the_same_run() {
    let world = world();
    world.volume("data", false);
    let owner = command(lease());
    let start = |new: &NewRun, owner| world.d.start_run(new, owner).expect("a run");
    let made = start(&named("call"), owner);
    let again = start(&named("call"), owner);
    assert_eq!((made.id, &made.key), (again.id, &again.key));
    assert_eq!(made.tree.export.path, again.tree.export.path);
    assert_eq!(made.volumes[0].path, again.volumes[0].path);
    assert_eq!(world.d.runs().expect("a list").len(), 1);
    // Another's call is another, and so is one that has no name.
    let plain = new_run("box");
    let other = NewRun {
        token: "call".into(),
        ..plain.clone()
    };
    let other = start(&other, command(lease()));
    assert_ne!(other.id, made.id);
    assert_ne!(start(&plain, owner).id, start(&plain, owner).id);
    // One tree has one build's settings.
    world.put("box", b"another");
    let anew = start(&named("call"), owner);
    assert_ne!(anew.id, made.id);
    assert!(!world.there(made.id) && world.there(anew.id));
    let odd = NewRun {
        token: "x".repeat(65),
        ..plain
    };
    assert!(world.d.start_run(&odd, owner).is_err());
}

#[test]
fn a_run_with_grafts_is_answered_with_the_same_ones() {
    let world = world();
    let graft = world.dir.path().join("g");
    std::fs::create_dir(&graft).expect("mkdir");
    let new = NewRun {
        grafts: vec![Graft {
            host: graft.display().to_string(),
            target: "/g".into(),
            read_only: true,
            suid: false,
            dev: false,
        }],
        token: "call".into(),
        ..new_run("box")
    };
    let made = world.d.start_run(&new, here()).expect("a run");
    let again = world.d.start_run(&new, here()).expect("the same");
    assert_eq!(made.grafts[0].path, again.grafts[0].path);
    assert!(again.grafts[0].read_only);
    assert!(world.mount(&again.grafts[0].path).is_ok());
}

/// A volume with a snapshot `old` of what was in its file `f` then.
fn rolled() -> World {
    let world = world();
    world.volume("data", true);
    let top = top(&world);
    world.write(&top, "f", "old").expect("written");
    snapshot(&world, "made");
    world.write(&top, "f", "lost").expect("written");
    world
}

fn top(world: &World) -> Fh {
    let volume = world.d.known_volume("data").expect("a volume");
    let path = world.d.exports.volume_path(&volume, false);
    world.mount(&path).expect("mounted")
}

fn snapshot(world: &World, token: &str) -> String {
    let new = NewSnapshot {
        name: Some("old".into()),
        token: token.into(),
    };
    world.d.new_snapshot("data", &new).expect("a snapshot").id
}

#[test]
fn a_roll_back_that_comes_again_takes_nothing_of_what_was_written_since() {
    let world = rolled();
    let back = |world: &World, call| world.d.roll_back("data", "old", call);
    back(&world, "first").expect("rolled back");
    assert_eq!(world.read(&top(&world), "f"), Ok("old".into()));
    world.write(&top(&world), "f", "new").expect("written");
    back(&world, "first").expect("it was done");
    assert_eq!(world.read(&top(&world), "f"), Ok("new".into()));
    // The next server knows it too; it is no failure either when somebody has the volume, or the
    // snapshot is gone.
    let world = world.again();
    assert!(
        world.d.known_volume("data").expect("it").shared,
        "it is what it was"
    );
    let (run, _) = world.writes("data", here());
    back(&world, "first").expect("it was done");
    assert!(back(&world, "second").is_err(), "it is in use");
    world.d.end_run(run).expect("ended");
    assert_eq!(world.read(&top(&world), "f"), Ok("new".into()));
    back(&world, "second").expect("rolled back");
    assert_eq!(world.read(&top(&world), "f"), Ok("old".into()));
    world
        .d
        .remove_snapshot("data", "old", None)
        .expect("removed");
    back(&world, "second").expect("it was done");
    assert!(back(&world, "third").is_err(), "there is no such snapshot");
}

#[test]
fn a_removal_that_comes_again_leaves_a_newer_snapshot_of_that_name() {
    let world = rolled();
    let first = world.d.snapshots("data").expect("a list")[0].id.clone();
    let remove = |id: &str| world.d.remove_snapshot("data", "old", Some(id));
    remove(&first).expect("removed");
    let second = snapshot(&world, "again");
    assert!(remove(&first).is_err(), "it is another one");
    assert_eq!(world.d.snapshots("data").expect("a list").len(), 1);
    remove(&second).expect("removed");
}
