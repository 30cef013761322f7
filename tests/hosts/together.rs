//! What hosts do with one store when nothing is wrong.

use super::lab::{Lab, run};
use super::support::{until, wait};
use std::process::Stdio;

#[test]
fn one_builds_and_all_run_it_each_in_a_tree_of_its_own() {
    let (lab, hosts) = Lab::with(20, 3);
    hosts[0]
        .create("box", "EXEC dd if=/dev/zero of=/large bs=1M count=8 2>&1\nEXEC echo built >/made\nRUN cat /made\n")
        .ok();
    assert!(hosts[1].pocker(&["ls"]).ok().out.contains("box"));
    assert_eq!(hosts[2].pocker(&["run", "box"]).ok().out, "built\n");
    let before = lab.stats()["store"].clone();
    let mut runs = Vec::new();
    for n in 0..10 {
        let host = &hosts[n % 3];
        let text = format!("echo {n} >/own; echo up; read line; cat /own");
        let mut command = host.command(&["run", "box", "--", "sh", "-c", &text]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        runs.push(command.spawn().expect("pocker starts"));
    }
    until("ten run", || lab.stats()["leases"]["runs"] == 10);
    // The one that has ended went when its host started another.
    assert_eq!(lab.stats()["leases"]["run_trees"], 10);
    let after = lab.stats()["store"].clone();
    for same in ["trees", "large", "large_files", "index"] {
        assert_eq!(before[same], after[same], "{same}: the data is there once");
    }
    for host in &hosts {
        assert!(lab.holds(host).contains("of box"), "{}", lab.holds(host));
    }
    for (n, mut child) in runs.into_iter().enumerate() {
        use std::io::Write;
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(b"go\n").expect("written");
        assert_eq!(wait(child).ok().out, format!("up\n{n}\n"));
    }
    for host in &hosts {
        until("nothing is held", || lab.holds(host).is_empty());
    }
    assert!(lab.log().contains("token=\"host2\""), "each use is logged");
}

#[test]
fn two_build_one_step_and_one_of_them_takes_it() {
    let (_lab, hosts) = Lab::with(20, 2);
    let lines = "EXEC sleep 5; cat /proc/sys/kernel/random/uuid >/once\nRUN cat /once\n";
    let builds: Vec<_> = hosts
        .iter()
        .map(|host| {
            let mut command = host.creating("box", lines);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("pocker starts")
        })
        .collect();
    let said: Vec<String> = builds
        .into_iter()
        .map(|child| {
            let done = wait(child).ok();
            format!("{}{}", done.out, done.err)
        })
        .collect();
    // What each says below its EXEC line.
    let outcome = |s: &String| {
        let after = s.split_once("[2/3]").map_or("", |(_, after)| after);
        after.lines().nth(1).unwrap_or_default().trim().to_owned()
    };
    let mut outcomes: Vec<String> = said.iter().map(outcome).collect();
    outcomes.sort();
    assert!(
        outcomes[0].starts_with("built by another create"),
        "{said:?}"
    );
    assert!(outcomes[1].starts_with("built in"), "{said:?}");
    let first = hosts[0].pocker(&["run", "box"]).ok().out;
    assert_eq!(hosts[1].pocker(&["run", "box"]).ok().out, first);
}

#[test]
fn commands_work_as_they_do_where_the_store_is() {
    let (lab, hosts) = Lab::with(20, 1);
    let host = &hosts[0];
    host.world
        .pockerfile("box", "EXEC echo one >/a\nRUN true\n");
    host.pocker(&["create", "-f", "box.pockerfile", "box"]).ok();
    let chroot = host.world.path("chroot");
    let seen = std::fs::read_to_string(chroot.join("box/run/a"));
    assert_eq!(seen.expect("the browse view is there"), "one\n");
    host.create("box2", "EXEC echo one >/a\nEXEC echo two >/b\nRUN true\n")
        .ok();
    assert!(
        host.pocker(&["diff", "box", "box2"])
            .ok()
            .out
            .contains("/b")
    );
    assert_eq!(host.pocker(&["cat", "box2:/b"]).ok().out, "two\n");
    host.pocker(&["history", "box2"]).ok();
    host.pocker(&["cp", "box2:/b", "copied"]).ok();
    let copied = std::fs::read_to_string(host.world.path("copied"));
    assert_eq!(copied.expect("copied"), "two\n");
    host.pocker(&["export", "box2", "-o", "box2.tar"]).ok();
    host.pocker(&["import", "--run", "cat /b", "box2.tar", "back"])
        .ok();
    assert_eq!(host.pocker(&["run", "back"]).ok().out, "two\n");
    // Volumes are the store's, wherever a run is.
    host.pocker(&["volume", "create", "data"]).ok();
    let put = [
        "run",
        "-v",
        "data:/d",
        "box",
        "--",
        "sh",
        "-c",
        "echo kept >/d/f",
    ];
    host.pocker(&put).ok();
    let got = lab
        .pocker(&["run", "-v", "data:/d", "box", "--", "cat", "/d/f"])
        .ok();
    assert_eq!(got.out, "kept\n");
    // A run in the background, and what is seen of it.
    host.pocker(&[
        "run",
        "--detach",
        "--name",
        "web",
        "box",
        "--",
        "sh",
        "-c",
        "echo up; echo c >/changed; sleep 1000",
    ])
    .ok();
    until("it is up", || {
        host.pocker(&["logs", "web"]).ok().out == "up\n"
    });
    until("it has changed something", || {
        host.pocker(&["diff", "web"]).ok().out.contains("/changed")
    });
    assert_eq!(
        host.pocker(&["exec", "web", "cat", "/changed"]).ok().out,
        "c\n"
    );
    host.world.write("in", "in\n");
    host.pocker(&["cp", "in", "web:/in"]).ok();
    assert_eq!(host.pocker(&["exec", "web", "cat", "/in"]).ok().out, "in\n");
    lab.pocker(&["rm", "--force", "box"])
        .fails(&["running on host", "hint: "]);
    host.pocker(&["stop", "-t", "0", "web"]).ok();
    // A mount outlives its command, and its lease with it.
    let dir = host.world.path("m");
    std::fs::create_dir(&dir).expect("mkdir");
    let at = dir.display().to_string();
    host.pocker(&["mount", "--rw", "box2", &at]).ok();
    std::fs::write(dir.join("new"), "x").expect("written");
    until("it is held", || lab.holds(host).contains("mount of box2"));
    host.pocker(&["umount", &at]).ok();
    until("it is given back", || lab.holds(host).is_empty());
    host.pocker(&["pin", "box2"]).ok();
    host.pocker(&["du"]).ok();
    host.pocker(&["rm", "back"]).ok();
    host.pocker(&["doctor"]);
    host.pocker(&["umount", &chroot.display().to_string()]).ok();
}

#[test]
fn host_directories_are_of_the_host_that_runs() {
    let (_lab, hosts) = Lab::with(20, 1);
    let host = &hosts[0];
    host.create("box", "RUN true\n").ok();
    host.world.write("g/file", "here\n");
    host.world.write("g/sub/deep", "deep\n");
    let g = host.world.path("g").display().to_string();
    let with =
        |graft: &str, text: &str| host.pocker(&["run", "-d", graft, "box", "--", "sh", "-c", text]);
    let both = "cat /g/file /g/sub/deep; echo back >/g/out";
    assert_eq!(with(&format!("{g}:/g"), both).ok().out, "here\ndeep\n");
    let out = std::fs::read_to_string(host.world.path("g/out"));
    assert_eq!(out.expect("it came back"), "back\n");
    with(&format!("{g}:/g:ro"), "cat /g/file; echo no >/g/out2").fails(&["Read-only"]);
    with("/no/such:/g", "true").fails(&["/no/such", "hint: "]);
    let options = "grep ' /g ' /proc/self/mountinfo";
    let shown = with(&format!("{g}:/g"), options).ok().out;
    assert!(
        shown.contains("nosuid") && shown.contains("nodev"),
        "{shown}"
    );
    let _ = run(host.command(&["ps"]));
}
