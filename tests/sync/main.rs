//! `pocker sync`: from store to store, over control sockets and object stores.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod clouds;
mod garage;
mod places;
mod s3;
mod upstream;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use support::{Done, World, wait};

/// A world with a pocker of a few hundred files, two of them large.
fn world() -> World {
    let w = World::new();
    let lines = "ENV WORD=kept
EXEC mkdir -p /data/many; i=0; while [ $i -lt 200 ]; do echo file $i >/data/many/$i; i=$((i + 1)); done
EXEC head -c 3000000 /dev/urandom >/data/large; head -c 40000 /dev/urandom >/data/middle
RUN cat /data/many/7; echo $WORD
";
    w.create("box", lines).ok();
    w
}

const SAYS: &str = "file 7\nkept\n";

/// A command of the world's store, or of another with sockets of its own, that is told of a place.
fn told<V: AsRef<OsStr>>(w: &World, name: &str, env: &[(&str, V)], args: &[&str]) -> Done {
    let store = w.path(name).display().to_string();
    let sockets = match name {
        "store" => w.path("s"),
        _ => w.path(&format!("s-{name}")),
    };
    let sockets = sockets.display().to_string();
    let mut command = w.command(&[&["--store", &store, "--socket-dir", &sockets], args].concat());
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().expect("pocker starts"))
}

/// A command of another store, with sockets of its own.
fn other(w: &World, name: &str, args: &[&str]) -> Done {
    let store = w.path(name).display().to_string();
    let sockets = w.path(&format!("s-{name}")).display().to_string();
    let dirs = ["--store", &store, "--socket-dir", &sockets];
    w.pocker(&[&dirs[..], args].concat())
}

fn stop(w: &World, name: &str) {
    other(w, name, &["serve", "--stop"]).ok();
}

fn json(done: &Done) -> serde_json::Value {
    serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}", done.out))
}

/// Of one pocker: objects, blobs and bytes that were sent.
fn sent(done: &Done) -> (u64, u64, u64) {
    let all = json(done);
    let of = |what: &str| all[0][what].as_u64().expect("a number");
    (of("objects"), of("blobs"), of("bytes"))
}

/// Another store has it, runs it, builds on it from the cache, and is sound.
#[track_caller]
fn works_in(w: &World, name: &str) {
    assert_eq!(other(w, name, &["run", "box"]).ok().out, SAYS);
    let ls = ["ls", "--json", "box"];
    assert_eq!(steps(&w.pocker(&ls)), steps(&other(w, name, &ls)));
    w.write("on.pockerfile", "FROM box\nRUN cat /data/many/8\n");
    other(
        w,
        name,
        &["create", "--no-browse", "-f", "on.pockerfile", "on"],
    )
    .ok();
    assert_eq!(other(w, name, &["run", "on"]).ok().out, "file 8\n");
    let fsck = other(w, name, &["fsck"]).ok().out;
    assert!(fsck.ends_with(": sound\n"), "{fsck}");
}

/// Keys, trees and instructions.
fn steps(ls: &Done) -> Vec<(String, String, String)> {
    let all = json(ls);
    let steps = all[0]["steps"].as_array().expect("steps");
    let of = |step: &serde_json::Value, what| step[what].as_str().expect("text").to_owned();
    let one = |s| (of(s, "key"), of(s, "snapshot"), of(s, "instruction"));
    steps.iter().map(one).collect()
}

fn url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}
