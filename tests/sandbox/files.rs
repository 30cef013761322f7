//! Files and directories put into the tree, and what is left of them: nothing.

use crate::Case;
use crate::world::{World, graft, output, place, refused, run};
use pocker::sandbox::{Exit, What};
use std::fs;
use std::os::unix::fs::symlink;

pub const CASES: &[Case] = &[
    ("a_graft_shows_the_host_and_takes_writes", grafted),
    ("a_read_only_graft_takes_none", read_only),
    ("grafts_nest", nested),
    ("missing_mount_points_are_made_and_removed_again", removed),
    ("a_bound_file_hides_the_trees_own", hidden),
    ("a_bound_file_is_read_only", bound_read_only),
    ("a_bound_file_follows_a_dangling_link_inside", dangling),
    ("a_bound_directory_takes_writes", bound_directory),
    ("what_the_command_makes_beside_a_mount_stays", beside),
    ("a_tree_without_dev_and_proc_runs", bare),
    (
        "a_read_only_tree_runs_and_says_what_it_lacks",
        read_only_tree,
    ),
    ("the_working_directory_is_made_and_stays", workdir),
];

fn grafted() {
    let world = World::new();
    let host = world.host("www");
    fs::write(host.join("page"), "hello\n").unwrap();
    let mut spec = world.sh("cat /srv/www/page; echo back > /srv/www/new; echo own > /own");
    spec.mounts.push(graft(&host, "/srv/www"));
    assert_eq!(output(&spec), "hello\n");
    assert_eq!(fs::read_to_string(host.join("new")).unwrap(), "back\n");
    assert!(world.tree().join("own").exists());
    assert!(!world.tree().join("srv").exists());
}

fn read_only() {
    let world = World::new();
    let host = world.host("www");
    let mut spec = world.sh("touch /tmp/x");
    let mut place = graft(&host, "/tmp");
    if let What::Nfs(tree) = &mut place.what {
        tree.read_only = true;
    }
    spec.mounts.push(place);
    let (text, exit) = run(&spec);
    assert_eq!(exit, Exit::Code(1));
    assert!(text.contains("Read-only"), "{text}");
}

fn nested() {
    let world = World::new();
    let (outer, inner) = (world.host("outer"), world.host("inner"));
    fs::write(inner.join("f"), "deep\n").unwrap();
    let mut spec = world.sh("cat /a/b/c/f; ls /a");
    spec.mounts.push(graft(&outer, "/a"));
    spec.mounts.push(graft(&inner, "/a/b/c"));
    assert_eq!(output(&spec), "deep\nb\n");
    assert_eq!(
        fs::read_dir(&outer).unwrap().count(),
        0,
        "left in the outer graft"
    );
}

fn removed() {
    let world = World::new();
    let file = world.host("etc").join("resolv.conf");
    fs::write(&file, "nameserver ::1\n").unwrap();
    let before = world.listing();
    let mut spec = world.sh("cat /etc/resolv.conf /a/b/file; ls /x/y/z");
    for target in ["/etc/resolv.conf", "/a/b/file"] {
        spec.mounts
            .push(place(target, What::BindFile { host: file.clone() }));
    }
    spec.mounts.push(graft(&world.host("g"), "/x/y/z"));
    assert_eq!(output(&spec), "nameserver ::1\nnameserver ::1\n");
    assert_eq!(before, world.listing());
}

fn hidden() {
    let world = World::new();
    let host = world.host("h").join("f");
    fs::write(&host, "host\n").unwrap();
    fs::write(world.tree().join("etc/hosts"), "tree\n").unwrap();
    let mut spec = world.sh("cat /etc/hosts; rm -f /etc/hosts; echo $?");
    spec.mounts
        .push(place("/etc/hosts", What::BindFile { host: host.clone() }));
    let text = output(&spec);
    assert!(
        text.starts_with("host\n") && text.ends_with("1\n"),
        "{text}"
    );
    assert_eq!(
        fs::read_to_string(world.tree().join("etc/hosts")).unwrap(),
        "tree\n"
    );
}

fn bound_read_only() {
    let world = World::new();
    let host = world.host("h").join("f");
    fs::write(&host, "host\n").unwrap();
    let mut spec = world.sh("echo evil > /etc/f");
    spec.mounts
        .push(place("/etc/f", What::BindFile { host: host.clone() }));
    assert_eq!(run(&spec).1, Exit::Code(1));
    assert_eq!(fs::read_to_string(&host).unwrap(), "host\n");
}

fn dangling() {
    let world = World::new();
    let host = world.host("h").join("f");
    fs::write(&host, "host\n").unwrap();
    symlink(
        "../run/systemd/resolve/stub",
        world.tree().join("etc/resolv.conf"),
    )
    .unwrap();
    let before = world.listing();
    let mut spec =
        world.sh("cat /etc/resolv.conf; readlink /etc/resolv.conf; ls /run/systemd/resolve");
    spec.mounts
        .push(place("/etc/resolv.conf", What::BindFile { host }));
    assert_eq!(output(&spec), "host\n../run/systemd/resolve/stub\nstub\n");
    assert_eq!(before, world.listing());
}

fn bound_directory() {
    let world = World::new();
    let cache = world.host("cache");
    let before = world.listing();
    let mut spec = world.sh("echo kept > /var/cache/x/file");
    spec.mounts.push(place(
        "/var/cache/x",
        What::BindDir {
            host: cache.clone(),
        },
    ));
    output(&spec);
    assert_eq!(fs::read_to_string(cache.join("file")).unwrap(), "kept\n");
    assert_eq!(before, world.listing());
}

fn beside() {
    let world = World::new();
    let mut spec = world.sh("echo mine > /var/mine");
    spec.mounts.push(graft(&world.host("g"), "/var/www/html"));
    output(&spec);
    assert_eq!(
        fs::read_to_string(world.tree().join("var/mine")).unwrap(),
        "mine\n"
    );
    assert!(!world.tree().join("var/www").exists());
}

fn bare() {
    let world = World::new();
    for dir in ["dev", "proc", "tmp", "root", "etc"] {
        fs::remove_dir_all(world.tree().join(dir)).unwrap();
    }
    let before = world.listing();
    assert_eq!(
        output(&world.sh("echo x > /dev/null; ls /; echo $HOME")),
        "bin\ndev\nproc\n/\n"
    );
    assert_eq!(before, world.listing());
}

fn read_only_tree() {
    let world = World::new();
    let mut spec = world.sh("touch /x; echo $?");
    spec.root.read_only = true;
    assert!(output(&spec).ends_with("1\n"));
    spec.mounts.push(graft(&world.host("g"), "/missing"));
    assert_eq!(
        refused(&spec).to_string(),
        "mount graft HOST:/missing: create missing for /missing: Read-only file system"
    );
}

fn workdir() {
    let world = World::new();
    let mut spec = world.spec(&["pwd"]);
    assert_eq!(output(&spec), "/\n");
    spec.workdir = Some("/srv/app/deep".into());
    assert_eq!(output(&spec), "/srv/app/deep\n");
    assert!(world.tree().join("srv/app/deep").is_dir());
    spec.workdir = Some("/etc/passwd".into());
    let error = refused(&spec).to_string();
    assert!(
        error.starts_with("enter the working directory /etc/passwd: "),
        "{error}"
    );
}
