use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

fn apply(body: &str, edits: &Edits) -> String {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let peek = Peek::read(&body).expect("a JSON object");
    let out = edits.apply(&body, &peek);
    assert_eq!(out.len(), out.to_bytes().len());
    String::from_utf8(out.to_bytes().to_vec()).expect("UTF-8")
}

fn check(body: &str, edit: impl Fn(&mut Edits), expected: &str) {
    let mut edits = Edits::new();
    edit(&mut edits);
    assert_eq!(apply(body, &edits), expected, "{body}");
}

#[test]
fn without_edits_the_bytes_are_the_same_allocation() {
    let body = Bytes::from_static(b" {\"a\" : 1 } ");
    let peek = Peek::read(&body).unwrap();
    let out = Edits::new().remove(Key::Stream).apply(&body, &peek);
    assert_eq!(out.segments()[0].as_ptr(), body.as_ptr());
}

#[test]
fn a_value_is_replaced_in_place_and_everything_else_stays() {
    check(
        "{\n  \"seed\": 1234567890123456789,\"model\" :\t\"a\" , \"temperature\":0.70}\n",
        |e| _ = e.set(Key::Model, "\"b\""),
        "{\n  \"seed\": 1234567890123456789,\"model\" :\t\"b\" , \"temperature\":0.70}\n",
    );
}

#[test]
fn a_new_member_comes_last() {
    check("{}", |e| _ = e.set(Key::N, "1"), "{\"n\":1}");
    check(
        "{ }",
        |e| _ = e.set(Key::N, "1").set(Key::Model, "\"m\""),
        "{ \"n\":1,\"model\":\"m\"}",
    );
    check("{\"a\":1 } ", |e| _ = e.set(Key::N, "1"), "{\"a\":1 ,\"n\":1} ");
}

#[test]
fn a_removed_member_takes_one_comma_along() {
    check("{\"n\":1}", |e| _ = e.remove(Key::N), "{}");
    check("{\"n\":1,\"a\":2}", |e| _ = e.remove(Key::N), "{\"a\":2}");
    check("{\"a\":2,\"n\":1}", |e| _ = e.remove(Key::N), "{\"a\":2}");
    check(
        "{\"a\":2 , \"n\" : 1 , \"b\":[3]}",
        |e| _ = e.remove(Key::N),
        "{\"a\":2  , \"b\":[3]}",
    );
    check(
        "{\"n\":1,\"stream\":true,\"a\":2}",
        |e| _ = e.remove(Key::N).remove(Key::Stream),
        "{\"a\":2}",
    );
    check(
        "{\"n\":1,\"stream\":true}",
        |e| _ = e.remove(Key::N).remove(Key::Stream),
        "{}",
    );
    check(
        "{\"n\":1,\"a\":2,\"stream\":true}",
        |e| _ = e.remove(Key::N).remove(Key::Stream),
        "{\"a\":2}",
    );
    check("{\"n\":1,\"n\":2,\"n\":3}", |e| _ = e.remove(Key::N), "{}");
    check(
        "{\"n\":1,\"a\":\"{,}\"}",
        |e| _ = e.remove(Key::N),
        "{\"a\":\"{,}\"}",
    );
}

#[test]
fn every_occurrence_is_replaced() {
    check(
        "{\"model\":\"a\",\"mod\\u0065l\":\"b\"}",
        |e| _ = e.set(Key::Model, "\"c\""),
        "{\"model\":\"c\",\"mod\\u0065l\":\"c\"}",
    );
}

#[test]
fn setting_and_removing_meet_in_one_body() {
    check(
        "{\"stream\":true,\"model\":\"a\",\"min_tokens\":3}",
        |e| {
            _ = e
                .remove(Key::Stream)
                .set(Key::Model, "\"b\"")
                .remove(Key::MinTokens)
                .set(Key::MaxTokens, "1");
        },
        "{\"model\":\"b\",\"max_tokens\":1}",
    );
    check(
        "{\"stream\":true}",
        |e| _ = e.remove(Key::Stream).set(Key::N, "1"),
        "{\"n\":1}",
    );
}

#[test]
fn a_long_body_is_not_copied() {
    let long = "x".repeat(100_000);
    let body = Bytes::from(format!(
        "{{\"model\":\"a\",\"prompt\":\"{long}\",\"stream\":true}}"
    ));
    let peek = Peek::read(&body).unwrap();
    let out = Edits::new()
        .set(Key::Model, "\"b\"")
        .remove(Key::Stream)
        .apply(&body, &peek);
    let inside = |segment: &Bytes| body.as_ptr_range().contains(&segment.as_ptr());
    assert_eq!(
        out.segments()
            .iter()
            .filter(|s| s.len() > 50_000)
            .map(inside)
            .collect::<Vec<_>>(),
        [true]
    );
    assert_eq!(
        out.to_bytes(),
        format!("{{\"model\":\"b\",\"prompt\":\"{long}\"}}")
    );
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~é{},\\[\\]\"\\\\]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z\"\\\\,]{0,4}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("model".to_owned()),
        Just("stream".to_owned()),
        Just("n".to_owned()),
        Just("prompt".to_owned()),
        "[a-z\"\\\\, ]{0,5}",
    ]
}

proptest! {
    #[test]
    fn edits_change_what_they_name_and_nothing_else(
        members in prop::collection::vec((name(), json()), 0..8),
        pretty in any::<bool>(),
        actions in prop::collection::vec((0..3_u8, json()), 4),
    ) {
        let object: Map<String, Value> = members.into_iter().collect();
        let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
        let mut expected = object;
        let mut edits = Edits::new();
        for (key, (action, value)) in [Key::Model, Key::Stream, Key::N, Key::Prompt].into_iter().zip(actions) {
            match action {
                0 => {}
                1 => {
                    edits.remove(key);
                    expected.remove(key.name());
                }
                _ => {
                    edits.set(key, value.to_string());
                    expected.insert(key.name().to_owned(), value);
                }
            }
        }
        let out = apply(&text, &edits);
        let got: Map<String, Value> = serde_json::from_str(&out).unwrap();
        prop_assert_eq!(got, expected, "{} -> {}", text, out);
    }
}
