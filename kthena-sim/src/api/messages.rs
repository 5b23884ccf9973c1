//! `POST /v1/messages`: Anthropic's shapes.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::common::{self, Limit};
use super::fields::Fields;
use super::run::{self, Naming};
use super::{ApiError, Call, Trouble};
use crate::generate::{Finish, Job};
use crate::http::respond::{Reply, Responder};
use crate::text::template;
use crate::text::tokenizer::Token;

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    content: Vec<Block<'a>>,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<Option<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_sequence: Option<Option<&'a str>>,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_transfer_params: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Block<'a> {
    r#type: &'static str,
    text: &'a str,
}

#[derive(Serialize, Default)]
struct Usage {
    input_tokens: usize,
    output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation_input_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read_input_tokens: Option<u32>,
}

/// An event; its members follow the order that vLLM writes them in.
#[derive(Serialize, Default)]
struct Event<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_block: Option<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Delta<'a> {
    Text {
        r#type: &'static str,
        text: &'a str,
    },
    End {
        stop_reason: &'static str,
        stop_sequence: Option<&'a str>,
    },
}

/// One request, ready to run.
struct Conversation {
    id: String,
    model: String,
    prompt: Arc<[Token]>,
    job: Arc<Job>,
}

/// `POST /v1/messages/count_tokens`.
pub(crate) fn count(fields: Fields<'_>) -> Result<Reply, ApiError> {
    Ok(Reply::json(
        200,
        &json!({ "input_tokens": prompt(fields)?.len() }),
    ))
}

pub(crate) async fn run(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    fields.required("max_tokens")?;
    fields.object("kv_transfer_params")?;
    let served = common::model(call)?;
    let prompt: Arc<[Token]> = prompt(fields)?.into();
    let limit = fields.integer("max_tokens")?.map_or(Limit::Rest, Limit::Asked);
    let mut sampling = common::sampling(call.engine, fields, limit, prompt.len())?;
    sampling.stop = fields.texts("stop_sequences")?;
    sampling.n = 1;
    let conversation = Conversation {
        id: format!("chatcmpl-{}", call.id),
        model: served.name.clone(),
        prompt,
        job: common::job(call, &served, sampling),
    };
    if fields.flag("stream")? {
        let most = call.engine.config.tokens_per_event.max(1) as usize;
        conversation.stream(out, most).await
    } else {
        conversation.whole(out).await
    }
}

impl Conversation {
    fn items(&self, most: usize) -> run::Items {
        run::start(
            &self.job,
            &self.id,
            std::slice::from_ref(&self.prompt),
            Naming::Plain,
            most,
        )
    }

    async fn whole(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        let mut items = run::collect(self.items(usize::MAX), 1).await?;
        let Some(mut item) = items.pop() else {
            return Ok(());
        };
        let mut finish = item.step.finish.take();
        let kv_transfer_params = finish.as_mut().and_then(|finish| finish.params.take());
        let (reason, sequence) = ending(finish.as_ref());
        let message = Message {
            id: &self.id,
            r#type: "message",
            role: "assistant",
            content: vec![Block {
                r#type: "text",
                text: &item.step.text,
            }],
            model: &self.model,
            stop_reason: Some(Some(reason)),
            stop_sequence: sequence.map(Some),
            usage: self.usage(item.generated, item.cached, item.created),
            kv_transfer_params,
        };
        out.reply(Reply::json(200, &message)).await?;
        self.job.delivered();
        Ok(())
    }

    async fn stream(&self, out: &mut Responder<'_>, most: usize) -> Result<(), Trouble> {
        out.start_events().await?;
        let mut items = self.items(most);
        let mut opened = false;
        while let Some(item) = items.next().await {
            if !opened {
                opened = true;
                self.open(out).await?;
            }
            let item = item?;
            if !item.step.text.is_empty() {
                let delta = Delta::Text {
                    r#type: "text_delta",
                    text: &item.step.text,
                };
                let event = Event {
                    r#type: "content_block_delta",
                    delta: Some(delta),
                    index: Some(0),
                    ..Event::default()
                };
                send(out, &event).await?;
            }
            if let Some(finish) = &item.step.finish {
                let (stop_reason, stop_sequence) = ending(Some(finish));
                send(
                    out,
                    &Event {
                        r#type: "content_block_stop",
                        index: Some(0),
                        ..Event::default()
                    },
                )
                .await?;
                let event = Event {
                    r#type: "message_delta",
                    delta: Some(Delta::End {
                        stop_reason,
                        stop_sequence,
                    }),
                    usage: Some(self.usage(item.generated, item.cached, item.created)),
                    ..Event::default()
                };
                send(out, &event).await?;
            }
        }
        send(
            out,
            &Event {
                r#type: "message_stop",
                ..Event::default()
            },
        )
        .await?;
        out.finish().await?;
        self.job.delivered();
        Ok(())
    }

    async fn open(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        let message = Message {
            id: &self.id,
            r#type: "message",
            role: "assistant",
            content: Vec::new(),
            model: &self.model,
            stop_reason: Some(None),
            stop_sequence: Some(None),
            usage: Usage {
                input_tokens: self.prompt.len(),
                ..Usage::default()
            },
            kv_transfer_params: None,
        };
        send(
            out,
            &Event {
                r#type: "message_start",
                message: Some(message),
                ..Event::default()
            },
        )
        .await?;
        let block = Block {
            r#type: "text",
            text: "",
        };
        let event = Event {
            r#type: "content_block_start",
            content_block: Some(block),
            index: Some(0),
            ..Event::default()
        };
        send(out, &event).await
    }

    fn usage(&self, generated: u32, cached: u32, created: u32) -> Usage {
        Usage {
            // What the cache had or now has is counted apart.
            input_tokens: self.prompt.len().saturating_sub((cached + created) as usize),
            output_tokens: generated,
            cache_creation_input_tokens: Some(created),
            cache_read_input_tokens: Some(cached),
        }
    }
}

async fn send(out: &mut Responder<'_>, event: &Event<'_>) -> Result<(), Trouble> {
    let mut named = format!("event: {}\n", event.r#type).into_bytes();
    named.extend_from_slice(&super::data(event));
    Ok(out.event(&named).await?)
}

/// Why an answer ended, and the stop sequence if one ended it.
fn ending(finish: Option<&Finish>) -> (&'static str, Option<&str>) {
    match finish {
        Some(finish) if finish.is_stop() => match finish.stop_reason.as_ref().and_then(Value::as_str) {
            Some(sequence) => ("stop_sequence", Some(sequence)),
            None => ("end_turn", None),
        },
        _ => ("max_tokens", None),
    }
}

/// The prompt of a conversation whose system prompt is a member of its own.
fn prompt(fields: Fields<'_>) -> Result<Vec<Token>, ApiError> {
    let messages = common::messages(fields)?;
    let Some(system) = fields.get("system") else {
        return Ok(template::chat(messages, true));
    };
    let mut first = Map::new();
    first.insert("role".into(), "system".into());
    first.insert("content".into(), system.clone());
    let all: Vec<Value> = std::iter::once(Value::Object(first))
        .chain(messages.iter().cloned())
        .collect();
    Ok(template::chat(&all, true))
}
