use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::super::{Observed, PodState, plan};
use super::*;

/// An API server that answers requests of some beginnings in its own way and grants all others.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Vec<(&'static str, u16, Value)>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn that_answers(answers: Vec<(&'static str, u16, Value)>) -> Self {
        Self {
            answers: Arc::new(answers),
            requests: Arc::default(),
        }
    }

    fn executor(&self) -> Executor {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let (code, answer) = server.answer(&head, &body);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, tower::BoxError>(http::Response::builder().status(code).body(answer)?)
            }
        });
        Executor {
            client: Client::new(service, "default"),
            index: Arc::default(),
        }
    }

    fn answer(&self, head: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let mut object: Value = serde_json::from_slice(body).unwrap_or_default();
        let path = head.uri.path().replace("/apis/", "/").replace("/api/v1/", "/");
        let path = path.replace("/namespaces/ns", "");
        let selector = head.uri.query().unwrap_or_default().split('&');
        let selector: String = selector
            .filter(|part| part.starts_with("labelSelector"))
            .collect();
        let detail = match (
            object["metadata"]["name"].as_str(),
            object["preconditions"]["uid"].as_str(),
        ) {
            (Some(name), _) => name.to_owned(),
            (_, Some(uid)) => format!("if {uid}"),
            _ => selector,
        };
        let request = format!("{} {path} {detail}", head.method).trim_end().to_owned();
        self.requests.lock().push(request.clone());
        if let Some((_, code, answer)) = self.answers.iter().find(|(start, ..)| request.starts_with(start)) {
            return (*code, answer.clone());
        }
        object["metadata"]["uid"] = "made".into();
        if head.method == http::Method::DELETE {
            // Of single objects a status, of many a list.
            let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
            object = if path != "/pods" {
                status
            } else {
                json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [] })
            };
        }
        (201, object)
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock())
    }
}

fn key() -> Key {
    ("ns".into(), "s".into())
}

fn serving() -> ModelServing {
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    serde_json::from_value(json!({
        "metadata": { "name": "s", "namespace": "ns", "uid": "owner", "generation": 1 },
        "spec": { "replicas": 1, "schedulerName": "default-scheduler", "template": { "roles": [{ "name": "decode", "entryTemplate": pod }] } },
    }))
    .unwrap()
}

fn creation() -> Vec<Action> {
    plan(&serving(), &Observed::default(), Timestamp::UNIX_EPOCH).actions
}

fn refusal(code: u16) -> Value {
    let reason = if code == 409 { "AlreadyExists" } else { "Refused" };
    json!({ "kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code })
}

fn pod_of(owner: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "s-0-decode-0-0", "namespace": "ns", "uid": "there",
        "labels": { "modelserving.volcano.sh/name": "s", "modelserving.volcano.sh/group-name": "s-0",
            "modelserving.volcano.sh/role": "decode", "modelserving.volcano.sh/role-id": "decode-0" },
        "ownerReferences": [{ "apiVersion": "v1", "kind": "K", "name": "n", "uid": owner, "controller": true }] } })
}

async fn run(server: &Server, actions: &[Action]) -> (Result<(), String>, Arc<Index>) {
    let executor = server.executor();
    let done = executor.run(&key(), actions).await;
    (
        done.map_err(|error| format!("{error}: {}", error.source)),
        executor.index,
    )
}

#[tokio::test]
async fn without_its_revision_no_pod_is_made() {
    let server = Server::that_answers(vec![("POST /apps/v1/controllerrevisions", 500, refusal(500))]);
    let (done, index) = run(&server, &creation()).await;
    let error = done.unwrap_err();
    assert!(error.starts_with("creating ControllerRevision s-"), "{error}");
    assert_eq!(server.requests().len(), 1);
    assert!(index.observe(&key()).pods.is_empty());
}

#[tokio::test]
async fn a_name_that_is_taken_by_the_very_pod_is_no_trouble_and_by_another_it_is_an_error() {
    for (owner, is_ours) in [("owner", true), ("somebody", false)] {
        let server = Server::that_answers(vec![
            ("POST /pods", 409, refusal(409)),
            ("GET /pods/s-0-decode-0-0", 200, pod_of(owner)),
        ]);
        let (done, index) = run(&server, &creation()).await;
        assert_eq!(done.is_ok(), is_ours, "{done:?}");
        assert_eq!(index.observe(&key()).pods.len(), usize::from(is_ours));
    }
}

fn target(name: &str) -> Target {
    Target {
        name: name.into(),
        uid: format!("uid-{name}"),
    }
}

fn pods(names: &[&str], selector: Option<&str>) -> Action {
    Action::DeletePods(Pods {
        unit: super::super::Unit {
            group: 0,
            instance: None,
        },
        reason: super::super::Reason::ScaleDown,
        pods: names.iter().map(|name| target(name)).collect(),
        selector: selector.map(str::to_owned),
    })
}

#[tokio::test]
async fn pods_go_first_and_each_object_is_the_one_that_was_meant() {
    let server = Server::default();
    let actions = [
        Action::DeletePodGroup(target("s-0")),
        Action::DeleteService(target("a")),
        pods(&["a"], Some("one")),
        pods(&["b", "c"], Some("role-id=x")),
        pods(&["d", "e"], None),
    ];
    let (done, _index) = run(&server, &actions).await;
    done.unwrap();
    let mut requests = server.requests();
    let later = requests.split_off(4);
    requests.sort_unstable();
    assert_eq!(
        requests,
        [
            "DELETE /pods labelSelector=role-id%3Dx",
            "DELETE /pods/a if uid-a",
            "DELETE /pods/d if uid-d",
            "DELETE /pods/e if uid-e",
        ]
    );
    assert_eq!(
        later,
        [
            "DELETE /scheduling.volcano.sh/v1beta1/podgroups/s-0 if uid-s-0",
            "DELETE /services/a if uid-a"
        ]
    );
}

#[tokio::test]
async fn after_a_failure_nothing_of_a_later_stage_is_begun() {
    let actions = [
        pods(&["a"], None),
        Action::DeletePodGroup(target("s-0")),
        Action::DeleteService(target("a")),
    ];
    // Of the same stage, more or less may be under way.
    for (fails, begun) in [
        ("DELETE /pods", 1..=1),
        ("DELETE /scheduling", 2..=3),
        ("DELETE /services", 2..=3),
    ] {
        let server = Server::that_answers(vec![(fails, 500, refusal(500))]);
        let (done, _index) = run(&server, &actions).await;
        assert!(done.unwrap_err().contains("deleting"), "{fails}");
        assert!(begun.contains(&server.requests().len()), "{fails}");
    }
}

#[tokio::test]
async fn what_is_gone_already_or_another_by_now_was_removed() {
    for code in [404, 409] {
        let server = Server::that_answers(vec![("DELETE", code, refusal(code))]);
        let (done, _index) = run(&server, &[pods(&["a"], None), Action::DeleteService(target("a"))]).await;
        assert_eq!(done, Ok(()), "{code}");
    }
}

#[tokio::test]
async fn what_was_done_is_known_before_the_watch_tells() {
    let server = Server::default();
    let executor = server.executor();
    let mut made = pod_of("owner");
    made["metadata"]["uid"] = "uid-s-0-decode-0-0".into();
    executor
        .index
        .made(&serde_json::from_value::<KubePod>(made).unwrap());
    executor
        .run(&key(), &[pods(&["s-0-decode-0-0"], None)])
        .await
        .unwrap();
    assert_eq!(
        executor.index.observe(&key()).pods[0].state,
        PodState::Terminating
    );
    executor.run(&key(), &creation()).await.unwrap();
    let observed = executor.index.observe(&key());
    assert_eq!((observed.pods.len(), observed.revisions.len()), (1, 1));
    assert_eq!(observed.pods[0].uid, "made");
}

#[tokio::test]
async fn what_somebody_else_wrote_into_a_pod_group_is_taken_away() {
    let wanted = json!({ "metadata": { "name": "s-0", "namespace": "ns" }, "spec": { "minMember": 2 } });
    for (spec, requests) in [
        (json!({ "minMember": 2 }), 1),
        (
            json!({ "minMember": 2, "networkTopology": { "mode": "soft" } }),
            2,
        ),
    ] {
        let found = json!({ "metadata": wanted["metadata"], "spec": spec });
        let server = Server::that_answers(vec![("PATCH /scheduling.volcano.sh", 200, found)]);
        let (done, _index) = run(&server, &[Action::ApplyPodGroup(wanted.clone())]).await;
        done.unwrap();
        assert_eq!(server.requests().len(), requests);
    }
}
