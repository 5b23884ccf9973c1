use super::check_configuration;
use crate::{
    ExternalModelProvider,
    testing::{defaulted, in_short, problems},
    validation::Validate as _,
};

#[track_caller]
fn check(spec: &str, expected: &[&str]) {
    assert_eq!(
        problems::<ExternalModelProvider>(&format!("spec: {{ {spec} }}")),
        expected,
        "{spec}"
    );
}

#[track_caller]
fn check_header(name: &str, value: &str, expected: &[&str]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|it| format!("spec.headers[{name}]: {it}"))
        .collect();
    let spec = format!("spec: {{ baseURL: 'https://x', headers: {{ {name:?}: {value:?} }} }}");
    assert_eq!(
        problems::<ExternalModelProvider>(&spec),
        expected,
        "{name}: {value:?}"
    );
}

#[test]
fn the_url_is_https_and_nothing_but_a_root() {
    for url in [
        "https://api.example.com",
        "https://api.example.com:8443/v1",
        "https://[::1]/",
        "https://x/v1?",
    ] {
        check(&format!("baseURL: {url:?}"), &[]);
    }
    for url in [
        "http://x",
        "https://",
        "https:///v1",
        "x",
        "https://a b",
        "https://x:port",
    ] {
        check(
            &format!("baseURL: {url:?}"),
            &[&format!("spec.baseURL: Invalid value: {url:?}")],
        );
    }
    for url in [
        "https://u@x",
        "https://u:p@x",
        "https://x?q=1",
        "https://x#f",
        "https://u:p@x/v1?q=1#f",
    ] {
        check(
            &format!("baseURL: {url:?}"),
            &[&format!("spec.baseURL: Invalid value: {url:?}")],
        );
    }
}

#[test]
fn one_thing_is_said_about_a_url() {
    let details = |url: &str| {
        let provider: ExternalModelProvider = defaulted(&format!("spec: {{ baseURL: {url:?} }}"));
        provider
            .validate()
            .into_iter()
            .map(|error| error.detail)
            .collect::<Vec<_>>()
    };
    assert_eq!(details("http://u@x?q"), ["must be an https:// URL with a host"]);
    assert_eq!(
        details("https://u@x?q"),
        ["must not contain a user, a query or a fragment"]
    );
}

#[test]
fn headers_belong_to_the_user() {
    check_header("X-Tenant", "a\tb", &[]);
    check_header("authorization", "x", &["Invalid value: \"authorization\""]);
    check_header("X-API-Key", "x", &["Invalid value: \"X-API-Key\""]);
    check_header("TE", "x\n", &["Invalid value: \"TE\"", "Invalid value: \"x\\n\""]);
    check_header("Bad Header", "x\n", &["Invalid value: \"Bad Header\""]);
    check_header("X-Break", "a\r\nb", &["Invalid value: \"a\\r\\nb\""]);
}

#[test]
fn every_problem_is_told_in_order() {
    check(
        "providerType: '', baseURL: 'http://x', auth: { secretRef: { key: '' } }",
        &[
            "spec.baseURL: Invalid value: \"http://x\"",
            "spec.auth.secretRef.name: Required value",
            "spec.auth.secretRef.key: Required value",
        ],
    );
}

#[test]
fn credentials_are_there_or_not_asked_for() {
    check(
        "baseURL: 'https://x', auth: { secretRef: { name: s, key: k, optional: false } }",
        &[],
    );
    check(
        "baseURL: 'https://x', auth: { secretRef: { name: s, key: k, optional: true } }",
        &["spec.auth.secretRef.optional: Invalid value: true"],
    );
    let text = "spec: { baseURL: 'https://x', auth: { secretRef: { name: s, key: k, optional: true } } }";
    let provider: ExternalModelProvider = defaulted(text);
    assert_eq!(
        in_short(&provider.check_rules(None)),
        ["spec.auth: Invalid value: \"object\""]
    );
}

#[test]
fn unknown_values_are_read_and_reported() {
    check(
        "providerType: Mistral, baseURL: 'https://x', auth: { scheme: Basic, secretRef: { name: s, key: k } }",
        &[
            r#"spec.providerType: Unsupported value: "Mistral": supported values: "OpenAI", "Anthropic""#,
            r#"spec.auth.scheme: Unsupported value: "Basic": supported values: "Bearer", "APIKey""#,
        ],
    );
}

#[test]
fn the_data_plane_is_a_little_stricter() {
    let check = |spec: &str, expected: &[&str]| {
        let provider: ExternalModelProvider = defaulted(&format!("spec: {{ {spec} }}"));
        assert_eq!(in_short(&provider.validate()), [""; 0], "{spec}");
        assert_eq!(in_short(&check_configuration(&provider)), expected, "{spec}");
    };
    check("baseURL: 'https://x/v1'", &[]);
    check(
        "baseURL: 'https://x/v1?'",
        &["spec.baseURL: Invalid value: \"https://x/v1?\""],
    );
    check(
        "baseURL: 'https://x', headers: { a: \"\\x01\" }",
        &["spec.headers[a]: Invalid value: \"\\u0001\""],
    );
}
