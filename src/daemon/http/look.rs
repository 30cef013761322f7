//! Looking into trees: `/v1/look/{tree}/…`. What may be long comes as a stream.

use super::archives::{BodyWriter, QUEUE};
use super::routes::own_tree;
use super::{Counted, Peer, blocking, transfers};
use crate::control::looking::{DiskUse, NodeInfo, TreeRef};
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::look::Looked;
use crate::daemon::state::Daemon;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::mpsc;

type Shared = State<Arc<Daemon>>;
type From = Extension<Peer>;

pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/look/{tree}/stat", get(stat))
        .route("/v1/look/{tree}/list", get(list))
        .route("/v1/look/{tree}/file", get(file))
        .route("/v1/look/{tree}/tar", get(tar))
        .route("/v1/look/{tree}/diff", get(diff))
        .route("/v1/du", get(disk_use))
}

#[derive(Deserialize)]
struct At {
    /// Hexadecimal: a path is bytes.
    #[serde(default)]
    path: String,
    /// That an archive's entries begin with.
    #[serde(default)]
    name: String,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    depth: Option<usize>,
}

impl At {
    fn path(&self) -> Outcome<Vec<u8>> {
        hex::decode(&self.path).map_err(|_| Fail::bad("path is not hexadecimal"))
    }
}

/// Sealed trees and volumes are everybody's with a token; a work tree is its host's.
fn looked(d: &Daemon, peer: Peer, tree: &str) -> Outcome<Looked> {
    if let Ok(TreeRef::Work(id)) = tree.parse() {
        own_tree(d, peer, id)?;
    }
    d.looked(tree)
}

async fn stat(
    State(d): Shared,
    Extension(peer): From,
    Path(tree): Path<String>,
    Query(at): Query<At>,
) -> Outcome<Json<Option<NodeInfo>>> {
    blocking(d, move |d| {
        looked(d, peer, &tree)?.stat(&at.path()?, at.follow)
    })
    .await
}

async fn list(
    State(d): Shared,
    Extension(peer): From,
    Path(tree): Path<String>,
    Query(at): Query<At>,
) -> Outcome<Body> {
    let depth = at.depth.unwrap_or(usize::MAX);
    stream(
        d,
        move |d| {
            let looked = looked(d, peer, &tree)?;
            let top = looked.top(&at.path()?)?;
            Ok((looked, top))
        },
        move |(looked, top), out| looked.list(top, depth, out),
    )
    .await
}

async fn file(
    State(d): Shared,
    Extension(peer): From,
    Path(tree): Path<String>,
    Query(at): Query<At>,
) -> Outcome<Body> {
    stream(
        d,
        move |d| {
            let looked = looked(d, peer, &tree)?;
            let file = looked.file(&at.path()?)?;
            Ok((looked, file))
        },
        |(looked, file), out| looked.cat(&file, out),
    )
    .await
}

async fn tar(
    State(d): Shared,
    Extension(peer): From,
    Path(tree): Path<String>,
    Query(at): Query<At>,
) -> Outcome<Body> {
    stream(
        d,
        move |d| {
            let looked = looked(d, peer, &tree)?;
            let top = looked.source(&at.path()?, at.follow)?;
            let name = hex::decode(&at.name).map_err(|_| Fail::bad("name is not hexadecimal"))?;
            Ok((looked, top, name))
        },
        |(looked, top, name), out| looked.tar(&top, &name, out).map_err(io::Error::other),
    )
    .await
}

async fn diff(State(d): Shared, Extension(peer): From, Path(tree): Path<String>) -> Outcome<Body> {
    stream(
        d,
        move |d| looked(d, peer, &tree),
        |looked: Looked, out| looked.changes(out),
    )
    .await
}

async fn disk_use(State(d): Shared) -> Outcome<Json<DiskUse>> {
    blocking(d, |d| d.disk_use()).await
}

/// What `find` finds, written by `write` while it is sent. A failure of the first is a reply, one
/// of the second a broken body, never a short one.
async fn stream<T: Send + 'static>(
    daemon: Arc<Daemon>,
    find: impl FnOnce(&Daemon) -> Outcome<T> + Send + 'static,
    write: impl FnOnce(T, &mut dyn Write) -> io::Result<()> + Send + 'static,
) -> Outcome<Body> {
    let held = Arc::new((Counted::new(daemon.clone()), transfers::place().await?));
    let (send, mut chunks) = mpsc::channel(QUEUE);
    let finds = held.clone();
    let found = tokio::task::spawn_blocking(move || {
        let _held = finds;
        find(&daemon)
    });
    let found = found.await;
    let found = found.map_err(|e| Fail::internal("the call ended in the middle", &e))??;
    tokio::task::spawn_blocking(move || {
        let _held = held;
        let mut out = BodyWriter::new(send.clone());
        if let Err(e) = write(found, &mut out).and_then(|()| out.flush()) {
            if e.kind() != io::ErrorKind::BrokenPipe {
                tracing::warn!("a look into a tree ended early: {e}");
            }
            let _ = send.blocking_send(Err(io::Error::other(e.to_string())));
        }
    });
    let stream = futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx));
    Ok(Body::from_stream(stream))
}
