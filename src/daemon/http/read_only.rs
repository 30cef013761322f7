//! What a server that runs with `--read-only` refuses on the control socket.

use crate::daemon::fail::Fail;
use crate::daemon::state::Daemon;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Calls that change nothing in the store's trees, whatever their method.
fn harmless(method: &Method, path: &str) -> bool {
    method == Method::GET
        || matches!(path, "/v1/stop" | "/v1/mounts" | "/v1/mounts/remove")
        || path.starts_with("/v1/snapshots/")
}

pub async fn refuse_changes(
    State(daemon): State<Arc<Daemon>>,
    request: Request,
    next: Next,
) -> Response {
    if daemon.options.read_only && !harmless(request.method(), request.uri().path()) {
        return Fail::forbidden("the server is read-only")
            .hint("it was started with `pocker serve --read-only`")
            .into_response();
    }
    next.run(request).await
}
