//! Each mistake gets one line and a hint.

use super::support::{Done, World};
use super::{inside, start, stop, text, world};

#[track_caller]
fn says(w: &World, args: &[&str], status: i32) -> String {
    let done: Done = w.pocker(args);
    assert_eq!(done.status, status, "{args:?}: {done:?}");
    assert!(!done.err.contains("panicked"), "{}", done.err);
    let dir = text(w.dir.path());
    let shown = done.err.replace(&dir, "DIR");
    let hints = shown.lines().filter(|l| l.starts_with("hint: ")).count();
    assert_eq!(hints, 1, "{args:?}: {shown}");
    format!("$ pocker {}\n{shown}", args.join(" ").replace(&dir, "DIR"))
}

#[test]
fn what_cannot_be_is_said_in_a_line_with_a_hint() {
    let w = world();
    std::fs::write(w.path("f"), "x").expect("write");
    let (f, dir) = (text(&w.path("f")), text(w.dir.path()));
    start(&w, &["--read-only", "--tmpfs", "/d/sub"]);
    let mut all = String::new();
    for args in [
        &["diff", "nobody"][..],
        &["diff", "web@2"],
        &["tree", "nobody:/"],
        &["tree", "web@9:/"],
        &["tree", "web:/no/such"],
        &["cat", "web:/d"],
        &["cat", "web:/d/pipe"],
        &["cat", "web:/no"],
        &["cat", "../web:/no"],
        &["cat", "web:/d/one/"],
        &["cp", "web:/no", &dir],
        &["cp", "web:/d", &f],
        &["cp", "web:/d/one", &format!("{dir}/no/")],
        &["cp", "web:/d/one", &format!("{dir}/no/such")],
        &["cp", &f, "web:/d"],
        &["cp", &f, "web@2:/d"],
        &["cp", &f, "nobody:/d"],
        &["cp", &f, "w:/d"],
        &["cp", &f, "w:/d/one/x"],
        &["cp", &dir, "w:/d/one"],
        &["cp", &format!("{dir}/no"), "w:/tmp"],
        &["cp", "w:/no", &dir],
        &["cp", "web:/d", "w:/d"],
        &["cp", &f, &dir],
    ] {
        let status = match args {
            ["cat", "../web:/no"] => 2,
            ["cp", "web:/d", "w:/d"] => 2,
            ["cp", a, b] if *a == f && *b == dir => 2,
            _ => 1,
        };
        all += &says(&w, args, status);
        all.push('\n');
    }
    insta::assert_snapshot!(all);
    stop(&w);
}

#[test]
fn a_full_disk_stops_a_copy_and_leaves_nothing_half_made() {
    let w = world();
    std::fs::write(w.path("big"), vec![7; 3 << 20]).expect("write");
    start(&w, &["--disk", "1M"]);
    w.pocker(&["cp", &text(&w.path("big")), "w:/d/"])
        .fails(&["/d/", "hint:", "--disk"]);
    assert_eq!(
        inside(&w, "ls -A /d | grep -c -e big -e pocker; true"),
        "0\n"
    );
    // On the host.
    let small = w.path("small");
    std::fs::create_dir(&small).expect("mkdir");
    nix::mount::mount(
        Some("none"),
        &small,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=256k"),
    )
    .expect("mount");
    let done = w.pocker(&["cp", "web:/bin/busybox", &text(&small)]);
    let left = std::fs::read_dir(&small).expect("list").count();
    nix::mount::umount2(&small, nix::mount::MntFlags::MNT_DETACH).expect("umount");
    done.fails(&["No space left", "hint: free space"]);
    assert_eq!(left, 0);
    stop(&w);
    // In the tree that the run left.
    let said = w.pocker(&["cp", &text(&w.path("big")), "w:/d/"]);
    let said = said
        .fails(&["big: ", "quota", "hint: the run's --disk"])
        .err;
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
}
