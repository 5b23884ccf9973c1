//! `POST /generate`, SGLang's own endpoint, for one prompt.

use std::sync::Arc;

use futures::StreamExt;
use serde_json::{Map, Value, json};

use super::{check_room, matched_stop};
use crate::api::common::{self, Limit};
use crate::api::fields::Fields;
use crate::api::run::{self, Item, Naming};
use crate::api::{ApiError, Call, Trouble, data};
use crate::config::{Connector, Role};
use crate::generate::Sampling;
use crate::http::respond::{Reply, Responder};
use crate::text::tokenizer::{Token, encode};

pub(crate) async fn run(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    check_room(call)?;
    let prompt: Arc<[Token]> = prompt(fields)?.into();
    let sampling = sampling(call, fields, prompt.len())?;
    let served = common::model(call)?;
    let job = common::job(call, &served, sampling);
    let most = call.engine.config.tokens_per_event.max(1) as usize;
    let prompts = std::slice::from_ref(&prompt);
    if !fields.flag("stream")? {
        let items = run::collect(run::start(&job, &call.id, prompts, Naming::Plain, usize::MAX), 1).await?;
        let answer = items
            .first()
            .map(|item| answer(call, &prompt, item, &item.step.text));
        out.reply(Reply::json(200, &answer)).await?;
        job.delivered();
        return Ok(());
    }
    let mut items = run::start(&job, &call.id, prompts, Naming::Plain, most);
    let mut text = String::new();
    let mut begun = false;
    while let Some(item) = items.next().await {
        let item = item?;
        if !begun {
            begun = true;
            out.start_events().await?;
        }
        // Each event has the whole text so far.
        text.push_str(&item.step.text);
        out.event(&data(&answer(call, &prompt, &item, &text))).await?;
    }
    out.event(b"data: [DONE]\n\n").await?;
    out.finish().await?;
    job.delivered();
    Ok(())
}

fn prompt(fields: Fields<'_>) -> Result<Vec<Token>, ApiError> {
    if let Some(text) = fields.text("text")? {
        return Ok(encode(text));
    }
    let ids = fields.array("input_ids")?;
    let ids =
        ids.ok_or_else(|| ApiError::new(400, "BadRequest", "Either text or input_ids must be provided."))?;
    Ok(ids
        .iter()
        .filter_map(|id| Token::try_from(id.as_u64()?).ok())
        .collect())
}

fn sampling(call: &Call<'_>, fields: Fields<'_>, prompt: usize) -> Result<Sampling, ApiError> {
    let none = Map::new();
    let params = Fields(fields.object("sampling_params")?.unwrap_or(&none));
    let limit = params
        .integer("max_new_tokens")?
        .map_or(Limit::Default(128), Limit::Asked);
    let mut sampling = common::sampling(call.engine, params, limit, prompt)?;
    sampling.n = 1;
    if call.engine.config.connector == Connector::Sglang && call.engine.config.role == Role::Prefill {
        sampling.max_tokens = 1;
    }
    Ok(sampling)
}

fn answer(call: &Call<'_>, prompt: &[Token], item: &Item, text: &str) -> Value {
    let finish = item.step.finish.as_ref();
    let reason = finish.map(|finish| match finish.is_stop() {
        true => json!({ "type": "stop", "matched": matched_stop(Some(finish)) }),
        false => json!({ "type": "length", "length": item.generated }),
    });
    json!({
        "text": text,
        "output_ids": item.step.tokens,
        "meta_info": {
            "id": call.id,
            "finish_reason": reason,
            "prompt_tokens": prompt.len(),
            "weight_version": "default",
            "completion_tokens": item.generated,
            "cached_tokens": item.cached,
        },
    })
}
