//! `/v1/hosts`, `/v1/tokens`: who else uses this store.

use super::{Counted, Peer, blocking};
use crate::control::hosts::{Beat, HostInfo, NewToken, TokenInfo, TokenMade};
use crate::daemon::fail::Outcome;
use crate::daemon::leases;
use crate::daemon::state::Daemon;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use std::sync::Arc;

type Shared = State<Arc<Daemon>>;

pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/hosts", get(hosts))
        .route("/v1/hosts/beat", post(beat))
        .route("/v1/hosts/lease", delete(end))
        .route("/v1/tokens", get(tokens).post(create))
        .route("/v1/tokens/{name}", delete(revoke))
}

async fn hosts(State(d): Shared) -> Outcome<Json<Vec<HostInfo>>> {
    blocking(d, |d| d.hosts()).await
}

/// That it came was enough: the lease is renewed. It takes no thread, so it waits for none.
async fn beat(State(d): Shared) -> Outcome<Json<Beat>> {
    let _counted = Counted::new(d);
    let term = leases::term().as_secs().max(1);
    Ok(Json(Beat { term }))
}

async fn end(State(d): Shared, Extension(peer): Extension<Peer>) -> Outcome<Json<()>> {
    blocking(d, move |d| {
        if let Some(lease) = peer.lease() {
            d.end_lease(lease);
        }
        Ok(())
    })
    .await
}

async fn tokens(State(d): Shared) -> Outcome<Json<Vec<TokenInfo>>> {
    blocking(d, |d| d.tokens()).await
}

async fn create(State(d): Shared, Json(new): Json<NewToken>) -> Outcome<Json<TokenMade>> {
    blocking(d, move |d| d.create_token(&new)).await
}

async fn revoke(State(d): Shared, Path(name): Path<String>) -> Outcome<Json<()>> {
    blocking(d, move |d| d.revoke_token(&name)).await
}
