//! Makes a fresh export for a suite, and mounts it through the same mount helper as any run:
//!
//!     place tree POCKER TARGET [SECOND]           a writable clone, as a build step has it
//!     place graft POCKER HOSTDIR TARGET [SECOND]  a host directory, as a run has it
//!
//! A graft is cached as one that others write too. With a second target the export is mounted
//! twice, each time by a client of its own that knows nothing of the other, and cached so. The
//! target `-` mounts nothing: the export's path is printed, for who mounts it elsewhere.
//!
//! The export lives as long as the process PLACE_OWNER, or the one that started this program, and
//! that process is stopped with the server; the mounts live until they are unmounted. The server is found as `pocker` finds it: by POCKER_STORE and POCKER_SOCKET_DIR;
//! POCKER_MOUNT_HELPER chooses the helper.

use pocker::cli::listeners;
use pocker::control::api::{Graft, NewRun, NewTree, Purpose};
use pocker::control::connect::Endpoint;
use pocker::control::{Client, api};
use pocker_mount_helpers::linux_kernel::loopback_address;
use pocker_mount_helpers::{Cache, Request, Server, choose, fuse};
use std::error::Error;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// How long a call may wait for a server that is away.
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    // The FUSE helper starts this very program again.
    if words.first() == Some(&"mount-helper") {
        std::process::exit(fuse::fuse_helper_main(None));
    }
    let endpoint = Endpoint {
        socket_dir: variable("POCKER_SOCKET_DIR", "/run/pocker").into(),
        store: variable("POCKER_STORE", "/var/pocker/store").into(),
        start: false,
        timeout: SERVER_TIMEOUT,
        remote: None,
    };
    let client = Client::open(endpoint)?;
    match words[..] {
        ["tree", pocker, ref targets @ ..] if !targets.is_empty() => {
            let cache = match targets {
                [_] => Cache::Exclusive,
                _ => Cache::Shared,
            };
            mount(&client, &tree(&client, pocker)?, targets, cache)
        }
        ["graft", pocker, dir, ref targets @ ..] if !targets.is_empty() => {
            let export = graft(&client, pocker, dir)?;
            mount(&client, &export, targets, Cache::Shared)
        }
        _ => Err("place tree POCKER TARGET…, or place graft POCKER HOSTDIR TARGET…")?,
    }
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// The process that exports live as long as.
fn owner() -> u32 {
    let named = variable("PLACE_OWNER", "").parse();
    named.unwrap_or_else(|_| std::os::unix::process::parent_id())
}

fn tree(client: &Client, pocker: &str) -> Result<api::Export, Box<dyn Error>> {
    let info = client.pocker(pocker)?.ok_or("no such pocker")?;
    let base = info.steps.last().ok_or("a pocker without steps")?;
    let tree = client.new_tree(&NewTree {
        base: Some(base.snapshot.clone()),
        purpose: Purpose::Build,
        label: "a conformance suite".to_owned(),
        pid: owner(),
    })?;
    Ok(tree.export)
}

fn graft(client: &Client, pocker: &str, dir: &str) -> Result<api::Export, Box<dyn Error>> {
    let run = client.new_run(&NewRun {
        name: pocker.to_owned(),
        pid: owner(),
        grafts: vec![Graft {
            host: dir.to_owned(),
            target: "/tmp".to_owned(),
            read_only: false,
            suid: false,
            dev: false,
        }],
        ..NewRun::default()
    })?;
    let export = run.grafts.into_iter().next();
    Ok(export.ok_or("the server named no export of the graft")?)
}

fn mount(
    client: &Client,
    export: &api::Export,
    targets: &[&str],
    cache: Cache,
) -> Result<(), Box<dyn Error>> {
    let wanted = std::env::var("POCKER_MOUNT_HELPER").ok();
    let (helper, server) = choose(wanted.as_deref(), &listeners(&client.status()?))?;
    for (client_number, target) in (0..).zip(targets) {
        if *target == "-" {
            println!("{}", export.path);
            continue;
        }
        let mounted = helper
            .session(&seen_by(client_number, &server), None)?
            .mount(&Request {
                export: export.path.as_bytes(),
                target: Path::new(target),
                read_only: false,
                nosuid: false,
                nodev: false,
                noexec: false,
                cache,
                outlives: true,
            })?;
        mounted.leak();
    }
    Ok(())
}

/// The server under another address for each client after the first: to Linux that is another
/// server, with a connection and caches of its own.
fn seen_by(client: u32, server: &Server) -> Server {
    let mut server = server.clone();
    if let Server::Tcp { addr, .. } = &mut server
        && client > 0
    {
        addr.set_ip(IpAddr::V4(loopback_address(client)));
    }
    server
}
