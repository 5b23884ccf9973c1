//! Why the API server does not do what it is asked.

use serde_json::{Value, json};

/// A refusal, which becomes a `Status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refusal {
    fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            409 => "Conflict",
            410 => "Expired",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        };
        let message = message.into();
        Self {
            code,
            reason,
            message,
        }
    }

    /// One of any code, as a test wants it.
    pub(super) fn wanted(code: u16) -> Self {
        Self::new(code, "refused, as the test wants it")
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    pub(super) fn method_not_allowed(method: &http::Method) -> Self {
        Self::new(405, format!("{method} is not supported here"))
    }

    pub(super) fn already_exists(message: impl Into<String>) -> Self {
        Self {
            reason: "AlreadyExists",
            ..Self::new(409, message)
        }
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }

    pub(super) fn expired() -> Self {
        Self::new(410, "too old resource version")
    }

    pub(super) fn unsupported(content_type: &str) -> Self {
        Self::new(415, format!("patches of type {content_type:?} are not played"))
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, message)
    }

    pub(super) fn status(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
        })
    }
}
