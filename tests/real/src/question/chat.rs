//! `/v1/chat/completions`

use serde_json::{Value, json};

use super::{Question, RENAMED, Run, streamed, with};
use crate::wire::Request;

const PATH: &str = "/v1/chat/completions";

fn body(run: Run, name: &str, more: Value) -> Value {
    let messages = json!([
        {"role": "system", "content": "You answer in few words."},
        {"role": "user", "content": run.text(name, 40)},
    ]);
    with(
        json!({"model": "tiny", "messages": messages, "max_tokens": 12, "temperature": 0}),
        more,
    )
}

pub(super) fn all(run: Run) -> Vec<Question> {
    let ask =
        |name: &'static str, more: Value| Question::one(name, Request::post(PATH, &body(run, name, more)));
    let stream = |name: &'static str, more: Value| {
        Question::one(name, Request::post(PATH, &streamed(body(run, name, more))))
    };
    vec![
        ask("chat", json!({})),
        stream("chat, streamed", json!({})),
        stream(
            "chat, streamed, usage",
            json!({"stream_options": {"include_usage": true}}),
        ),
        newer_limit(run),
        ask(
            "chat of many turns",
            json!({"messages": turns(run), "max_tokens": 20}),
        ),
        ask(
            "chat in parts",
            json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": run.text("chat in parts", 40)}, {"type": "text", "text": "And more."}]}]}),
        ),
        ask("chat with logprobs", json!({"logprobs": true, "top_logprobs": 2})),
        stream(
            "chat with logprobs, streamed",
            json!({"logprobs": true, "top_logprobs": 2}),
        ),
        ask("chat with token ids", json!({"return_token_ids": true})),
        ask(
            "chat with a stop text",
            json!({"stop": ["e", "a"], "max_tokens": 60}),
        ),
        stream(
            "chat with min_tokens, streamed",
            json!({"min_tokens": 6, "max_tokens": 16}),
        ),
        ask(
            "chat with a JSON schema",
            json!({"max_tokens": 40, "response_format": {"type": "json_schema", "json_schema": {
            "name": "answer", "schema": {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"],
            "additionalProperties": false}}}}),
        ),
        ask(
            "chat with tools",
            json!({"tools": [weather()], "tool_choice": "auto"}),
        ),
        stream(
            "chat with a demanded tool, streamed",
            json!({"tools": [weather()], "max_tokens": 60,
            "tool_choice": {"type": "function", "function": {"name": "weather"}}}),
        ),
        ask(
            "chat that goes on",
            json!({"add_generation_prompt": false, "continue_final_message": true, "messages": [
            {"role": "user", "content": run.text("chat that goes on", 40)}, {"role": "assistant", "content": "Well,"}]}),
        ),
        stream("chat by an adapter, streamed", json!({"model": "tiny-lora"})),
        ask("chat by a renamed model", json!({"model": RENAMED})),
        several(run),
    ]
}

/// The limit under its newer name only.
fn newer_limit(run: Run) -> Question {
    let mut body = body(
        run,
        "chat with max_completion_tokens",
        json!({"max_completion_tokens": 9}),
    );
    body.as_object_mut()
        .expect("bodies are objects")
        .remove("max_tokens");
    Question::one("chat with max_completion_tokens", Request::post(PATH, &body))
}

fn turns(run: Run) -> Vec<Value> {
    let turn = |n: usize| {
        let role = if n.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"role": role, "content": run.text(&format!("turn {n}"), 30)})
    };
    (0..9).map(turn).collect()
}

fn weather() -> Value {
    json!({"type": "function", "function": {"name": "weather", "description": "tells the weather", "parameters": {
        "type": "object", "properties": {"warm": {"type": "boolean"}}, "required": ["warm"], "additionalProperties": false}}})
}

fn several(run: Run) -> Question {
    let requests = (0..6).map(|n| {
        let body = body(run, &format!("{n} of six at once"), json!({"max_tokens": 20}));
        Request::post(PATH, &if n % 2 == 0 { body } else { streamed(body) })
    });
    Question::at_once("six chats at once", requests.collect())
}
