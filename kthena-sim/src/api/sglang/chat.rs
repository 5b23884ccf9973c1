//! `POST /v1/chat/completions`, SGLang's way.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;

use super::{METADATA, Metadata, Usage, check_room, matched_stop, model_name, sampling};
use crate::api::common::{self, Limit, Options};
use crate::api::fields::Fields;
use crate::api::logprobs::ChatLogprobs;
use crate::api::run::{self, Item, Naming};
use crate::api::{Call, Trouble, data};
use crate::generate::Job;
use crate::http::date;
use crate::http::respond::{Reply, Responder};
use crate::text::template;
use crate::text::tokenizer::Token;

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice>,
    usage: Usage,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    message: Message<String>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
    matched_stop: Option<Value>,
}

#[derive(Serialize)]
struct Message<T> {
    role: Option<&'static str>,
    content: Option<T>,
    reasoning_content: Option<()>,
    tool_calls: Option<()>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<ChunkChoice<'a>>,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Message<&'a str>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
    matched_stop: Option<Value>,
}

/// One request, ready to run.
struct Chat<'a> {
    call: &'a Call<'a>,
    created: u64,
    options: Options,
    prompt: Arc<[Token]>,
    job: Arc<Job>,
}

pub(crate) async fn run(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    check_room(call)?;
    let options = common::options(call.engine.config.kind, fields)?;
    let messages = common::messages(fields)?;
    let prompt: Arc<[Token]> = template::chat(messages, true).into();
    let asked = match fields.integer("max_completion_tokens")? {
        Some(asked) => Some(asked),
        None => fields.integer("max_tokens")?,
    };
    let mut sampling = sampling(call, asked.map_or(Limit::Rest, Limit::Asked), prompt.len())?;
    let top = fields.integer("top_logprobs")?.unwrap_or(0);
    sampling.logprobs = fields
        .flag("logprobs")?
        .then(|| usize::try_from(top).unwrap_or(0).min(20));
    let served = common::model(call)?;
    let job = common::job(call, &served, sampling);
    let chat = Chat {
        call,
        created: date::unix_now(),
        options,
        prompt,
        job,
    };
    if options.stream {
        chat.stream(out).await
    } else {
        chat.whole(out).await
    }
}

impl Chat<'_> {
    fn items(&self, most: usize) -> run::Items {
        run::start(
            &self.job,
            &self.call.id,
            std::slice::from_ref(&self.prompt),
            Naming::Plain,
            most,
        )
    }

    fn usage(&self, completion: u32, cached: u32) -> Usage {
        Usage::new(
            &self.call.engine.config,
            self.prompt.len() as u32,
            completion,
            cached,
        )
    }

    async fn whole(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        let items = run::collect(self.items(usize::MAX), self.job.sampling.n as usize).await?;
        let completion = items.iter().map(|item| item.generated).sum();
        let cached = items.last().map_or(0, |item| item.cached);
        let answer = Answer {
            id: &self.call.id,
            object: "chat.completion",
            created: self.created,
            model: model_name(self.call.body),
            choices: items.into_iter().map(|item| self.choice(item)).collect(),
            usage: self.usage(completion, cached),
            metadata: METADATA,
        };
        out.reply(Reply::json(200, &answer)).await?;
        self.job.delivered();
        Ok(())
    }

    fn choice(&self, item: Item) -> Choice {
        let finish = item.step.finish.as_ref();
        Choice {
            index: item.index,
            finish_reason: finish.map(|finish| finish.reason),
            matched_stop: matched_stop(finish),
            logprobs: self
                .job
                .sampling
                .logprobs
                .map(|_| ChatLogprobs::new(&item.step.logprobs)),
            message: Message {
                role: Some("assistant"),
                content: Some(item.step.text),
                reasoning_content: None,
                tool_calls: None,
            },
        }
    }

    async fn stream(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        let mut items = self.items(self.call.engine.config.tokens_per_event.max(1) as usize);
        let (mut completion, mut cached, mut begun) = (0, 0, false);
        while let Some(item) = items.next().await {
            let item = item?;
            // The head waits for the first token, so that errors before it have their status.
            if !begun {
                begun = true;
                out.start_events().await?;
            }
            completion += item.step.tokens.len() as u32;
            cached = item.cached;
            let running = || {
                self.options
                    .continuous_usage
                    .then(|| self.usage(item.generated, item.cached))
            };
            if item.first {
                self.event(
                    out,
                    item.index,
                    delta(Some("assistant"), Some("")),
                    None,
                    running(),
                )
                .await?;
            }
            if !item.step.text.is_empty() {
                let logprobs = self
                    .job
                    .sampling
                    .logprobs
                    .map(|_| ChatLogprobs::new(&item.step.logprobs));
                self.event(
                    out,
                    item.index,
                    delta(None, Some(&item.step.text)),
                    logprobs,
                    running(),
                )
                .await?;
            }
            if let Some(finish) = &item.step.finish {
                let choice = ChunkChoice {
                    index: item.index,
                    delta: delta(None, None),
                    logprobs: None,
                    finish_reason: Some(finish.reason),
                    matched_stop: matched_stop(Some(finish)),
                };
                out.event(&data(&Chunk {
                    choices: vec![choice],
                    usage: running(),
                    ..self.chunk()
                }))
                .await?;
            }
        }
        if self.options.include_usage {
            let usage = Some(self.usage(completion, cached));
            out.event(&data(&Chunk {
                usage,
                ..self.chunk()
            }))
            .await?;
        }
        out.event(b"data: [DONE]\n\n").await?;
        out.finish().await?;
        self.job.delivered();
        Ok(())
    }

    async fn event(
        &self,
        out: &mut Responder<'_>,
        index: usize,
        delta: Message<&str>,
        logprobs: Option<ChatLogprobs>,
        usage: Option<Usage>,
    ) -> Result<(), Trouble> {
        let choice = ChunkChoice {
            index,
            delta,
            logprobs,
            finish_reason: None,
            matched_stop: None,
        };
        let chunk = Chunk {
            choices: vec![choice],
            usage,
            ..self.chunk()
        };
        Ok(out.event(&data(&chunk)).await?)
    }

    fn chunk<'a>(&'a self) -> Chunk<'a> {
        Chunk {
            id: &self.call.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: model_name(self.call.body),
            choices: Vec::new(),
            usage: None,
        }
    }
}

fn delta<'a>(role: Option<&'static str>, content: Option<&'a str>) -> Message<&'a str> {
    Message {
        role,
        content,
        reasoning_content: None,
        tool_calls: None,
    }
}
