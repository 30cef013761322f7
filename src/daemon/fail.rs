//! An API call's failure: a status and what a person reads.

use crate::control::api::ApiError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

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
            },
        }
    }

    /// What was asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::NOT_FOUND, message)
    }

    /// The request itself cannot be right.
    pub fn bad(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::BAD_REQUEST, message)
    }

    /// Right, but not now: something is in use.
    pub fn busy(message: impl Into<String>) -> Fail {
        Fail::new(StatusCode::CONFLICT, message)
    }

    /// The store or the host failed; causes are joined into one line.
    pub fn internal(tried: impl Into<String>, error: &dyn std::error::Error) -> Fail {
        let mut message = tried.into();
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            next = cause.source();
        }
        tracing::error!("{message}");
        Fail::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Fail {
        self.error.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}
