//! Volumes and their snapshots, a line a route.

use super::read_only::refused;
use super::{Peer, blocking};
use crate::control::api::*;
use crate::control::volumes::{Moment, NewSnapshot, RollBack, SnapshotInfo};
use crate::daemon::fail::Outcome;
use crate::daemon::state::Daemon;
use axum::extract::{Path, Query, State};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use std::sync::Arc;

type Shared = State<Arc<Daemon>>;
type From = Extension<Peer>;

pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/volumes", get(volumes))
        .route("/v1/volumes/{name}", put(new_volume).delete(remove_volume))
        .route("/v1/volumes/{name}/mount", post(mount_volume))
        .route("/v1/volumes/{name}/moment", post(moment))
        .route(
            "/v1/volumes/{name}/snapshots",
            get(snapshots).post(new_snapshot),
        )
        .route(
            "/v1/volumes/{name}/snapshots/{snapshot}",
            delete(remove_snapshot),
        )
        .route(
            "/v1/volumes/{name}/snapshots/{snapshot}/rollback",
            post(roll_back),
        )
}

async fn volumes(State(d): Shared) -> Outcome<Json<Vec<VolumeInfo>>> {
    blocking(d, |d| d.volumes()).await
}

async fn new_volume(
    State(d): Shared,
    Path(name): Path<String>,
    Json(new): Json<NewVolume>,
) -> Outcome<Json<VolumeInfo>> {
    blocking(d, move |d| d.create_volume(&name, &new)).await
}

#[derive(Deserialize)]
struct Remove {
    #[serde(default)]
    snapshots: bool,
}

async fn remove_volume(
    State(d): Shared,
    Path(name): Path<String>,
    Query(q): Query<Remove>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| d.remove_volume(&name, q.snapshots)).await
}

async fn mount_volume(
    State(d): Shared,
    Extension(peer): From,
    Path(name): Path<String>,
    Json(how): Json<MountVolume>,
) -> Outcome<Json<Export>> {
    blocking(d, move |d| {
        if how.target.is_some() {
            peer.mounts_here()?;
            peer.is_numbered_here()?;
        }
        if d.options.read_only && !how.read_only {
            return Err(refused("/v1/volumes/mount"));
        }
        d.mount_volume(&name, &how, peer.owner(how.pid))
    })
    .await
}

async fn snapshots(State(d): Shared, Path(name): Path<String>) -> Outcome<Json<Vec<SnapshotInfo>>> {
    blocking(d, move |d| d.snapshots(&name)).await
}

async fn new_snapshot(
    State(d): Shared,
    Path(name): Path<String>,
    Json(new): Json<NewSnapshot>,
) -> Outcome<Json<SnapshotInfo>> {
    blocking(d, move |d| d.new_snapshot(&name, &new)).await
}

#[derive(Deserialize)]
struct Which {
    id: Option<String>,
}

async fn remove_snapshot(
    State(d): Shared,
    Path((name, snapshot)): Path<(String, String)>,
    Query(q): Query<Which>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| {
        d.remove_snapshot(&name, &snapshot, q.id.as_deref())
    })
    .await
}

async fn roll_back(
    State(d): Shared,
    Path((name, snapshot)): Path<(String, String)>,
    Json(call): Json<RollBack>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| d.roll_back(&name, &snapshot, &call.token)).await
}

async fn moment(State(d): Shared, Path(name): Path<String>) -> Outcome<Json<Moment>> {
    blocking(d, move |d| d.moment(&name)).await
}
