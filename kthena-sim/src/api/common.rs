//! What all endpoints for text have in common: checks of the body, sampling parameters, prompts.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::fields::{Fields, LIST, STRING, none_of, not_an_object, wrong};
use super::{ApiError, Call};
use crate::config::Kind;
use crate::engine::Engine;
use crate::generate::{Job, Sampling};
use crate::http::request::Request;
use crate::kv::params;
use crate::models::Served;
use crate::text::model::{Weights, hash_bytes, mix};
use crate::text::tokenizer::{Token, VOCABULARY, encode};

mod python_json;

/// How the answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) continuous_usage: bool,
    pub(crate) return_token_ids: bool,
    pub(crate) echo: bool,
}

/// How many tokens a request may generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// So many, as the request says.
    Asked(i64),
    /// The endpoint's default.
    Default(u32),
    /// As many as fit.
    Rest,
}

/// The client's id of a request, or a new one.
pub(crate) fn request_id(kind: Kind, request: &Request, body: Option<&Map<String, Value>>) -> String {
    let member = |name: &str| Some(body?.get(name)?.as_str()?.to_owned());
    match kind {
        Kind::Vllm | Kind::VllmAscend => {
            let header = request.header("x-request-id").map(str::to_owned);
            header.or_else(|| member("request_id")).unwrap_or_else(hex16)
        }
        Kind::Sglang => member("rid").unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string()),
    }
}

/// A random id of 16 digits.
pub(crate) fn hex16() -> String {
    let random = uuid::Uuid::new_v4().as_u128();
    format!("{:016x}", random as u64 ^ (random >> 64) as u64)
}

/// A random suffix of 8 digits, as engines put it behind the ids they use among themselves.
pub(crate) fn hex8() -> String {
    hex16()[..8].to_owned()
}

/// The body of a request for text, if it is one.
pub(crate) fn check<'a>(
    engine: &Engine,
    request: &Request,
    members: Option<&'a Map<String, Value>>,
) -> Result<&'a Map<String, Value>, ApiError> {
    if engine.is_dead() {
        return Err(ApiError::dead());
    }
    let media_type = request.header("content-type").unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::wrong_media_type());
    }
    members.ok_or_else(|| no_object(&request.body))
}

/// The model that a request asks for.
pub(crate) fn model(call: &Call<'_>) -> Result<Served, ApiError> {
    served(call.engine, Fields(call.body))
}

/// The model that a body asks for.
pub(crate) fn served(engine: &Engine, fields: Fields<'_>) -> Result<Served, ApiError> {
    let name = fields.text("model")?;
    let models = engine.models.lock();
    match models.find(name) {
        Some(served) => Ok(served),
        // SGLang does not look at the name of the base model.
        None if engine.config.kind == Kind::Sglang => models.find(None).ok_or_else(ApiError::dead),
        None => Err(ApiError::unknown_model(name.unwrap_or_default(), models.names())),
    }
}

/// How the answer is wanted.
pub(crate) fn options(kind: Kind, fields: Fields<'_>) -> Result<Options, ApiError> {
    let stream = fields.flag("stream")?;
    let given = fields.model("stream_options")?;
    fields.object("kv_transfer_params")?;
    if given.is_some() && !stream && kind != Kind::Sglang {
        let message = "Stream options can only be defined when `stream=True`.";
        return Err(ApiError::parameter(message, "stream_options", None));
    }
    let (include_usage, continuous_usage) = match given {
        Some(options) => (
            options.flag("include_usage")?,
            options.flag("continuous_usage_stats")?,
        ),
        None => (false, false),
    };
    Ok(Options {
        stream,
        include_usage,
        continuous_usage: continuous_usage && include_usage,
        return_token_ids: fields.flag("return_token_ids")?,
        echo: fields.flag("echo")?,
    })
}

/// The messages of a conversation.
pub(crate) fn messages(fields: Fields<'_>) -> Result<&[Value], ApiError> {
    fields.required("messages")?;
    match fields.array("messages")?.unwrap_or_default() {
        [] => {
            let message =
                "Cannot apply chat template to an empty conversation. Provide at least one message.";
            Err(ApiError::bad(message))
        }
        messages => Ok(messages),
    }
}

/// Sampling parameters, once the prompts' lengths are known.
pub(crate) fn sampling(
    engine: &Engine,
    fields: Fields<'_>,
    limit: Limit,
    longest_prompt: usize,
) -> Result<Sampling, ApiError> {
    let max_tokens = max_tokens(engine.config.max_model_len, limit, longest_prompt)?;
    let temperature = fields.number("temperature")?.unwrap_or(1.0);
    if temperature < 0.0 {
        let message = format!("temperature must be non-negative, got {temperature:?}.");
        return Err(ApiError::parameter(
            &message,
            "temperature",
            Some(&Value::from(temperature)),
        ));
    }
    if let Some(top_p) = fields.number("top_p")?
        && !(top_p > 0.0 && top_p <= 1.0)
    {
        let message = format!("top_p must be in (0, 1], got {top_p:?}.");
        return Err(ApiError::parameter(&message, "top_p", Some(&Value::from(top_p))));
    }
    let n = fields.integer("n")?.unwrap_or(1);
    if n < 1 {
        return Err(ApiError::bad(format!("n must be at least 1, got {n}.")));
    }
    if n > 1 && temperature == 0.0 {
        return Err(ApiError::bad(format!(
            "n must be 1 when using greedy sampling, got {n}."
        )));
    }
    let min_tokens = fields.integer("min_tokens")?.unwrap_or(0);
    if min_tokens > i64::from(max_tokens) {
        let message =
            format!("min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}.");
        return Err(ApiError::bad(message));
    }
    let stop_token_ids = fields.array("stop_token_ids")?.unwrap_or_default();
    Ok(Sampling {
        max_tokens,
        min_tokens: u32::try_from(min_tokens).unwrap_or(0),
        temperature,
        seed: fields.integer("seed")?,
        n: u32::try_from(n).unwrap_or(u32::MAX).min(128),
        stop: fields.texts("stop")?,
        stop_token_ids: stop_token_ids
            .iter()
            .filter_map(|id| Token::try_from(id.as_u64()?).ok())
            .collect(),
        include_stop: fields.flag("include_stop_str_in_output")?,
        ignore_eos: fields.flag("ignore_eos")?,
        logprobs: None,
    })
}

/// The prompts of a completion: a text, a list of texts, token ids, or a list of lists of them.
pub(crate) fn prompts(fields: Fields<'_>) -> Result<Vec<Arc<[Token]>>, ApiError> {
    let missing = || {
        let message = "Either prompt or prompt_embeds must be provided and non-empty.";
        ApiError::parameter(message, "prompt", None)
    };
    match fields.get("prompt").ok_or_else(missing)? {
        Value::String(text) if text.is_empty() => Err(missing()),
        Value::String(text) => Ok(vec![encode(text).into()]),
        Value::Array(list) if list.is_empty() => Err(ApiError::bad("You must pass at least one prompt")),
        Value::Array(list) if list.iter().all(Value::is_number) => Ok(vec![token_ids(list)?.into()]),
        Value::Array(list) => list
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(encode(text).into()),
                Value::Array(ids) => Ok(token_ids(ids)?.into()),
                other => Err(wrong(
                    "prompt",
                    other,
                    "string_type",
                    "Input should be a valid string",
                )),
            })
            .collect(),
        other => Err(none_of("prompt", other, &[LIST, LIST, STRING, LIST])),
    }
}

/// The common part of a request's sequences.
pub(crate) fn job(call: &Call<'_>, served: &Served, sampling: Sampling) -> Arc<Job> {
    let weights = Weights::of(call.engine.config.root(), served.adapter.as_deref());
    let cache_salt = call
        .body
        .get("cache_salt")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let salt = mix(hash_bytes(weights.as_u64(), cache_salt.as_bytes()));
    let transfer = params::transfer(&call.engine.config, call.body);
    Job::new(
        call.engine.clone(),
        served.adapter.clone(),
        salt,
        sampling,
        transfer,
    )
}

fn token_ids(list: &[Value]) -> Result<Vec<Token>, ApiError> {
    list.iter()
        .map(|id| match id.as_u64().and_then(|id| Token::try_from(id).ok()) {
            Some(id) if id < VOCABULARY => Ok(id),
            Some(id) => Err(ApiError::bad(format!("Token id {id} is out of vocabulary"))),
            None => Err(wrong("prompt", id, "int_type", "Input should be a valid integer")),
        })
        .collect()
}

fn max_tokens(longest: u32, limit: Limit, prompt: usize) -> Result<u32, ApiError> {
    let fits = usize::try_from(longest).unwrap_or(usize::MAX);
    if let Limit::Asked(asked) = limit
        && asked > i64::from(longest)
    {
        let message = format!(
            "max_tokens={asked} cannot be greater than max_model_len={longest}. Please request fewer output tokens."
        );
        return Err(ApiError::parameter(
            &message,
            "max_tokens",
            Some(&Value::from(asked)),
        ));
    }
    if prompt >= fits {
        let message = format!(
            "This model's maximum context length is {longest} tokens. However, your prompt contains {prompt} input \
             tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input \
             prompt."
        );
        return Err(ApiError::parameter(
            &message,
            "input_tokens",
            Some(&Value::from(prompt)),
        ));
    }
    let rest = longest - u32::try_from(prompt).unwrap_or(longest);
    match limit {
        Limit::Rest => Ok(rest),
        Limit::Default(default) => Ok(default.min(rest)),
        Limit::Asked(asked) if asked < 1 => {
            let message = format!("max_tokens must be at least 1, got {asked}.");
            Err(ApiError::parameter(
                &message,
                "max_tokens",
                Some(&Value::from(asked)),
            ))
        }
        // More than fits is cut without a word.
        Limit::Asked(asked) => Ok(u32::try_from(asked).unwrap_or(rest).min(rest)),
    }
}

/// The objection to a body that is not an object.
fn no_object(body: &[u8]) -> ApiError {
    if body.is_empty() {
        return ApiError::schema("missing", "body", "Field required", "None", None);
    }
    if let Ok(value) = serde_json::from_slice(body) {
        return not_an_object(&value);
    }
    let text = String::from_utf8_lossy(body);
    let (at, what) = python_json::objection(&text).unwrap_or((0, "Expecting value"));
    let location = format!("body.{at}");
    ApiError::schema(
        "json_invalid",
        &location,
        "JSON decode error",
        "<dict of 0 items>",
        Some(what),
    )
}
