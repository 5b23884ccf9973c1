//! The events of a stream.

use serde_json::{Map, Value, json};

/// Members whose pieces follow each other in a stream.
const PIECES: [&str; 8] = [
    "delta",
    "text",
    "content",
    "reasoning",
    "reasoning_content",
    "partial_json",
    "arguments",
    "thinking",
];

/// The events of a stream, each as `{"event": NAME, "data": JSON OR TEXT}`.
pub(crate) fn parse(body: &str) -> Vec<Value> {
    let blocks = body.split("\n\n").filter(|block| !block.trim().is_empty());
    blocks
        .map(|block| {
            let (mut name, mut data) = (Value::Null, String::new());
            for line in block.lines() {
                if let Some(text) = line.strip_prefix("event:") {
                    name = text.trim().into();
                } else if let Some(text) = line.strip_prefix("data:") {
                    data.push_str(text.trim_start());
                }
            }
            let data = serde_json::from_str(&data).unwrap_or(Value::String(data));
            json!({"event": name, "data": data})
        })
        .collect()
}

/// The same stream with as few events as possible: how many tokens an event holds is chance.
///
/// The pieces of each choice become one event, in the order of the choices; so do neighbouring deltas of other APIs.
pub(crate) fn join(events: &[Value]) -> Vec<Value> {
    let mut choices: Vec<(u64, Value)> = Vec::new();
    let mut others: Vec<Value> = Vec::new();
    for event in events {
        let index = event["data"]["choices"][0]["index"].as_u64();
        if let Some(index) = index {
            match choices.iter_mut().find(|(known, _)| *known == index) {
                Some((_, joined)) => append(joined, event),
                None => choices.push((index, event.clone())),
            }
            continue;
        }
        let mut event = event.clone();
        if let Some(data) = event["data"].as_object_mut() {
            data.remove("sequence_number");
        }
        match others.last_mut() {
            Some(last) if continues(last, &event) => append(last, &event),
            _ => others.push(event),
        }
    }
    choices.sort_by_key(|(index, _)| *index);
    choices
        .into_iter()
        .map(|(_, joined)| joined)
        .chain(others)
        .collect()
}

/// The text of all deltas, for streams that broke off.
pub(crate) fn text(events: &[Value]) -> String {
    let piece = |event: &Value| {
        let data = &event["data"];
        let choice = &data["choices"][0];
        let places = [
            &choice["delta"]["content"],
            &choice["text"],
            &data["delta"],
            &data["delta"]["text"],
        ];
        places
            .into_iter()
            .find_map(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    events.iter().map(piece).collect()
}

fn continues(last: &Value, next: &Value) -> bool {
    let is_delta = next["event"].as_str().is_some_and(|name| name.ends_with("delta"));
    let same = |member: &str| last["data"][member] == next["data"][member];
    is_delta
        && last["event"] == next["event"]
        && ["index", "item_id", "output_index", "content_index"]
            .into_iter()
            .all(same)
}

/// Puts what `next` says behind what `joined` says already.
fn append(joined: &mut Value, next: &Value) {
    match (joined, next) {
        (Value::Object(joined), Value::Object(next)) => append_members(joined, next),
        (joined, Value::Null) if !joined.is_null() => {}
        (joined, next) => *joined = next.clone(),
    }
}

fn append_members(joined: &mut Map<String, Value>, next: &Map<String, Value>) {
    for (name, piece) in next {
        let Some(known) = joined.get_mut(name) else {
            joined.insert(name.clone(), piece.clone());
            continue;
        };
        match (known, piece) {
            (Value::String(known), Value::String(piece)) if PIECES.contains(&name.as_str()) => {
                known.push_str(piece);
            }
            (Value::Array(known), Value::Array(piece)) if name == "choices" => {
                known
                    .iter_mut()
                    .zip(piece)
                    .for_each(|(known, piece)| append(known, piece));
            }
            (Value::Array(known), Value::Array(piece)) if name == "tool_calls" => append_calls(known, piece),
            (Value::Array(known), Value::Array(piece)) => known.extend(piece.iter().cloned()),
            (known, piece) => append(known, piece),
        }
    }
}

/// Pieces of tool calls say which call they are pieces of.
fn append_calls(known: &mut Vec<Value>, pieces: &[Value]) {
    for piece in pieces {
        match known.iter_mut().find(|call| call["index"] == piece["index"]) {
            Some(call) => append(call, piece),
            None => known.push(piece.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(index: u64, text: &str, finish: Option<&str>) -> Value {
        json!({"event": null, "data": {"choices": [{
            "index": index, "text": text, "finish_reason": finish, "logprobs": {"tokens": [text]},
        }]}})
    }

    #[test]
    fn events_have_a_name_and_data() {
        let parsed = parse("event: a\ndata: {\"b\":1}\n\ndata: [DONE]\n\n");
        assert_eq!(
            parsed,
            [
                json!({"event": "a", "data": {"b": 1}}),
                json!({"event": null, "data": "[DONE]"})
            ]
        );
    }

    #[test]
    fn where_a_stream_is_cut_into_events_makes_no_difference() {
        let done = json!({"event": null, "data": "[DONE]"});
        let one = [
            chunk(0, "a", None),
            chunk(1, "x", None),
            chunk(0, "b", Some("stop")),
            chunk(1, "y", None),
            done.clone(),
        ];
        let other = [chunk(1, "xy", None), chunk(0, "ab", Some("stop")), done.clone()];
        let mut expected = vec![chunk(0, "ab", Some("stop")), chunk(1, "xy", None), done];
        expected[0]["data"]["choices"][0]["logprobs"]["tokens"] = json!(["a", "b"]);
        expected[1]["data"]["choices"][0]["logprobs"]["tokens"] = json!(["x", "y"]);
        assert_eq!(join(&one), expected);
        assert_eq!(text(&join(&other)), text(&join(&one)));
    }

    #[test]
    fn what_is_missing_or_other_shows() {
        assert_ne!(join(&[chunk(0, "a", None)]), join(&[chunk(0, "a", Some("stop"))]));
        assert_ne!(join(&[chunk(0, "a", None)]), join(&[chunk(1, "a", None)]));
    }

    #[test]
    fn pieces_of_a_tool_call_join() {
        let piece = |index: u64, arguments: &str| {
            let call = json!({"index": index, "function": {"arguments": arguments}});
            json!({"event": null, "data": {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}})
        };
        let joined = join(&[piece(0, "a"), piece(0, "b"), piece(1, "c")]);
        let calls = &joined[0]["data"]["choices"][0]["delta"]["tool_calls"];
        let arguments = |call: usize| calls[call]["function"]["arguments"].as_str();
        assert_eq!((arguments(0), arguments(1)), (Some("ab"), Some("c")));
    }

    #[test]
    fn deltas_of_one_item_join() {
        let delta = |n: u64, text: &str| {
            let data = json!({"sequence_number": n, "item_id": "i", "delta": text});
            json!({"event": "response.output_text.delta", "data": data})
        };
        let joined = join(&[delta(1, "a"), delta(2, "b")]);
        assert_eq!(joined.len(), 1);
        assert_eq!(joined[0]["data"]["delta"], "ab");
    }
}
