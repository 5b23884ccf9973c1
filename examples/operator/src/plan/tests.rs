use kthena_sdk::condition::{TRUE, UNKNOWN, find};
use serde_json::Value;

use super::*;
use crate::chat_service::{ChatServiceSpec, Size};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn service(spec: ChatServiceSpec) -> ChatService {
    let mut service = ChatService::new("chat", spec);
    service.metadata.namespace = Some("default".to_owned());
    service.metadata.uid = Some("1".to_owned());
    service.metadata.generation = Some(1);
    service
}

fn small() -> ChatServiceSpec {
    ChatServiceSpec {
        model: "qwen".to_owned(),
        size: Size::Small,
        replicas: 1,
    }
}

/// What stands at a path of the ModelServing that a spec leads to.
fn at(spec: ChatServiceSpec, path: &str) -> Value {
    let serving = serde_json::to_value(desired(&service(spec)).unwrap()).unwrap();
    serving.pointer(path).cloned().unwrap_or_default()
}

#[test]
fn each_field_has_its_effect() {
    let with = |change: fn(&mut ChatServiceSpec)| {
        let mut spec = small();
        change(&mut spec);
        spec
    };
    let args = "/spec/template/roles/0/entryTemplate/spec/containers/0/args/1";
    assert_eq!(at(with(|spec| spec.model = "llama".to_owned()), args), "llama");
    assert_eq!(at(with(|spec| spec.replicas = 3), "/spec/replicas"), 3);
    let gpus = "/spec/template/roles/0/entryTemplate/spec/containers/0/resources/limits/nvidia.com~1gpu";
    let workers = "/spec/template/roles/0/workerReplicas";
    for (size, expected) in [
        (Size::Small, ("1", Value::Null)),
        (Size::Large, ("8", Value::Null)),
        (Size::Huge, ("8", json!(1))),
    ] {
        let spec = ChatServiceSpec { size, ..small() };
        assert_eq!(at(spec.clone(), gpus), expected.0, "{size:?}");
        assert_eq!(at(spec, workers), expected.1, "{size:?}");
    }
}

#[test]
fn nothing_is_written_that_is_there() {
    let mut service = service(small());
    let first = plan(&service, None, now()).unwrap();
    let mut serving = first.apply.unwrap();
    service.status = first.status;
    // What the API server fills in is no difference.
    serving.spec.scheduler_name = Some("volcano".to_owned());
    serving.metadata.generation = Some(1);
    let second = plan(&service, Some(&serving), now()).unwrap();
    assert_eq!((second.apply, second.status), (None, None));
    service.spec.replicas = 2;
    assert!(plan(&service, Some(&serving), now()).unwrap().apply.is_some());
}

#[test]
fn the_condition_is_that_of_the_latest_model_serving() {
    let service = service(small());
    let mut serving = desired(&service).unwrap();
    serving.metadata.generation = Some(2);
    for (seen, expected) in [(1, UNKNOWN), (2, TRUE)] {
        let available = condition::new(AVAILABLE, TRUE, "AllGroupsReady", "", Some(seen), now());
        let status = serving.status.get_or_insert_default();
        status.conditions = vec![available];
        status.available_replicas = Some(1);
        let status = plan(&service, Some(&serving), now()).unwrap().status.unwrap();
        let ready = find(&status.conditions, READY).unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.observed_generation),
            (expected, Some(1))
        );
        assert_eq!(status.available_replicas, 1);
    }
}

#[test]
fn somebody_elses_model_serving_is_left_alone() {
    let service = service(small());
    let mut serving = desired(&service).unwrap();
    serving.metadata.owner_references = None;
    let plan = plan(&service, Some(&serving), now()).unwrap();
    assert_eq!(plan.apply, None);
    let status = plan.status.unwrap();
    let ready = find(&status.conditions, READY).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        (FALSE, NAME_TAKEN)
    );
}

#[test]
fn what_is_going_is_left_to_go() {
    let mut service = service(small());
    service.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let plan = plan(&service, None, now()).unwrap();
    assert_eq!((plan.apply, plan.status), (None, None));
}
