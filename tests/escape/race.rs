//! A run that changes where a graft would go, while another is started.

use crate::support::World;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Child;

const STARTS: usize = 12;

/// When a name in `dir` last came or went (its ctime: nobody can set that).
fn changed(dir: &Path) -> (i64, i64) {
    let meta = std::fs::metadata(dir).expect("a directory");
    (meta.ctime(), meta.ctime_nsec())
}

#[test]
fn a_link_that_changes_under_a_graft_leads_nowhere_outside() {
    let w = World::new();
    w.create("box", "RUN true\n").ok();
    let (outer, inner, aim) = (w.path("outer"), w.path("inner"), w.path("aim"));
    for dir in [&outer, &inner, &aim] {
        std::fs::create_dir(dir).expect("mkdir");
    }
    let graft = format!("{}:/mnt", outer.display());
    // /mnt/sub is a directory, then a link to the host's, by its own path and by many dots.
    let script = format!(
        "cd /mnt; echo ready; while :; do \
         rm -rf sub; mkdir -p sub; rm -rf sub; ln -s {0} sub; rm -rf sub; ln -s ../../../../../../..{0} sub; done",
        aim.display()
    );
    let mut flips: Child = w.start(&["run", "-d", &graft, "box", "--", "/bin/sh", "-c", &script]);
    let mut ready = [0; 6];
    std::io::Read::read_exact(flips.stdout.as_mut().expect("stdout"), &mut ready).expect("ready");
    let inside = format!("{}:/mnt/sub", inner.display());
    let deeper = format!("{}:/mnt/sub/deeper", inner.display());
    let untouched = changed(&aim);
    for round in 0..STARTS {
        let script = "echo x >/mnt/sub/deeper/made 2>/dev/null; true";
        let mut args = vec!["run", "-d", &graft, "-d", &deeper];
        // Every other time the link itself is where something is to be mounted.
        if round % 2 == 0 {
            args.extend(["-d", &inside]);
        }
        args.extend(["box", "--", "/bin/sh", "-c", script]);
        // Whether it starts depends on what it found there.
        let done = w.pocker(&args);
        assert!(!done.err.contains("panicked"), "{}", done.err);
        // Not even what would be gone again by now.
        assert_eq!(changed(&aim), untouched, "round {round}");
    }
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(flips.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    );
    let _ = flips.wait();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(aim.to_str().expect("UTF-8")), "{mounts}");
}
