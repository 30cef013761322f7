//! Every mistake: one line, a hint, a status of its own.

use crate::support::World;
use crate::{detach, detach_command, world};

/// What was said, without what differs from time to time.
fn said(w: &World, args: &[&str]) -> String {
    let done = w.pocker(args);
    assert_ne!(done.status, 0, "{args:?}: {}", done.out);
    let dir = w.dir.path().display().to_string();
    let text = done.err.replace(&dir, "DIR");
    let id = crate::json(w, &["ps", "-a", "--json"]);
    let mut text = format!("{text}status {}\n", done.status);
    for run in id.as_array().expect("a list") {
        text = text.replace(run["id"].as_str().expect("an id"), "ID");
    }
    text
}

#[test]
fn mistakes_are_said_with_a_remedy() {
    let w = world();
    detach(&w, &["--name", "web"]);
    detach_command(&w, &["--name", "over"], &["/bin/true"]);
    crate::ended(&w, "over");
    let all: Vec<String> = [
        &["run", "--detach", "--name", "web", "box"][..],
        &["run", "--name", "no/name", "box"],
        &["run", "--detach", "-u", "eve", "box"],
        &["run", "-u", "eve", "box"],
        &["run", "--rm", "--restart", "always", "box"],
        &["run", "--keep", "--disk", "1M", "box"],
        &["run", "--restart", "sometimes", "box"],
        &["run", "--health-cmd", "x", "--health-interval", "0s", "box"],
        &["exec", "over", "true"],
        &["exec", "nobody", "true"],
        &["exec", "-u", "eve", "web", "true"],
        &["exec", "-e", "=x", "web", "true"],
        &["stop", "nobody"],
        &["stop", "over"],
        &["kill", "-s", "LOUD", "web"],
        &["kill", "over"],
        &["logs", "nobody"],
        &["restart", "nobody"],
        &["wait", "nobody"],
        &["rename", "over", "web"],
        &["rename", "over", "No"],
        &["inspect", "nobody"],
        &["top", "over"],
        &["stats", "nobody"],
        &["prune", "web"],
    ]
    .iter()
    .map(|args| format!("$ pocker {}\n{}", args.join(" "), said(&w, args)))
    .collect();
    insta::assert_snapshot!(all.join("\n"));
    w.pocker(&["stop", "web"]).ok();
    w.pocker(&["rm", "box"]).ok();
    insta::assert_snapshot!(said(&w, &["restart", "web"]));
}

#[test]
fn a_run_that_cannot_start_again_is_not_forgotten() {
    let w = world();
    detach_command(&w, &["--name", "web"], &["/bin/true"]);
    crate::ended(&w, "web");
    w.pocker(&["rm", "box"]).ok();
    let done = w.pocker(&["restart", "web"]);
    assert_eq!(done.fails(&["no pocker named box"]).status, 125);
    let now = crate::inspect(&w, "web");
    assert!(
        now["end"]["error"].to_string().contains("no pocker"),
        "{now}"
    );
    w.create("box", crate::UP).ok();
    w.pocker(&["restart", "web"]).ok();
}
