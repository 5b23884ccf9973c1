//! SGLang's shapes where they differ from vLLM's.
//!
//! There are no recordings of SGLang; these follow its public sources of 2025. Three differences matter to a
//! router: errors are flat, the end of a stream is a chunk of its own, and a request for which no bootstrap
//! room is given has no place on an engine that only prefills or only decodes.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::common::{self, Limit};
use super::fields::Fields;
use super::{ApiError, Call};
use crate::config::{Config, Connector, Role};
use crate::engine::Engine;
use crate::generate::{Finish, Sampling};
use crate::http::respond::Reply;
use crate::text::tokenizer::Token;

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod native;

/// Usage in the order that SGLang writes it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: u32,
    total_tokens: u32,
    completion_tokens: u32,
    prompt_tokens_details: Option<Details>,
    reasoning_tokens: u32,
}

#[derive(Debug, Clone, Serialize)]
struct Details {
    cached_tokens: u32,
}

#[derive(Serialize)]
struct Metadata {
    weight_version: &'static str,
}

const METADATA: Metadata = Metadata {
    weight_version: "default",
};

impl Usage {
    pub(crate) fn new(config: &Config, prompt: u32, completion: u32, cached: u32) -> Self {
        Self {
            prompt_tokens: prompt,
            total_tokens: prompt + completion,
            completion_tokens: completion,
            prompt_tokens_details: config.prompt_tokens_details.then_some(Details {
                cached_tokens: cached,
            }),
            reasoning_tokens: 0,
        }
    }
}

/// Turns away what an engine with half the work cannot do.
fn check_room(call: &Call<'_>) -> Result<(), ApiError> {
    let config = &call.engine.config;
    let halved = config.connector == Connector::Sglang && config.role != Role::Plain;
    if halved && Fields(call.body).get("bootstrap_room").is_none() {
        let message = format!(
            "Disaggregated request received without bootstrap room id. rid='{}'",
            call.id
        );
        return Err(ApiError::new(400, "BadRequest", message));
    }
    Ok(())
}

/// Sampling parameters; an engine that only prefills says one token, whatever is asked for.
fn sampling(call: &Call<'_>, limit: Limit, longest: usize) -> Result<Sampling, ApiError> {
    let mut sampling = common::sampling(call.engine, Fields(call.body), limit, longest)?;
    if call.engine.config.connector == Connector::Sglang && call.engine.config.role == Role::Prefill {
        sampling.max_tokens = 1;
        sampling.min_tokens = 0;
    }
    Ok(sampling)
}

/// What made a sequence stop by itself: a string, or a token's id.
fn matched_stop(finish: Option<&Finish>) -> Option<Value> {
    let finish = finish.filter(|finish| finish.is_stop())?;
    Some(
        finish
            .stop_reason
            .clone()
            .unwrap_or_else(|| Value::from(crate::text::tokenizer::IM_END)),
    )
}

/// The name that answers carry: the one that was asked for.
fn model_name(body: &Map<String, Value>) -> &str {
    body.get("model").and_then(Value::as_str).unwrap_or("default")
}

/// Prompt tokens of all prompts.
fn total(prompts: &[Arc<[Token]>]) -> u32 {
    prompts.iter().map(|prompt| prompt.len() as u32).sum()
}

/// `GET /v1/models`.
pub(crate) fn models(engine: &Engine) -> Reply {
    #[derive(Serialize)]
    struct Card<'a> {
        id: &'a str,
        object: &'static str,
        created: u64,
        owned_by: &'static str,
        root: &'a str,
        parent: Option<&'a str>,
        max_model_len: Option<u32>,
    }
    let models = engine.models.lock();
    let card = |id, root, created, parent, max_model_len| Card {
        id,
        object: "model",
        created,
        owned_by: "sglang",
        root,
        parent,
        max_model_len,
    };
    let longest = Some(engine.config.max_model_len);
    let base = models
        .names()
        .iter()
        .map(|name| card(name, name, models.created(), None, longest));
    let parent = models.names().first().map(String::as_str);
    let adapters = models
        .adapters()
        .iter()
        .map(|adapter| card(&adapter.name, &adapter.path, adapter.created, parent, None));
    let data: Vec<_> = base.chain(adapters).collect();
    Reply::json(200, &json!({ "object": "list", "data": data }))
}

/// `GET /get_model_info`.
pub(crate) fn model_info(engine: &Engine) -> Reply {
    let path = engine.models.lock().root().to_owned();
    Reply::json(
        200,
        &json!({ "model_path": path, "tokenizer_path": path, "is_generation": true }),
    )
}

/// `GET /get_server_info`.
pub(crate) fn server_info(engine: &Engine) -> Reply {
    let config = &engine.config;
    let mode = match config.role {
        Role::Plain => "null",
        role => role.as_str(),
    };
    Reply::json(
        200,
        &json!({
            "model_path": engine.models.lock().root(),
            "served_model_name": config.model_name(),
            "disaggregation_mode": mode,
            "disaggregation_bootstrap_port": engine.side_channel.1,
            "max_running_requests": config.max_num_seqs,
            "page_size": config.block_size,
            "status": "ready",
            "version": config.engine_version,
        }),
    )
}
