//! `/tokenize` and `/detokenize`.

use serde::Serialize;
use serde_json::Value;

use super::fields::{Fields, wrong};
use super::{ApiError, common};
use crate::engine::Engine;
use crate::http::respond::Reply;
use crate::text::template;
use crate::text::tokenizer::{Token, decode, encode, token_string};

#[derive(Serialize)]
struct Tokens {
    count: usize,
    max_model_len: u32,
    tokens: Vec<Token>,
    token_strs: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Text {
    prompt: String,
}

/// Tokens of a prompt or of a conversation.
pub(crate) fn tokenize(engine: &Engine, fields: Fields<'_>) -> Result<Reply, ApiError> {
    common::served(engine, fields)?;
    let tokens = match fields.array("messages")? {
        Some(messages) => {
            let open = fields
                .0
                .get("add_generation_prompt")
                .and_then(Value::as_bool)
                .unwrap_or(true);
            template::chat(messages, open)
        }
        None => {
            let prompt = fields.required("prompt")?;
            let text = prompt.as_str();
            encode(
                text.ok_or_else(|| wrong("prompt", prompt, "string_type", "Input should be a valid string"))?,
            )
        }
    };
    let strings = fields.flag("return_token_strs")?;
    Ok(Reply::json(
        200,
        &Tokens {
            count: tokens.len(),
            max_model_len: engine.config.max_model_len,
            token_strs: strings.then(|| tokens.iter().map(|&token| token_string(token)).collect()),
            tokens,
        },
    ))
}

/// The text of tokens.
pub(crate) fn detokenize(engine: &Engine, fields: Fields<'_>) -> Result<Reply, ApiError> {
    common::served(engine, fields)?;
    fields.required("tokens")?;
    let ids = fields.array("tokens")?.unwrap_or_default();
    let tokens: Vec<Token> = ids
        .iter()
        .filter_map(|id| Token::try_from(id.as_u64()?).ok())
        .collect();
    Ok(Reply::json(
        200,
        &Text {
            prompt: decode(&tokens),
        },
    ))
}
