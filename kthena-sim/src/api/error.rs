//! Errors as clients see them.

use serde::Serialize;
use serde_json::Value;

use super::fields::repr;
use crate::config::Kind;
use crate::generate::Failure;
use crate::http::respond::{Cut, JSON, Reply, Responder};
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

/// How errors look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Vllm,
    Sglang,
    /// vLLM's `/v1/messages`.
    Anthropic,
}

/// The type of what the schema's validator objects to.
const SCHEMA: &str = "Bad Request";

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
        let what = objection(kind, location, message, input, &context);
        let mut error = Self::new(400, SCHEMA, format!("1 validation error:{what}"));
        error.param = Some(location.to_owned());
        error
    }

    /// What the schema objects to where several types were possible.
    pub(crate) fn schemas(types: &[(&str, &str)], location: &str, input: &str) -> Self {
        let all: String = types
            .iter()
            .map(|(kind, message)| objection(kind, location, message, input, ""))
            .collect();
        let mut error = Self::new(400, SCHEMA, format!("{} validation errors:{all}", types.len()));
        error.param = Some(location.to_owned());
        error
    }

    pub(crate) fn wrong_media_type() -> Self {
        let what = "Unsupported Media Type: Only 'application/json' is allowed";
        Self::new(400, SCHEMA, format!("1 validation error:\n  {what}"))
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
    pub(crate) fn reply(&self, style: Style) -> Reply {
        let reply = Reply {
            status: self.status,
            content_type: Some(JSON),
            body: self.body(style),
            ..Reply::default()
        };
        match self.refused {
            Some(refused) => reply.header("x-kthena-sim-refused", refused.as_str()),
            None => reply,
        }
    }

    /// Sends the error: as a whole answer, or into a stream that has begun.
    pub(crate) async fn send(&self, style: Style, out: &mut Responder<'_>) -> Result<(), Cut> {
        if out.status().is_none() {
            return out.reply(self.reply(style)).await;
        }
        let body = match style {
            // Python's own JSON writer makes this one, and it leaves spaces.
            Style::Vllm => spaced(&self.body(style)),
            Style::Anthropic => {
                let error = Named {
                    r#type: "internal_error",
                    message: &self.message,
                };
                serde_json::to_vec(&Anthropic {
                    r#type: "error",
                    error,
                })
                .unwrap_or_default()
            }
            Style::Sglang => [b"{\"error\": ".as_slice(), &spaced(&self.body(style)), b"}"].concat(),
        };
        let event = if style == Style::Anthropic {
            b"event: error\ndata: ".as_slice()
        } else {
            b"data: "
        };
        out.event(&[event, &body, b"\n\n"].concat()).await?;
        if style != Style::Anthropic {
            out.event(b"data: [DONE]\n\n").await?;
        }
        out.finish().await
    }

    fn body(&self, style: Style) -> Vec<u8> {
        let (message, param, code) = (self.message.as_str(), self.param.as_deref(), self.status);
        // The schema's validator stands before the endpoint and knows nothing of its style.
        let written = match style {
            Style::Anthropic if self.kind != SCHEMA => {
                let error = Named {
                    r#type: self.kind,
                    message,
                };
                serde_json::to_vec(&Anthropic {
                    r#type: "error",
                    error,
                })
            }
            Style::Vllm | Style::Anthropic => serde_json::to_vec(&Vllm {
                error: Members {
                    message,
                    r#type: self.kind,
                    param,
                    code,
                },
            }),
            Style::Sglang => serde_json::to_vec(&Sglang {
                object: "error",
                message,
                r#type: self.kind,
                param,
                code,
            }),
        };
        written.unwrap_or_default()
    }
}

/// JSON with a space after colons and commas, as Python's `json.dumps` writes it.
fn spaced(json: &[u8]) -> Vec<u8> {
    let (mut spaced, mut in_text, mut escaped) = (Vec::with_capacity(json.len() + 16), false, false);
    for &byte in json {
        spaced.push(byte);
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b':' | b',' if !in_text => spaced.push(b' '),
            _ => {}
        }
    }
    spaced
}

fn objection(kind: &str, location: &str, message: &str, input: &str, context: &str) -> String {
    format!("\n  {{'type': '{kind}', 'loc': '{location}', 'msg': '{message}', 'input': '{input}'{context}}}")
}

#[derive(Serialize)]
struct Vllm<'a> {
    error: Members<'a>,
}

#[derive(Serialize)]
struct Members<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: u16,
}

#[derive(Serialize)]
struct Sglang<'a> {
    object: &'static str,
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: u16,
}

#[derive(Serialize)]
struct Anthropic<'a> {
    r#type: &'static str,
    error: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    r#type: &'a str,
    message: &'a str,
}

impl Style {
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Vllm | Kind::VllmAscend => Self::Vllm,
            Kind::Sglang => Self::Sglang,
        }
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
