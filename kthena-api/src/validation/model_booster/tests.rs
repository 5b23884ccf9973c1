use crate::{ModelBooster, testing::problems};

const WORKERS: &str = "[{ type: server }]";

fn booster(backend: &str) -> String {
    format!("spec: {{ backend: {{ name: b, replicas: 1, {backend} }} }}")
}

#[track_caller]
fn check(backend: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|it| format!("spec.backend.{it}")).collect();
    assert_eq!(problems::<ModelBooster>(&booster(backend)), expected, "{backend}");
}

#[track_caller]
fn check_workers(type_: &str, workers: &str, expected: &[&str]) {
    check(
        &format!("type: {type_}, modelURI: 'hf://m', workers: {workers}"),
        expected,
    );
}

#[test]
fn a_minimal_object_passes() {
    check_workers("vLLM", WORKERS, &[]);
    check_workers("vLLM", "[{}]", &[]);
    check_workers("vLLMDisaggregated", "[{ type: prefill }, { type: decode }]", &[]);
    check_workers("vLLMDisaggregated", "[{ type: prefill }]", &[]);
}

#[test]
fn replicas_are_limited() {
    let text = booster(&format!("type: vLLM, modelURI: 'hf://m', workers: {WORKERS}"));
    let text = text.replace("replicas: 1,", "replicas: 1000001,");
    assert_eq!(
        problems::<ModelBooster>(&text),
        ["spec.backend.replicas: Invalid value: 1000001"]
    );
}

#[test]
fn images_have_no_whitespace_of_any_kind() {
    check_workers("vLLM", "[{ image: '' }]", &[]);
    for image in ["a ", "a\t", "a\nb", " ", "a\u{a0}b", "a\u{2003}"] {
        let shown = serde_json::to_string(image).unwrap();
        let expected = format!("workers[0].image: Invalid value: {shown}");
        check_workers("vLLM", &format!("[{{ image: {shown} }}]"), &[&expected]);
    }
}

#[test]
fn each_backend_type_takes_its_workers() {
    check_workers("vLLM", "[{}, {}]", &["workers: Invalid value: 2"]);
    check_workers(
        "vLLM",
        "[{ type: prefill }]",
        &["workers[0].type: Invalid value: \"prefill\""],
    );
    check_workers(
        "vLLMDisaggregated",
        "[{ type: prefill }, {}, { type: controller }]",
        &[
            "workers[1].type: Invalid value: \"server\"",
            "workers[2].type: Invalid value: \"controller\"",
        ],
    );
    check_workers(
        "SGLang",
        WORKERS,
        &[r#"type: Unsupported value: "SGLang": supported values: "vLLM", "vLLMDisaggregated""#],
    );
}

#[track_caller]
fn check_ports(prefill: &str, decode: &str, expected: &[&str]) {
    let workers = format!("[{{ type: prefill, config: {prefill} }}, {{ type: decode, config: {decode} }}]");
    check_workers("vLLMDisaggregated", &workers, expected);
}

#[test]
fn engines_agree_on_a_port() {
    check_ports("{ port: 9000 }", "{ port: 9000 }", &[]);
    check_ports("{ port: '9000' }", "{ port: '9000' }", &[]);
    check_ports("{ port: 8000 }", "{}", &[]);
    check_ports(
        "{ port: null }",
        "{ port: 8000 }",
        &["workers[0].config.port: Invalid value: null"],
    );
    check_ports(
        "{ port: 9000 }",
        "{ port: 8000 }",
        &["workers[1].config.port: Invalid value: 8000"],
    );
    check_ports(
        "{ port: 9000 }",
        "{}",
        &["workers[1].config.port: Invalid value: {}"],
    );
    for port in ["8000.5", "true", "' 8000'", "0", "65536", "-1", "''", "[]"] {
        let workers = format!("[{{ config: {{ port: {port} }} }}]");
        let problems = problems::<ModelBooster>(&booster(&format!(
            "type: vLLM, modelURI: 'hf://m', workers: {workers}"
        )));
        assert_eq!(problems.len(), 1, "{port}: {problems:?}");
        assert!(
            problems[0].starts_with("spec.backend.workers[0].config.port: "),
            "{problems:?}"
        );
    }
    check_workers(
        "vLLM",
        "[{ config: [] }]",
        &["workers[0].config.port: Invalid value: []"],
    );
}

#[track_caller]
fn check_volume(model: &str, cache: &str, expected: &[&str]) {
    check(
        &format!("type: vLLM, workers: {WORKERS}, modelURI: {model:?}, cacheURI: {cache:?}"),
        expected,
    );
}

#[test]
fn a_model_on_a_volume_is_on_the_volume_of_the_cache() {
    for model in [
        "pvc://my-pvc",
        "pvc://my-pvc/",
        "pvc:///my-pvc/x",
        "pvc:////my-pvc//x",
        "pvc://./my-pvc/x",
    ] {
        check_volume(model, "pvc://my-pvc", &[]);
    }
    check_volume("pvc://my-pvc", "pvc:///my-pvc/", &[]);
    check_volume(
        "pvc:///foobar/x",
        "pvc://foo",
        &["modelURI: Invalid value: \"pvc:///foobar/x\""],
    );
    check_volume(
        "pvc://../other",
        "pvc://other",
        &["modelURI: Invalid value: \"pvc://../other\""],
    );
    check_volume(
        "pvc:///c/../x",
        "pvc://c",
        &["modelURI: Invalid value: \"pvc:///c/../x\""],
    );
    check_volume(
        "pvc://a/x",
        "hostpath:///a",
        &["cacheURI: Invalid value: \"hostpath:///a\""],
    );
    check_volume("pvc://a/x", "pvc:///", &["cacheURI: Invalid value: \"pvc:///\""]);
    check_volume(
        "pvc://a/x",
        "pvc://a/x",
        &["cacheURI: Invalid value: \"pvc://a/x\""],
    );
    check(
        &format!("type: vLLM, workers: {WORKERS}, modelURI: 'pvc://a'"),
        &["cacheURI: Invalid value: \"\""],
    );
    check_volume("hf://m", "pvc://a/b", &[]);
}

fn transfer(connector: &str, role: &str) -> String {
    format!(r#"{{ kv-transfer-config: '{{"kv_connector":"{connector}","kv_role":"{role}"}}' }}"#)
}

/// Checks the workers in both orders.
#[track_caller]
fn check_transfer(prefill: &str, decode: &str, fits: bool) {
    let prefill = format!("{{ type: prefill, config: {prefill} }}");
    let decode = format!("{{ type: decode, config: {decode} }}");
    for workers in [format!("[{prefill}, {decode}]"), format!("[{decode}, {prefill}]")] {
        let expected: &[&str] = if fits {
            &[]
        } else {
            &["workers: Invalid value: \"b\""]
        };
        check_workers("vLLMDisaggregated", &workers, expected);
    }
}

#[test]
fn prefill_and_decode_hand_the_cache_over_alike() {
    let producer = |connector| transfer(connector, "kv_producer");
    let consumer = |connector| transfer(connector, "kv_consumer");
    check_transfer("{}", "{}", true);
    check_transfer(&producer("NixlConnector"), &consumer("NixlConnector"), true);
    check_transfer(
        &transfer("NixlConnector", "kv_both"),
        &transfer("NixlConnector", "kv_both"),
        true,
    );
    check_transfer(
        &producer("MooncakeConnectorV1"),
        &consumer("MooncakeConnectorV1"),
        true,
    );
    check_transfer(
        &producer("MooncakeConnector"),
        &consumer("MooncakeConnectorV1"),
        true,
    );
    check_transfer(
        &producer("LMCacheConnectorV1"),
        &consumer("LMCacheConnectorV1"),
        true,
    );
    check_transfer(&producer("NixlConnector"), &consumer("MooncakeConnector"), false);
    check_transfer(&producer("NixlConnector"), "{}", false);
    check_transfer("{}", &consumer("NixlConnector"), false);
    check_transfer(&producer("Teleport"), &consumer("Teleport"), false);
    check_transfer(&consumer("NixlConnector"), &consumer("NixlConnector"), false);
    check_transfer(&producer("NixlConnector"), &producer("NixlConnector"), false);
    check_transfer("{ kv-transfer-config: '{}' }", &consumer("NixlConnector"), false);
    check_transfer("{ kv-transfer-config: 'x' }", &consumer("NixlConnector"), false);
    check_transfer(
        "{ kv-transfer-config: { kv_connector: NixlConnector } }",
        &consumer("NixlConnector"),
        false,
    );
    check_transfer("{ kv_transfer_config: x }", "{}", true);
}

#[test]
fn each_side_of_the_transfer_is_there_once() {
    let one_sided = format!(
        "[{{ type: prefill, config: {} }}]",
        transfer("NixlConnector", "kv_producer")
    );
    check_workers(
        "vLLMDisaggregated",
        &one_sided,
        &["workers: Invalid value: \"b\""],
    );
    check_workers(
        "vLLMDisaggregated",
        "[{ type: prefill }, { type: prefill }]",
        &["workers: Invalid value: \"b\""],
    );
    check_workers(
        "vLLMDisaggregated",
        "[{ type: decode }, { type: decode }]",
        &["workers: Invalid value: \"b\""],
    );
}

#[test]
fn expressions_of_the_route_are_checked_here_already() {
    let text = booster(&format!("type: vLLM, modelURI: 'hf://m', workers: {WORKERS}"));
    let text = text.replace("spec: {", "spec: { modelMatch: { uri: { regex: '(' } },");
    assert_eq!(
        problems::<ModelBooster>(&text),
        ["spec.modelMatch.uri.regex: Invalid value: \"(\""]
    );
}
