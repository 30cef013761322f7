//! Bodies that are long: each holds a thread while it lasts, so another host has only so many at once,
//! and not for ever. What is not read is given up by the connection (`outside`), what does not come here.

use crate::daemon::crowd::{Crowd, Place};
use crate::daemon::fail::{Fail, Outcome};
use axum::body::{Body, Bytes, HttpBody};
use axum::http::Response;
use hyper::body::{Frame, SizeHint};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Transfers under way: of all other hosts, half of the threads that wait for disks and bodies; and of one address.
const ALL: usize = 256;
const OF_ONE: usize = 32;
/// Without a byte for so long another host's transfer is given up.
pub const STALLED: Duration = Duration::from_secs(5 * 60);

const ROUTES: &[&str] = &[
    "/v1/archive",
    "/v1/layers",
    "/v1/trees/{id}/archive",
    "/v1/snapshots/{digest}/tar",
    "/v1/look/{tree}/list",
    "/v1/look/{tree}/file",
    "/v1/look/{tree}/tar",
    "/v1/look/{tree}/diff",
];

pub fn crowd() -> Arc<Crowd> {
    Crowd::new(ALL, OF_ONE)
}

/// A place for a transfer; nothing for a route that has none.
pub fn admit(crowd: &Arc<Crowd>, route: &str, from: IpAddr) -> Outcome<Option<Place>> {
    if !ROUTES.contains(&route) {
        return Ok(None);
    }
    match crowd.admit(from) {
        Some(place) => Ok(Some(place)),
        None => Err(Fail::too_many(format!(
            "{OF_ONE} archives and files from or to {from}, or {ALL} of all hosts, are under way"
        ))
        .hint("try again when some have ended")),
    }
}

/// The place is taken until the answer has been read, or nobody reads it any more.
pub fn hold(response: Response<Body>, place: Option<Place>) -> Response<Body> {
    match place {
        None => response,
        Some(place) => response.map(|body| {
            Body::new(Held {
                body,
                _place: place,
            })
        }),
    }
}

struct Held {
    body: Body,
    _place: Place,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
