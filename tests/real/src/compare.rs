//! Whether two answers say the same.
//!
//! Two engines cannot agree about ids and times. Everything else has to be equal, member by member; log probabilities may differ
//! by what floating-point sums in another order differ by.

use serde_json::Value;

use crate::{event, wire::Answer};

/// Members that hold names which an engine makes up.
const IDS: [&str; 5] = ["id", "item_id", "request_id", "call_id", "response_id"];
/// Members that hold times.
const TIMES: [&str; 3] = ["created", "created_at", "completed_at"];
/// Members that tell one engine from another: what its configuration is, and which tokens it computed rather than was given.
const ENGINE: [&str; 2] = ["system_fingerprint", "cache_write_tokens"];
/// What log probabilities may differ by.
const TOLERANCE: f64 = 1e-3;

/// How two answers agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// In one piece.
    Whole,
    /// Event by event.
    Events(usize),
    /// In all that the events say, but not in where one ends and the next begins.
    Joined(usize),
}

/// Compares what the proxy answered with what the plain engine did; the error says where they differ.
pub(crate) fn answers(plain: &Answer, proxied: &Answer, unlike: &[&str]) -> Result<Agreement, String> {
    let about = |answer: &Answer| (answer.status, answer.is_stream(), answer.complete);
    if about(plain) != about(proxied) {
        let show = |answer: &Answer| format!("{:?} {}", about(answer), answer.text());
        return Err(format!(
            "status, kind or completeness: {} | {}",
            show(plain),
            show(proxied)
        ));
    }
    let media_type = |answer: &Answer| answer.header("content-type").map(str::to_owned);
    if media_type(plain) != media_type(proxied) {
        return Err(format!(
            "content-type: {:?} | {:?}",
            media_type(plain),
            media_type(proxied)
        ));
    }
    if !plain.is_stream() {
        let json = |answer: &Answer| {
            let text = answer.text();
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        return values(&json(plain), &json(proxied), unlike).map(|()| Agreement::Whole);
    }
    streams(event::parse(&plain.text()), event::parse(&proxied.text()), unlike)
}

/// Compares the events of two streams.
pub(crate) fn streams(plain: Vec<Value>, proxied: Vec<Value>, unlike: &[&str]) -> Result<Agreement, String> {
    let count = proxied.len();
    let (joined_plain, joined_proxied) = (event::join(&plain), event::join(&proxied));
    if values(&plain.into(), &proxied.into(), unlike).is_ok() {
        return Ok(Agreement::Events(count));
    }
    values(&joined_plain.into(), &joined_proxied.into(), unlike).map(|()| Agreement::Joined(count))
}

/// Compares two JSON values of which two engines have each made one.
pub(crate) fn values(plain: &Value, proxied: &Value, unlike: &[&str]) -> Result<(), String> {
    match difference(
        "",
        &impersonal(plain.clone(), unlike),
        &impersonal(proxied.clone(), unlike),
    ) {
        Some(difference) => Err(difference),
        None => Ok(()),
    }
}

/// Takes out what no two answers share. An id that comes twice in an answer stays the same id.
fn impersonal(mut value: Value, unlike: &[&str]) -> Value {
    fn walk(value: &mut Value, unlike: &[&str], seen: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, unlike, seen)),
            Value::Object(members) => {
                members
                    .retain(|name, _| !ENGINE.contains(&name.as_str()) && !unlike.contains(&name.as_str()));
                for (name, value) in members {
                    match value {
                        Value::String(id) if IDS.contains(&name.as_str()) && !id.contains("kept-") => {
                            let place = seen.iter().position(|known| known == id).unwrap_or_else(|| {
                                seen.push(id.clone());
                                seen.len() - 1
                            });
                            *id = format!("id {place}");
                        }
                        Value::Number(_) if TIMES.contains(&name.as_str()) => *value = "a time".into(),
                        _ => walk(value, unlike, seen),
                    }
                }
            }
            _ => {}
        }
    }
    walk(&mut value, unlike, &mut Vec::new());
    value
}

/// The first place where two values differ.
fn difference(path: &str, one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            names.into_iter().find_map(|name| {
                let nothing = Value::String("(absent)".to_owned());
                let place = format!("{path}.{name}");
                difference(
                    &place,
                    a.get(name).unwrap_or(&nothing),
                    b.get(name).unwrap_or(&nothing),
                )
            })
        }
        (Value::Array(a), Value::Array(b)) => {
            let first = a.iter().zip(b).enumerate();
            let first = first
                .into_iter()
                .find_map(|(n, (a, b))| difference(&format!("{path}[{n}]"), a, b));
            first.or_else(|| {
                (a.len() != b.len()).then(|| format!("{path}: {} | {} entries", a.len(), b.len()))
            })
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            let (a, b) = (a.as_f64()?, b.as_f64()?);
            ((a - b).abs() > TOLERANCE * a.abs().max(1.0)).then(|| format!("{path}: {a} | {b}"))
        }
        _ => (one != other).then(|| format!("{path}: {one} | {other}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{answers as compared, *};

    fn answers(plain: &Answer, proxied: &Answer) -> Result<Agreement, String> {
        compared(plain, proxied, &[])
    }

    fn answer(kind: &str, body: &str) -> Answer {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Answer::parse(head.as_bytes()).unwrap()
    }

    fn whole(body: Value) -> Answer {
        answer("application/json", &body.to_string())
    }

    #[test]
    fn ids_and_times_may_differ_and_nothing_else() {
        let plain =
            whole(json!({"id": "a", "created": 1, "text": "x", "usage": {"total_tokens": 3}, "p": -1.25}));
        let check = |body: Value, equal: bool| {
            assert_eq!(answers(&plain, &whole(body.clone())).is_ok(), equal, "{body}");
        };
        check(
            json!({"id": "b", "created": 2, "text": "x", "usage": {"total_tokens": 3}, "p": -1.2501}),
            true,
        );
        check(
            json!({"id": "b", "created": 2, "text": "y", "usage": {"total_tokens": 3}, "p": -1.25}),
            false,
        );
        check(
            json!({"id": "b", "created": 2, "text": "x", "usage": {"total_tokens": 4}, "p": -1.25}),
            false,
        );
        check(
            json!({"id": "b", "created": 2, "text": "x", "usage": {"total_tokens": 3}, "p": -1.3}),
            false,
        );
        check(
            json!({"id": "b", "created": 2, "text": "x", "usage": {"total_tokens": 3}}),
            false,
        );
        check(
            json!({"id": "b", "created": 2, "text": "x", "usage": {"total_tokens": 3}, "p": -1.25, "q": null}),
            false,
        );
    }

    #[test]
    fn one_id_stays_one_id() {
        let two = |a: &str, b: &str| whole(json!([{"id": a}, {"id": b}]));
        assert!(answers(&two("x", "x"), &two("y", "y")).is_ok());
        assert!(answers(&two("x", "x"), &two("y", "z")).is_err());
    }

    #[test]
    fn streams_agree_event_by_event_or_joined() {
        let stream = |texts: &[&str]| {
            let event =
                |text: &&str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "text": text}]}));
            answer("text/event-stream", &texts.iter().map(event).collect::<String>())
        };
        assert_eq!(
            answers(&stream(&["a", "b"]), &stream(&["a", "b"])),
            Ok(Agreement::Events(2))
        );
        assert_eq!(
            answers(&stream(&["a", "b"]), &stream(&["ab"])),
            Ok(Agreement::Joined(1))
        );
        assert!(answers(&stream(&["a", "b"]), &stream(&["a", "c"])).is_err());
        assert!(answers(&stream(&["a"]), &whole(json!({}))).is_err());
    }
}
