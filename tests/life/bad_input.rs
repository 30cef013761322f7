//! Every mistake: one line, a hint, a status of its own.

use crate::support::{World, until};
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
        &["run", "--cap-add", "NET_RAWW", "box"],
        &["run", "--memory", "1M", "box"],
        &["run", "--rm", "--restart", "always", "box"],
        &["run", "--keep", "--disk", "1M", "box"],
        &["run", "--restart", "sometimes", "box"],
        &["run", "--health-cmd", "x", "--health-interval", "0s", "box"],
        &["exec", "over", "true"],
        &["exec", "nobody", "true"],
        &["exec", "-u", "eve", "web", "true"],
        &["exec", "-e", "=x", "web", "true"],
        &["exec", "-w", "/no/such", "web", "true"],
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
    .map(|args| {
        let text = said(&w, args);
        one_line(&text);
        format!("$ pocker {}\n{text}", args.join(" "))
    })
    .collect();
    insta::assert_snapshot!(all.join("\n"));
    w.pocker(&["stop", "web"]).ok();
    w.pocker(&["rm", "box"]).ok();
    insta::assert_snapshot!(said(&w, &["restart", "web"]));
}

/// One line, and what to do.
#[track_caller]
fn one_line(said: &str) {
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        matches!(lines[..], [error, hint, _] if error.starts_with("error: ") && hint.starts_with("hint: ")),
        "{said}"
    );
}

#[test]
fn a_port_in_use_is_named() {
    let w = world();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port().to_string();
    for how in [&["run"][..], &["run", "--detach"]] {
        let publish = format!("127.0.0.1:{port}:80");
        let args = [how, &["--net", "private", "-p", &publish, "box"]].concat();
        let text = said(&w, &args).replace(&port, "PORT");
        one_line(&text);
        insta::assert_snapshot!("a_port_in_use", text);
    }
    assert!(crate::live(&w).is_empty());
}

#[test]
fn what_cannot_be_entered_says_why() {
    let w = world();
    detach(&w, &["--unsafe-plain", "--name", "plain"]);
    let pid = crate::inspect(&w, "plain")["pid"].to_string();
    // As many processes as it may have: the shell and two others.
    let script = "sleep 1000 & sleep 1000 & echo full; wait";
    detach_command(
        &w,
        &["--pids", "3", "--name", "few"],
        &["/bin/sh", "-c", script],
    );
    until("it has them", || {
        w.pocker(&["logs", "few"]).ok().out.contains("full")
    });
    let all: Vec<String> = [
        &["exec", "plain", "true"][..],
        &["top", "plain"],
        &["exec", "few", "true"],
    ]
    .iter()
    .map(|args| {
        let text = said(&w, args).replace(&pid, "PID");
        one_line(&text);
        format!("$ pocker {}\n{text}", args.join(" "))
    })
    .collect();
    insta::assert_snapshot!(all.join("\n"));
    // It can be spoken to all the same.
    w.pocker(&["kill", "-s", "HUP", "plain"]).ok();
    crate::log_has(&w, "plain", "reload");
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
