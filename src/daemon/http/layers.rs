//! `/v1/layers/{tree}`: what is noted of layers.

use super::blocking;
use crate::control::images::Noted;
use crate::daemon::fail::Outcome;
use crate::daemon::layers::Of;
use crate::daemon::state::Daemon;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

pub fn router() -> Router<Arc<Daemon>> {
    Router::new().route("/v1/layers/{tree}", get(noted).put(note))
}

async fn noted(
    State(d): State<Arc<Daemon>>,
    Path(tree): Path<String>,
    Query(of): Query<Of>,
) -> Outcome<Json<Option<Noted>>> {
    blocking(d, move |d| d.noted_layer(&tree, &of)).await
}

async fn note(
    State(d): State<Arc<Daemon>>,
    Path(tree): Path<String>,
    Query(of): Query<Of>,
    Json(said): Json<Noted>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| d.note_layer(&tree, &of, &said)).await
}
