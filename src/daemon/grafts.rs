//! Directories of this host that runs have: which may be, and what serves them.

use super::docs::GraftDoc;
use super::fail::{Fail, Outcome};
use super::state::Daemon;
use crate::control::api::Graft;
use std::path::Path;

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
    let store = daemon.store.dir();
    if real.starts_with(store) || store.starts_with(&real) {
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

/// Serves it from here on.
pub fn open(daemon: &Daemon, graft: &Graft) -> Outcome<GraftDoc> {
    let id = daemon.store.next_id();
    let id = id.map_err(|e| Fail::internal("cannot name a graft", &e))?;
    let (host, read_only) = (graft.host.clone(), graft.read_only);
    let grafts = &daemon.exports.grafts;
    let opened = grafts.add(id, Path::new(&host), read_only);
    opened.map_err(|e| Fail::internal(format!("graft {host}: cannot serve it"), &e))?;
    Ok(GraftDoc {
        id,
        host,
        read_only,
    })
}
