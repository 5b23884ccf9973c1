use serde_json::json;

use super::*;

#[test]
fn paths_show_members_elements_and_entries() {
    let path = FieldPath::new("spec")
        .child("rules")
        .index(2)
        .child("headers")
        .key("x-user");
    assert_eq!(path.to_string(), "spec.rules[2].headers[x-user]");
    assert_eq!(FieldPath::root().child("spec").to_string(), "spec");
    assert_eq!(FieldPath::root().to_string(), "<root>");
}

#[test]
fn each_kind_renders_as_the_api_server_words_it() {
    let path = || FieldPath::new("p");
    let check = |error: FieldError, text: &str| assert_eq!(error.to_string(), text);
    check(
        FieldError::invalid(path(), "a b", "no space"),
        r#"p: Invalid value: "a b": no space"#,
    );
    check(
        FieldError::invalid(path(), Value::Null, "missing"),
        "p: Invalid value: null: missing",
    );
    check(
        FieldError::invalid(path(), json!({"a": "b"}), "bad"),
        r#"p: Invalid value: {"a":"b"}: bad"#,
    );
    check(
        FieldError::required(path(), "write one"),
        "p: Required value: write one",
    );
    check(
        FieldError::forbidden(path(), "not here"),
        "p: Forbidden: not here",
    );
    check(
        FieldError::unsupported(path(), "c", &["a", "b"]),
        r#"p: Unsupported value: "c": supported values: "a", "b""#,
    );
    check(FieldError::duplicate(path(), "a"), r#"p: Duplicate value: "a""#);
    check(
        FieldError::too_long(path(), 3),
        "p: Too long: must be no more than 3 characters",
    );
    check(
        FieldError::too_many(path(), 5, 4),
        "p: Too many: 5: must have at most 4 items",
    );
    check(FieldError::unknown(path()), "p: Unknown field");
}
