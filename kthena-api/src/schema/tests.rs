use serde_json::json;

use super::*;
use crate::testing::{in_short, yaml};

#[track_caller]
fn with_defaults(kind: Kind, spec: &str) -> Value {
    let mut object = json!({ "spec": yaml(spec) });
    apply_defaults(kind, &mut object);
    object["spec"].take()
}

#[track_caller]
fn problems(kind: Kind, spec: &str) -> Vec<String> {
    in_short(&check(kind, &json!({ "spec": yaml(spec) })))
}

const ROLE: &str = "{ name: r, entryTemplate: {} }";

#[test]
fn a_minimal_model_serving_gets_its_defaults() {
    assert_eq!(
        with_defaults(Kind::ModelServing, &format!("template: {{ roles: [{ROLE}] }}")),
        yaml(
            "replicas: 1
schedulerName: volcano
recoveryPolicy: RoleRecreate
template:
  restartGracePeriodSeconds: 0
  roles: [{ name: r, replicas: 1, workerReplicas: 0, maxUnavailable: 1, entryTemplate: {} }]"
        )
    );
}

#[test]
fn a_default_inside_an_object_needs_the_object() {
    let spec = "{ rolloutStrategy: { rollingUpdateConfiguration: {} }, template: { roles: [] } }";
    assert_eq!(
        with_defaults(Kind::ModelServing, spec)["rolloutStrategy"],
        json!({ "type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": { "maxUnavailable": 1 } })
    );
    assert_eq!(
        with_defaults(Kind::ModelServer, "{ kvConnector: {} }")["kvConnector"],
        json!({ "type": "http" })
    );
    assert_eq!(
        with_defaults(Kind::ModelServer, "{ trafficPolicy: { retry: {} } }")["trafficPolicy"],
        json!({ "retry": { "retryInterval": "100ms" } })
    );
    assert_eq!(
        with_defaults(Kind::ModelRoute, "{ parentRefs: [{ name: gw }] }")["parentRefs"],
        json!([{ "name": "gw", "group": "gateway.networking.k8s.io", "kind": "Gateway" }])
    );
}

#[test]
fn defaults_reach_into_the_embedded_pod() {
    let role =
        "{ name: r, entryTemplate: { spec: { containers: [{ name: c, ports: [{ containerPort: 80 }] }] } } }";
    let spec = with_defaults(Kind::ModelServing, &format!("template: {{ roles: [{role}] }}"));
    let ports = "/template/roles/0/entryTemplate/spec/containers/0/ports";
    assert_eq!(
        spec.pointer(ports),
        Some(&json!([{ "containerPort": 80, "protocol": "TCP" }]))
    );
}

#[test]
fn null_is_as_good_as_absent() {
    let spec = with_defaults(
        Kind::ModelServing,
        "{ replicas: null, plugins: null, template: { roles: [] } }",
    );
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec.get("plugins"), None);
}

#[test]
fn fields_beyond_the_schema_are_found_and_dropped() {
    let metadata = "metadata: { name: n, labels: { a: b } }";
    let mut object = json!({
        "apiVersion": "x",
        "metadata": { "name": "n", "anything": 1 },
        "extra": {},
        "spec": yaml(&format!(
            "{{ plugins: [{{ name: p, config: {{ free: {{ form: 1 }} }}, more: 1 }}], \
             template: {{ roles: [{{ name: r, entryTemplate: {{ {metadata}, spec: {{ containers: [], new: 1 }} }} }}] }} }}"
        )),
    });
    let paths: Vec<_> = unknown_fields(Kind::ModelServing, &object)
        .iter()
        .map(|path| path.as_str().to_owned())
        .collect();
    assert_eq!(
        paths,
        [
            "extra",
            "spec.plugins[0].more",
            "spec.template.roles[0].entryTemplate.metadata.name",
            "spec.template.roles[0].entryTemplate.spec.new",
        ]
    );
    prune(Kind::ModelServing, &mut object);
    assert_eq!(unknown_fields(Kind::ModelServing, &object), []);
    assert_eq!(object["metadata"]["anything"], 1);
    assert_eq!(
        object["spec"]["plugins"][0]["config"],
        json!({ "free": { "form": 1 } })
    );
    assert_eq!(
        object.pointer("/spec/template/roles/0/entryTemplate/metadata"),
        Some(&json!({ "labels": { "a": "b" } }))
    );
}

#[test]
fn types_are_checked() {
    assert_eq!(
        problems(
            Kind::ModelRoute,
            "{ rules: {}, modelName: 1, rateLimit: { unit: second, inputTokensPerUnit: 1.5 } }"
        ),
        [
            "spec.modelName: Invalid value: 1",
            "spec.rateLimit.inputTokensPerUnit: Invalid value: 1.5",
            "spec.rules: Invalid value: {}",
        ]
    );
    assert_eq!(
        in_short(&check(Kind::ModelRoute, &json!([]))),
        ["<root>: Invalid value: []"]
    );
    assert_eq!(
        in_short(&check(Kind::ModelRoute, &json!({}))),
        ["spec: Required value"]
    );
}

#[test]
fn bounds_are_checked() {
    let adapters = "[a, a, a, a, a, a, a, a, a, a, a]";
    assert_eq!(
        problems(
            Kind::ModelRoute,
            &format!("{{ rules: [{{ targetModels: [] }}], loraAdapters: {adapters} }}")
        ),
        [
            "spec.loraAdapters: Too many: 11",
            "spec.rules[0].targetModels: Invalid value: 0",
        ]
    );
    assert_eq!(
        problems(
            Kind::ModelRoute,
            "{ rules: [{ targetModels: [{ weight: -1 }, { weight: 101 }, { weight: 5000000000 }] }] }"
        ),
        [
            "spec.rules[0].targetModels[0].weight: Invalid value: -1",
            "spec.rules[0].targetModels[1].weight: Invalid value: 101",
            "spec.rules[0].targetModels[2].weight: Invalid value: 5000000000",
            "spec.rules[0].targetModels[2].weight: Invalid value: 5000000000",
        ]
    );
    let roles = "{ a: {}, b: {}, c: {} }";
    assert_eq!(
        problems(
            Kind::AutoscalingPolicy,
            &format!("{{ disaggregatedTarget: {{ targetRef: {{}}, roles: {roles} }} }}")
        )[0],
        "spec.disaggregatedTarget.roles: Too many: 3"
    );
    assert_eq!(
        problems(
            Kind::AutoscalingPolicy,
            "{ disaggregatedTarget: { targetRef: {}, roles: {} } }"
        ),
        ["spec.disaggregatedTarget.roles: Invalid value: 0"]
    );
}

#[test]
fn integers_of_32_bits_stay_within_them() {
    assert_eq!(
        problems(
            Kind::ModelServer,
            "{ inferenceEngine: vLLM, workloadPort: { port: 1 }, trafficPolicy: { retry: { attempts: 3000000000 } } }"
        ),
        ["spec.trafficPolicy.retry.attempts: Invalid value: 3000000000"]
    );
}

#[test]
fn texts_are_checked() {
    let provider = |spec: &str| problems(Kind::ExternalModelProvider, spec);
    assert_eq!(provider("{ baseURL: 'https://x' }"), [""; 0]);
    assert_eq!(
        provider("{ baseURL: '' }"),
        ["spec.baseURL: Invalid value: \"\""; 2]
    );
    assert_eq!(
        provider("{ baseURL: 'HTTPS://x' }"),
        ["spec.baseURL: Invalid value: \"HTTPS://x\""]
    );
    assert_eq!(
        provider("{ baseURL: 'https://x', providerType: openai }"),
        [r#"spec.providerType: Unsupported value: "openai": supported values: "OpenAI", "Anthropic""#]
    );
    let long = "ü".repeat(257);
    assert_eq!(
        provider(&format!("{{ baseURL: 'https://x', model: {long} }}")),
        ["spec.model: Too long"]
    );
    let short = "ü".repeat(256);
    assert_eq!(
        provider(&format!("{{ baseURL: 'https://x', model: {short} }}")),
        [""; 0]
    );
    let source = |url: &str| {
        let sources = format!("metricSources: {{ m: {{ prometheus: {{ query: q, serverURL: {url:?} }} }} }}");
        let target = format!("target: {{ targetRef: {{}}, {sources} }}");
        problems(
            Kind::AutoscalingPolicy,
            &format!("{{ homogeneousTarget: {{ minReplicas: 1, maxReplicas: 1, {target} }} }}"),
        )
    };
    assert_eq!(source("http://prometheus:9090"), [""; 0]);
    assert_eq!(
        source("prometheus"),
        [
            "spec.homogeneousTarget.target.metricSources[m].prometheus.serverURL: Invalid value: \"prometheus\""
        ]
    );
}

#[test]
fn an_absent_cache_is_not_an_empty_one() {
    let backend = "name: b, type: vLLM, modelURI: 'hf://m', replicas: 1, workers: [{}]";
    assert_eq!(
        problems(Kind::ModelBooster, &format!("{{ backend: {{ {backend} }} }}")),
        [""; 0]
    );
    assert_eq!(
        problems(
            Kind::ModelBooster,
            &format!("{{ backend: {{ {backend}, cacheURI: '' }} }}")
        ),
        ["spec.backend.cacheURI: Invalid value: \"\""]
    );
}

#[test]
fn quantities_are_integers_or_strings() {
    let metric = |value: &str| {
        problems(
            Kind::AutoscalingPolicy,
            &format!("{{ metrics: [{{ name: m, targetValue: {value} }}] }}"),
        )
    };
    for value in ["10", "'10'", "'0.5'", "500m", "1e3", "10.0"] {
        assert_eq!(metric(value), [""; 0], "{value}");
    }
    assert_eq!(metric("0.5"), ["spec.metrics[0].targetValue: Invalid value: 0.5"]);
    assert_eq!(
        metric("ten"),
        ["spec.metrics[0].targetValue: Invalid value: \"ten\""]
    );
    assert_eq!(
        metric("true"),
        ["spec.metrics[0].targetValue: Invalid value: true"]
    );
}

#[test]
fn a_panic_policy_has_a_period() {
    for policy in ["{}", "{ panicThresholdPercent: 200, panicModeHold: 60s }"] {
        assert_eq!(
            problems(
                Kind::AutoscalingPolicy,
                &format!("{{ behavior: {{ scaleUp: {{ panicPolicy: {policy} }} }} }}")
            ),
            ["spec.behavior.scaleUp.panicPolicy.period: Required value"]
        );
    }
}

#[test]
fn entries_of_a_map_have_keys_of_their_own() {
    let container = "{ name: c, ports: [{ containerPort: 80, protocol: TCP }, { containerPort: 80, protocol: UDP }, \
                     { containerPort: 80, protocol: TCP }] }";
    let roles = format!(
        "[{{ name: r, entryTemplate: {{ spec: {{ containers: [{container}, {{ name: c }}, {{ name: c }}] }} }} }}, {ROLE}]"
    );
    let path = "spec.template.roles";
    assert_eq!(
        problems(
            Kind::ModelServing,
            &format!("{{ template: {{ roles: {roles} }} }}")
        ),
        [
            format!(
                "{path}[0].entryTemplate.spec.containers[0].ports[2]: Duplicate value: {{\"containerPort\":80,\"protocol\":\"TCP\"}}"
            ),
            format!("{path}[0].entryTemplate.spec.containers[1]: Duplicate value: {{\"name\":\"c\"}}"),
            format!("{path}[1]: Duplicate value: {{\"name\":\"r\"}}"),
        ]
    );
}

#[test]
fn a_pod_without_containers_is_none() {
    let role =
        |template: &str| format!("{{ template: {{ roles: [{{ name: r, entryTemplate: {template} }}] }} }}");
    assert_eq!(problems(Kind::ModelServing, &role("{}")), [""; 0]);
    assert_eq!(
        problems(Kind::ModelServing, &role("{ spec: { containers: [] } }")),
        [""; 0]
    );
    assert_eq!(
        problems(Kind::ModelServing, &role("{ spec: {} }")),
        ["spec.template.roles[0].entryTemplate.spec.containers: Required value"]
    );
}

#[test]
fn whole_numbers_are_integers_however_they_are_written() {
    let mut value = json!({ "a": 10.0, "b": [1.5, -2.0], "c": 1e300, "d": "1.0" });
    integral_numbers(&mut value);
    assert_eq!(value, json!({ "a": 10, "b": [1.5, -2], "c": 1e300, "d": "1.0" }));
}
