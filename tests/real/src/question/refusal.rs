//! Requests that an engine refuses.

use serde_json::{Value, json};

use super::{Expected, Question, Run, with};
use crate::{
    engine::{CONTEXT, Library},
    wire::Request,
};

pub(super) fn all(run: Run) -> Vec<Question> {
    let body = |more: Value| {
        with(
            json!({"model": "tiny", "prompt": run.text("refused", 40), "max_tokens": 4, "temperature": 0}),
            more,
        )
    };
    let completion = |more: Value| Request::post("/v1/completions", &body(more));
    let chat = |more: Value| {
        let messages = json!([{"role": "user", "content": run.text("refused chat", 40)}]);
        Request::post(
            "/v1/chat/completions",
            &with(
                json!({"model": "tiny", "messages": messages, "max_tokens": 4}),
                more,
            ),
        )
    };
    let mut wrong = vec![
        completion(json!({"temperature": -1})),
        completion(json!({"temperature": -1, "stream": true})),
        completion(json!({"max_tokens": -1})),
        completion(json!({"max_tokens": "many"})),
        completion(json!({"n": 0})),
        completion(json!({"top_p": 7})),
        completion(json!({"min_tokens": 9})),
        completion(json!({"logprobs": 1000})),
        completion(json!({"prompt": 7})),
        completion(json!({"prompt": []})),
        completion(json!({"stream_options": {"include_usage": true}})),
        completion(json!({"stream": "perhaps"})),
        chat(json!({"messages": "hello"})),
        chat(json!({"messages": [{"content": "hello"}]})),
        chat(json!({"stream_options": {"include_usage": true}})),
        chat(json!({"response_format": {"type": "json_schema"}})),
        chat(json!({"top_logprobs": 3})),
        chat(json!({"tool_choice": "required"})),
        Request::post("/v1/responses", &json!({"model": "tiny", "input": 5})),
        Request::post(
            "/v1/messages",
            &json!({"model": "tiny", "messages": [], "max_tokens": 4}),
        ),
    ];
    if run.library == Library::Nixl {
        // The errors of these tell how many members the body has, and Mooncake's decode, asked together with prefill, has one more.
        wrong.push(Request::post("/v1/chat/completions", &json!({"model": "tiny"})));
        wrong.push(Request::post(
            "/v1/messages",
            &json!({"model": "tiny", "max_tokens": 4}),
        ));
    }
    let long = vec![
        completion(json!({"max_tokens": 2 * CONTEXT})),
        completion(json!({"max_tokens": 2 * CONTEXT, "stream": true})),
        completion(json!({"prompt": vec![300; CONTEXT + 1]})),
        chat(json!({"max_tokens": 2 * CONTEXT})),
        chat(
            json!({"messages": [{"role": "user", "content": run.text("too long", 4 * CONTEXT)}], "stream": true}),
        ),
    ];
    vec![
        Question::many("wrong requests", wrong).expecting(Expected::Refused(
            "prefill refuses them: there is nothing to hand over",
        )),
        Question::many("requests that are too long", long).expecting(Expected::Refused(
            "the same, or decode refuses before it fetches anything",
        )),
    ]
}
