use super::*;

fn raw(body: &str, key: Key) -> Option<String> {
    let peek = Peek::read(body.as_bytes()).expect("a JSON object");
    peek.raw(body.as_bytes(), key)
        .map(|raw| String::from_utf8_lossy(raw).into_owned())
}

#[test]
fn values_are_the_bytes_that_were_sent() {
    let body =
        r#" { "model" : "m\u0031" , "max_tokens":1e2,"n" : 1.0 , "x":{"model":"inner"}, "stream":true } "#;
    assert_eq!(raw(body, Key::Model).as_deref(), Some(r#""m\u0031""#));
    assert_eq!(raw(body, Key::MaxTokens).as_deref(), Some("1e2"));
    assert_eq!(raw(body, Key::N).as_deref(), Some("1.0"));
    assert_eq!(raw(body, Key::Stream).as_deref(), Some("true"));
    assert_eq!(raw(body, Key::Prompt), None);
}

#[test]
fn the_last_of_a_repeated_member_counts() {
    assert_eq!(
        raw(r#"{"model":"a","model":"b"}"#, Key::Model).as_deref(),
        Some(r#""b""#)
    );
}

#[test]
fn an_escaped_name_is_the_same_member() {
    assert_eq!(
        raw(r#"{"mod\u0065l":"a"}"#, Key::Model).as_deref(),
        Some(r#""a""#)
    );
}

#[test]
fn spans_begin_at_the_name() {
    let body = r#"{ "a\"b": 1 ,  "mod\u0065l" :"x","model":"y"}"#;
    let peek = Peek::read(body.as_bytes()).unwrap();
    let spans: Vec<&str> = peek.spans(Key::Model).map(|range| &body[range]).collect();
    assert_eq!(spans, [r#""mod\u0065l" :"x""#, r#""model":"y""#]);
}

#[test]
fn what_is_not_one_object_is_refused() {
    for body in [
        "",
        "[]",
        "null",
        "7",
        "\"x\"",
        "{",
        "{\"model\":",
        "{}{}",
        "{} x",
        "{\"a\":01}",
        "{\"a\":NaN}",
    ] {
        assert!(Peek::read(body.as_bytes()).is_err(), "{body:?}");
    }
    assert!(matches!(Peek::read(b"{\"a\":\"\xff\"}"), Err(Error::Encoding(_))));
}

#[test]
fn a_lone_surrogate_passes_as_it_is() {
    assert_eq!(
        raw(r#"{"prompt":"\ud83d"}"#, Key::Prompt).as_deref(),
        Some(r#""\ud83d""#)
    );
}

#[test]
fn typed_reads_tell_absent_from_wrong() {
    let body = br#"{"stream":"true","echo":true,"n":null,"model":7}"#;
    let peek = Peek::read(body).unwrap();
    assert_eq!(peek.bool(body, Key::Stream), None);
    assert_eq!(peek.bool(body, Key::Echo), Some(true));
    assert_eq!(peek.string(body, Key::Model), None);
    assert!(peek.has(Key::N) && !peek.is_set(body, Key::N));
}
