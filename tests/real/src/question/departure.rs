//! Clients that go before their answer is complete.

use serde_json::{Value, json};

use super::{Departure, Manner, Question, Run};
use crate::wire::Request;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// How the ids of these requests begin, for those who read logs.
pub(crate) const LEFT: &str = "left-";

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
    let mut all = vec![
        leave(
            "left after 40 events",
            late,
            COMPLETIONS,
            completion("left after 40 events", true),
        ),
        leave(
            "left after one event of a chat",
            early,
            CHAT,
            chat("left after one event of a chat", true),
        ),
        leave(
            "left on the way to decode",
            Departure::AtDecode,
            COMPLETIONS,
            completion("left on the way", false),
        ),
        leave(
            "left while decoding",
            Departure::WhileDecoding,
            CHAT,
            chat("left while decoding", false),
        ),
    ];
    for request in all.iter_mut().flat_map(|question| &mut question.requests) {
        request.headers.push((
            "X-Request-Id".to_owned(),
            format!("{LEFT}{}", run.name.replace(' ', "-")),
        ));
    }
    all
}
