//! `/v1/responses` and `/v1/messages`

use serde_json::{Value, json};

use super::{Question, Run, streamed, with};
use crate::wire::Request;

const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

pub(super) fn all(run: Run) -> Vec<Question> {
    let response = |name: &str, more: Value| {
        let body =
            json!({"model": "tiny", "input": run.text(name, 40), "max_output_tokens": 12, "temperature": 0});
        with(body, more)
    };
    let message = |name: &str, more: Value| {
        let messages = json!([{"role": "user", "content": run.text(name, 40)}]);
        with(
            json!({"model": "tiny", "messages": messages, "max_tokens": 12, "temperature": 0}),
            more,
        )
    };
    let ask = |name: &'static str, path: &str, body: Value| Question::one(name, Request::post(path, &body));
    let input = json!([
        {"role": "user", "content": run.text("response of many turns", 30)},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "input_text", "text": "And then?"}]},
    ]);
    let parts =
        json!([{"role": "user", "content": [{"type": "text", "text": run.text("message in parts", 40)}]}]);
    vec![
        ask("response", RESPONSES, response("response", json!({}))),
        ask(
            "response, streamed",
            RESPONSES,
            streamed(response("response, streamed", json!({}))),
        ),
        ask(
            "response with instructions",
            RESPONSES,
            response(
                "response with instructions",
                json!({"instructions": "Be short.", "store": false}),
            ),
        ),
        ask(
            "response of many turns",
            RESPONSES,
            response("response of many turns", json!({"input": input})),
        ),
        ask("message", MESSAGES, message("message", json!({}))),
        ask(
            "message, streamed",
            MESSAGES,
            streamed(message("message, streamed", json!({}))),
        ),
        ask(
            "message with a system text",
            MESSAGES,
            message(
                "message with a system text",
                json!({"system": "Be short.", "stop_sequences": ["e"]}),
            ),
        ),
        ask(
            "message in parts",
            MESSAGES,
            message("message in parts", json!({"messages": parts})),
        ),
    ]
}
