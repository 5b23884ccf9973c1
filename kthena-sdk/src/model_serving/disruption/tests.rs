use serde_json::{Value, json};

use super::super::testing::World;
use super::*;

fn spec(replicas: u32, workers: u32, max_unavailable: Value) -> Value {
    let template = json!({ "spec": { "containers": [{ "name": "engine", "image": "old" }] } });
    json!({ "replicas": replicas, "schedulerName": "x",
        "rolloutStrategy": { "rollingUpdateConfiguration": { "maxUnavailable": max_unavailable } },
        "template": { "roles": [
            { "name": "prefill", "replicas": 2, "entryTemplate": template },
            { "name": "decode", "workerReplicas": workers, "entryTemplate": template, "workerTemplate": template },
        ] } })
}

fn world(spec: Value) -> World {
    let mut world = World::new(spec);
    ask(&mut world, Some("true"));
    world.converge();
    world
}

fn ask(world: &mut World, value: Option<&str>) {
    let annotations = world.serving.metadata.annotations.get_or_insert_default();
    annotations.remove(labels::POD_DISRUPTION_BUDGET);
    annotations.extend(value.map(|value| (labels::POD_DISRUPTION_BUDGET.to_owned(), value.to_owned())));
}

fn available(world: &World) -> Vec<Value> {
    let budgets = world.observed.budgets.iter();
    budgets.map(|budget| json!(budget.spec.min_available)).collect()
}

#[test]
fn as_many_pods_may_be_missing_as_groups_may_be() {
    for (replicas, workers, max_unavailable, expected) in [
        (4, 0, json!(1), 11),
        (4, 2, json!(1), 19),
        (4, 2, json!("50%"), 18),
        (1, 0, json!(1), 2),
        (0, 0, json!(1), 0),
    ] {
        let world = world(spec(replicas, workers, max_unavailable.clone()));
        assert_eq!(
            available(&world),
            [json!(expected)],
            "{replicas} {workers} {max_unavailable}"
        );
    }
}

#[test]
fn the_budget_selects_the_pods_and_is_owned() {
    let world = world(spec(1, 0, json!(1)));
    let budget = json!(budget(&world.serving, 3, 1));
    assert_eq!(budget["metadata"]["name"], "s");
    assert_eq!(budget["metadata"]["ownerReferences"][0]["uid"], "owner");
    let labels = json!({ "modelserving.volcano.sh/name": "s" });
    assert_eq!(budget["metadata"]["labels"], labels);
    assert_eq!(
        budget["spec"],
        json!({ "minAvailable": 2, "selector": { "matchLabels": labels }, "unhealthyPodEvictionPolicy": "AlwaysAllow" })
    );
}

#[test]
fn there_is_one_only_if_asked_for() {
    let mut world = World::new(spec(1, 0, json!(1)));
    for (value, count) in [(None, 0), (Some("false"), 0), (Some("true"), 1), (None, 0)] {
        ask(&mut world, value);
        world.converge();
        assert_eq!(available(&world).len(), count, "{value:?}");
    }
}

#[test]
fn it_follows_what_is_asked_for() {
    let mut world = world(spec(2, 0, json!(1)));
    assert_eq!(available(&world), [json!(5)]);
    world.edit(|serving| serving.spec.replicas = Some(3));
    assert_eq!(
        world
            .plan()
            .actions
            .iter()
            .filter(|it| matches!(it, Action::UpdateBudget(_)))
            .count(),
        1
    );
    world.converge();
    assert_eq!(available(&world), [json!(8)]);
    world.edit(|serving| serving.spec.template.roles[0].replicas = Some(1));
    world.converge();
    assert_eq!(available(&world), [json!(5)]);
}

#[test]
fn groups_of_a_rollout_do_not_count() {
    let mut spec = spec(2, 0, json!(0));
    spec["rolloutStrategy"]["rollingUpdateConfiguration"]["maxSurge"] = 1.into();
    let mut world = world(spec);
    world.edit(|serving| {
        let spec = serving.spec.template.roles[0]
            .entry_template
            .spec
            .as_mut()
            .unwrap();
        spec.as_object_mut()["containers"][0]["image"] = "new".into();
    });
    world.step();
    assert_eq!(world.observed.pods.len(), 9, "a third group");
    // Nothing may be unavailable during a rollout, but a node must come free some time.
    assert_eq!(available(&world), [json!(5)]);
}

#[test]
fn somebody_elses_budget_is_left_alone() {
    let mut world = world(spec(1, 0, json!(1)));
    world.observed.budgets[0].child.owner = Some("other".into());
    let plan = world.plan();
    assert!(
        matches!(plan.actions[..], [Action::CreateBudget(_)]),
        "which fails, and is told"
    );
    ask(&mut world, None);
    assert!(world.plan().actions.is_empty());
}
