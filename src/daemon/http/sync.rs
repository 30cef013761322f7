//! The routes of `pocker sync`: lists of digests and streams of what they name.

use super::archives::{BodyWriter, QUEUE, on_blocking, reader};
use super::{Counted, Peer, blocking, transfers};
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::state::Daemon;
use crate::sync::frames;
use crate::sync::named::NamedInfo;
use crate::sync::served::{ReceiveBegun, SendBegun};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::routing::{delete, post, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use std::io::Write;
use std::sync::Arc;
use tokio::sync::mpsc;

type Shared = State<Arc<Daemon>>;
type From = Extension<Peer>;

pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/sync/send/{name}", post(send))
        .route("/v1/sync/receive", post(receive))
        .route("/v1/sync/{session}/fetch", post(fetch))
        .route("/v1/sync/{session}/lacks", post(lacks))
        .route("/v1/sync/{session}/finish", post(finish))
        .route("/v1/sync/{session}/end", delete(end))
        .merge(
            Router::new()
                .route("/v1/sync/{session}/objects", put(take))
                .layer(DefaultBodyLimit::disable()),
        )
}

async fn send(
    State(d): Shared,
    Extension(peer): From,
    Path(name): Path<String>,
) -> Outcome<Json<SendBegun>> {
    blocking(d, move |d| d.sync_send(&name, peer.lease())).await
}

#[derive(Deserialize)]
struct Lazy {
    /// Where its files stay, hexadecimal.
    upstream: Option<String>,
}

async fn receive(
    State(d): Shared,
    Extension(peer): From,
    Query(q): Query<Lazy>,
    Json(info): Json<NamedInfo>,
) -> Outcome<Json<ReceiveBegun>> {
    blocking(d, move |d| {
        let url = q.upstream.map(|hex| {
            let url = hex::decode(hex)
                .ok()
                .and_then(|url| String::from_utf8(url).ok());
            url.ok_or_else(|| Fail::bad("the upstream is not hexadecimal"))
        });
        d.sync_receive(&info, url.transpose()?.as_deref(), peer.lease())
    })
    .await
}

fn wants(body: &[u8]) -> Outcome<Vec<pocker_store::sync::Want>> {
    frames::wants_of_bytes(body).map_err(|e| Fail::bad(e.to_string()))
}

async fn lacks(
    State(d): Shared,
    Extension(peer): From,
    Path(session): Path<u64>,
    body: Bytes,
) -> Outcome<Json<Vec<bool>>> {
    let of = (session, peer.lease());
    blocking(d, move |d| d.sync_lacks(of, &wants(&body)?)).await
}

async fn take(
    State(d): Shared,
    Extension(peer): From,
    Path(session): Path<u64>,
    body: Body,
) -> Outcome<Json<()>> {
    let mut frames = reader(body, peer.patience());
    let of = (session, peer.lease());
    let done = on_blocking(d, move |d| d.sync_take(of, &mut frames));
    done.await.map(Json)
}

async fn finish(
    State(d): Shared,
    Extension(peer): From,
    Path(session): Path<u64>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| d.sync_finish((session, peer.lease()))).await
}

async fn end(
    State(d): Shared,
    Extension(peer): From,
    Path(session): Path<u64>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| d.sync_end((session, peer.lease()))).await
}

/// What is asked for, in its order; the body breaks off where something of it cannot be read.
async fn fetch(
    State(d): Shared,
    Extension(peer): From,
    Path(session): Path<u64>,
    body: Bytes,
) -> Outcome<Body> {
    let wants = wants(&body)?;
    let heard = d.sync_heard((session, peer.lease()))?;
    let (send, mut chunks) = mpsc::channel(QUEUE);
    let counted = Counted::new(d.clone());
    let place = transfers::place().await?;
    tokio::task::spawn_blocking(move || {
        let _held = (counted, heard, place);
        let mut out = BodyWriter::new(send.clone());
        let given = wants.iter().try_for_each(|want| {
            let (size, mut bytes) = d.store.give(want).map_err(std::io::Error::other)?;
            frames::write(&mut out, want, size, &mut bytes)
        });
        if let Err(e) = given.and_then(|()| out.flush()) {
            tracing::warn!("a sync ended early: {e}");
            let _ = send.blocking_send(Err(std::io::Error::other(e.to_string())));
        }
    });
    let stream = futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx));
    Ok(Body::from_stream(stream))
}
