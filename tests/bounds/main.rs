//! What a run may take of its host: disk, memory, processes, time, network.

mod cgroup;
mod disk;
mod net;
#[path = "../support/mod.rs"]
mod support;

use support::{Done, World};

/// Runs a shell command in the pocker `box`.
#[track_caller]
pub fn run(world: &World, options: &[&str], script: &str) -> Done {
    let mut args = vec!["run"];
    args.extend(options);
    args.extend(["box", "--", "/bin/sh", "-c", script]);
    world.pocker(&args)
}

pub fn world() -> World {
    let world = World::new();
    world.create("box", "RUN true\n").ok();
    world
}
