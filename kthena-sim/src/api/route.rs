//! Which paths there are, and what answers them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::error::Style;
use super::fields::Fields;
use super::{
    ApiError, Call, Trouble, chat, common, completions, detail, lora, messages, models, pooling, responses,
    sglang, tokens,
};
use crate::config::{Config, Kind, Task};
use crate::engine::Engine;
use crate::http::request::Request;
use crate::http::respond::{Reply, Responder};
use crate::metrics;

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Version,
    Load,
    KvEventSources,
    Models,
    Metrics,
    Tokenize,
    Detokenize,
    CountTokens,
    LoadLora,
    UnloadLora,
    ScaleOut,
    Completions,
    Chat,
    Responses,
    Messages,
    Embeddings,
    Score,
    Rerank,
    SglangModels,
    SglangModelInfo,
    SglangServerInfo,
    SglangGenerate,
    SglangCompletions,
    SglangChat,
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
    ("GET", "/metrics", Route::Metrics, None),
    ("POST", "/tokenize", Route::Tokenize, None),
    ("POST", "/detokenize", Route::Detokenize, None),
    ("POST", "/v1/load_lora_adapter", Route::LoadLora, None),
    ("POST", "/v1/unload_lora_adapter", Route::UnloadLora, None),
    (
        "POST",
        "/inference/v1/generate",
        Route::ScaleOut,
        Some(Task::Generate),
    ),
    (
        "POST",
        "/v1/completions",
        Route::Completions,
        Some(Task::Generate),
    ),
    ("POST", "/v1/chat/completions", Route::Chat, Some(Task::Generate)),
    ("POST", "/v1/responses", Route::Responses, Some(Task::Generate)),
    ("POST", "/v1/messages", Route::Messages, Some(Task::Generate)),
    (
        "POST",
        "/v1/messages/count_tokens",
        Route::CountTokens,
        Some(Task::Generate),
    ),
    ("POST", "/v1/embeddings", Route::Embeddings, Some(Task::Embed)),
    ("POST", "/score", Route::Score, Some(Task::Score)),
    ("POST", "/v1/score", Route::Score, Some(Task::Score)),
    ("POST", "/rerank", Route::Rerank, Some(Task::Score)),
    ("POST", "/v1/rerank", Route::Rerank, Some(Task::Score)),
    ("POST", "/v2/rerank", Route::Rerank, Some(Task::Score)),
];

const SGLANG: &[Row] = &[
    ("GET", "/health", Route::Health, None),
    ("GET", "/health_generate", Route::Health, None),
    ("GET", "/v1/models", Route::SglangModels, None),
    ("GET", "/get_model_info", Route::SglangModelInfo, None),
    ("GET", "/model_info", Route::SglangModelInfo, None),
    ("GET", "/get_server_info", Route::SglangServerInfo, None),
    ("GET", "/server_info", Route::SglangServerInfo, None),
    ("GET", "/metrics", Route::Metrics, None),
    ("POST", "/tokenize", Route::Tokenize, None),
    ("POST", "/v1/tokenize", Route::Tokenize, None),
    ("POST", "/detokenize", Route::Detokenize, None),
    ("POST", "/v1/detokenize", Route::Detokenize, None),
    ("POST", "/load_lora_adapter", Route::LoadLora, None),
    ("POST", "/unload_lora_adapter", Route::UnloadLora, None),
    ("POST", "/generate", Route::SglangGenerate, Some(Task::Generate)),
    (
        "POST",
        "/v1/completions",
        Route::SglangCompletions,
        Some(Task::Generate),
    ),
    (
        "POST",
        "/v1/chat/completions",
        Route::SglangChat,
        Some(Task::Generate),
    ),
    ("POST", "/v1/responses", Route::Responses, Some(Task::Generate)),
    ("POST", "/v1/messages", Route::Messages, Some(Task::Generate)),
    ("POST", "/v1/embeddings", Route::Embeddings, Some(Task::Embed)),
    ("POST", "/v1/score", Route::Score, Some(Task::Score)),
    ("POST", "/v1/rerank", Route::Rerank, Some(Task::Score)),
];

impl Route {
    /// The endpoint of a request, or FastAPI's answer where there is none.
    pub(crate) fn find(config: &Config, request: &Request) -> Result<Self, Reply> {
        let rows = match config.kind {
            Kind::Vllm | Kind::VllmAscend => VLLM,
            Kind::Sglang => SGLANG,
        };
        let (method, path) = (request.method.as_str(), request.path());
        let host = request.header("host").unwrap_or_default();
        let served =
            |row: &Row, path: &str| row.1 == path && row.3.is_none_or(|task| config.task.contains(&task));
        let mut allow = Vec::new();
        for row in rows.iter().filter(|row| served(row, path)) {
            if row.0 == method {
                return Ok(row.2);
            }
            allow.push(row.0);
        }
        if !allow.is_empty() {
            return Err(detail(405, "Method Not Allowed").header("allow", &allow.join(", ")));
        }
        // FastAPI sends whoever adds or forgets a slash at the end to the right place.
        let other = path.strip_suffix('/').filter(|_| path.len() > 1);
        let known = |path: &str| rows.iter().any(|row| served(row, path));
        match other.filter(|path| known(path)) {
            Some(path) => Err(Reply::empty(307).header("location", &format!("http://{host}{path}"))),
            None => Err(detail(404, "Not Found")),
        }
    }

    /// Whether the body is JSON.
    pub(crate) fn takes_json(self) -> bool {
        !matches!(
            self,
            Self::Health
                | Self::Version
                | Self::Load
                | Self::KvEventSources
                | Self::Models
                | Self::Metrics
                | Self::SglangModels
                | Self::SglangModelInfo
                | Self::SglangServerInfo
        )
    }

    /// Whether the engine computes something.
    pub(crate) fn is_inference(self) -> bool {
        matches!(
            self,
            Self::Completions
                | Self::Chat
                | Self::Responses
                | Self::Messages
                | Self::Embeddings
                | Self::Score
                | Self::Rerank
                | Self::SglangGenerate
                | Self::SglangCompletions
                | Self::SglangChat
        )
    }

    /// How errors of the endpoint look.
    pub(crate) fn style(self, kind: Kind) -> Style {
        if self == Self::Messages && kind != Kind::Sglang {
            Style::Anthropic
        } else {
            Style::of(kind)
        }
    }

    /// Answers what needs no computing.
    pub(crate) fn answer(
        self,
        engine: &Arc<Engine>,
        request: &Request,
        body: Option<&Map<String, Value>>,
    ) -> Reply {
        let with_body = |answer: &dyn Fn(Fields<'_>) -> Result<Reply, ApiError>| {
            let answered = common::check(engine, request, body).and_then(|body| answer(Fields(body)));
            answered.unwrap_or_else(|error| error.reply(Style::of(engine.config.kind)))
        };
        match self {
            Self::Health => Reply::empty(if engine.is_dead() { 503 } else { 200 }),
            Self::Version => Reply::json(200, &json!({ "version": engine.config.engine_version })),
            Self::Load => Reply::json(200, &json!({ "server_load": engine.stats().running })),
            Self::KvEventSources => Reply::json(200, &json!({})),
            Self::Models => models::list(engine),
            Self::Metrics => metrics::page(engine),
            Self::Tokenize => with_body(&|fields| tokens::tokenize(engine, fields)),
            Self::Detokenize => with_body(&|fields| tokens::detokenize(engine, fields)),
            Self::CountTokens => with_body(&messages::count),
            Self::LoadLora => with_body(&|fields| lora::load(engine, fields)),
            Self::UnloadLora => with_body(&|fields| lora::unload(engine, fields)),
            Self::ScaleOut => ApiError::scale_out().reply(Style::of(engine.config.kind)),
            Self::SglangModels => sglang::models(engine),
            Self::SglangModelInfo => sglang::model_info(engine),
            Self::SglangServerInfo => sglang::server_info(engine),
            _ => detail(404, "Not Found"),
        }
    }

    /// Answers what needs computing.
    pub(crate) async fn run(self, call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
        match self {
            Self::Completions => completions::run(call, out).await,
            Self::Chat => chat::run(call, out).await,
            Self::Responses => responses::run(call, out).await,
            Self::Messages => messages::run(call, out).await,
            Self::Embeddings => pooling::embeddings(call, out).await,
            Self::Score => pooling::score(call, out).await,
            Self::Rerank => pooling::rerank(call, out).await,
            Self::SglangGenerate => sglang::native::run(call, out).await,
            Self::SglangCompletions => sglang::completions::run(call, out).await,
            Self::SglangChat => sglang::chat::run(call, out).await,
            _ => Ok(out.reply(detail(404, "Not Found")).await?),
        }
    }
}
