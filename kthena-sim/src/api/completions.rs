//! `POST /v1/completions`.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;
use serde_json::value::RawValue;

use super::common::{self, Limit, Options};
use super::fields::Fields;
use super::logprobs::{CompletionLogprobs, PromptLogprob, prompt_logprobs};
use super::run::{self, Item, Naming};
use super::usage::{Spent, Usage};
use super::{Call, Trouble};
use crate::generate::{Job, TokenLogprob};
use crate::http::date;
use crate::http::respond::{Reply, Responder};
use crate::text::tokenizer::{Token, decode};

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    service_tier: Option<()>,
    system_fingerprint: &'a str,
    usage: Usage,
    kv_transfer_params: Option<Box<RawValue>>,
    ec_transfer_params: Option<()>,
    metrics: Option<()>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<&'static str>,
    stop_reason: Option<serde_json::Value>,
    token_ids: Option<Vec<Token>>,
    prompt_logprobs: Option<Vec<PromptLogprob>>,
    prompt_token_ids: Option<&'a [Token]>,
    routed_experts: Option<()>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<&'a str>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<&'static str>,
    stop_reason: Option<serde_json::Value>,
    prompt_token_ids: Option<&'a [Token]>,
    token_ids: Option<&'a [Token]>,
}

/// One request, ready to run.
struct Completion<'a> {
    call: &'a Call<'a>,
    id: String,
    model: String,
    created: u64,
    options: Options,
    prompts: Vec<Arc<[Token]>>,
    job: Arc<Job>,
}

pub(crate) async fn run(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    let options = common::options(call.engine.config.kind, fields)?;
    let logprobs = fields.integer("logprobs")?;
    let served = common::model(call)?;
    let prompts = common::prompts(fields)?;
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    let limit = fields
        .integer("max_tokens")?
        .map_or(Limit::Default(16), Limit::Asked);
    let mut sampling = common::sampling(call.engine, fields, limit, longest)?;
    sampling.logprobs = logprobs.and_then(|n| usize::try_from(n).ok()).map(|n| n.min(20));
    let completion = Completion {
        call,
        id: format!("cmpl-{}", call.id),
        model: served.name.clone(),
        created: date::unix_now(),
        options,
        prompts,
        job: common::job(call, &served, sampling),
    };
    if options.stream {
        completion.stream(out).await
    } else {
        completion.whole(out).await
    }
}

impl Completion<'_> {
    async fn whole(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        let items = run::start(&self.job, &self.id, &self.prompts, Naming::Numbered, usize::MAX);
        let choices = self.prompts.len() * self.job.sampling.n as usize;
        let mut items = run::collect(items, choices).await?;
        let spent = self.spent(&items);
        // One object for the whole answer, whatever the number of prompts: that of the first one.
        let of_first = items.iter_mut().rev().find(|item| item.prompt == 0);
        let kv_transfer_params = of_first.and_then(|item| item.step.finish.as_mut()?.params.take());
        let answer = Answer {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.model,
            choices: items.into_iter().map(|item| self.choice(item)).collect(),
            service_tier: None,
            system_fingerprint: &self.call.engine.fingerprint,
            usage: spent.whole(self.call.engine.config.prompt_tokens_details),
            kv_transfer_params,
            ec_transfer_params: None,
            metrics: None,
        };
        out.reply(Reply::json(200, &answer)).await?;
        self.job.delivered();
        Ok(())
    }

    async fn stream(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        out.start_events().await?;
        let most = self.call.engine.config.tokens_per_event.max(1) as usize;
        let mut items = run::start(&self.job, &self.id, &self.prompts, Naming::Numbered, most);
        let mut spent = self.spent(&[]);
        let mut offsets = vec![0; self.prompts.len() * self.job.sampling.n as usize];
        while let Some(item) = items.next().await {
            let item = item?;
            spent.completion += item.step.tokens.len() as u32;
            spent.cached = item.cached;
            let usage = self.options.continuous_usage.then(|| {
                let prompt = self.prompts[item.prompt].len() as u32;
                Spent {
                    prompt,
                    completion: item.generated,
                    ..spent
                }
                .running()
            });
            let last = item.step.finish.is_some() && !self.options.include_usage;
            let choice = self.chunk_choice(&item, &mut offsets);
            self.event(out, &[choice], usage, last).await?;
        }
        if self.options.include_usage {
            let usage = spent.last(self.call.engine.config.prompt_tokens_details);
            self.event(out, &[], Some(usage), true).await?;
        }
        out.event(b"data: [DONE]\n\n").await?;
        out.finish().await?;
        self.job.delivered();
        Ok(())
    }

    async fn event(
        &self,
        out: &mut Responder<'_>,
        choices: &[ChunkChoice<'_>],
        usage: Option<Usage>,
        fingerprint: bool,
    ) -> Result<(), Trouble> {
        let chunk = Chunk {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.model,
            choices,
            usage,
            system_fingerprint: fingerprint.then_some(self.call.engine.fingerprint.as_str()),
        };
        Ok(out.event(&super::data(&chunk)).await?)
    }

    fn choice(&self, item: Item) -> Choice<'_> {
        let prompt = &self.prompts[item.prompt];
        let text = if self.options.echo {
            decode(prompt) + &item.step.text
        } else {
            item.step.text
        };
        let top = self.job.sampling.logprobs;
        let judged = top
            .filter(|_| self.options.echo)
            .map(|top| prompt_logprobs(self.job.weights, prompt, top));
        let logprobs = top.map(|_| {
            let mut all: Vec<Option<TokenLogprob>> = Vec::new();
            let mut tokens: Vec<Token> = Vec::new();
            if let Some(judged) = &judged {
                tokens.extend(prompt.iter());
                all.extend(judged.iter().cloned());
            }
            tokens.extend(&item.step.tokens);
            all.extend(item.step.logprobs.into_iter().map(Some));
            CompletionLogprobs::new(&tokens, &all, 0)
        });
        let (finish_reason, stop_reason) = match item.step.finish {
            Some(finish) => (Some(finish.reason), finish.stop_reason),
            None => (None, None),
        };
        let ids = self.options.return_token_ids;
        Choice {
            index: item.index,
            text,
            logprobs,
            finish_reason,
            stop_reason,
            token_ids: ids.then_some(item.step.tokens),
            prompt_logprobs: judged.map(|judged| judged.into_iter().map(PromptLogprob).collect()),
            prompt_token_ids: ids.then_some(prompt),
            routed_experts: None,
        }
    }

    fn chunk_choice<'a>(&'a self, item: &'a Item, offsets: &mut [usize]) -> ChunkChoice<'a> {
        let prompt = &self.prompts[item.prompt];
        let mut text = item.step.text.clone();
        if self.options.echo && item.first {
            text = decode(prompt) + &text;
        }
        let offset = offsets.get(item.index).copied().unwrap_or(0);
        let logprobs = self.job.sampling.logprobs.map(|_| {
            let all: Vec<_> = item.step.logprobs.iter().cloned().map(Some).collect();
            CompletionLogprobs::new(&item.step.tokens, &all, offset)
        });
        if let Some(offset) = offsets.get_mut(item.index) {
            *offset += text.chars().count();
        }
        let finish = item.step.finish.as_ref();
        let ids = self.options.return_token_ids;
        ChunkChoice {
            index: item.index,
            text,
            logprobs,
            finish_reason: finish.map(|finish| finish.reason),
            stop_reason: finish.and_then(|finish| finish.stop_reason.clone()),
            // With `echo` the ids come along unasked.
            prompt_token_ids: ((ids || self.options.echo) && item.first).then_some(prompt),
            token_ids: ids.then_some(&item.step.tokens),
        }
    }

    fn spent(&self, items: &[Item]) -> Spent {
        Spent {
            prompt: self.prompts.iter().map(|prompt| prompt.len() as u32).sum(),
            completion: items.iter().map(|item| item.generated).sum(),
            cached: items.last().map_or(0, |item| item.cached),
            created: None,
        }
    }
}
