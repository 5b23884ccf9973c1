//! Clients that go before their answer is complete.

use serde_json::{Value, json};

use super::{Departure, Manner, Question, Run};
use crate::wire::Request;

/// More than any engine makes before the client has gone.
const LONG: usize = 1500;

pub(super) fn all(run: Run) -> Vec<Question> {
    let leave = |name: &'static str, departure: Departure, path: &str, body: Value| Question {
        manner: Manner::Departing(departure),
        ..Question::one(name, Request::post(path, &body))
    };
    let completion = |name: &str, stream: bool| {
        json!({"model": "tiny", "prompt": run.text(name, 40), "max_tokens": LONG, "ignore_eos": true, "temperature": 0,
               "stream": stream})
    };
    let chat = |name: &str, stream: bool| {
        json!({"model": "tiny", "messages": [{"role": "user", "content": run.text(name, 40)}], "max_tokens": LONG,
               "ignore_eos": true, "temperature": 0, "stream": stream})
    };
    let (early, late) = (Departure::AfterEvents(1), Departure::AfterEvents(40));
    vec![
        leave(
            "left after 40 events",
            late,
            "/v1/completions",
            completion("left after 40 events", true),
        ),
        leave(
            "left after one event of a chat",
            early,
            "/v1/chat/completions",
            chat("left after one event of a chat", true),
        ),
        leave(
            "left while decoding",
            Departure::WhileDecoding,
            "/v1/completions",
            completion("left while decoding", false),
        ),
        leave(
            "left while decoding a chat",
            Departure::WhileDecoding,
            "/v1/chat/completions",
            chat("left while decoding a chat", false),
        ),
    ]
}
