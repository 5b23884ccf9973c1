use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn passes(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.value().is_ok() && cursor.is_at_end()
}

fn check(text: &str) {
    let expected = serde_json::from_str::<IgnoredAny>(text).is_ok();
    assert_eq!(passes(text), expected, "{text:?}");
}

#[test]
fn what_is_json_passes_and_nothing_else() {
    for text in [
        "null",
        "true",
        "false",
        "nul",
        "truex",
        "0",
        "-0",
        "01",
        "-",
        "1.",
        "1.5",
        ".5",
        "1e5",
        "1E+5",
        "1e",
        "1e-",
        "+1",
        "NaN",
        "\"\"",
        "\"a",
        "\"\\\"\"",
        "\"\\\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud83d\"",
        "\"\n\"",
        "\"\u{7f}é\u{1F600}\"",
        "[]",
        "[ ]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "]",
        "[[],{}]",
        "{}",
        "{ }",
        "{\"a\":1}",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\" : [ 1 , { \"b\" : null } ] }",
        "{\"a\":1]",
        "[1}",
        "",
        " ",
        " 1 ",
        "1 1",
        "\t\r\n[\n]\n",
        "\u{b}1",
        "{\"\\\"\":\"\\\\\"}",
    ] {
        check(text);
    }
}

#[test]
fn nesting_has_no_limit() {
    let depth = 100_000;
    assert!(passes(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))));
    assert!(!passes(&"[".repeat(depth)));
}

#[test]
fn strings_are_measured_and_decoded() {
    for (text, characters, decoded) in [
        (r#""""#, 0, Some("")),
        (r#""aé😀""#, 3, Some("aé😀")),
        (r#""a\n\"\\\u00e9\ud83d\ude00b""#, 7, Some("a\n\"\\é😀b")),
        (r#""\ud83d""#, 1, None),
    ] {
        let string = Cursor::new(text).string().unwrap();
        assert_eq!(string.characters(), characters, "{text}");
        assert_eq!(string.decode().as_deref(), decoded, "{text}");
    }
}

#[test]
fn members_and_elements_are_visited_in_order() {
    let mut seen = Vec::new();
    let mut cursor = Cursor::new(r#" { "a" : [1, "x"] , "b":{} } "#);
    let all = cursor.members(|cursor, name| {
        seen.push(name.decode().unwrap().into_owned());
        if cursor.peek()? == b'[' {
            return cursor.elements(|cursor| {
                let range = cursor.value()?;
                seen.push(format!("{range:?}"));
                Ok(())
            });
        }
        cursor.value().map(drop)
    });
    assert_eq!(all, Ok(()));
    assert!(cursor.is_at_end());
    assert_eq!(seen, ["a", "10..11", "13..16", "b"]);
}

proptest! {
    #[test]
    fn any_text_is_judged_as_serde_json_does(text in r#"[\[\]{}:, \n"\\unt0-9aelrsf.+é-]{0,24}"#) {
        check(&text);
    }

    #[test]
    fn any_document_passes_and_none_of_its_beginnings(text in document()) {
        check(&text);
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            check(&text[..end]);
        }
    }
}

/// Documents with strings of all kinds.
fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        any::<f64>().prop_map(|number| serde_json::Value::from(number).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("[]".to_owned()),
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(", "))),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|all| {
                let members = all
                    .into_iter()
                    .map(|(name, value)| format!("{} :{value}", serde_json::Value::from(name)));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}
