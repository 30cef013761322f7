//! `/v1`: one line a route, each a typed call of the daemon.

use super::read_only::refuse_changes;
use super::roles::authorise;
use super::{BODY_MAX, Peer, archives, blocking, look, metrics, request};
use crate::control::api::*;
use crate::control::looking::DiffPage;
use crate::daemon::bounds;
use crate::daemon::claims::Asked;
use crate::daemon::docs::{self, Owner};
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::leases::Full;
use crate::daemon::state::{Daemon, digest};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Shared = State<Arc<Daemon>>;
type From = Extension<Peer>;

/// How long a claim call waits for another builder before it answers "busy".
const CLAIM_WAIT: Duration = Duration::from_secs(1);

pub fn router(daemon: Arc<Daemon>) -> Router {
    let archives = Router::new()
        .route("/v1/archive", put(archives::ingest))
        .route("/v1/layers", put(archives::layers))
        .route("/v1/trees/{id}/archive", put(archives::apply))
        .layer(DefaultBodyLimit::disable());
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/stats", get(stats))
        .route("/metrics", get(metrics::all))
        .route("/v1/steps/{key}", get(step).put(put_step))
        .route("/v1/steps/{key}/claim", post(claim))
        .route("/v1/claims/{id}", delete(release))
        .route("/v1/trees", post(new_tree))
        .route("/v1/trees/{id}", delete(drop_tree))
        .route("/v1/trees/{id}/seal", post(seal))
        .route("/v1/trees/{id}/keep/{name}", post(keep))
        .route("/v1/pockers", get(pockers))
        .route(
            "/v1/pockers/{name}",
            get(pocker).put(put_pocker).delete(remove_pocker),
        )
        .route("/v1/pockers/{name}/debug", get(debug_tree))
        .route("/v1/pockers/{name}/reset", post(reset))
        .route("/v1/pockers/{name}/steps/{key}/export", get(step_export))
        .route("/v1/runs", post(new_run))
        .route("/v1/runs/{id}", delete(end_run))
        .route("/v1/services", get(services))
        .route(
            "/v1/services/{name}",
            put(put_service).delete(remove_service),
        )
        .route("/v1/mounts", get(mounts).post(add_mount))
        .route("/v1/mounts/remove", post(remove_mount))
        .route("/v1/snapshots/{digest}/tar", get(archives::tar))
        .route("/v1/snapshots/{digest}/file", post(file_of))
        .route("/v1/snapshots/{digest}/is-dir", post(is_dir))
        .route("/v1/diff/{old}/{new}", get(diff))
        .route("/v1/pins", get(pins).post(pin))
        .route("/v1/pins/{key}", delete(unpin))
        .route("/v1/gc", post(gc))
        .route("/v1/fsck", post(fsck))
        .route("/v1/store/backup", post(backup))
        .route("/v1/stop", post(stop))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .merge(archives)
        .merge(super::sync::router())
        .merge(super::volumes::router())
        .merge(look::router())
        .merge(super::layers::router())
        .merge(super::hosts::router())
        .layer(from_fn_with_state(daemon.clone(), refuse_changes))
        .layer(from_fn_with_state(daemon.clone(), authorise))
        .layer(from_fn(request::number))
        .with_state(daemon)
}

async fn status(State(d): Shared, Extension(peer): From) -> Outcome<Json<Status>> {
    blocking(d, move |d| {
        Ok(Status {
            sees_mounts: peer.mounts_are_seen(),
            ..d.status()?
        })
    })
    .await
}

async fn stats(State(d): Shared) -> Outcome<Json<Stats>> {
    blocking(d, |d| d.stats()).await
}

/// Who looks for a step in order to build on it.
#[derive(Deserialize)]
struct Builder {
    pid: Option<u32>,
}

async fn step(
    State(d): Shared,
    Extension(peer): From,
    Path(key): Path<String>,
    Query(q): Query<Builder>,
) -> Outcome<Json<StepInfo>> {
    blocking(d, move |d| {
        if let Some(pid) = q.pid {
            d.builder(peer.owner(pid));
        }
        d.step(&key)
    })
    .await
}

async fn put_step(
    State(d): Shared,
    Path(key): Path<String>,
    Json(put): Json<PutStep>,
) -> Outcome<Json<StepInfo>> {
    blocking(d, move |d| d.put_step(&key, &put)).await
}

async fn claim(
    State(d): Shared,
    Extension(peer): From,
    Path(key): Path<String>,
    Json(request): Json<ClaimRequest>,
) -> Outcome<Json<ClaimReply>> {
    blocking(d, move |d| {
        let owner = peer.owner(request.pid);
        let digest = digest(&key)?;
        d.builder(owner);
        let deadline = Instant::now() + CLAIM_WAIT;
        loop {
            if !request.rebuild
                && let Some(done) = d.found(&digest)?
            {
                return Ok(ClaimReply::Done(d.step_info(&done)?));
            }
            match d.claims.ask(&key, owner, request.rebuild, Owner::lives) {
                Asked::Yours(claim) => return Ok(ClaimReply::Yours { claim }),
                Asked::Taken(Owner { pid, .. }) if Instant::now() >= deadline => {
                    return Ok(ClaimReply::Busy { pid });
                }
                Asked::Full(Full::Token) => {
                    let who = "this host, with others of its token, builds very many steps already";
                    return Err(Fail::too_many(who).hint("wait for some of them to end"));
                }
                Asked::Full(Full::Place) => {
                    let who = "the hosts at this address build very many steps already";
                    return Err(Fail::too_many(who).hint(bounds::THERE));
                }
                Asked::Taken(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    })
    .await
}

async fn release(
    State(d): Shared,
    Extension(peer): From,
    Path(id): Path<u64>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| {
        if let Some(owner) = d.claims.owner(id) {
            peer.may_touch(&owner)?;
        }
        d.claims.release(id);
        Ok(())
    })
    .await
}

async fn new_tree(
    State(d): Shared,
    Extension(peer): From,
    Json(new): Json<NewTree>,
) -> Outcome<Json<TreeInfo>> {
    blocking(d, move |d| {
        if new.purpose != Purpose::Mount {
            peer.may_build()?;
        }
        d.new_tree(&new, peer.owner(new.pid))
    })
    .await
}

/// Refuses who must leave another host's tree alone.
pub fn own_tree(d: &Daemon, peer: Peer, id: u64) -> Outcome<()> {
    if peer.host().is_none() {
        return Ok(());
    }
    let read = |e| Fail::internal("cannot read whose tree that is", &e);
    let key = id.to_be_bytes();
    let tree = docs::get::<docs::TreeDoc>(&d.store, &key).map_err(read)?;
    let run = docs::get::<docs::RunDoc>(&d.store, &key).map_err(read)?;
    match tree.map(|t| t.owner).or(run.map(|r| r.owner)) {
        Some(owner) => peer.may_touch(&owner),
        // Just made, and about to be recorded for somebody.
        None if d.works.get(id).is_ok() => Err(Fail::forbidden("another host has that")
            .hint("ask there, or with a token of role admin")),
        // There is none: what is asked for says so.
        None => Ok(()),
    }
}

/// A number that no tree has yet may be another host's tomorrow, and a mount's end drops its tree.
fn known_tree(d: &Daemon, peer: Peer, id: u64) -> Outcome<()> {
    let read = |e| Fail::internal("cannot read whose tree that is", &e);
    let tree = docs::get::<docs::TreeDoc>(&d.store, &id.to_be_bytes()).map_err(read)?;
    match tree {
        None if peer.host().is_some() => Err(Fail::not_found("there is no such tree".to_owned())
            .hint("only a tree that this host was given can be recorded as mounted")),
        _ => Ok(()),
    }
}

async fn drop_tree(
    State(d): Shared,
    Extension(peer): From,
    Path(id): Path<u64>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| {
        own_tree(d, peer, id)?;
        d.drop_tree(id)
    })
    .await
}

async fn seal(
    State(d): Shared,
    Extension(peer): From,
    Path(id): Path<u64>,
    Json(request): Json<SealRequest>,
) -> Outcome<Json<StepInfo>> {
    blocking(d, move |d| {
        own_tree(d, peer, id)?;
        d.seal(id, &request)
    })
    .await
}

async fn keep(
    State(d): Shared,
    Extension(peer): From,
    Path((id, name)): Path<(u64, String)>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| {
        own_tree(d, peer, id)?;
        d.keep_tree(id, &name)
    })
    .await
}

async fn pockers(State(d): Shared) -> Outcome<Json<Vec<PockerInfo>>> {
    blocking(d, |d| d.pockers()).await
}

async fn pocker(State(d): Shared, Path(name): Path<String>) -> Outcome<Json<PockerInfo>> {
    blocking(d, move |d| d.known_pocker(&name)).await
}

async fn put_pocker(
    State(d): Shared,
    Path(name): Path<String>,
    Json(put): Json<PutPocker>,
) -> Outcome<Json<PockerInfo>> {
    blocking(d, move |d| d.put_pocker(&name, &put)).await
}

#[derive(Deserialize)]
struct Force {
    #[serde(default)]
    force: bool,
}

async fn remove_pocker(
    State(d): Shared,
    Extension(peer): From,
    Path(name): Path<String>,
    Query(q): Query<Force>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| d.remove_pocker(&name, q.force, peer.asks())).await
}

async fn debug_tree(
    State(d): Shared,
    Extension(peer): From,
    Path(name): Path<String>,
) -> Outcome<Json<TreeInfo>> {
    blocking(d, move |d| d.debug_tree(&name, peer.asks())).await
}

async fn reset(
    State(d): Shared,
    Extension(peer): From,
    Path(name): Path<String>,
) -> Outcome<Json<u64>> {
    blocking(d, move |d| d.reset(&name, peer.asks())).await
}

async fn step_export(
    State(d): Shared,
    Path((name, key)): Path<(String, String)>,
) -> Outcome<Json<Export>> {
    blocking(d, move |d| {
        let path = d.exports.step_path(&name, &key);
        let path =
            path.ok_or_else(|| Fail::not_found(format!("{name} has no step {key} to show")))?;
        Ok(Export {
            path,
            read_only: true,
        })
    })
    .await
}

async fn new_run(
    State(d): Shared,
    Extension(peer): From,
    Json(new): Json<NewRun>,
) -> Outcome<Json<RunInfo>> {
    blocking(d, move |d| {
        if !new.volumes.is_empty() || new.kept.is_some() {
            peer.is_numbered_here()?;
        }
        d.start_run(&new, peer.owner(new.pid))
    })
    .await
}

async fn end_run(
    State(d): Shared,
    Extension(peer): From,
    Path(id): Path<u64>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| {
        own_tree(d, peer, id)?;
        d.end_run(id)
    })
    .await
}

async fn services(State(d): Shared, Extension(peer): From) -> Outcome<Json<Vec<Service>>> {
    blocking(d, move |d| d.services(peer.host())).await
}

async fn put_service(
    State(d): Shared,
    Extension(peer): From,
    Path(name): Path<String>,
    Json(record): Json<serde_json::Value>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| d.put_service(peer.host(), &name, record)).await
}

async fn remove_service(
    State(d): Shared,
    Extension(peer): From,
    Path(name): Path<String>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| d.remove_service(peer.host(), &name)).await
}

async fn mounts(State(d): Shared, Extension(peer): From) -> Outcome<Json<Vec<MountRecord>>> {
    blocking(d, move |d| d.mounts_of(peer.host())).await
}

async fn add_mount(
    State(d): Shared,
    Extension(peer): From,
    Json(mount): Json<MountRecord>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| {
        peer.mounts_here()?;
        if let Some(tree) = mount.tree {
            own_tree(d, peer, tree)?;
            known_tree(d, peer, tree)?;
        }
        d.add_mount(&mount, peer.lease().map(Owner::afar))
    })
    .await
}

async fn remove_mount(
    State(d): Shared,
    Extension(peer): From,
    Json(target): Json<String>,
) -> Outcome<Json<()>> {
    blocking(d, move |d| {
        peer.mounts_here()?;
        d.remove_mount(peer.host(), &target)
    })
    .await
}

async fn file_of(
    State(d): Shared,
    Path(snapshot): Path<String>,
    Json(path): Json<String>,
) -> Outcome<Json<Option<Vec<u8>>>> {
    blocking(d, move |d| d.file_of(&snapshot, path.as_bytes())).await
}

#[derive(Deserialize)]
struct Skip {
    #[serde(default)]
    skip: usize,
}

async fn diff(
    State(d): Shared,
    Path((old, new)): Path<(String, String)>,
    Query(q): Query<Skip>,
) -> Outcome<Json<DiffPage>> {
    blocking(d, move |d| d.diff(&old, &new, q.skip)).await
}

async fn is_dir(
    State(d): Shared,
    Path(snapshot): Path<String>,
    Json(path): Json<String>,
) -> Outcome<Json<bool>> {
    blocking(d, move |d| d.is_dir(&snapshot, path.as_bytes())).await
}

async fn gc(State(d): Shared, Query(q): Query<GcRequest>) -> Outcome<Json<GcDone>> {
    blocking(d, move |d| d.gc(&q)).await
}

async fn pins(State(d): Shared) -> Outcome<Json<Vec<PinInfo>>> {
    blocking(d, |d| d.pins()).await
}

async fn pin(State(d): Shared, Json(new): Json<NewPin>) -> Outcome<Json<PinInfo>> {
    blocking(d, move |d| d.pin(&new)).await
}

async fn unpin(State(d): Shared, Path(key): Path<String>) -> Outcome<Json<()>> {
    blocking(d, move |d| d.unpin(&key)).await
}

#[derive(Deserialize)]
struct Repair {
    #[serde(default)]
    repair: bool,
}

async fn fsck(State(d): Shared, Query(q): Query<Repair>) -> Outcome<Json<FsckDone>> {
    blocking(d, move |d| d.fsck(q.repair)).await
}

async fn backup(State(d): Shared, Json(dir): Json<String>) -> Outcome<Json<BackupDone>> {
    blocking(d, move |d| d.backup(&dir)).await
}

async fn stop(State(d): Shared) -> Outcome<Json<Stopped>> {
    blocking(d, |d| d.stop_everything()).await
}
