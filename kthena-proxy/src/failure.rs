//! One classification for everything that can go wrong with a request.
//!
//! [`Kind`] alone knows the HTTP status, the public error type and code, the metric label and the access log's type; everything
//! else only renders it.

use std::fmt;

use bytes::Bytes;

use crate::openai::Operation;
use crate::openai::error::{self, Message};

/// Why a request failed.
#[derive(Debug)]
pub struct Failure {
    /// The class.
    pub kind: Kind,
    /// What to tell the client.
    pub message: String,
    /// The cause, for the log alone.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The classes of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The path is not served.
    NotFound,
    /// The body is no JSON object, or no form.
    Parse,
    /// The body is larger than this proxy takes.
    TooLarge,
    /// The client did not send its body in time.
    BodyTimeout,
    /// The body names no model.
    ModelMissing,
    /// No route serves the model.
    RouteNotFound,
    /// The route leads to a ModelServer that does not exist.
    ServerMissing,
    /// The ModelServer has no ready engine.
    NoEngine,
    /// The ModelServer has no prefill and decode engine that belong together.
    NoPair,
    /// The route leads to an external provider, which this version cannot reach.
    Provider,
    /// No engine could be reached.
    Connect,
    /// An engine did not answer in time.
    Timeout,
    /// An engine closed the connection before it answered.
    Closed,
    /// An engine's answer is no HTTP.
    BadAnswer,
    /// An engine was lost while its answer was being passed on.
    Lost,
    /// The client went away.
    ClientGone,
    /// A bug.
    Internal,
}

impl Kind {
    /// The HTTP status. For [`Kind::ClientGone`] the one that logs use, since nobody receives it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Parse | Self::ModelMissing => 400,
            Self::NotFound | Self::RouteNotFound | Self::ServerMissing => 404,
            Self::BodyTimeout => 408,
            Self::TooLarge => 413,
            Self::ClientGone => 499,
            Self::Internal => 500,
            Self::Provider => 501,
            Self::BadAnswer | Self::Lost => 502,
            Self::NoEngine | Self::NoPair | Self::Connect | Self::Closed => 503,
            Self::Timeout => 504,
        }
    }

    /// The `error_type` label of `kthena_router_requests_total`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Parse | Self::ModelMissing | Self::TooLarge | Self::BodyTimeout => "request_parsing",
            Self::NotFound | Self::RouteNotFound => "route_not_found",
            Self::ServerMissing | Self::NoEngine => "pod_discovery",
            Self::NoPair => "scheduling",
            Self::Provider => "provider_config",
            Self::Connect | Self::Timeout | Self::Closed | Self::BadAnswer => "proxy",
            Self::Lost => "response_forwarding",
            Self::ClientGone => "client_disconnected",
            Self::Internal => "request_failed",
        }
    }

    /// OpenAI's error type.
    #[must_use]
    pub const fn openai_type(self) -> &'static str {
        match self {
            Self::Parse | Self::ModelMissing | Self::TooLarge | Self::BodyTimeout | Self::NotFound => {
                "invalid_request_error"
            }
            Self::RouteNotFound | Self::ServerMissing => "not_found_error",
            Self::Internal => "internal_error",
            _ => "service_unavailable_error",
        }
    }

    /// OpenAI's error code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotFound => "unknown_url",
            Self::Parse => "invalid_body",
            Self::TooLarge => "request_too_large",
            Self::BodyTimeout => "request_timeout",
            Self::ModelMissing => "missing_required_parameter",
            Self::RouteNotFound => "model_not_found",
            Self::ServerMissing => "model_server_not_found",
            Self::NoEngine => "no_available_pods",
            Self::NoPair => "no_prefill_decode_pair",
            Self::Provider => "provider_unsupported",
            Self::Connect => "upstream_unreachable",
            Self::Timeout => "upstream_timeout",
            Self::Closed => "upstream_closed",
            Self::BadAnswer => "upstream_invalid_response",
            Self::Lost => "upstream_lost",
            Self::ClientGone => "client_closed_request",
            Self::Internal => "internal_error",
        }
    }

    const fn param(self) -> Option<&'static str> {
        match self {
            Self::ModelMissing | Self::RouteNotFound => Some("model"),
            _ => None,
        }
    }
}

impl Failure {
    /// A failure and what to tell the client.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The client went away, which is how a write to it or a read from it ended.
    #[must_use]
    pub fn client_gone(error: Box<pingora_error::Error>) -> Self {
        Self::new(Kind::ClientGone, "the client closed the connection").because(error)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self, operation: Operation) -> Bytes {
        error::body(operation, self.openai())
    }

    /// The last event of a stream that cannot go on.
    #[must_use]
    pub fn event(&self, operation: Operation) -> Bytes {
        error::event(operation, self.openai())
    }

    fn openai(&self) -> Message<'_> {
        Message {
            message: &self.message,
            kind: self.kind.openai_type(),
            code: Some(self.kind.code()),
            param: self.kind.param(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
