use serde_json::{Value, json};

use super::*;

fn ask(hook: &Hook, request: Value) -> Result<Value, Refusal> {
    let body = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
    review(hook, "application/json", body.to_string().as_bytes())
        .map(|answer| serde_json::from_slice(&answer).expect("JSON"))
}

fn request(kind: &str, object: Value) -> Value {
    json!({
        "uid": "u-1",
        "kind": { "group": "g", "version": "v1", "kind": kind },
        "resource": { "group": "g", "version": "v1", "resource": "things" },
        "name": "it",
        "namespace": "default",
        "operation": "CREATE",
        "userInfo": { "username": "someone" },
        "object": object,
    })
}

fn hook(path: &str) -> Hook {
    let mut all = networking().into_iter().chain(workload(Registry::built_in()));
    all.find(|hook| hook.path() == path).expect("a published path")
}

fn route(spec: Value) -> Value {
    request(
        "ModelRoute",
        json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1",
            "kind": "ModelRoute",
            "metadata": { "name": "it", "namespace": "default" },
            "spec": spec,
        }),
    )
}

fn policy(behavior: &Value) -> Value {
    request(
        "AutoscalingPolicy",
        json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1",
            "kind": "AutoscalingPolicy",
            "metadata": { "name": "it" },
            "spec": { "metrics": [{ "name": "m", "targetValue": "1" }], "behavior": behavior },
        }),
    )
}

#[test]
fn a_good_object_is_allowed_and_the_answer_names_the_request() {
    let spec = json!({ "modelName": "m", "rules": [{ "targetModels": [{ "modelServerName": "s" }] }] });
    let answer = ask(&hook("/validate/modelroute"), route(spec)).unwrap();
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["response"]["uid"], "u-1");
    assert_eq!(answer["response"]["allowed"], true);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let spec = json!({ "modelName": "", "loraAdapters": [""], "rules": [{ "targetModels": [{ "modelServerName": "s" }] }] });
    let answer = ask(&hook("/validate/modelroute"), route(spec)).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("validation failed:\n  - spec."), "{message}");
    assert!(
        message.contains("lora adapter name cannot be an empty string"),
        "{message}"
    );
}

#[test]
fn a_field_of_a_wrong_type_is_denied_with_its_path() {
    let spec = json!({ "modelName": 7, "rules": [] });
    let answer = ask(&hook("/validate/modelroute"), route(spec)).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.modelName"), "{message}");
}

#[test]
fn what_is_missing_comes_as_a_patch() {
    let answer = ask(&hook("/mutate/autoscalingpolicy"), policy(&json!({}))).unwrap();
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    let patch = patch(&answer);
    assert_eq!(patch[0]["op"], "add");
    assert_eq!(patch[0]["path"], "/spec/behavior");
}

#[test]
fn what_is_complete_gets_an_empty_patch() {
    let object = json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelBooster",
        "metadata": { "name": "it" },
        "spec": { "backend": {
            "name": "b", "type": "vLLM", "modelURI": "hf://a/b", "replicas": 1,
            "workers": [{ "type": "server", "image": "i", "replicas": 1, "pods": 1 }],
        } },
    });
    let answer = ask(&hook("/mutate/modelbooster"), request("ModelBooster", object)).unwrap();
    assert_eq!(
        (&answer["response"]["allowed"], patch(&answer)),
        (&json!(true), json!([]))
    );
}

/// The patch of an answer: bytes, which JSON has in base64; `kube` writes them as a list of numbers or as text.
fn patch(answer: &Value) -> Value {
    use kube::core::admission::AdmissionReview;
    let review: AdmissionReview<kube::core::DynamicObject> = serde_json::from_value(answer.clone()).unwrap();
    serde_json::from_slice(&review.response.unwrap().patch.unwrap()).unwrap()
}

#[test]
fn what_is_no_review_is_refused() {
    let hook = hook("/validate/modelserver");
    let whole = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview" }).to_string();
    for (content_type, body) in [
        ("text/plain", whole.as_str()),
        ("", whole.as_str()),
        ("application/json", "{"),
        ("application/json", "[]"),
        ("application/json", whole.as_str()),
    ] {
        assert!(
            review(&hook, content_type, body.as_bytes()).is_err(),
            "{content_type} {body}"
        );
    }
    let mut without = request("ModelServer", json!({}));
    without["object"] = Value::Null;
    assert!(matches!(ask(&hook, without), Err(Refusal::NoObject)));
}

#[test]
fn a_charset_is_no_other_media_type() {
    let spec = json!({ "modelName": "m", "rules": [{ "targetModels": [{ "modelServerName": "s" }] }] });
    let body =
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": route(spec) })
            .to_string();
    assert!(
        review(
            &hook("/validate/modelroute"),
            "application/json; charset=utf-8",
            body.as_bytes()
        )
        .is_ok()
    );
}

#[test]
fn a_serving_may_use_the_plugins_that_there_are() {
    let serving = |plugin: &str| {
        request(
            "ModelServing",
            json!({
                "apiVersion": "workload.serving.volcano.sh/v1alpha1",
                "kind": "ModelServing",
                "metadata": { "name": "it" },
                "spec": {
                    "replicas": 1,
                    "plugins": [{ "name": plugin, "type": "BuiltIn" }],
                    "template": { "roles": [{ "name": "decode", "replicas": 1, "entryTemplate": { "spec": { "containers": [{ "name": "engine", "image": "vllm" }] } } }] },
                },
            }),
        )
    };
    let path = "/validate-workload-ai-v1alpha1-modelserving";
    let is_allowed =
        |hook: &Hook, plugin: &str| ask(hook, serving(plugin)).unwrap()["response"]["allowed"].clone();
    assert_eq!(is_allowed(&hook(path), "demo-pod-tweaks"), true);
    assert_eq!(is_allowed(&hook(path), "mine"), false);
    let mine = Registry::empty().with("mine", |_| Err("not today".into()));
    let hook = workload(mine)
        .into_iter()
        .find(|hook| hook.path() == path)
        .expect("a published path");
    let told = ask(&hook, serving("mine")).unwrap()["response"]["status"]["message"].clone();
    assert!(
        told.as_str()
            .unwrap()
            .contains("spec.plugins[0].config: Invalid value: null: not today"),
        "{told}"
    );
}
