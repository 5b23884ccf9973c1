//! The chat template: how messages become a prompt.

use serde_json::Value;

use super::tokenizer::{IM_END, IM_START, Token, encode_into};

/// Tokens of a conversation, with the opening of the answer when one is to be generated.
pub(crate) fn chat(messages: &[Value], open_answer: bool) -> Vec<Token> {
    let mut tokens = Vec::new();
    for message in messages {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
        tokens.push(IM_START);
        encode_into(role, &mut tokens);
        encode_into("\n", &mut tokens);
        content(message.get("content"), &mut tokens);
        tokens.push(IM_END);
        encode_into("\n", &mut tokens);
    }
    if open_answer {
        tokens.push(IM_START);
        encode_into("assistant\n", &mut tokens);
    }
    tokens
}

fn content(value: Option<&Value>, tokens: &mut Vec<Token>) {
    match value {
        Some(Value::String(text)) => encode_into(text, tokens),
        Some(Value::Array(parts)) => {
            for part in parts {
                let text = part
                    .get("text")
                    .or_else(|| part.get("content"))
                    .and_then(Value::as_str);
                encode_into(text.unwrap_or_default(), tokens);
            }
        }
        _ => {}
    }
}
