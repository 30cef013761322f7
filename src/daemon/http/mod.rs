//! The control API: routes, and how a call reaches the synchronous daemon.

mod archives;
mod hosts;
mod layers;
mod look;
pub mod metrics;
mod peer;
mod read_only;
mod request;
mod roles;
mod routes;
mod sync;
mod transfers;
mod volumes;

use super::fail::{Fail, Outcome};
use super::state::Daemon;
use axum::Json;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use peer::{Outside, Peer};
pub use routes::router;
pub use transfers::{Crowds, STALLED};

/// Largest JSON body: a build with thousands of steps stays far below.
const BODY_MAX: usize = 4 << 20;

/// Runs a call on the blocking pool: the store is synchronous.
async fn blocking<T, F>(daemon: Arc<Daemon>, call: F) -> Outcome<Json<T>>
where
    T: Serialize + Send + 'static,
    F: FnOnce(&Daemon) -> Outcome<T> + Send + 'static,
{
    let counted = Counted::new(daemon.clone());
    let place = transfers::place().await?;
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || {
        let _held = (counted, place);
        span.in_scope(|| call(&daemon))
    })
    .await;
    match done {
        Ok(outcome) => outcome.map(Json),
        Err(e) => Err(Fail::internal("the call ended in the middle", &e)),
    }
}

/// Counts a call while it runs, so that an idle server is told from a busy one.
struct Counted(Arc<Daemon>);

impl Counted {
    fn new(daemon: Arc<Daemon>) -> Counted {
        daemon.calls.fetch_add(1, Ordering::Relaxed);
        daemon.touch();
        Counted(daemon)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.touch();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}
