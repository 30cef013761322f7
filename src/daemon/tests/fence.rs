//! Who had a volume to write, and has it no more, writes there no more.

use super::*;
use crate::daemon::docs::{self, RunDoc, TreeDoc};
use pocker_nfs::proto::nfsstat3;

const STALE: Result<(), u32> = Err(nfsstat3::NFS3ERR_STALE as u32);

#[test]
fn a_handle_writes_no_more_when_its_lease_is_over_and_another_command_has_the_volume() {
    let world = world();
    world.volume("data", false);
    let first = lease();
    let (run, path) = world.writes("data", command(first));
    let old = world.mount(&path).expect("mounted");
    world.write(&old, "f", "one").expect("written");
    leases::end(first);
    // The next one is of the same host, so that no address tells them apart.
    let second = next(first);
    let (_, again) = world.writes("data", command(second));
    assert!(!world.there(run), "it was reclaimed");
    assert_ne!(again, path);
    let check = |world: &World, old: &Fh, new: &Fh, text: &str| {
        assert_eq!(world.write(old, "f", "late"), STALE);
        let changes = [
            world.nfs(|v, cx| v.remove(cx, old, b"f").map(drop)),
            world.nfs(|v, cx| v.setattr(cx, old, &sattr3::default(), None).map(drop)),
        ];
        assert_eq!(changes, [STALE, STALE]);
        assert!(world.mount(&path).is_err(), "nor is it mounted again");
        assert_eq!(
            world.read(new, "f"),
            Ok(text.into()),
            "nothing acknowledged is lost"
        );
        world.write(new, "f", "two").expect("it has it");
        assert_eq!(world.read(new, "f"), Ok("two".into()));
    };
    let new = world.mount(&again).expect("mounted");
    check(&world, &old, &new, "one");
    // What the next server knows is the same, by the same handles and paths.
    let world = world.again();
    assert_eq!(
        world.mount(&again).expect("mounted").as_bytes(),
        new.as_bytes()
    );
    check(&world, &old, &new, "two");
}

#[test]
fn between_this_host_and_others_a_volume_changes_hands_too() {
    let world = world();
    world.volume("data", false);
    let volume = || world.d.known_volume("data").expect("a volume");
    let (run, path) = world.writes("data", here());
    let own = world.mount(&path).expect("mounted");
    // What this host's kernel has not written yet when a run ends is written, whoever is next here.
    world.d.end_run(run).expect("ended");
    let (run, same) = world.writes("data", here());
    assert_eq!(same, path);
    world.write(&own, "f", "late").expect("written");
    world.d.end_run(run).expect("ended");
    let afar = lease();
    let (run, theirs) = world.writes("data", command(afar));
    assert_eq!(world.write(&own, "f", "later"), STALE);
    let theirs = world.mount(&theirs).expect("mounted");
    world.write(&theirs, "f", "theirs").expect("written");
    world.d.end_run(run).expect("ended");
    let (_, back) = world.writes("data", here());
    assert_eq!(world.write(&theirs, "f", "late"), STALE);
    let back = world.mount(&back).expect("mounted");
    assert_eq!(world.read(&back, "f"), Ok("theirs".into()));
    let read_only = world.d.exports.volume_path(&volume(), true);
    let read_only = world.mount(&read_only).expect("mounted");
    assert_eq!(world.read(&read_only, "f"), Ok("theirs".into()));
}

#[test]
fn a_mount_by_a_command_has_the_volume_as_a_run_has() {
    let world = world();
    world.volume("data", false);
    let first = lease();
    let how = MountVolume {
        target: Some("/m".into()),
        pid: 0,
        read_only: false,
    };
    let mount = |lease| world.d.mount_volume("data", &how, command(lease));
    let path = mount(first).expect("it has it").path;
    let again = mount(first).expect("asked once more").path;
    assert_eq!(
        again, path,
        "the answer was lost, and the volume is no other's"
    );
    let old = world.mount(&path).expect("mounted");
    let second = next(first);
    assert!(mount(second).is_err(), "it is taken");
    leases::end(first);
    world.d.reap();
    let path = mount(second).expect("it has it").path;
    assert_eq!(world.write(&old, "f", "late"), STALE);
    let new = world.mount(&path).expect("mounted");
    world.write(&new, "f", "new").expect("written");
}

#[test]
fn all_that_share_a_volume_write() {
    let world = world();
    world.volume("data", true);
    let first = lease();
    let (_, path) = world.writes("data", command(first));
    let (_, same) = world.writes("data", command(lease()));
    let (_, own) = world.writes("data", here());
    assert_eq!((&same, &own), (&path, &path), "one file is one to a client");
    let top = world.mount(&path).expect("mounted");
    world.write(&top, "f", "one").expect("written");
}

#[test]
fn what_changed_since_it_was_listed_is_not_reaped_by_what_it_was() {
    let world = world();
    let (builds, runs) = (lease(), lease());
    let tree = world.tree(command(builds)).id;
    let run = world.run(command(runs)).id;
    let d = &world.d;
    let listed_tree = docs::get::<TreeDoc>(&d.store, &tree.to_be_bytes());
    let listed_tree = listed_tree.expect("read").expect("a tree");
    let listed_run = docs::get::<RunDoc>(&d.store, &run.to_be_bytes());
    let listed_run = listed_run.expect("read").expect("a run");
    d.keep_tree(tree, "box").expect("kept");
    d.end_run(run).expect("ended");
    leases::end(builds);
    leases::end(runs);
    d.reap_tree(&listed_tree);
    d.reap_run(&listed_run);
    assert!(world.there(tree) && world.there(run));
    // It is dropped, and is not recorded again.
    d.drop_ended_runs("box", asker(runs)).expect("dropped");
    d.reap_run(&listed_run);
    assert!(d.runs().expect("a list").is_empty());
}
