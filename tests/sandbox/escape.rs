//! A tree that tries to lead its mounts out.

use crate::Case;
use crate::world::{World, graft, output, place, refused};
use pocker::sandbox::What;
use std::fs;
use std::os::unix::fs::symlink;

pub const CASES: &[Case] = &[
    ("an_absolute_link_stays_inside", absolute),
    ("a_link_of_dots_stays_inside", dots),
    ("a_link_to_the_root_is_refused", root),
    ("links_in_dev_and_proc_stay_inside", system),
    ("a_link_in_a_graft_stays_inside", through_a_graft),
    ("a_loop_ends", endless),
    ("a_bound_file_cannot_be_made_outside", file),
];

/// The graft is seen at `seen` in the sandbox, and the host has nothing new.
fn lands_at(world: &World, target: &str, seen: &str) {
    let host = world.host("graft");
    fs::write(host.join("mark"), "graft\n").unwrap();
    let mut spec = world.sh(&format!("cat {seen}/mark; grep -c ' {seen} ' /proc/mounts"));
    spec.mounts.push(graft(&host, target));
    assert_eq!(output(&spec), "graft\n1\n");
}

fn absolute() {
    let world = World::new();
    let outside = world.host("outside");
    fs::create_dir(world.tree().join("var")).unwrap();
    symlink("/etc", world.tree().join("var/www")).unwrap();
    lands_at(&world, "/var/www", "/etc");
    assert!(!std::path::Path::new("/etc/mark").exists());
    // An absolute path of the host: made inside, not found outside.
    symlink(&outside, world.tree().join("var/host")).unwrap();
    lands_at(&world, "/var/host", outside.to_str().unwrap());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

fn dots() {
    let world = World::new();
    fs::create_dir(world.tree().join("var")).unwrap();
    symlink("../../../../../../../../new", world.tree().join("var/www")).unwrap();
    lands_at(&world, "/var/www", "/new");
    assert!(!std::path::Path::new("/new").exists());
    symlink("../../../../../../../../etc", world.tree().join("var/etc")).unwrap();
    lands_at(&world, "/var/etc", "/etc");
}

fn root() {
    let world = World::new();
    symlink("../..", world.tree().join("top")).unwrap();
    let mut spec = world.sh("true");
    spec.mounts.push(graft(&world.host("g"), "/top"));
    let error = refused(&spec).to_string();
    assert_eq!(error, "mount graft HOST:/top: /top is the root itself");
}

fn system() {
    let world = World::new();
    for (name, to) in [("dev", "/etc/dev"), ("proc", "../../../elsewhere")] {
        fs::remove_dir(world.tree().join(name)).unwrap();
        symlink(to, world.tree().join(name)).unwrap();
    }
    let before = world.listing();
    let text =
        output(&world.sh(
            "cut -d ' ' -f 2 /proc/mounts | grep -v '^/elsewhere/\\|^/etc/dev/[a-oq-z]'; ls -l /dev/null | cut -c 1-3",
        ));
    assert_eq!(text, "/\n/etc/dev\n/etc/dev/pts\n/elsewhere\ncrw\n");
    assert_eq!(before, world.listing());
    assert!(!std::path::Path::new("/etc/dev").exists());
}

fn through_a_graft() {
    let world = World::new();
    let outer = world.host("outer");
    symlink("../../../../../etc", outer.join("out")).unwrap();
    let host = world.host("graft");
    fs::write(host.join("mark"), "graft\n").unwrap();
    let mut spec = world.sh("cat /etc/mark");
    spec.mounts.push(graft(&outer, "/tmp"));
    spec.mounts.push(graft(&host, "/tmp/out"));
    assert_eq!(output(&spec), "graft\n");
}

fn endless() {
    let world = World::new();
    symlink("b", world.tree().join("a")).unwrap();
    symlink("a", world.tree().join("b")).unwrap();
    let mut spec = world.sh("true");
    spec.mounts.push(graft(&world.host("g"), "/a/x"));
    let error = refused(&spec).to_string();
    assert!(error.contains("find /a/x in the tree: Too many"), "{error}");
}

fn file() {
    let world = World::new();
    let outside = world.host("outside");
    symlink(outside.join("made"), world.tree().join("etc/resolv.conf")).unwrap();
    let host = world.host("h").join("f");
    fs::write(&host, "host\n").unwrap();
    let mut spec = world.sh("cat /etc/resolv.conf");
    spec.mounts
        .push(place("/etc/resolv.conf", What::BindFile { host }));
    assert_eq!(output(&spec), "host\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
