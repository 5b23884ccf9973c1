//! `POST /v1/completions`, SGLang's way.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;

use super::{METADATA, Metadata, Usage, check_room, matched_stop, model_name, sampling, total};
use crate::api::common::{self, Limit, Options};
use crate::api::fields::Fields;
use crate::api::logprobs::CompletionLogprobs;
use crate::api::run::{self, Item, Naming};
use crate::api::{Call, Trouble, data};
use crate::generate::Job;
use crate::http::date;
use crate::http::respond::{Reply, Responder};
use crate::text::tokenizer::{Token, decode};

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
    text: String,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<&'static str>,
    matched_stop: Option<Value>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

/// One request, ready to run.
struct Completion<'a> {
    call: &'a Call<'a>,
    created: u64,
    options: Options,
    prompts: Vec<Arc<[Token]>>,
    job: Arc<Job>,
}

pub(crate) async fn run(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    check_room(call)?;
    let options = common::options(call.engine.config.kind, fields)?;
    let prompts = common::prompts(fields)?;
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    let limit = fields
        .integer("max_tokens")?
        .map_or(Limit::Default(16), Limit::Asked);
    let mut sampling = sampling(call, limit, longest)?;
    sampling.logprobs = fields
        .integer("logprobs")?
        .and_then(|n| usize::try_from(n).ok())
        .map(|n| n.min(20));
    let served = common::model(call)?;
    let job = common::job(call, &served, sampling);
    let completion = Completion {
        call,
        created: date::unix_now(),
        options,
        prompts,
        job,
    };
    if options.stream {
        completion.stream(out).await
    } else {
        completion.whole(out).await
    }
}

impl Completion<'_> {
    fn items(&self, most: usize) -> run::Items {
        run::start(&self.job, &self.call.id, &self.prompts, Naming::Numbered, most)
    }

    async fn whole(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        let choices = self.prompts.len() * self.job.sampling.n as usize;
        let items = run::collect(self.items(usize::MAX), choices).await?;
        let completion = items.iter().map(|item| item.generated).sum();
        let cached = items.iter().map(|item| item.cached).sum();
        let answer = Answer {
            id: &self.call.id,
            object: "text_completion",
            created: self.created,
            model: model_name(self.call.body),
            choices: items.into_iter().map(|item| self.choice(item, true)).collect(),
            usage: Usage::new(&self.call.engine.config, total(&self.prompts), completion, cached),
            metadata: METADATA,
        };
        out.reply(Reply::json(200, &answer)).await?;
        self.job.delivered();
        Ok(())
    }

    async fn stream(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        let config = &self.call.engine.config;
        let mut items = self.items(config.tokens_per_event.max(1) as usize);
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
            let first = item.first;
            let usage = self.options.continuous_usage.then(|| {
                Usage::new(
                    config,
                    self.prompts[item.prompt].len() as u32,
                    item.generated,
                    item.cached,
                )
            });
            let chunk = Chunk {
                choices: vec![self.choice(item, first)],
                usage,
                ..self.chunk()
            };
            out.event(&data(&chunk)).await?;
        }
        if self.options.include_usage {
            let usage = Usage::new(config, total(&self.prompts), completion, cached);
            out.event(&data(&Chunk {
                usage: Some(usage),
                ..self.chunk()
            }))
            .await?;
        }
        out.event(b"data: [DONE]\n\n").await?;
        out.finish().await?;
        self.job.delivered();
        Ok(())
    }

    fn choice(&self, item: Item, first: bool) -> Choice {
        let text = match self.options.echo && first {
            true => decode(&self.prompts[item.prompt]) + &item.step.text,
            false => item.step.text,
        };
        let logprobs = self.job.sampling.logprobs.map(|_| {
            let all: Vec<_> = item.step.logprobs.into_iter().map(Some).collect();
            CompletionLogprobs::new(&item.step.tokens, &all, 0)
        });
        let finish = item.step.finish.as_ref();
        Choice {
            index: item.index,
            text,
            logprobs,
            finish_reason: finish.map(|finish| finish.reason),
            matched_stop: matched_stop(finish),
        }
    }

    fn chunk(&self) -> Chunk<'_> {
        Chunk {
            id: &self.call.id,
            object: "text_completion",
            created: self.created,
            model: model_name(self.call.body),
            choices: Vec::new(),
            usage: None,
        }
    }
}
