//! Looking into trees: what changed in a run, listings, contents, copies in and out.

#[path = "../support/mod.rs"]
mod support;

mod copies;
mod refused;
mod seen;

use std::path::Path;
use support::World;

/// A pocker `web`, and a run `w` of it in the background.
fn world() -> World {
    let w = World::new();
    let text = "EXEC mkdir -p /d/sub /srv; echo one >/d/one; echo two >/d/two; chown 33:8 /d/two; chmod 4750 /d/two; \
         touch -d '2001-02-03 04:05:06' /d/two; ln /d/one /d/sub/same; ln -s ../one /d/sub/link; \
         ln -s /etc/passwd /d/abs; printf 'a\\0b\\377' >/d/bytes; mkfifo /d/pipe\n\
         RUN sleep 1000\n";
    w.create("web", text).ok();
    w
}

fn start(w: &World, more: &[&str]) {
    let args = [&["run", "--detach", "--name", "w"], more, &["web"]].concat();
    w.pocker(&args).ok();
}

fn stop(w: &World) {
    w.pocker(&["kill", "w"]).ok();
    w.pocker(&["wait", "w"]);
}

/// In the run, by its own shell.
#[track_caller]
fn inside(w: &World, command: &str) -> String {
    w.pocker(&["exec", "w", "sh", "-c", command]).ok().out
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
