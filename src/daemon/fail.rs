//! An API call's failure: a status and what a person reads.

use crate::control::api::ApiError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pocker_store::types::Errno;
use pocker_store::{IngestError, StoreError};

/// Why a call failed.
#[derive(Debug)]
pub struct Fail {
    status: StatusCode,
    error: ApiError,
}

pub type Outcome<T> = Result<T, Fail>;

impl Fail {
    fn new(status: StatusCode, message: impl Into<String>) -> Fail {
        Fail {
            status,
            error: ApiError {
                message: message.into(),
                hint: None,
                status: status.as_u16(),
            },
        }
    }

    /// What was asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::NOT_FOUND, message)
    }

    /// The request itself cannot be right.
    pub fn forbidden(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::FORBIDDEN, message)
    }

    /// It was there, and is over for good.
    pub fn gone(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::GONE, message)
    }

    /// Whoever asks has not shown that they may.
    pub fn unauthorized(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::UNAUTHORIZED, message)
    }

    pub fn bad(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::BAD_REQUEST, message)
    }

    /// A disk or another machine has not answered yet.
    pub fn late(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::GATEWAY_TIMEOUT, message)
    }

    pub fn is_late(&self) -> bool {
        self.status == StatusCode::GATEWAY_TIMEOUT
    }

    /// More of it than one may have at once.
    pub fn too_many(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::TOO_MANY_REQUESTS, message)
    }

    /// Right, but not now: something is in use.
    pub fn busy(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::CONFLICT, message)
    }

    /// The store or the host failed; causes are joined into one line.
    pub fn internal(tried: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Fail {
        let mut message = tried.into();
        let mut hint = None;
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            if no_room(cause) {
                hint = Some(ROOM.to_string());
            } else if matches!(cause.downcast_ref(), Some(Errno::DQuot)) {
                hint = Some("the run's --disk or --inodes is used up".to_string());
            }
            next = cause.source();
        }
        tracing::error!("{message}");
        let mut fail = Fail::new(StatusCode::INTERNAL_SERVER_ERROR, message);
        fail.error.hint = hint;
        fail
    }

    /// The care of the store failed: one of its kinds runs at a time.
    pub fn caring(tried: impl Into<String>, error: StoreError) -> Fail {
        match error {
            StoreError::Collecting => {
                Fail::busy("a collection, a check or a backup is under way already")
                    .hint("try again when it has ended")
            }
            e => Fail::internal(tried, &e),
        }
    }

    pub fn message(&self) -> &str {
        &self.error.message
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Fail {
        self.error.hint = Some(hint.into());
        self
    }
}

/// What gives room back on a full disk.
const ROOM: &str = "free space on the store's file system: `pocker reset NAME` drops kept trees, `pocker rm NAME` and `pocker gc` what is not needed";

fn no_room(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Full { .. }))
        || matches!(
            error.downcast_ref(),
            Some(IngestError::Store(StoreError::Full { .. }))
        )
        || matches!(error.downcast_ref(), Some(Errno::NoSpc))
        || error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull)
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn care_beside_care_is_busy_and_no_fault() {
        let busy = Fail::caring("cannot pack", StoreError::Collecting);
        assert_eq!(busy.status, StatusCode::CONFLICT);
        assert!(busy.error.hint.is_some());
        let failed = Fail::caring("cannot pack", StoreError::Stopped);
        assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(failed.error.message.starts_with("cannot pack: "));
    }
}
