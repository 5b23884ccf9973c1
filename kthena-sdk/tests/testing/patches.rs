//! Patches of each kind.

use kthena_sdk::api::ModelServing;
use kthena_sdk::k8s_openapi::api::core::v1::ConfigMap;
use kthena_sdk::kube::Api;
use kthena_sdk::kube::api::{Patch, PatchParams};
use kthena_sdk::testing::{FakeApi, serving};
use serde_json::{Value, json};

use crate::{code, map};

fn apply(data: Value) -> Patch<Value> {
    Patch::Apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": data }))
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    let mut old = map("a", &[("app", "x")]);
    old.data = Some([("k".to_owned(), "v".to_owned())].into());
    let old = api.add(&old);
    let patch = json!({ "data": { "k": null, "l": "w" }, "metadata": { "uid": old.metadata.uid } });
    let new = maps
        .patch("a", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    assert_eq!(new.data.unwrap(), [("l".to_owned(), "w".to_owned())].into());
    assert_eq!(new.metadata.labels, old.metadata.labels);
    let late = json!({ "metadata": { "resourceVersion": old.metadata.resource_version }, "data": {} });
    assert_eq!(
        code(
            maps.patch("a", &PatchParams::default(), &Patch::Merge(late))
                .await
        ),
        409
    );
}

#[tokio::test]
async fn a_json_patch_may_test_first() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    api.add(&map("a", &[("app", "x")]));
    let patch = |expected: &str| {
        let patch = json!([
            { "op": "test", "path": "/metadata/labels/app", "value": expected },
            { "op": "add", "path": "/data", "value": { "k": "v" } },
        ]);
        Patch::Json::<()>(serde_json::from_value(patch).unwrap())
    };
    assert_eq!(
        code(maps.patch("a", &PatchParams::default(), &patch("y")).await),
        422
    );
    let new = maps
        .patch("a", &PatchParams::default(), &patch("x"))
        .await
        .unwrap();
    assert!(new.data.is_some());
}

#[tokio::test]
async fn applying_makes_an_object_and_prunes_what_it_leaves_out() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    let me = PatchParams::apply("me");
    maps.patch("a", &me, &apply(json!({ "k": "1", "l": "1" })))
        .await
        .unwrap();
    let other = PatchParams::apply("other");
    maps.patch("a", &other, &apply(json!({ "m": "1" })))
        .await
        .unwrap();
    let new = maps.patch("a", &me, &apply(json!({ "k": "2" }))).await.unwrap();
    let expected = [("k", "2"), ("m", "1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(new.data.unwrap(), expected.into());
    let nobody = PatchParams::default();
    assert_eq!(code(maps.patch("a", &nobody, &apply(json!({}))).await), 422);
}

#[tokio::test]
async fn a_status_is_applied_by_itself() {
    let api = FakeApi::new();
    let servings = Api::<ModelServing>::default_namespaced(api.client());
    let patch = Patch::Apply(json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelServing",
        "spec": { "replicas": 9 },
        "status": { "replicas": 3 },
    }));
    let me = PatchParams::apply("me");
    assert_eq!(code(servings.patch_status("llama", &me, &patch).await), 404);
    api.add(&serving("llama").build());
    let new = servings.patch_status("llama", &me, &patch).await.unwrap();
    assert_eq!(new.spec.replicas, Some(1));
    assert_eq!(new.status.unwrap().replicas, Some(3));
}

#[tokio::test]
async fn a_strategic_merge_patch_is_refused() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    api.add(&map("a", &[]));
    let patch = Patch::Strategic(json!({}));
    assert_eq!(code(maps.patch("a", &PatchParams::default(), &patch).await), 415);
}
