use crate::{
    ModelServer,
    field::admission_message,
    testing::{defaulted, in_short, problems},
    validation::Validate as _,
};

/// A ModelServer with more in its spec.
fn server(spec: &str) -> String {
    format!("spec: {{ inferenceEngine: vLLM, workloadPort: {{ port: 8000 }}, {spec} }}")
}

#[track_caller]
fn check(spec: &str, expected: &[&str]) {
    assert_eq!(problems::<ModelServer>(&server(spec)), expected, "{spec}");
}

#[track_caller]
fn check_endpoints(endpoints: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|it| format!("spec.endpoints{it}")).collect();
    assert_eq!(
        problems::<ModelServer>(&server(&format!("endpoints: {endpoints}"))),
        expected,
        "{endpoints}"
    );
}

const SELECTOR: &str = "spec.workloadSelector";

#[test]
fn engines_are_selected_or_listed() {
    check("workloadSelector: { matchLabels: { app: a } }", &[]);
    check("endpoints: [{ address: 10.0.0.1 }]", &[]);
    check("", &["spec.workloadSelector: Required value"]);
    check(
        "workloadSelector: {}",
        &["spec.workloadSelector.matchLabels: Required value"],
    );
    check(
        "endpoints: [], workloadSelector: {}",
        &["spec.workloadSelector.matchLabels: Required value"],
    );
    check(
        "endpoints: [{ address: a }], workloadSelector: { matchLabels: { app: a } }",
        &["spec.workloadSelector.matchLabels: Forbidden"],
    );
}

#[test]
fn the_rules_of_the_crd_hold_here_too() {
    let check = |spec: &str, expected: &[&str]| {
        let server: ModelServer = defaulted(&server(spec));
        let messages: Vec<_> = server
            .check_rules(None)
            .into_iter()
            .map(|error| error.detail)
            .collect();
        assert_eq!(messages, expected, "{spec}");
    };
    check("workloadSelector: {}", &[]);
    check(
        "endpoints: [{ address: a }], workloadSelector: { matchLabels: {} }",
        &[],
    );
    check("", &["one of workloadSelector and endpoints is required"]);
    check(
        "endpoints: [{ address: a }], workloadSelector: { matchLabels: { a: b } }",
        &["endpoints and workloadSelector.matchLabels are mutually exclusive"],
    );
}

#[test]
fn labels_that_no_pod_can_have_are_shown_as_a_map() {
    check(
        "workloadSelector: { matchLabels: { a@b: c } }",
        &["spec.workloadSelector.matchLabels: Invalid value: {\"a@b\":\"c\"}"],
    );
    check(
        "workloadSelector: { matchLabels: { a: b c } }",
        &["spec.workloadSelector.matchLabels: Invalid value: {\"a\":\"b c\"}"],
    );
}

#[test]
fn a_group_tells_prefill_from_decode() {
    let group = "{ groupKey: '', prefillLabels: {}, decodeLabels: {} }";
    let spec = server(&format!(
        "workloadSelector: {{ matchLabels: {{ a: b }}, pdGroup: {group} }}"
    ));
    let path = format!("{SELECTOR}.pdGroup");
    assert_eq!(
        problems::<ModelServer>(&spec),
        [
            format!("{path}.groupKey: Required value"),
            format!("{path}.prefillLabels: Required value"),
            format!("{path}.decodeLabels: Required value"),
        ]
    );
    let message = admission_message(&defaulted::<ModelServer>(&spec).validate());
    assert_eq!(message.lines().count(), 4, "{message}");

    let group = "{ groupKey: g, prefillLabels: { a: -b }, decodeLabels: { a: b } }";
    check(
        &format!("workloadSelector: {{ matchLabels: {{ a: b }}, pdGroup: {group} }}"),
        &["spec.workloadSelector.pdGroup.prefillLabels: Invalid value: {\"a\":\"-b\"}"],
    );
}

#[test]
fn listed_engines_have_addresses() {
    for address in [
        "10.0.0.1",
        "fd00::1",
        "engine",
        "engine-0.example.com",
        "Engine.Example.com",
    ] {
        check_endpoints(&format!("[{{ address: {address:?} }}]"), &[]);
    }
    for address in [
        "",
        "10.0.0",
        "10.0.0.256",
        "[fd00::1]",
        "engine:8000",
        "http://engine",
        "a b",
        "a_b",
    ] {
        let expected = format!("[0].address: Invalid value: {address:?}");
        check_endpoints(&format!("[{{ address: {address:?} }}]"), &[&expected]);
    }
}

#[test]
fn no_engine_is_listed_twice() {
    check_endpoints(
        "[{ address: a }, { address: a, port: 8001 }, { address: a, port: 8002 }]",
        &[],
    );
    check_endpoints(
        "[{ address: a }, { address: A, port: 8000 }]",
        &["[1]: Duplicate value: \"A:8000\""],
    );
}

#[test]
fn labels_of_listed_engines_are_labels_and_settings() {
    check_endpoints("[{ address: a, labels: { role: prefill, group: '0' } }]", &[]);
    check_endpoints(
        "[{ address: a, labels: { a: b c } }]",
        &["[0].labels: Invalid value: {\"a\":\"b c\"}"],
    );
    let key = "networking.serving.volcano.sh/kv-events-port";
    check_endpoints(&format!("[{{ address: a, labels: {{ {key}: '5557' }} }}]"), &[]);
    let expected = format!("[0].labels[{key}]: Invalid value: \"x\"");
    check_endpoints(
        &format!("[{{ address: a, labels: {{ {key}: x }} }}]"),
        &[&expected],
    );
}

#[test]
fn durations_that_cannot_be_read_are_reported() {
    let selector = "workloadSelector: { matchLabels: { a: b } }";
    check(
        &format!("{selector}, trafficPolicy: {{ timeout: 10s, retry: {{ attempts: -1 }} }}"),
        &[],
    );
    check(
        &format!("{selector}, trafficPolicy: {{ timeout: '30', retry: {{ retryInterval: banana }} }}"),
        &[
            "spec.trafficPolicy.timeout: Invalid value: \"30\"",
            "spec.trafficPolicy.retry.retryInterval: Invalid value: \"banana\"",
        ],
    );
}

#[test]
fn unknown_values_are_read_and_reported() {
    let text = "spec: { inferenceEngine: TGI, workloadPort: { port: 1, protocol: grpc }, kvConnector: { type: rdma }, \
                workloadSelector: { matchLabels: { a: b } } }";
    assert_eq!(
        problems::<ModelServer>(text),
        [
            r#"spec.inferenceEngine: Unsupported value: "TGI": supported values: "vLLM", "SGLang""#,
            r#"spec.workloadPort.protocol: Unsupported value: "grpc": supported values: "http", "https""#,
            concat!(
                r#"spec.kvConnector.type: Unsupported value: "rdma": "#,
                r#"supported values: "http", "lmcache", "nixl", "mooncake""#
            ),
        ]
    );
}

#[test]
fn settings_of_engines_are_checked_on_the_model_server() {
    let text = format!(
        "metadata: {{ name: it, annotations: {{ networking.serving.volcano.sh/upstream-ca-secret: Not_A_Secret }} }}\n{}",
        server("workloadSelector: { matchLabels: { a: b } }")
    );
    assert_eq!(
        problems::<ModelServer>(&text),
        [
            "metadata.annotations[networking.serving.volcano.sh/upstream-ca-secret]: Invalid value: \"Not_A_Secret\"",
        ]
    );
}

#[test]
fn nothing_is_said_twice() {
    let server: ModelServer = defaulted(&server(""));
    assert_eq!(in_short(&server.validate()).len(), 1);
}
