//! Directories of this host that runs have: which may be, and what serves them.

use super::docs::GraftDoc;
use super::export::Root;
use super::fail::{Fail, Outcome};
use super::privileges;
use super::state::Daemon;
use crate::control::api::Graft;
use std::path::{Path, PathBuf};

/// A graft must be a directory of the host's own, not one that this server serves.
pub fn check(daemon: &Daemon, host: &str) -> Outcome<()> {
    let path = Path::new(host);
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(Fail::bad(format!("graft {host}: not a directory"))
                .hint("give the directory that it is in"));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            // To unveil(2) what is out of reach is not there.
            permitted(daemon, host, path)?;
            return Err(Fail::bad(format!(
                "graft {host}: there is no such directory on this host"
            ))
            .hint(format!("make it first: mkdir -p {host}")));
        }
        Err(e) => {
            return Err(Fail::internal(
                format!("graft {host}: cannot look at it"),
                &e,
            ));
        }
    }
    let real = std::fs::canonicalize(path)
        .map_err(|e| Fail::internal(format!("graft {host}: cannot resolve it"), &e))?;
    allowed(daemon, host, &real)
}

/// Whether what is there by its real path may be grafted.
fn allowed(daemon: &Daemon, host: &str, real: &Path) -> Outcome<()> {
    permitted(daemon, host, real)?;
    let store = daemon.store.dir();
    if real.starts_with(store) || store.starts_with(real) {
        return Err(Fail::bad(format!(
            "graft {host}: it holds the store itself ({}), which would let the run rewrite every tree",
            store.display()
        ))
        .hint("graft a directory beside it, or one below that has nothing of the store"));
    }
    let served = daemon.mounts_of(None)?;
    if let Some(mount) = served.iter().find(|m| real.starts_with(&m.target)) {
        return Err(Fail::bad(format!(
            "graft {host}: it lies in {}, which this server serves itself ({})",
            mount.target, mount.what
        ))
        .hint("mount that in the run itself: `-v` for a volume; a pocker's tree can be copied out with `pocker cp`"));
    }
    Ok(())
}

/// Whether the server was started with this much of the host in reach.
fn permitted(daemon: &Daemon, host: &str, real: &Path) -> Outcome<()> {
    let below = &daemon.options.graft_below;
    // One that was not there when the server was started may be by now.
    let covers = |dir: &PathBuf| match dir.canonicalize() {
        Ok(dir) => real.starts_with(dir),
        Err(_) => real.starts_with(dir),
    };
    if below.is_empty() || below.iter().any(covers) {
        return Ok(());
    }
    Err(Fail::bad(format!(
        "graft {host}: this server has grafts at or below {} alone",
        privileges::named(below)
    ))
    .hint("graft a directory there; or name this one too, with `pocker serve --graft-below` or as `graft_below` in /etc/pocker.conf, for the next server: a server's reach is not widened while it runs"))
}

/// The directory itself, which may be another than was there at the last look.
fn opened(daemon: &Daemon, host: &str) -> Outcome<Root> {
    let path = Path::new(host);
    let tried = || format!("graft {host}: cannot open it");
    let root = Root::open(path).map_err(|e| Fail::internal(tried(), &e))?;
    let real = root.real(path);
    let real = real.map_err(|e| Fail::internal(tried(), &e))?;
    allowed(daemon, host, &real)?;
    Ok(root)
}

/// After a restart: its handles hold.
pub fn reopen(daemon: &Daemon, graft: &GraftDoc) -> Outcome<()> {
    let root = opened(daemon, &graft.host)?;
    if graft.root.is_some_and(|was| was != root.mark()) {
        let host = &graft.host;
        return Err(Fail::bad(format!(
            "graft {host}: another directory is there than when the run began"
        )));
    }
    let grafts = &daemon.exports.grafts;
    grafts.serve(graft.id, root, graft.read_only);
    Ok(())
}

/// Serves it from here on.
pub fn open(daemon: &Daemon, graft: &Graft) -> Outcome<GraftDoc> {
    let (host, read_only) = (graft.host.clone(), graft.read_only);
    let root = opened(daemon, &host)?;
    let id = daemon.store.next_id();
    let id = id.map_err(|e| Fail::internal("cannot name a graft", &e))?;
    let mark = root.mark();
    daemon.exports.grafts.serve(id, root, read_only);
    Ok(GraftDoc {
        id,
        host,
        read_only,
        root: Some(mark),
    })
}
