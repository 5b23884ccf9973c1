use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::super::fixture::{apply, objects, pod, route, server, updates};
use super::super::objects::{Effect, Event, Pod, Update};
use super::*;

/// A snapshot in words: what each server's requests could go to.
fn describe(snapshot: &Snapshot) -> Vec<String> {
    let names = |endpoints: &[Arc<Endpoint>]| {
        let mut names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.pod()).collect();
        names.sort_unstable();
        names.join("+")
    };
    let mut lines: Vec<String> = snapshot
        .servers
        .values()
        .map(|server| match &server.pool {
            Pool::Whole(all) => format!("{}: {}", server.name, names(all)),
            Pool::Split(split) => {
                let mut cells: Vec<String> = split
                    .cells
                    .iter()
                    .map(|cell| format!("{}({}>{})", cell.group, names(&cell.prefill), names(&cell.decode)))
                    .collect();
                cells.sort();
                format!("{}: {}", server.name, cells.join(" "))
            }
        })
        .collect();
    for (model, routes) in &snapshot.models {
        lines.extend(routes.iter().map(|route| format!("{model} -> {}", route.name)));
    }
    lines.sort();
    lines
}

fn built(updates: impl IntoIterator<Item = Update>) -> Vec<String> {
    describe(&Builder::default().build(&objects(updates)).snapshot)
}

fn member(name: &str, ip: u8, role: &str, group: &str, revision: &str) -> Pod {
    let labels = [("role", role), ("group", group), (labels::REVISION, revision)];
    pod(name, &format!("10.0.0.{ip}"), &labels)
}

fn world() -> Vec<Update> {
    let mut all = updates(&[route(&["s"]), server(json!({}))]);
    all.extend(
        [
            member("p1", 1, "prefill", "a", "1"),
            member("d1", 2, "decode", "a", "1"),
            member("p2", 3, "prefill", "b", "1"),
            member("d2", 4, "decode", "b", "1"),
        ]
        .map(apply),
    );
    all
}

proptest! {
    #[test]
    fn the_order_in_which_objects_appear_does_not_matter(order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle()) {
        let mut all: Vec<Option<Update>> = world().into_iter().map(Some).collect();
        let shuffled: Vec<Update> = order.into_iter().filter_map(|index| all[index].take()).collect();
        prop_assert_eq!(built(shuffled), ["default/s: a(p1>d1) b(p2>d2)", "m -> default/r"]);
    }

    #[test]
    fn however_it_came_about_a_state_has_one_snapshot(steps in prop::collection::vec((0_usize..4, 0_usize..4), 0..40)) {
        // Pods that change role and group, go and come back, against the same pods seen once.
        let mut builder = Builder::default();
        let mut objects = objects(updates(&[route(&["s"]), server(json!({}))]));
        for (which, what) in steps {
            let name = ["p1", "d1", "p2", "d2"][which];
            let ip = u8::try_from(which).unwrap() + 1;
            let step = match what {
                0 => apply(member(name, ip, "prefill", "a", "1")),
                1 => apply(member(name, ip, "decode", "a", "1")),
                2 => apply(member(name, ip, "decode", "b", "2")),
                _ => Update::Pod(Event::Delete(("default".into(), name.into()))),
            };
            objects.update(step);
            let known = builder.build(&objects);
            let fresh = Builder::default().build(&objects);
            prop_assert_eq!(describe(&known.snapshot), describe(&fresh.snapshot));
        }
    }
}

#[test]
fn pairs_stay_within_a_group_and_while_a_rollout_runs_within_a_revision() {
    let rollout = [
        member("p1", 1, "prefill", "a", "1"),
        member("d1", 2, "decode", "a", "1"),
        member("p2", 3, "prefill", "a", "2"),
        member("d2", 4, "decode", "a", "2"),
        member("p3", 5, "prefill", "a", "3"),
    ];
    let all = updates(&[server(json!({}))])
        .into_iter()
        .chain(rollout.map(apply));
    assert_eq!(
        built(all),
        ["default/s: a(p1>d1) a(p2>d2)"],
        "p3 waits for a decode engine of its own"
    );

    let apart = [
        member("p1", 1, "prefill", "a", "1"),
        member("d2", 2, "decode", "a", "2"),
    ];
    let all = updates(&[server(json!({}))]).into_iter().chain(apart.map(apply));
    assert_eq!(
        built(all),
        ["default/s: a(p1>d2)"],
        "roles that are updated apart work together"
    );

    let strangers = [
        member("p1", 1, "prefill", "a", "1"),
        member("d2", 2, "decode", "b", "1"),
        pod("d3", "10.0.0.3", &[("role", "decode")]),
    ];
    let all = updates(&[server(json!({}))])
        .into_iter()
        .chain(strangers.map(apply));
    assert_eq!(
        built(all),
        ["default/s: a(p1>) b(>d2)"],
        "a pod without a group is in none"
    );
}

#[test]
fn an_engine_keeps_its_endpoint_until_it_goes_or_moves() {
    let mut builder = Builder::default();
    let mut state = objects(world());
    let find = |builder: &Builder, name: &str| {
        builder
            .endpoints()
            .find(|endpoint| endpoint.pod() == name)
            .cloned()
    };
    builder.build(&state);
    let first = find(&builder, "p1").unwrap();
    // Another change, or a change of labels that keeps it selected, does not touch it.
    state.update(apply(member("p1", 1, "prefill", "b", "1")));
    builder.build(&state);
    assert!(Arc::ptr_eq(&first, &find(&builder, "p1").unwrap()) && !first.is_retired());
    // A new address is a new endpoint, and the old one is closed.
    state.update(apply(member("p1", 9, "prefill", "a", "1")));
    builder.build(&state);
    let moved = find(&builder, "p1").unwrap();
    assert!(first.is_retired() && !moved.is_retired());
    // The same name and address with another UID is another engine.
    let mut successor = member("p1", 9, "prefill", "a", "1");
    successor.uid = "other".into();
    state.update(apply(successor));
    builder.build(&state);
    assert!(moved.is_retired());
    // Not ready is gone.
    let last = find(&builder, "p1").unwrap();
    let mut waiting = member("p1", 9, "prefill", "a", "1");
    waiting.uid = "other".into();
    waiting.ready = false;
    state.update(apply(waiting));
    builder.build(&state);
    assert!(last.is_retired() && find(&builder, "p1").is_none());
}

#[test]
fn engines_that_share_an_address_are_apart() {
    // With host networking the pods of a node have its address.
    let pods = [
        member("p1", 1, "prefill", "a", "1"),
        member("d1", 1, "decode", "a", "1"),
    ];
    let all = updates(&[server(json!({}))]).into_iter().chain(pods.map(apply));
    assert_eq!(built(all), ["default/s: a(p1>d1)"]);
}

#[test]
fn routes_of_one_model_come_oldest_first() {
    let aged = |name: &str, time: &str| {
        let mut route = route(&["s"]);
        route["metadata"] = json!({"name": name, "creationTimestamp": time});
        route
    };
    let routes = [
        aged("c", "2026-01-01T00:00:02Z"),
        aged("b", "2026-01-01T00:00:01Z"),
        aged("a", "2026-01-01T00:00:02Z"),
    ];
    let built = Builder::default().build(&objects(updates(&routes)));
    let names: Vec<&str> = built.snapshot.models["m"]
        .iter()
        .map(|route| &*route.name)
        .collect();
    assert_eq!(names, ["default/b", "default/a", "default/c"]);
}

#[test]
fn what_cannot_be_used_is_reported_and_the_rest_is_used() {
    let mut odd = server(json!({}));
    odd["metadata"]["name"] = "odd".into();
    let mut state = objects(world().into_iter().chain(updates(&[odd])));
    // The API server may hold what a newer version wrote.
    let key = ("default".to_owned(), "odd".to_owned());
    let mut newer = state.servers[&key].as_ref().clone();
    newer.spec.inference_engine = InferenceEngine::Unknown("TensorRT".into());
    state.update(Update::Server(Event::Apply(newer)));
    let built = Builder::default().build(&state);
    assert_eq!(describe(&built.snapshot)[0], "default/s: a(p1>d1) b(p2>d2)");
    let [problem] = &built.problems[..] else {
        panic!("{:?}", built.problems)
    };
    assert_eq!(
        (problem.kind, problem.name.as_str()),
        ("ModelServer", "default/odd")
    );
    assert!(problem.message.contains("TensorRT"));
}

#[test]
fn only_changes_that_matter_make_a_new_snapshot() {
    let mut state = objects(world());
    assert_eq!(
        state.update(apply(member("p1", 1, "prefill", "a", "1"))),
        Effect::Nothing
    );
    assert_eq!(
        state.update(apply(member("p1", 1, "prefill", "b", "1"))),
        Effect::Changed
    );
    let key = ("default".to_owned(), "s".to_owned());
    let mut noted = state.servers[&key].as_ref().clone();
    noted.status = Some(kthena_api::model_server::ModelServerStatus::default());
    noted.metadata.resource_version = Some("7".into());
    assert_eq!(
        state.update(Update::Server(Event::Apply(noted.clone()))),
        Effect::Noted
    );
    noted.spec.model = Some("other".into());
    assert_eq!(state.update(Update::Server(Event::Apply(noted))), Effect::Changed);
    let gone = || Update::Pod(Event::Delete(("default".into(), "p1".into())));
    assert_eq!(
        (state.update(gone()), state.update(gone())),
        (Effect::Changed, Effect::Nothing)
    );
}
