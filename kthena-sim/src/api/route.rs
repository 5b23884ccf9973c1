//! Which paths there are, and what answers them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Call, Trouble, chat, completions, detail, models};
use crate::config::{Config, Kind, Task};
use crate::engine::Engine;
use crate::http::request::Request;
use crate::http::respond::{Reply, Responder};

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Version,
    Load,
    KvEventSources,
    Models,
    Completions,
    Chat,
}

/// A row of the table: method, path, endpoint, and what the model must be for.
type Row = (&'static str, &'static str, Route, Option<Task>);

const VLLM: &[Row] = &[
    ("GET", "/health", Route::Health, None),
    ("GET", "/ping", Route::Health, None),
    ("POST", "/ping", Route::Health, None),
    ("GET", "/version", Route::Version, None),
    ("GET", "/load", Route::Load, None),
    ("GET", "/kv_event_sources", Route::KvEventSources, None),
    ("GET", "/v1/models", Route::Models, None),
    (
        "POST",
        "/v1/completions",
        Route::Completions,
        Some(Task::Generate),
    ),
    ("POST", "/v1/chat/completions", Route::Chat, Some(Task::Generate)),
];

impl Route {
    /// The endpoint of a request, or FastAPI's answer where there is none.
    pub(crate) fn find(config: &Config, method: &str, path: &str) -> Result<Self, Reply> {
        let rows = match config.kind {
            Kind::Vllm | Kind::VllmAscend | Kind::Sglang => VLLM,
        };
        let served = |row: &&Row| row.1 == path && row.3.is_none_or(|task| config.task.contains(&task));
        let mut allow = Vec::new();
        for row in rows.iter().filter(served) {
            if row.0 == method {
                return Ok(row.2);
            }
            allow.push(row.0);
        }
        match allow.is_empty() {
            true => Err(detail(404, "Not Found")),
            false => Err(detail(405, "Method Not Allowed").header("allow", &allow.join(", "))),
        }
    }

    /// Whether the body is JSON.
    pub(crate) fn takes_json(self) -> bool {
        self.is_inference()
    }

    /// Whether the engine computes something.
    pub(crate) fn is_inference(self) -> bool {
        matches!(self, Self::Completions | Self::Chat)
    }

    /// Answers what needs no computing.
    pub(crate) fn answer(self, engine: &Arc<Engine>, _request: &Request, _body: Option<&Value>) -> Reply {
        match self {
            Self::Health => Reply::empty(if engine.is_dead() { 503 } else { 200 }),
            Self::Version => Reply::json(200, &json!({ "version": engine.config.engine_version })),
            Self::Load => Reply::json(200, &json!({ "server_load": engine.stats().running })),
            Self::KvEventSources => Reply::json(200, &json!({})),
            Self::Models => models::list(engine),
            Self::Completions | Self::Chat => detail(404, "Not Found"),
        }
    }

    /// Answers what needs computing.
    pub(crate) async fn run(self, call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
        match self {
            Self::Completions => completions::run(call, out).await,
            Self::Chat => chat::run(call, out).await,
            _ => Ok(()),
        }
    }
}
