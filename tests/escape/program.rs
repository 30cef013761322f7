//! The host's own program, as a sandbox could reach it: `/proc/self/exe` of who enters it.

use crate::support::{World, until};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Those of this world's processes that run, or enter, a sandbox, and their children that
/// execute the same: a sandbox's first process tells nothing of the world.
fn entering(w: &World) -> BTreeSet<u32> {
    let own = std::fs::metadata(env!("CARGO_BIN_EXE_pocker")).expect("the program");
    let is = |pid: &u32| {
        let exe = std::fs::metadata(format!("/proc/{pid}/exe"));
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let word = |name: &[u8]| words.split(|b| *b == 0).any(|word| word == name);
        exe.is_ok_and(|exe| (exe.dev(), exe.ino()) == (own.dev(), own.ino()))
            && ![&b"serve"[..], b"mount-helper"].into_iter().any(word)
    };
    let all: Vec<u32> = w.processes().into_iter().filter(is).collect();
    let children = all.iter().flat_map(|pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let pids = text.unwrap_or_default();
        pids.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect::<Vec<u32>>()
    });
    let children: Vec<u32> = children.filter(is).collect();
    all.into_iter().chain(children).collect()
}

/// While it is executed nobody writes to it anyway; the mount is for afterwards.
fn is_sealed(pid: u32) -> bool {
    let file = File::open(format!("/proc/{pid}/exe"));
    let flags = file.map(|file| fstatvfs(&file).expect("fstatvfs").flags());
    flags.is_ok_and(|flags| flags.contains(FsFlags::ST_RDONLY))
}

#[test]
fn nothing_that_enters_a_sandbox_executes_a_file_that_can_be_written_to() {
    let w = World::new();
    w.create("box", "RUN sleep 600\n").ok();
    w.pocker(&["run", "--detach", "--name", "back", "box"]).ok();
    let front = w.start(&["run", "--name", "front", "box"]);
    let inside = w.start(&["exec", "back", "sleep", "600"]);
    let listed = || w.pocker(&["ps"]).ok().out;
    until("both are told of", || {
        ["front", "back"].iter().all(|name| listed().contains(name))
    });
    // Each begins as the host's program, and goes on as one that nobody writes to.
    until("all are there, and none could be written to", || {
        let all = entering(&w);
        all.len() >= 6 && all.iter().all(|pid| is_sealed(*pid))
    });
    for pid in entering(&w) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        assert_eq!(name, "pocker\n");
    }
    w.pocker(&["stop", "front", "back"]).ok();
    for child in [front, inside] {
        crate::support::wait(child);
    }
}
