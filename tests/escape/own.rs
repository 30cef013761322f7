//! What of the host's a run has in its hands by being started: the file of pocker itself.

use crate::support::sys::on_a_kernel_without;
use crate::support::{World, wait};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

#[test]
#[cfg(target_arch = "x86_64")]
fn the_program_that_starts_a_run_cannot_be_changed_from_inside() {
    let all = "xattr refused\ntruncate refused\nchmod refused\nchown refused\n";
    assert_eq!(cannot_be_changed(|_| ()), [all, all]);
}

/// As before Linux 5.12: it runs from a sealed copy.
#[test]
#[cfg(target_arch = "x86_64")]
fn nor_can_it_where_the_kernel_makes_no_read_only_mount_of_it() {
    let older = |command: &mut Command| on_a_kernel_without(libc::SYS_mount_setattr, command);
    for said in cannot_be_changed(older) {
        assert!(said.contains("truncate refused"), "{said}");
        // It was the copy's own mode, which is nobody else's.
        assert!(said.contains("chmod got"), "{said}");
    }
}

#[cfg(target_arch = "x86_64")]
fn cannot_be_changed(kernel: fn(&mut Command)) -> [String; 2] {
    let w = World::new();
    let made = Command::new("cc")
        .args(["-O1", "-static", "-nostdlib", "-no-pie"])
        .args(["-fno-stack-protector", "-o"])
        .arg(w.path("loader"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/escape/own.c"))
        .status();
    assert!(made.expect("cc").success());
    // It runs what the command's file is a link to, and that is pocker until then.
    w.create(
        "box",
        "EXEC ln -s /proc/self/exe /me\nCOPY loader /lib64/ld-linux-x86-64.so.2\nRUN sleep 1000\n",
    )
    .ok();
    // A copy, as it would be changed for all.
    let copy = w.path("program");
    std::fs::copy(env!("CARGO_BIN_EXE_pocker"), &copy).expect("copy");
    let before = std::fs::metadata(&copy).expect("stat");
    let name = w.pocker(&["run", "--detach", "box"]).ok().out;
    let attacks = [
        ["run", "box", "--", "/me"],
        ["exec", name.trim(), "--", "/me"],
    ];
    let said = attacks.map(|args| {
        let asked = w.command(&args);
        let mut command = Command::new(&copy);
        command
            .args(asked.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in asked.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        kernel(&mut command);
        wait(command.spawn().expect("it starts")).ok().out
    });
    let after = std::fs::metadata(&copy).expect("stat");
    assert_eq!(
        (after.mode(), after.uid(), after.len()),
        (before.mode(), before.uid(), before.len())
    );
    assert!(
        std::fs::read(&copy).expect("read")
            == std::fs::read(env!("CARGO_BIN_EXE_pocker")).expect("read")
    );
    said
}
