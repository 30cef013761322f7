//! Directories of this host that runs have: which may be, and what serves them.

use super::docs::GraftDoc;
use super::export::{Mark, Root};
use super::fail::{Fail, Outcome};
use super::grafter::{self, Kind, Looked};
use super::patience::{FINDING, FINDS};
use super::privileges;
use super::state::Daemon;
use crate::control::api::Graft;
use std::path::PathBuf;
use std::time::Duration;

/// A graft must be a directory of the host's own, not one that this server serves.
pub fn check(daemon: &Daemon, host: &str) -> Outcome<()> {
    let looked = match &daemon.exports.grafter {
        Some(grafter) => grafter.look(host),
        None => {
            let (path, below) = (PathBuf::from(host), daemon.options.graft_below.clone());
            let look = move || Looked::at(&path, &below);
            FINDS.within(FINDING, host.as_bytes(), look)
        }
    };
    let looked = looked.map_err(|e| failed(format!("graft {host}: cannot look at it"), &e))?;
    match looked.kind {
        Kind::Directory => allowed(daemon, host, &looked),
        Kind::Other => Err(Fail::bad(format!("graft {host}: not a directory"))
            .hint("give the directory that it is in")),
        Kind::Missing => {
            permitted(daemon, host, &looked)?;
            Err(Fail::bad(format!(
                "graft {host}: there is no such directory on this host"
            ))
            .hint(format!("make it first: mkdir -p {host}")))
        }
    }
}

fn failed(tried: String, e: &std::io::Error) -> Fail {
    match e.kind() {
        std::io::ErrorKind::TimedOut => Fail::late(format!("{tried}: {e}"))
            .hint("is the disk there, or the machine that has it? `mount` says which it is"),
        _ => Fail::internal(tried, e),
    }
}

/// Whether what was found may be grafted.
fn allowed(daemon: &Daemon, host: &str, looked: &Looked) -> Outcome<()> {
    permitted(daemon, host, looked)?;
    let real = looked.real();
    let store = &daemon.options.store;
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

/// Whether the server was started with this much of the host in reach.
fn permitted(daemon: &Daemon, host: &str, looked: &Looked) -> Outcome<()> {
    if looked.covered {
        return Ok(());
    }
    let below = &daemon.options.graft_below;
    Err(Fail::bad(format!(
        "graft {host}: this server has grafts at or below {} alone",
        privileges::named(below)
    ))
    .hint("graft a directory there; or name this one too, with `pocker serve --graft-below` or as `graft_below` in /etc/pocker.conf, for the next server: a server's reach is not widened while it runs"))
}

/// The directory itself, which may be another than was there at the last look.
struct Opened<'a> {
    mark: Mark,
    by: By<'a>,
}

enum By<'a> {
    Us(Root),
    Grafter(grafter::Opened<'a>),
}

fn opened<'a>(daemon: &'a Daemon, host: &str, patience: Duration) -> Outcome<Opened<'a>> {
    let tried = || format!("graft {host}: cannot open it");
    let Some(grafter) = &daemon.exports.grafter else {
        let path = PathBuf::from(host);
        let found = FINDS.within(patience, host.as_bytes(), move || {
            let root = Root::open(&path)?;
            let real = root.real(&path)?;
            Ok((root, real))
        });
        let (root, real) = found.map_err(|e| failed(tried(), &e))?;
        let at = Looked::directory(real, &daemon.options.graft_below);
        allowed(daemon, host, &at)?;
        return Ok(Opened {
            mark: root.mark(),
            by: By::Us(root),
        });
    };
    let opened = grafter.open(host, patience);
    let opened = opened.map_err(|e| failed(tried(), &e))?;
    if let Err(e) = allowed(daemon, host, &opened.at) {
        opened.close();
        return Err(e);
    }
    Ok(Opened {
        mark: opened.mark,
        by: By::Grafter(opened),
    })
}

impl Opened<'_> {
    fn serve(self, daemon: &Daemon, host: &str, id: u64, read_only: bool) -> Outcome<()> {
        let served = match self.by {
            By::Us(root) => {
                let served = daemon.exports.grafts.serve(id, root, read_only);
                served.map_err(std::io::Error::from)
            }
            By::Grafter(opened) => opened.serve(id, read_only),
        };
        served.map_err(|e| failed(format!("graft {host}: cannot serve it"), &e))
    }
}

/// After a restart: its handles hold.
pub fn reopen(daemon: &Daemon, graft: &GraftDoc, patience: Duration) -> Outcome<()> {
    let host = &graft.host;
    if graft.apart != daemon.exports.grafter.is_some() {
        return Err(Fail::bad(format!(
            "graft {host}: it was served by a server with --graft-below, or this is one and that was none, and files have other names there"
        )));
    }
    let opened = opened(daemon, host, patience)?;
    if graft.root.is_some_and(|was| was != opened.mark) {
        return Err(Fail::bad(format!(
            "graft {host}: another directory is there than when the run began"
        )));
    }
    opened.serve(daemon, host, graft.id, graft.read_only)
}

/// Serves it from here on.
pub fn open(daemon: &Daemon, graft: &Graft) -> Outcome<GraftDoc> {
    let (host, read_only) = (graft.host.clone(), graft.read_only);
    let opened = opened(daemon, &host, FINDING)?;
    let id = daemon.store.next_id();
    let id = id.map_err(|e| Fail::internal("cannot name a graft", &e))?;
    let mark = opened.mark;
    opened.serve(daemon, &host, id, read_only)?;
    Ok(GraftDoc {
        id,
        host,
        read_only,
        root: Some(mark),
        apart: daemon.exports.grafter.is_some(),
    })
}
