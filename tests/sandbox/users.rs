//! Who the command runs as.

use crate::Case;
use crate::world::{World, output, refused};
use std::fs;

pub const CASES: &[Case] = &[
    ("a_user_comes_with_groups_and_home", named),
    ("a_user_can_reopen_its_output", reopen),
    ("an_unknown_user_is_named", unknown),
    ("a_passwd_that_is_no_file_is_refused", no_file),
];

const WHO: &str = "id -u; id -g; id -G; echo $HOME; grep ^Uid /proc/self/status";

fn named() {
    let world = World::new();
    for (user, want) in [
        (None, "0\n0\n0\n/root\nUid:\t0\t0\t0\t0\n"),
        (
            Some("www"),
            "33\n34\n34 4 5\n/srv/www\nUid:\t33\t33\t33\t33\n",
        ),
        (
            Some("33"),
            "33\n34\n34 4 5\n/srv/www\nUid:\t33\t33\t33\t33\n",
        ),
        (
            Some("www:adm"),
            "33\n4\n4\n/srv/www\nUid:\t33\t33\t33\t33\n",
        ),
        (
            Some("4711:12"),
            "4711\n12\n12\n/\nUid:\t4711\t4711\t4711\t4711\n",
        ),
    ] {
        let mut spec = world.sh(WHO);
        spec.user = user.map(str::to_owned);
        assert_eq!(output(&spec), want, "{user:?}");
    }
}

fn reopen() {
    let world = World::new();
    let mut spec = world.sh("echo one > /dev/stdout; echo two > /dev/stderr");
    spec.user = Some("www".to_owned());
    assert_eq!(output(&spec), "one\ntwo\n");
}

fn unknown() {
    let world = World::new();
    let mut spec = world.sh("true");
    spec.user = Some("eve".to_owned());
    assert_eq!(
        refused(&spec).to_string(),
        "become user eve: the tree's /etc/passwd has no user \"eve\""
    );
    spec.user = Some("www:staff".to_owned());
    assert_eq!(
        refused(&spec).to_string(),
        "become user www:staff: the tree's /etc/group has no group \"staff\""
    );
}

fn no_file() {
    let world = World::new();
    let passwd = world.tree().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = refused(&world.sh("true")).to_string();
    assert_eq!(
        error,
        "become user root: the tree's /etc/passwd is not a plain file of at most 8 MiB"
    );
}
