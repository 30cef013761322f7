//! Threads that calls of other hosts hold, each from its body's coming to its end: an address has so many at
//! once, and its next call waits for one a while. Who hangs up frees none: the thread goes on.
//!
//! What is long, as it streams or looks through very much, has places of its own and not for ever: what is not
//! read is given up by the connection (`outside`), what does not come here.

use crate::daemon::crowd::{Crowd, Place};
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::state::Daemon;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::Response;
use hyper::body::{Frame, SizeHint};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

/// Transfers under way: of all other hosts, half of the threads that wait for disks and bodies; and of one address.
const ALL: usize = 256;
const OF_ONE: usize = 32;
/// Other calls under way, of all and of one address.
const CALLS: usize = 128;
const CALLS_OF_ONE: usize = 32;
/// How long a call waits for a place.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 10_000 });
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
    "/v1/sync/{session}/fetch",
    "/v1/sync/{session}/lacks",
    "/v1/sync/{session}/objects",
    "/v1/sync/{session}/finish",
];

/// Who has how many places.
pub struct Crowds {
    pub transfers: Arc<Crowd>,
    pub calls: Arc<Crowd>,
}

impl Default for Crowds {
    fn default() -> Crowds {
        Crowds {
            transfers: Crowd::new(ALL, OF_ONE),
            calls: Crowd::new(CALLS, CALLS_OF_ONE),
        }
    }
}

tokio::task_local! {
    /// The call of another host that a task answers.
    static SEAT: Arc<Seat>;
}

struct Seat {
    crowd: Arc<Crowd>,
    from: IpAddr,
    long: bool,
    place: OnceLock<Arc<Place>>,
}

/// Answers a call of another host: threads that it asks for are counted.
pub async fn of(
    daemon: &Daemon,
    route: &str,
    from: IpAddr,
    answer: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    let long = ROUTES.contains(&route);
    let crowd = match long {
        true => &daemon.crowds.transfers,
        false => &daemon.crowds.calls,
    };
    let seat = Arc::new(Seat {
        crowd: crowd.clone(),
        from,
        long,
        place: OnceLock::new(),
    });
    let response = SEAT.scope(seat.clone(), answer).await;
    match seat.place.get() {
        // Until the answer has been read, or nobody reads it any more.
        Some(place) if long => response.map(|body| {
            Body::new(Held {
                body,
                _place: place.clone(),
            })
        }),
        _ => response,
    }
}

/// The place of this task's call, for its thread to hold to its end; none where this host asks.
pub async fn place() -> Outcome<Option<Arc<Place>>> {
    let Ok(seat) = SEAT.try_with(Arc::clone) else {
        return Ok(None);
    };
    if let Some(place) = seat.place.get() {
        return Ok(Some(place.clone()));
    }
    match tokio::time::timeout(PATIENCE, seat.crowd.wait(seat.from)).await {
        Ok(place) => Ok(Some(seat.place.get_or_init(|| Arc::new(place)).clone())),
        Err(_) => Err(seat.full()),
    }
}

impl Seat {
    fn full(&self) -> Fail {
        let (what, of_one, all) = match self.long {
            true => ("archives, files and syncs", OF_ONE, ALL),
            false => ("calls", CALLS_OF_ONE, CALLS),
        };
        Fail::too_many(format!(
            "{of_one} {what} from or to {}, or {all} of all hosts, are under way",
            self.from
        ))
        .hint("try again when some have ended")
    }
}

struct Held {
    body: Body,
    _place: Arc<Place>,
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
