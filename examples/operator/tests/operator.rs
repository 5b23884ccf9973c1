//! The operator next to Kthena's controller, on an API server in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use chat_operator::chat_service::{NAME_TAKEN, READY};
use chat_operator::{ChatService, ChatServiceSpec, ChatServiceStatus, controller};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kthena_sdk::api::ModelServing;
use kthena_sdk::condition::{find, is_true};
use kthena_sdk::model_serving::{self, plugin::Registry};
use kthena_sdk::testing::{FakeApi, Fault, Request, serving};
use serde::Deserialize;
use tokio::task::JoinHandle;

/// A task that ends with this value.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Running {
    Running(tokio::spawn(task))
}

fn operator(api: &FakeApi) -> Running {
    spawn(controller::run(api.client()))
}

/// Kthena's controller, kubelets and garbage collection.
fn cluster(api: &FakeApi) -> [Running; 2] {
    let controller =
        model_serving::controller::Controller::new(api.client(), 1, Registry::built_in(), Arc::new(()));
    let api = api.clone();
    [
        spawn(controller.run(std::future::pending())),
        spawn(async move { api.play().await }),
    ]
}

fn service(replicas: i32) -> ChatService {
    let spec = ChatServiceSpec {
        model: "Qwen/Qwen3-8B".to_owned(),
        replicas,
        ..ChatServiceSpec::default()
    };
    let mut service = ChatService::new("chat", spec);
    service.metadata.namespace = Some("default".to_owned());
    service
}

/// The status, once it is about the latest generation.
fn status(api: &FakeApi) -> Option<ChatServiceStatus> {
    let service = api.get::<ChatService>("default", "chat")?;
    let status = service.status?;
    (status.observed_generation == service.metadata.generation).then_some(status)
}

fn is_ready(replicas: i32) -> impl FnMut(&FakeApi) -> Option<()> {
    move |api| {
        let status = status(api)?;
        (is_true(&status.conditions, READY) && status.available_replicas == replicas).then_some(())
    }
}

#[tokio::test]
async fn a_chat_service_lives_from_its_model_serving_to_its_end() {
    let api = FakeApi::new();
    let _running = (operator(&api), cluster(&api));
    api.add(&service(1));
    api.until("ChatService that is ready", is_ready(1)).await;
    let told = |api: &FakeApi| {
        let reasons: BTreeSet<String> = api
            .list::<Event>()
            .into_iter()
            .filter_map(|it| it.reason)
            .collect();
        (reasons.contains("Created") && reasons.contains("Ready")).then_some(())
    };
    api.until("events", told).await;

    api.edit("default", "chat", |it: &mut ChatService| it.spec.replicas = 2);
    api.until("ChatService with two replicas", is_ready(2)).await;
    assert_eq!(api.list::<Pod>().len(), 2);

    api.remove::<ModelServing>("default", "chat");
    let remade = |api: &FakeApi| api.get::<ModelServing>("default", "chat").map(drop);
    api.until("ModelServing anew", remade).await;

    api.remove::<ChatService>("default", "chat");
    let is_empty = |api: &FakeApi| {
        let left = api.list::<ModelServing>().len() + api.list::<Pod>().len();
        (left == 0).then_some(())
    };
    api.until("empty cluster", is_empty).await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_said() {
    let api = FakeApi::new();
    let _running = operator(&api);
    let theirs = api.add(&serving("chat").build());
    api.add(&service(1));
    let is_said = |api: &FakeApi| {
        let status = status(api)?;
        find(&status.conditions, READY)
            .filter(|it| it.reason == NAME_TAKEN)
            .map(drop)
    };
    api.until("condition", is_said).await;
    assert_eq!(api.get::<ModelServing>("default", "chat"), Some(theirs));
}

#[tokio::test]
async fn it_goes_on_wherever_it_was_killed() {
    let calm = FakeApi::new();
    {
        let _running = (operator(&calm), cluster(&calm));
        calm.add(&service(1));
        calm.until("ChatService that is ready", is_ready(1)).await;
    }
    let is_own = |request: &Request| {
        let manager = request.query.get("fieldManager");
        request.verb.is_write() && manager.is_some_and(|manager| manager == controller::NAME)
    };
    let writes = calm.requests().iter().filter(|request| is_own(request)).count();
    assert!(writes >= 2, "{writes}");
    for number in 0..writes {
        for fault in [Fault::Unanswered, Fault::Unreachable, Fault::Refused(503)] {
            let api = FakeApi::new();
            let _cluster = cluster(&api);
            let (killed, mut has_failed) = tokio::sync::watch::channel(false);
            let mut count = 0;
            api.on_request(move |request| {
                let is_it = is_own(request) && count == number;
                count += usize::from(is_own(request));
                if is_it {
                    killed.send_replace(true);
                }
                is_it.then_some(fault)
            });
            let first = operator(&api);
            api.add(&service(1));
            tokio::select! {
                result = has_failed.wait_for(|killed| *killed) => drop(result.unwrap()),
                // How many writes there are depends on what is seen together.
                () = api.until("ChatService that is ready", is_ready(1)) => {}
            }
            drop(first);
            api.recover();
            let _second = operator(&api);
            api.until("ChatService that is ready", is_ready(1)).await;
            assert_eq!(api.list::<ModelServing>().len(), 1);
        }
    }
}

#[tokio::test]
async fn what_fails_is_tried_again() {
    let api = FakeApi::new();
    let _running = (operator(&api), cluster(&api));
    let mut left = 2;
    api.on_request(move |request| {
        let fails = request.verb.is_write() && request.resource == "modelservings" && left > 0;
        left -= i32::from(fails);
        fails.then_some(Fault::Refused(500))
    });
    api.add(&service(1));
    api.until("ChatService that is ready", is_ready(1)).await;
}

#[tokio::test]
async fn its_account_may_do_what_it_does_and_nothing_else() {
    let api = FakeApi::new();
    {
        let _running = operator(&api);
        api.add(&service(1));
        api.until("status", status).await;
        api.edit("default", "chat", |it: &mut ChatService| it.spec.replicas = 2);
        api.until("status", status).await;
        // The same event once more is counted, which changes it.
        api.remove::<ModelServing>("default", "chat");
        api.until("ModelServing", |api| api.get::<ModelServing>("default", "chat"))
            .await;
        let is_counted = |api: &FakeApi| api.list::<Event>().into_iter().find(|it| it.series.is_some());
        api.until("event that is counted", is_counted).await;
    }
    let done: BTreeSet<(String, String, String)> = api.requests().iter().flat_map(rights).collect();

    let manifests = include_str!("../deploy/operator.yaml");
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(manifests).unwrap();
    let role = documents
        .into_iter()
        .find(|it| it["kind"] == "ClusterRole")
        .unwrap();
    let role = ClusterRole::deserialize(role).unwrap();
    let mut allowed = BTreeSet::new();
    for rule in role.rules.unwrap_or_default() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let rights = rule.verbs.iter();
                allowed.extend(rights.map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    assert_eq!(done, allowed);
}

/// What a request takes the right to: group, resource and verb.
fn rights(request: &Request) -> Vec<(String, String, String)> {
    let resource = match &request.subresource {
        Some(subresource) => format!("{}/{subresource}", request.resource),
        None => request.resource.clone(),
    };
    let mut verbs = vec![request.verb.as_str()];
    if request.answer == Some(201) {
        // A patch may have made the object.
        verbs.push("create");
    }
    let right = |verb: &str| (request.group.clone(), resource.clone(), verb.to_owned());
    verbs.into_iter().map(right).collect()
}
