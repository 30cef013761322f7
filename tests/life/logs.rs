//! What a run said.

use crate::support::{until, wait};
use crate::{detach, detach_command, world};
use std::io::{BufRead, BufReader};

#[test]
fn a_log_has_both_streams_apart_with_times_and_a_part_on_request() {
    let w = world();
    // What comes on two streams at once may be told in either order.
    let script =
        "for i in 1 2 3 4 5; do echo line $i; done; sleep 1; echo wrong >&2; sleep 1; printf part";
    let name = detach_command(&w, &[], &["/bin/sh", "-c", script]);
    crate::ended(&w, &name);
    let done = w.pocker(&["logs", &name]).ok();
    assert_eq!(done.out, "line 1\nline 2\nline 3\nline 4\nline 5\npart");
    assert_eq!(done.err, "wrong\n");
    let tail = w.pocker(&["logs", "-n", "2", &name]).ok();
    assert_eq!(tail.out + &tail.err, "line 5\npartwrong\n");
    let timed = w.pocker(&["logs", "-t", &name]).ok().out;
    assert!(
        timed.starts_with("20") && timed.contains("Z line 1\n"),
        "{timed}"
    );
    assert_eq!(
        w.pocker(&["logs", "--since", "1h", &name]).ok().out,
        done.out
    );
    assert_eq!(
        w.pocker(&["logs", "--since", "2100-01-01", &name]).ok().out,
        ""
    );
    w.pocker(&["logs", "--since", "soon", &name])
        .fails(&["--since soon", "hint:"]);
}

#[test]
fn a_log_is_followed_to_the_runs_end() {
    let w = world();
    let name = detach(&w, &[]);
    let mut child = w.start(&["logs", "-f", &name]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("read"), "up");
    w.pocker(&["kill", "-s", "HUP", &name]).ok();
    assert_eq!(lines.next().expect("a line").expect("read"), "reload");
    w.pocker(&["stop", &name]).ok();
    assert_eq!(lines.next().expect("a line").expect("read"), "bye");
    assert!(lines.next().is_none());
    assert_eq!(wait(child).status, 0);
}

#[test]
fn a_log_does_not_grow_without_end() {
    let w = world();
    let script = "i=0; while [ $i -lt 2000 ]; do echo $i is a number; i=$((i+1)); done";
    let name = detach_command(&w, &["--log-size", "8192"], &["/bin/sh", "-c", script]);
    crate::ended(&w, &name);
    let dir = crate::inspect(&w, &name)["files"]
        .as_str()
        .expect("a path")
        .to_owned();
    let size = |file: &str| {
        let path = format!("{dir}/{file}");
        std::fs::metadata(path).expect("there").len()
    };
    assert!(size("log") <= 8192 && size("log.1") <= 8192);
    let out = w.pocker(&["logs", &name]).ok().out;
    assert!(out.ends_with("1999 is a number\n") && !out.starts_with("0 is"));
}

#[test]
fn another_user_of_the_tree_may_open_the_log_again() {
    let w = world();
    let script = "echo via >/dev/stdout && echo err >/dev/stderr";
    let name = detach_command(&w, &["-u", "www"], &["/bin/sh", "-c", script]);
    until("it ends", || crate::ended(&w, &name) == 0);
    let done = w.pocker(&["logs", &name]).ok();
    assert_eq!((done.out.as_str(), done.err.as_str()), ("via\n", "err\n"));
}
