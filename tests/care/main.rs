//! The care of a store, as a person has it: collected, pinned, checked as it is read, backed up,
//! restored and upgraded, while builds, runs and readers go on.

mod backup;
mod collect;
mod looking;
mod mend;
mod pins;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
mod verify;

use std::process::Child;
use support::{World, until};

/// What `pocker ... --json` said.
#[track_caller]
fn json(w: &World, args: &[&str]) -> serde_json::Value {
    let args = [args, &["--json"]].concat();
    let out = w.pocker(&args).ok().out;
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e} in {out}"))
}

/// The key of a pocker's step, as `pocker ls` has it.
fn key(w: &World, name: &str, at: usize) -> String {
    let ls = json(w, &["ls", name]);
    let key = ls[0]["steps"][at]["key"].as_str();
    key.unwrap_or_else(|| panic!("no step {at} in {ls}"))
        .to_string()
}

/// A run of `box` whose script says "ready" and goes on when the file `go` is there: its place in
/// the run is `/go`, grafted.
fn waiting_run(w: &World, options: &[&str], script: &str) -> Child {
    let go = w.path("go");
    std::fs::create_dir_all(&go).expect("mkdir");
    let graft = format!("{}:/go", go.display());
    let script = format!("touch /go/ready; until test -e /go/on; do sleep 0.01; done; {script}");
    let mut args = vec!["run", "-d", &graft];
    args.extend(options);
    args.extend(["box", "--", "/bin/sh", "-c", &script]);
    let run = w.start(&args);
    until("the run is there", || go.join("ready").exists());
    run
}

fn go_on(w: &World) {
    std::fs::write(w.path("go/on"), "").expect("write");
}
