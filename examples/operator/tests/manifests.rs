//! What is deployed is what the code is about.

use chat_operator::{ChatService, Size};
use kube::CustomResourceExt;
use serde_json::Value;

#[test]
fn the_definition_is_that_of_the_types() {
    let stored: Value = serde_saphyr::from_str(include_str!("../deploy/crd.yaml")).unwrap();
    let current = serde_json::to_value(ChatService::crd()).unwrap();
    assert_eq!(
        stored, current,
        "`cargo run -p chat-operator --example crd` prints it anew"
    );
}

#[test]
fn the_sample_is_a_chat_service() {
    let sample: ChatService = serde_saphyr::from_str(include_str!("../deploy/sample.yaml")).unwrap();
    assert_eq!((sample.spec.size, sample.spec.replicas), (Size::Small, 2));
    let minimal: Value = serde_saphyr::from_str("{spec: {model: m}, metadata: {name: a}}").unwrap();
    let minimal: ChatService = serde_json::from_value(minimal).unwrap();
    assert_eq!(
        (minimal.spec.size, minimal.spec.replicas),
        (Size::Small, 1),
        "defaults"
    );
}
