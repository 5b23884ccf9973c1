//! `POST /v1/responses`.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::common::{self, Limit, hex16};
use super::fields::{Fields, wrong};
use super::run::{self, Naming};
use super::{ApiError, Call, Trouble};
use crate::generate::Job;
use crate::http::date;
use crate::http::respond::{Reply, Responder};
use crate::text::template;
use crate::text::tokenizer::Token;

mod stream;

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    created_at: u64,
    incomplete_details: Option<Incomplete>,
    instructions: Option<&'a str>,
    metadata: Option<&'a Value>,
    model: &'a str,
    object: &'static str,
    output: Vec<Output<'a>>,
    parallel_tool_calls: bool,
    temperature: f64,
    tool_choice: &'static str,
    tools: [(); 0],
    top_p: f64,
    background: bool,
    max_output_tokens: u32,
    max_tool_calls: Option<()>,
    previous_response_id: Option<()>,
    prompt: Option<()>,
    reasoning: Option<()>,
    service_tier: &'static str,
    status: &'static str,
    text: Option<()>,
    top_logprobs: Option<()>,
    truncation: &'static str,
    usage: Option<Usage>,
    user: Option<&'a str>,
    presence_penalty: f64,
    frequency_penalty: f64,
    kv_transfer_params: Option<Box<RawValue>>,
    ec_transfer_params: Option<()>,
    input_messages: Option<()>,
    output_messages: Option<()>,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

/// The message that is the answer.
#[derive(Serialize)]
struct Output<'a> {
    id: &'a str,
    content: Vec<Part<'a>>,
    role: &'static str,
    status: &'static str,
    r#type: &'static str,
    phase: Option<()>,
}

#[derive(Serialize)]
struct Part<'a> {
    annotations: [(); 0],
    text: &'a str,
    r#type: &'static str,
    logprobs: Option<[(); 0]>,
}

#[derive(Serialize)]
struct Usage {
    input_tokens: usize,
    input_tokens_details: InputDetails,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
    total_tokens: usize,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u32,
    cache_write_tokens: u32,
    input_tokens_per_turn: [(); 0],
    cached_tokens_per_turn: [(); 0],
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u32,
    tool_output_tokens: u32,
    output_tokens_per_turn: [(); 0],
    tool_output_tokens_per_turn: [(); 0],
}

/// One request, ready to run.
struct Response<'a> {
    fields: Fields<'a>,
    id: String,
    message_id: String,
    model: String,
    created: u64,
    prompt: Arc<[Token]>,
    job: Arc<Job>,
}

/// The end of an answer, as it is told.
struct Ended {
    text: String,
    stopped: bool,
    generated: u32,
    cached: u32,
    params: Option<Box<RawValue>>,
}

pub(crate) async fn run(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    let prompt: Arc<[Token]> = prompt(fields)?.into();
    let served = common::model(call)?;
    let limit = fields
        .integer("max_output_tokens")?
        .map_or(Limit::Rest, Limit::Asked);
    let mut sampling = common::sampling(call.engine, fields, limit, prompt.len())?;
    sampling.n = 1;
    let response = Response {
        fields,
        id: format!("resp_{}", call.id),
        message_id: format!("msg_{}", hex16()),
        model: served.name.clone(),
        created: date::unix_now(),
        prompt,
        job: common::job(call, &served, sampling),
    };
    if fields.flag("stream")? {
        return stream::run(
            &response,
            out,
            call.engine.config.tokens_per_event.max(1) as usize,
        )
        .await;
    }
    let mut items = run::collect(response.items(usize::MAX), 1).await?;
    let Some(item) = items.pop() else { return Ok(()) };
    let ended = Ended::of(item);
    out.reply(Reply::json(200, &response.answer(Some(&ended))))
        .await?;
    response.job.delivered();
    Ok(())
}

impl Ended {
    fn of(item: run::Item) -> Self {
        let finish = item.step.finish;
        Self {
            text: item.step.text,
            stopped: finish.as_ref().is_some_and(crate::generate::Finish::is_stop),
            generated: item.generated,
            cached: item.cached,
            params: finish.and_then(|finish| finish.params),
        }
    }
}

impl Response<'_> {
    fn items(&self, most: usize) -> run::Items {
        run::start(
            &self.job,
            &self.id,
            std::slice::from_ref(&self.prompt),
            Naming::Turn,
            most,
        )
    }

    /// The response as a whole: at its end, or while it has none.
    fn answer<'a>(&'a self, ended: Option<&'a Ended>) -> Answer<'a> {
        let cut = ended.is_some_and(|ended| !ended.stopped);
        let number =
            |name: &str, default: f64| self.fields.get(name).and_then(Value::as_f64).unwrap_or(default);
        Answer {
            id: &self.id,
            created_at: self.created,
            incomplete_details: cut.then_some(Incomplete {
                reason: "max_output_tokens",
            }),
            instructions: self.fields.get("instructions").and_then(Value::as_str),
            metadata: self.fields.get("metadata"),
            model: &self.model,
            object: "response",
            output: ended
                .map(|ended| self.output(&ended.text, "completed"))
                .into_iter()
                .collect(),
            parallel_tool_calls: true,
            temperature: self.job.sampling.temperature,
            tool_choice: "none",
            tools: [],
            top_p: number("top_p", 1.0),
            background: false,
            max_output_tokens: self.job.sampling.max_tokens,
            max_tool_calls: None,
            previous_response_id: None,
            prompt: None,
            reasoning: None,
            service_tier: "auto",
            status: match ended {
                None => "in_progress",
                Some(_) if cut => "incomplete",
                Some(_) => "completed",
            },
            text: None,
            top_logprobs: None,
            truncation: "disabled",
            usage: ended.map(|ended| self.usage(ended)),
            user: self.fields.get("user").and_then(Value::as_str),
            presence_penalty: number("presence_penalty", 0.0),
            frequency_penalty: number("frequency_penalty", 0.0),
            kv_transfer_params: ended.and_then(|ended| ended.params.clone()),
            ec_transfer_params: None,
            input_messages: None,
            output_messages: None,
        }
    }

    fn output<'a>(&'a self, text: &'a str, status: &'static str) -> Output<'a> {
        let part = Part {
            annotations: [],
            text,
            r#type: "output_text",
            logprobs: None,
        };
        let content = if status == "completed" {
            vec![part]
        } else {
            Vec::new()
        };
        Output {
            id: &self.message_id,
            content,
            role: "assistant",
            status,
            r#type: "message",
            phase: None,
        }
    }

    fn usage(&self, ended: &Ended) -> Usage {
        Usage {
            input_tokens: self.prompt.len(),
            input_tokens_details: InputDetails {
                cached_tokens: ended.cached,
                cache_write_tokens: 0,
                input_tokens_per_turn: [],
                cached_tokens_per_turn: [],
            },
            output_tokens: ended.generated,
            output_tokens_details: OutputDetails {
                reasoning_tokens: 0,
                tool_output_tokens: 0,
                output_tokens_per_turn: [],
                tool_output_tokens_per_turn: [],
            },
            total_tokens: self.prompt.len() + ended.generated as usize,
        }
    }
}

/// The prompt: instructions, then the input as a text or as messages.
fn prompt(fields: Fields<'_>) -> Result<Vec<Token>, ApiError> {
    let input = fields.required("input")?;
    let mut messages = Vec::new();
    if let Some(instructions) = fields.text("instructions")? {
        messages.push(json!({ "role": "system", "content": instructions }));
    }
    match input {
        Value::String(text) => messages.push(json!({ "role": "user", "content": text })),
        Value::Array(items) => messages.extend(items.iter().cloned()),
        other => {
            return Err(wrong(
                "input",
                other,
                "string_type",
                "Input should be a valid string",
            ));
        }
    }
    Ok(template::chat(&messages, true))
}
