//! `POST /v1/chat/completions`.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;
use serde_json::value::RawValue;

use super::common::{self, Limit, Options};
use super::fields::Fields;
use super::logprobs::ChatLogprobs;
use super::run::{self, Item, Naming};
use super::usage::{Spent, Usage};
use super::{ApiError, Call, Trouble};
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
    service_tier: Option<()>,
    system_fingerprint: &'a str,
    usage: Usage,
    prompt_logprobs: Option<()>,
    prompt_token_ids: Option<&'a [Token]>,
    prompt_text: Option<()>,
    kv_transfer_params: Option<Box<RawValue>>,
    ec_transfer_params: Option<()>,
    metrics: Option<()>,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    message: Message,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
    stop_reason: Option<serde_json::Value>,
    token_ids: Option<Vec<Token>>,
    routed_experts: Option<()>,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: String,
    refusal: Option<()>,
    annotations: Option<()>,
    audio: Option<()>,
    function_call: Option<()>,
    reasoning: Option<()>,
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
    /// Only in the chunks that open a choice, there also when it is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<Option<&'a [Token]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_text: Option<Option<()>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<&'a str>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<Option<serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<Option<&'a [Token]>>,
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    content: &'a str,
}

/// One request, ready to run.
struct Chat<'a> {
    call: &'a Call<'a>,
    id: String,
    model: String,
    created: u64,
    options: Options,
    prompt: Arc<[Token]>,
    job: Arc<Job>,
}

pub(crate) async fn run(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    let messages = common::messages(fields)?;
    let options = common::options(call.engine.config.kind, fields)?;
    let logprobs = fields.flag("logprobs")?;
    let top = fields.integer("top_logprobs")?;
    if top.is_some() && !logprobs {
        let message = "when using `top_logprobs`, `logprobs` must be set to true.";
        return Err(ApiError::parameter(message, "top_logprobs", None).into());
    }
    let served = common::model(call)?;
    let add_prompt = call
        .body
        .get("add_generation_prompt")
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(true);
    let prompt: Arc<[Token]> = template::chat(messages, add_prompt).into();
    let asked = match fields.integer("max_completion_tokens")? {
        Some(asked) => Some(asked),
        None => fields.integer("max_tokens")?,
    };
    let limit = asked.map_or(Limit::Rest, Limit::Asked);
    let mut sampling = common::sampling(call.engine, fields, limit, prompt.len())?;
    sampling.logprobs = logprobs.then(|| usize::try_from(top.unwrap_or(0)).unwrap_or(0).min(20));
    let chat = Chat {
        call,
        id: format!("chatcmpl-{}", call.id),
        model: served.name.clone(),
        created: date::unix_now(),
        options,
        prompt,
        job: common::job(call, &served, sampling),
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
            &self.id,
            std::slice::from_ref(&self.prompt),
            Naming::Plain,
            most,
        )
    }

    async fn whole(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        let mut items = run::collect(self.items(usize::MAX), self.job.sampling.n as usize).await?;
        let last = items.last_mut();
        let spent = Spent {
            prompt: self.prompt.len() as u32,
            cached: last.as_ref().map_or(0, |item| item.cached),
            created: last.as_ref().map(|item| item.created),
            completion: 0,
        };
        // Each of several answers pins its blocks, and only the last one's are spoken of.
        let kv_transfer_params = last.and_then(|item| item.step.finish.as_mut()?.params.take());
        let completion = items.iter().map(|item| item.generated).sum();
        let answer = Answer {
            id: &self.id,
            object: "chat.completion",
            created: self.created,
            model: &self.model,
            choices: items.into_iter().map(|item| self.choice(item)).collect(),
            service_tier: None,
            system_fingerprint: &self.call.engine.fingerprint,
            usage: Spent { completion, ..spent }.whole(self.call.engine.config.prompt_tokens_details),
            prompt_logprobs: None,
            prompt_token_ids: self.options.return_token_ids.then_some(&self.prompt),
            prompt_text: None,
            kv_transfer_params,
            ec_transfer_params: None,
            metrics: None,
        };
        out.reply(Reply::json(200, &answer)).await?;
        self.job.delivered();
        Ok(())
    }

    fn choice(&self, item: Item) -> Choice {
        let logprobs = self
            .job
            .sampling
            .logprobs
            .map(|_| ChatLogprobs::new(&item.step.logprobs));
        let (finish_reason, stop_reason) = match item.step.finish {
            Some(finish) => (Some(finish.reason), finish.stop_reason),
            None => (None, None),
        };
        Choice {
            index: item.index,
            message: Message {
                role: "assistant",
                content: item.step.text,
                refusal: None,
                annotations: None,
                audio: None,
                function_call: None,
                reasoning: None,
            },
            logprobs,
            finish_reason,
            stop_reason,
            token_ids: self.options.return_token_ids.then_some(item.step.tokens),
            routed_experts: None,
        }
    }

    async fn stream(&self, out: &mut Responder<'_>) -> Result<(), Trouble> {
        out.start_events().await?;
        let mut items = self.items(self.call.engine.config.tokens_per_event.max(1) as usize);
        let mut spent = Spent {
            prompt: self.prompt.len() as u32,
            ..Spent::default()
        };
        let mut opened = false;
        while let Some(item) = items.next().await {
            // The chunks that open the choices come with the first result, even if that is a failure.
            if !opened {
                opened = true;
                for index in 0..self.job.sampling.n as usize {
                    self.open(out, index).await?;
                }
            }
            let item = item?;
            spent.completion += item.step.tokens.len() as u32;
            spent.cached = item.cached;
            spent.created = Some(item.created);
            self.tokens(out, &item).await?;
        }
        if self.options.include_usage {
            let usage = spent.last(self.call.engine.config.prompt_tokens_details);
            let fingerprint = Some(self.call.engine.fingerprint.as_str());
            let chunk = Chunk {
                usage: Some(usage),
                system_fingerprint: fingerprint,
                ..self.chunk(&[])
            };
            out.event(&super::data(&chunk)).await?;
        }
        out.event(b"data: [DONE]\n\n").await?;
        out.finish().await?;
        self.job.delivered();
        Ok(())
    }

    /// Sends the chunk that opens a choice.
    async fn open(&self, out: &mut Responder<'_>, index: usize) -> Result<(), Trouble> {
        let choice = ChunkChoice {
            index,
            delta: Delta {
                role: Some("assistant"),
                content: "",
            },
            logprobs: None,
            finish_reason: None,
            stop_reason: None,
            token_ids: None,
        };
        let choices = [choice];
        let chunk = Chunk {
            usage: self.running(0),
            prompt_token_ids: Some(self.options.return_token_ids.then_some(&self.prompt)),
            prompt_text: Some(None),
            ..self.chunk(&choices)
        };
        Ok(out.event(&super::data(&chunk)).await?)
    }

    async fn tokens(&self, out: &mut Responder<'_>, item: &Item) -> Result<(), Trouble> {
        let finish = item.step.finish.as_ref();
        let choice = ChunkChoice {
            index: item.index,
            delta: Delta {
                role: None,
                content: &item.step.text,
            },
            logprobs: self
                .job
                .sampling
                .logprobs
                .map(|_| ChatLogprobs::new(&item.step.logprobs)),
            finish_reason: finish.map(|finish| finish.reason),
            stop_reason: finish.map(|finish| finish.stop_reason.clone()),
            token_ids: Some(self.options.return_token_ids.then_some(&item.step.tokens)),
        };
        let choices = [choice];
        let last = finish.is_some() && !self.options.include_usage;
        let chunk = Chunk {
            usage: self.running(item.generated),
            system_fingerprint: last.then_some(self.call.engine.fingerprint.as_str()),
            ..self.chunk(&choices)
        };
        Ok(out.event(&super::data(&chunk)).await?)
    }

    /// Usage so far, where every chunk is to have it.
    fn running(&self, completion: u32) -> Option<Usage> {
        let prompt = self.prompt.len() as u32;
        self.options.continuous_usage.then(|| {
            Spent {
                prompt,
                completion,
                ..Spent::default()
            }
            .running_chat()
        })
    }

    fn chunk<'a>(&'a self, choices: &'a [ChunkChoice<'a>]) -> Chunk<'a> {
        Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage: None,
            prompt_token_ids: None,
            prompt_text: None,
            system_fingerprint: None,
        }
    }
}
