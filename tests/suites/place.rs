//! Mounts a fresh export for a conformance suite, through the same mount helper as any run:
//!
//!     place tree POCKER TARGET           a writable clone, as a build step has it
//!     place graft POCKER TARGET HOSTDIR  a host directory, as a run has it
//!
//! A graft is cached as one that others write too; so is a tree with `shared` as the last
//! argument. The export lives as long as the process that started this program, the mount until
//! it is unmounted. The server is found as `pocker` finds it: by POCKER_STORE and
//! POCKER_SOCKET_DIR; POCKER_MOUNT_HELPER chooses the helper.

use pocker::cli::listeners;
use pocker::control::api::{Graft, NewRun, NewTree, Purpose};
use pocker::control::connect::Endpoint;
use pocker::control::{Client, api};
use pocker_mount_helpers::{Cache, Request, choose, fuse};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

/// How long a call may wait for a server that is away.
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = args.iter().map(String::as_str).collect();
    // The FUSE helper starts this very program again.
    if words.first() == Some(&"mount-helper") {
        std::process::exit(fuse::fuse_helper_main());
    }
    let shared = words.pop_if(|word| *word == "shared").is_some();
    let endpoint = Endpoint {
        socket_dir: variable("POCKER_SOCKET_DIR", "/run/pocker").into(),
        store: variable("POCKER_STORE", "/var/pocker/store").into(),
        start: false,
        timeout: SERVER_TIMEOUT,
    };
    let client = Client::open(endpoint)?;
    match words[..] {
        ["tree", pocker, target] => mount(&client, &tree(&client, pocker)?, target, shared),
        ["graft", pocker, target, dir] => {
            mount(&client, &graft(&client, pocker, dir)?, target, true)
        }
        _ => Err("place tree POCKER TARGET [shared], or place graft POCKER TARGET HOSTDIR")?,
    }
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn tree(client: &Client, pocker: &str) -> Result<api::Export, Box<dyn Error>> {
    let info = client.pocker(pocker)?.ok_or("no such pocker")?;
    let base = info.steps.last().ok_or("a pocker without steps")?;
    let tree = client.new_tree(&NewTree {
        base: Some(base.snapshot.clone()),
        purpose: Purpose::Build,
        label: "a conformance suite".to_owned(),
        pid: std::os::unix::process::parent_id(),
    })?;
    Ok(tree.export)
}

fn graft(client: &Client, pocker: &str, dir: &str) -> Result<api::Export, Box<dyn Error>> {
    let run = client.new_run(&NewRun {
        name: pocker.to_owned(),
        pid: std::os::unix::process::parent_id(),
        grafts: vec![Graft {
            host: dir.to_owned(),
            target: "/tmp".to_owned(),
            read_only: false,
        }],
    })?;
    let export = run.grafts.into_iter().next();
    Ok(export.ok_or("the server named no export of the graft")?)
}

fn mount(
    client: &Client,
    export: &api::Export,
    target: &str,
    shared: bool,
) -> Result<(), Box<dyn Error>> {
    let wanted = std::env::var("POCKER_MOUNT_HELPER").ok();
    let (helper, server) = choose(wanted.as_deref(), &listeners(&client.status()?))?;
    let mounted = helper.session(&server, None)?.mount(&Request {
        export: export.path.as_bytes(),
        target: Path::new(target),
        read_only: false,
        nosuid: false,
        nodev: false,
        noexec: false,
        cache: if shared {
            Cache::Shared
        } else {
            Cache::Exclusive
        },
        outlives: true,
    })?;
    mounted.leak();
    Ok(())
}
