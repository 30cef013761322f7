//! What a server that runs with `--read-only` refuses on the control socket.

use crate::daemon::fail::Fail;
use crate::daemon::state::Daemon;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Calls that change nothing in the store's trees, whatever their method.
fn harmless(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    let asks = |what| {
        uri.query()
            .is_some_and(|q| q.split('&').any(|part| part == what))
    };
    match path {
        _ if method == Method::GET => true,
        "/v1/hosts/beat" | "/v1/hosts/lease" => true,
        "/v1/stop" | "/v1/mounts" | "/v1/mounts/remove" | "/v1/store/backup" => true,
        "/v1/gc" => asks("dry_run=true"),
        "/v1/fsck" => !asks("repair=true"),
        // Refused there where it is for writing.
        _ if path.starts_with("/v1/volumes/") => method == Method::POST && path.ends_with("/mount"),
        _ => path.starts_with("/v1/snapshots/") || sends(path),
    }
}

/// Of `pocker sync` what only reads; a session that receives cannot begin.
fn sends(path: &str) -> bool {
    path.starts_with("/v1/sync/") && path != "/v1/sync/receive"
}

/// What of it can be had, if something can.
fn instead(path: &str) -> &'static str {
    match path {
        "/v1/gc" => "`pocker gc --dry-run` says what would go; to free it",
        "/v1/fsck" => "`pocker fsck` without --repair says what is wrong; to repair it",
        _ if path.ends_with("/mount") => {
            "`pocker mount --volume NAME:ro DIR` mounts it; to write there"
        }
        "/v1/trees" => "`pocker mount` without --rw mounts a step; for builds and writable clones",
        _ => "for changes",
    }
}

pub fn refused(path: &str) -> Fail {
    Fail::forbidden("the server is read-only: it was started with `pocker serve --read-only`").hint(
        format!(
            "{}, stop it (`pocker serve --stop`) and start it without --read-only",
            instead(path)
        ),
    )
}

pub async fn refuse_changes(
    State(daemon): State<Arc<Daemon>>,
    request: Request,
    next: Next,
) -> Response {
    if daemon.options.read_only && !harmless(request.method(), request.uri()) {
        return refused(request.uri().path()).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_is_let_through() {
        let may = |method: &str, uri: &str| {
            let method = method.parse().expect("a method");
            harmless(&method, &uri.parse().expect("a URI"))
        };
        for (method, uri) in [
            ("GET", "/v1/pockers"),
            ("POST", "/v1/gc?dry_run=true&keep=2"),
            ("POST", "/v1/fsck?repair=false"),
            ("POST", "/v1/fsck"),
            ("POST", "/v1/volumes/data/mount"),
            ("POST", "/v1/snapshots/00/file"),
            ("POST", "/v1/store/backup"),
            ("POST", "/v1/hosts/beat"),
            ("DELETE", "/v1/hosts/lease"),
        ] {
            assert!(may(method, uri), "{method} {uri}");
        }
        for (method, uri) in [
            ("POST", "/v1/gc?dry_run=false"),
            ("POST", "/v1/gc"),
            ("POST", "/v1/gc?keep=2&dry_run=false"),
            ("POST", "/v1/fsck?repair=true"),
            ("PUT", "/v1/volumes/data"),
            ("DELETE", "/v1/volumes/mount"),
            ("POST", "/v1/trees"),
            ("POST", "/v1/runs"),
            ("POST", "/v1/pins"),
            ("DELETE", "/v1/pins/00"),
            ("DELETE", "/v1/pockers/box"),
        ] {
            assert!(!may(method, uri), "{method} {uri}");
        }
    }
}
