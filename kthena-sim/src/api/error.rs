//! Errors as clients see them.

use serde_json::Value;

use super::fields::repr;
use crate::generate::Failure;
use crate::http::respond::{Cut, Reply, Responder};
use crate::kv::Refusal;

/// An error with its status, type and parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    kind: &'static str,
    param: Option<String>,
    message: String,
    refused: Option<Refusal>,
}

/// Why a request has no ordinary end.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It is answered with an error.
    Api(ApiError),
    /// Its connection ends.
    Cut(Cut),
}

impl ApiError {
    pub(crate) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            param: None,
            message: message.into(),
            refused: None,
        }
    }

    /// What vLLM itself objects to.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequestError", message)
    }

    /// What vLLM itself objects to, naming parameter and value.
    pub(crate) fn parameter(message: &str, name: &str, value: Option<&Value>) -> Self {
        let value = value
            .map(|value| format!(", value={}", repr(value)))
            .unwrap_or_default();
        let mut error = Self::bad(format!("{message} (parameter={name}{value})"));
        error.param = Some(name.to_owned());
        error
    }

    /// What the schema objects to, in the words of its validator.
    pub(crate) fn schema(
        kind: &str,
        location: &str,
        message: &str,
        input: &str,
        context: Option<&str>,
    ) -> Self {
        let context = context
            .map(|c| format!(", 'ctx': {{'error': '{c}'}}"))
            .unwrap_or_default();
        let what = format!(
            "{{'type': '{kind}', 'loc': '{location}', 'msg': '{message}', 'input': '{input}'{context}}}"
        );
        let mut error = Self::new(400, "Bad Request", format!("1 validation error:\n  {what}"));
        error.param = Some(location.to_owned());
        error
    }

    pub(crate) fn wrong_media_type() -> Self {
        let what = "Unsupported Media Type: Only 'application/json' is allowed";
        Self::new(400, "Bad Request", format!("1 validation error:\n  {what}"))
    }

    pub(crate) fn unknown_model(name: &str, known: &[String]) -> Self {
        let message = format!(
            "The model `{name}` does not exist. Valid aliases: {}.",
            known.join(", ")
        );
        let mut error = Self::new(404, "NotFoundError", message);
        error.param = Some("model".to_owned());
        error
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalServerError", message)
    }

    pub(crate) fn dead() -> Self {
        Self::internal("EngineCore encountered an issue. See stack trace (above) for the root cause.")
    }

    pub(crate) fn scale_out() -> Self {
        let message =
            "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to enable them.";
        Self::new(403, "PermissionDeniedError", message)
    }

    /// The error as a whole answer.
    pub(crate) fn reply(&self) -> Reply {
        let reply = Reply::json(self.status, &Envelope { error: ordered(self) });
        match self.refused {
            Some(refused) => reply.header("x-kthena-sim-refused", refused.as_str()),
            None => reply,
        }
    }

    /// Sends the error: as a whole answer, or into a stream that has begun.
    pub(crate) async fn send(&self, out: &mut Responder<'_>) -> Result<(), Cut> {
        if out.status().is_none() {
            return out.reply(self.reply()).await;
        }
        let body = serde_json::to_string(&Envelope { error: ordered(self) }).unwrap_or_default();
        out.event(format!("data: {body}\n\n").as_bytes()).await?;
        out.event(b"data: [DONE]\n\n").await?;
        out.finish().await
    }
}

#[derive(serde::Serialize)]
struct Envelope<'a> {
    error: Members<'a>,
}

#[derive(serde::Serialize)]
struct Members<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: u16,
}

fn ordered(error: &ApiError) -> Members<'_> {
    Members {
        message: &error.message,
        r#type: error.kind,
        param: error.param.as_deref(),
        code: error.status,
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // What a real engine says when its KV blocks do not arrive.
            Refusal::Unreachable | Refusal::Timeout => Self::internal("Internal server error"),
            // A real engine cannot tell; this one says so loudly, because tests must notice.
            Refusal::Unknown | Refusal::Used | Refusal::Expired | Refusal::Foreign => Self {
                param: Some("kv_transfer_params".to_owned()),
                refused: Some(refusal),
                ..Self::new(
                    500,
                    "KvTransferRefused",
                    format!("kthena-sim refuses the hand-over: {refusal}"),
                )
            },
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let Failure::Transfer(refusal) = failure;
        Self::Api(refusal.into())
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<Cut> for Trouble {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut)
    }
}
