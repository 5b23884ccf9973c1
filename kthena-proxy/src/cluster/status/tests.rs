use serde_json::json;

use super::super::build::Builder;
use super::super::fixture::{apply, objects, pod, route, server, updates};
use super::super::objects::{Event, Update};
use super::*;

const NOW: i64 = 1_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn compute(objects: &Objects, seconds: i64) -> Statuses {
    let built = Builder::default().build(objects);
    outdated(objects, &built.snapshot, &built.problems, at(seconds))
}

fn says(conditions: &[Condition], type_: &str) -> (String, String, String) {
    let found = condition::find(conditions, type_).expect("it is there");
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

fn yes(reason: &str) -> (String, String, String) {
    ("True".into(), reason.into(), String::new())
}

fn no(reason: &str, message: &str) -> (String, String, String) {
    ("False".into(), reason.into(), message.into())
}

/// The objects after the statuses were written.
fn store(objects: &mut Objects, statuses: Statuses) {
    for (key, status) in statuses.routes {
        let mut object = objects.routes[&key].as_ref().clone();
        object.status = Some(status);
        objects.update(Update::Route(Event::Apply(object)));
    }
    for (key, status) in statuses.servers {
        let mut object = objects.servers[&key].as_ref().clone();
        object.status = Some(status);
        objects.update(Update::Server(Event::Apply(object)));
    }
}

#[test]
fn a_route_says_which_of_its_backends_are_missing() {
    let mut objects = objects(updates(&[route(&["s", "t", "s"])]));
    let statuses = compute(&objects, NOW);
    let status = statuses.routes.values().next().unwrap();
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(says(&status.conditions, "Accepted"), yes("Accepted"));
    assert_eq!(
        says(&status.conditions, "ResolvedRefs"),
        no("BackendNotFound", "not found: ModelServer s, ModelServer t")
    );
    store(&mut objects, statuses);

    // The other one appears, then both are there: one transition, at the time it happened.
    let mut other = server(json!({}));
    other["metadata"]["name"] = "t".into();
    for update in updates(&[server(json!({})), other]) {
        objects.update(update);
    }
    let statuses = compute(&objects, NOW + 5);
    let status = statuses.routes.values().next().unwrap();
    assert_eq!(says(&status.conditions, "ResolvedRefs"), yes("ResolvedRefs"));
    let transitions = |type_| {
        condition::find(&status.conditions, type_)
            .unwrap()
            .last_transition_time
            .0
    };
    assert_eq!(
        (transitions("ResolvedRefs"), transitions("Accepted")),
        (at(NOW + 5), at(NOW))
    );
}

#[test]
fn what_was_written_is_not_written_again() {
    let mut objects = objects(updates(&[route(&["s"]), server(json!({}))]));
    objects.update(apply(pod("a", "10.0.0.1", &[("group", "g"), ("role", "decode")])));
    let statuses = compute(&objects, NOW);
    assert_eq!((statuses.routes.len(), statuses.servers.len()), (1, 1));
    store(&mut objects, statuses);
    assert_eq!(compute(&objects, NOW + 60), Statuses::default());
}

#[test]
fn a_route_for_gateways_alone_is_not_accepted() {
    let mut route = route(&["s"]);
    route["spec"]["parentRefs"] = json!([{"name": "g"}]);
    let statuses = compute(&objects(updates(&[route])), NOW);
    let status = statuses.routes.values().next().unwrap();
    let (holds, reason, _) = says(&status.conditions, "Accepted");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", "NoMatchingParent"));
}

#[test]
fn a_server_counts_its_engines_by_role() {
    let mut waiting = pod("c", "10.0.0.3", &[("group", "g"), ("role", "prefill")]);
    waiting.ready = false;
    let pods = [
        pod("a", "10.0.0.1", &[("group", "g"), ("role", "prefill")]),
        pod("b", "10.0.0.2", &[("group", "g"), ("role", "decode")]),
        waiting,
        pod("d", "10.0.0.4", &[("role", "router")]),
    ];
    let objects = objects(updates(&[server(json!({}))]).into_iter().chain(pods.map(apply)));
    let statuses = compute(&objects, NOW);
    let status = statuses.servers.values().next().unwrap();
    let count = |total, ready| Some(EndpointCount { total, ready });
    assert_eq!(status.endpoints, count(4, 2));
    assert_eq!((status.prefill, status.decode), (count(2, 1), count(1, 1)));
}

#[test]
fn listed_engines_are_counted_too_and_without_roles_there_are_no_roles() {
    let spec = json!({
        "workloadSelector": null,
        "endpoints": [{"address": "10.0.0.1"}, {"address": "engine.example.com", "port": 9000}],
    });
    let statuses = compute(&objects(updates(&[server(spec)])), NOW);
    let status = statuses.servers.values().next().unwrap();
    assert_eq!(status.endpoints, Some(EndpointCount { total: 2, ready: 2 }));
    assert_eq!((status.prefill, status.decode), (None, None));
}

#[test]
fn a_missing_secret_is_a_reference_and_a_bad_setting_is_not() {
    let mut object = server(json!({"workloadPort": {"port": 8000, "protocol": "https"}}));
    object["metadata"]["annotations"] = json!({"networking.serving.volcano.sh/upstream-ca-secret": "ca"});
    let mut bad = pod("b", "10.0.0.2", &[]);
    bad.annotations.insert(
        "networking.serving.volcano.sh/sglang-bootstrap-port".into(),
        "many".into(),
    );
    let pods = [pod("a", "10.0.0.1", &[]), pod("c", "10.0.0.3", &[]), bad];
    let objects = objects(updates(&[object]).into_iter().chain(pods.map(apply)));
    let statuses = compute(&objects, NOW);
    let conditions = &statuses.servers.values().next().unwrap().conditions;
    let (holds, reason, message) = says(conditions, "ResolvedRefs");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", "InvalidSecret"));
    assert!(
        message.starts_with("Secret ca is missing") && message.lines().count() == 1,
        "{message}"
    );
    let (holds, reason, message) = says(conditions, "Accepted");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", "Invalid"));
    assert!(
        message.contains("default/b") && message.contains("many"),
        "{message}"
    );
}
