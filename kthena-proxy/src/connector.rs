//! What prefill and decode engines are told, so that the KV cache finds its way from one to the other.
//!
//! A connector is pure: it edits two bodies and reads one answer. Sending, retrying, cancelling and counting is the exchange's,
//! alike for all. An addition is a file below `connector/` and a line in [`Protocol::of`].

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use kthena_api::model_server::{InferenceEngine, KvConnectorType};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cluster::endpoint::Endpoint;
use crate::openai::{Edits, Key, Operation, Peek};

mod http;
mod mooncake;
mod nixl;
mod sglang;

pub use mooncake::engine_id as mooncake_engine_id;

/// How a connector leads a request through two engines.
pub trait Connector: fmt::Debug + Send + Sync {
    /// The name in metrics and logs.
    fn name(&self) -> &'static str;

    /// In which order the two are asked.
    fn order(&self, prefill: &Endpoint) -> Order;

    /// Edits the prefill request, which [`prefill_edits`] has prepared.
    fn prefill(&self, hand_over: &HandOver<'_>, edits: &mut Edits);

    /// Edits the decode request. `answer` is prefill's, where it was asked first.
    fn decode(&self, hand_over: &HandOver<'_>, answer: Option<&Answer<'_>>, edits: &mut Edits) -> Decode;

    /// Whether what prefill computed can be read once only. A store that engines share keeps it.
    fn reads_once(&self) -> bool {
        false
    }

    /// Whether a decode engine can answer a whole request by itself. SGLang's cannot: it waits for its partner.
    fn decode_stands_alone(&self) -> bool {
        true
    }
}

/// In which order prefill and decode are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Prefill first; its answer is needed for decode's request.
    PrefillFirst,
    /// Both at once, and decode's answer counts as soon as it begins.
    Together,
    /// Both at once, but decode's answer counts only once prefill has answered well. The engine is asked for its id first.
    TogetherAfterLookup,
}

/// What decode is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decode {
    /// To go on from prefill's cache.
    WithCache,
    /// To compute the prompt itself.
    Alone(Alone),
}

/// Why a disaggregated server answers without prefill's cache: a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alone {
    /// Several prompts in one request: one set of parameters serves one prompt.
    Batch,
    /// Several answers to one prompt: an engine gives the cache up after the first of them has read it.
    SeveralAnswers,
    /// The prompt's own log probabilities exist only where the prompt is computed.
    PromptLogprobs,
    /// The same, asked for by `echo` with `logprobs`.
    EchoLogprobs,
    /// Beam search runs the prompt many times.
    BeamSearch,
    /// A background answer has no end to wait for.
    Background,
    /// Prefill returned no parameters.
    NoParameters,
    /// Prefill ended on a stop token and sends nothing.
    PrefillStopped,
    /// Prefill refused the request; decode, which got it unedited, says why.
    PrefillRefused,
}

impl Alone {
    /// The label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::SeveralAnswers => "several_answers",
            Self::PromptLogprobs => "prompt_logprobs",
            Self::EchoLogprobs => "echo_logprobs",
            Self::BeamSearch => "beam_search",
            Self::Background => "background",
            Self::NoParameters => "no_parameters",
            Self::PrefillStopped => "prefill_stopped",
            Self::PrefillRefused => "prefill_refused",
        }
    }
}

/// One hand-over, from a prefill to a decode engine.
#[derive(Debug)]
pub struct HandOver<'a> {
    /// The API of the request.
    pub operation: Operation,
    /// The engine that computes the prompt.
    pub prefill: &'a Endpoint,
    /// A fresh name for this hand-over; never used twice.
    pub id: uuid::Uuid,
    /// How many prompts the request holds.
    pub prompts: usize,
    /// What prefill called itself, where [`Order::TogetherAfterLookup`] asked for it.
    pub engine_id: Option<&'a str>,
}

/// A prefill engine's answer.
#[derive(Debug, Deserialize)]
pub struct Answer<'a> {
    #[serde(borrow, default)]
    kv_transfer_params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Vec<AnswerChoice<'a>>,
    #[serde(borrow, default)]
    incomplete_details: Option<Incomplete<'a>>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct AnswerChoice<'a> {
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Incomplete<'a> {
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

impl<'a> Answer<'a> {
    /// Reads the members that connectors need from an answer's body.
    pub fn read(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The parameters, whatever they are, unless they are missing or null.
    #[must_use]
    pub fn parameters(&self) -> Option<&'a str> {
        self.kv_transfer_params
            .map(RawValue::get)
            .filter(|raw| *raw != "null")
    }

    /// Whether the answer was cut at its one token, so that there is a cache to go on from. An answer that came to its own end
    /// has none.
    #[must_use]
    pub fn is_cut(&self, operation: Operation) -> bool {
        match operation {
            Operation::Responses => self
                .incomplete_details
                .as_ref()
                .is_some_and(|details| details.reason.as_deref() == Some("max_output_tokens")),
            Operation::Messages => self.stop_reason.as_deref() == Some("max_tokens"),
            _ => self
                .choices
                .first()
                .is_some_and(|choice| choice.finish_reason.as_deref() == Some("length")),
        }
    }
}

/// The connector of a ModelServer.
#[derive(Debug, Clone, Copy)]
pub struct Protocol(pub &'static dyn Connector);

impl Protocol {
    /// The connector for an engine and a `kvConnector.type`.
    ///
    /// SGLang has one protocol towards a router, whichever library moves its cache, so `http` (the default that the API server
    /// fills in), `nixl` and `mooncake` all mean it there; `lmcache` stays a shared store. vLLM without a connector is asked as
    /// for NIXL: an engine that hands nothing over returns nothing.
    #[must_use]
    pub fn of(engine: &InferenceEngine, connector: Option<&KvConnectorType>) -> Self {
        Self(match (engine, connector) {
            (_, Some(KvConnectorType::Lmcache)) => &http::LMCACHE,
            (InferenceEngine::Sglang, _) => &sglang::SGLANG,
            (_, Some(KvConnectorType::Http)) => &http::HTTP,
            (_, Some(KvConnectorType::Mooncake)) => &mooncake::MOONCAKE,
            (_, Some(KvConnectorType::Nixl)) => &nixl::NIXL,
            (_, None | Some(KvConnectorType::Unknown(_))) => &nixl::AUTO,
        })
    }
}

/// Why a request is not split, if it is not.
#[must_use]
pub fn alone(operation: Operation, body: &[u8], peek: &Peek, connector: &dyn Connector) -> Option<Alone> {
    if !connector.decode_stands_alone() {
        return None;
    }
    let prompts = prompts(body, peek);
    if operation == Operation::Completions && prompts > 1 {
        return Some(Alone::Batch);
    }
    // vLLM reads the cache once for each answer. NIXL's prefill frees it after the first time (and logs "potentially invalid KV
    // blocks"), so that the others read what may be another prompt's by now; Mooncake's second reader gets an error.
    if connector.reads_once()
        && [Key::N, Key::BestOf]
            .into_iter()
            .any(|key| is_above_one(body, peek, key))
    {
        return Some(Alone::SeveralAnswers);
    }
    if peek.is_set(body, Key::PromptLogprobs) {
        return Some(Alone::PromptLogprobs);
    }
    if peek.bool(body, Key::Echo) == Some(true) && peek.is_set(body, Key::Logprobs) {
        return Some(Alone::EchoLogprobs);
    }
    if peek.bool(body, Key::UseBeamSearch) == Some(true) {
        return Some(Alone::BeamSearch);
    }
    if peek.bool(body, Key::Background) == Some(true) {
        return Some(Alone::Background);
    }
    None
}

fn is_above_one(body: &[u8], peek: &Peek, key: Key) -> bool {
    let number = peek
        .raw(body, key)
        .and_then(|raw| serde_json::from_slice::<f64>(raw).ok());
    number.is_some_and(|number| number > 1.0)
}

/// How many prompts a completion has: a string or a list of token ids is one, a list of those as many as it is long.
#[must_use]
pub fn prompts(body: &[u8], peek: &Peek) -> usize {
    let Some(raw) = peek.raw(body, Key::Prompt).filter(|raw| raw.starts_with(b"[")) else {
        return 1;
    };
    if !matches!(raw[1..].trim_ascii_start().first(), Some(b'"' | b'[' | b'{')) {
        return 1;
    }
    serde_json::from_slice::<Vec<&RawValue>>(raw).map_or(1, |items| items.len())
}

/// What every connector asks of prefill: compute the prompt, stop after one token, answer in one piece.
pub fn prefill_edits(operation: Operation, body: &[u8], peek: &Peek, edits: &mut Edits) {
    edits.remove(Key::Stream).remove(Key::StreamOptions);
    match operation {
        Operation::Responses => {
            edits.set(Key::MaxOutputTokens, "1").remove(Key::Background);
            if peek.has(Key::Store) {
                edits.set(Key::Store, "false");
            }
        }
        _ => {
            edits.set(Key::MaxTokens, "1");
        }
    }
    if peek.is_set(body, Key::MaxCompletionTokens) {
        edits.set(Key::MaxCompletionTokens, "1");
    }
    // More tokens than one can neither be demanded nor be made of one prompt's cache.
    edits.remove(Key::MinTokens).remove(Key::BestOf);
    // What ends the answer is decode's to find. An engine that finds it in prefill's one token calls the prompt's cache finished:
    // vLLM's Mooncake then keeps it for minutes, for a decode that is no longer asked for it. What is no list and no text stays,
    // so that prefill refuses it.
    for key in [Key::Stop, Key::StopSequences, Key::StopTokenIds] {
        if peek
            .raw(body, key)
            .is_some_and(|raw| raw.starts_with(b"[") || raw.starts_with(b"\""))
        {
            edits.remove(key);
        }
    }
    if peek.has(Key::N) {
        edits.set(Key::N, "1");
    }
}

/// Replaces an unspecified `remote_host` (an engine told to listen everywhere repeats that) by the address it was reached at.
fn reachable(parameters: &str, prefill: &Endpoint) -> Bytes {
    #[derive(Deserialize)]
    struct Host<'a> {
        #[serde(borrow, default)]
        remote_host: Option<&'a RawValue>,
    }
    let unspecified =
        |raw: &&RawValue| matches!(raw.get(), "\"0.0.0.0\"" | "\"::\"" | "\"[::]\"" | "\"\"" | "null");
    let host = serde_json::from_str::<Host<'_>>(parameters)
        .ok()
        .and_then(|host| host.remote_host)
        .filter(unspecified);
    let Some(host) = host else {
        return Bytes::copy_from_slice(parameters.as_bytes());
    };
    let start = host.get().as_ptr() as usize - parameters.as_ptr() as usize;
    let end = start + host.get().len();
    let address = serde_json::Value::from(prefill.address().host()).to_string();
    [&parameters[..start], &address, &parameters[end..]]
        .concat()
        .into()
}

#[cfg(test)]
mod tests;
