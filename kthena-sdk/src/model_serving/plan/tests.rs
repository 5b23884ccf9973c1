//! Cases, one table for each subject.

use std::collections::BTreeSet;

use k8s_openapi::jiff::ToSpan;
use serde_json::{Value, json};

use super::super::testing::World;
use super::super::{Action, Child, PodState, Reason};

fn role(name: &str, replicas: u32, workers: u32) -> Value {
    let template = json!({ "spec": { "containers": [{ "name": "engine", "image": "old" }] } });
    let mut role =
        json!({ "name": name, "replicas": replicas, "workerReplicas": workers, "entryTemplate": template });
    if workers > 0 {
        role["workerTemplate"] = template;
    }
    role
}

fn spec(replicas: u32, roles: &[Value]) -> Value {
    json!({ "replicas": replicas, "schedulerName": "default-scheduler", "template": { "roles": roles } })
}

fn simple(replicas: u32) -> Value {
    spec(replicas, &[role("prefill", 1, 0)])
}

fn running(spec: Value) -> World {
    let mut world = World::new(spec);
    world.converge();
    world
}

/// A ModelServing of single pods with just these groups, all ready.
fn with_groups(ordinals: &[u32], more: impl FnOnce(&mut Value)) -> World {
    let mut spec = simple(ordinals.iter().max().map_or(0, |last| last + 1));
    more(&mut spec);
    let mut world = running(spec);
    world.observed.pods.retain(|pod| ordinals.contains(&pod.group));
    world
}

fn scale(world: &mut World, replicas: i32) {
    world.edit(|serving| serving.spec.replicas = Some(replicas));
}

fn image(world: &mut World, role: usize, image: &str) {
    world.edit(|serving| {
        let role = &mut serving.spec.template.roles[role];
        for template in [Some(&mut role.entry_template), role.worker_template.as_mut()]
            .into_iter()
            .flatten()
        {
            let spec = template.spec.as_mut().unwrap().as_object_mut();
            spec["containers"][0]["image"] = image.into();
        }
    });
}

/// Groups with a pod that stays.
fn staying(world: &World) -> Vec<u32> {
    let pods = world
        .observed
        .pods
        .iter()
        .filter(|pod| pod.state != PodState::Terminating);
    pods.map(|pod| pod.group)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn created(world: &World) -> Vec<u32> {
    let created = world
        .plan()
        .actions
        .into_iter()
        .filter_map(|action| match action {
            Action::CreatePod(new) => Some(new.unit.group),
            _ => None,
        });
    created.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Group, instance if it is not the whole group, and why.
type Deleted = (u32, Option<(String, u32)>, Reason);

fn deleted(world: &World) -> Vec<Deleted> {
    let deleted = world
        .plan()
        .actions
        .into_iter()
        .filter_map(|action| match action {
            Action::DeletePods(pods) => Some((pods.unit.group, pods.unit.instance, pods.reason)),
            _ => None,
        });
    deleted.collect()
}

fn condition(world: &World) -> (String, String) {
    let conditions = &world.serving.status.as_ref().unwrap().conditions;
    let mut holding = conditions.iter().filter(|condition| condition.status == "True");
    let holding = (holding.next().expect("one that holds"), holding.next());
    assert!(holding.1.is_none(), "{conditions:?}");
    (holding.0.type_.clone(), holding.0.message.clone())
}

fn counts(world: &World) -> [i32; 4] {
    let status = world.serving.status.clone().unwrap();
    [
        status.replicas,
        status.available_replicas,
        status.updated_replicas,
        status.current_replicas,
    ]
    .map(Option::unwrap)
}

// --- Creation ---

#[test]
fn a_group_is_its_roles_instances_and_pods() {
    let world = running(spec(1, &[role("prefill", 2, 2), role("decode", 1, 0)]));
    assert_eq!(
        world.names(),
        [
            "s-0-decode-0-0",
            "s-0-prefill-0-0",
            "s-0-prefill-0-1",
            "s-0-prefill-0-2",
            "s-0-prefill-1-0",
            "s-0-prefill-1-1",
            "s-0-prefill-1-2",
        ]
    );
    let mut services: Vec<_> = world.observed.services.iter().map(|it| it.name.clone()).collect();
    services.sort_unstable();
    assert_eq!(services, ["s-0-prefill-0-0", "s-0-prefill-1-0"]);
    assert_eq!(world.observed.revisions.len(), 1);
    assert!(
        world.observed.pod_groups.is_empty(),
        "the cluster has no PodGroups"
    );
}

#[test]
fn a_role_with_a_worker_template_and_no_workers_has_a_service() {
    let mut role = role("prefill", 2, 1);
    role["workerReplicas"] = 0.into();
    let world = running(spec(1, &[role]));
    assert_eq!((world.observed.pods.len(), world.observed.services.len()), (2, 2));
}

#[test]
fn the_status_follows_from_nothing_to_available() {
    let mut world = World::new(simple(1));
    world.step();
    assert_eq!(counts(&world), [1, 0, 1, 0]);
    assert_eq!(
        condition(&world),
        ("Progressing".into(), "Some groups is progressing: [0]".into())
    );
    let status = world.serving.status.clone().unwrap();
    assert_eq!(status.current_revision, status.update_revision);
    assert_eq!(status.observed_generation, Some(1));
    world.converge();
    assert_eq!(counts(&world), [1, 1, 1, 1]);
    assert_eq!(
        condition(&world),
        ("Available".into(), "All Serving groups are ready".into())
    );
}

#[test]
fn no_groups_are_a_state_like_any_other() {
    let mut world = running(simple(0));
    assert_eq!(
        (counts(&world), condition(&world).0),
        ([0; 4], "Available".into())
    );
    scale(&mut world, 2);
    world.converge();
    assert_eq!(counts(&world), [2; 4]);
    scale(&mut world, 0);
    world.converge();
    assert_eq!(
        (counts(&world), condition(&world).0),
        ([0; 4], "Available".into())
    );
    assert!(world.observed.pods.is_empty());
}

#[test]
fn a_serving_that_is_being_deleted_gets_nothing_new() {
    let mut world = running(simple(2));
    world.observed.pods.pop();
    world.serving.metadata.deletion_timestamp =
        Some(serde_json::from_value("2026-01-01T00:00:00Z".into()).unwrap());
    assert_eq!(world.plan().actions, []);
}

#[test]
fn pods_of_somebody_else_are_left_alone_and_their_names_waited_for() {
    let mut world = running(simple(2));
    world.pod("s-1-prefill-0-0").owner = Some("another".into());
    assert_eq!(world.plan().actions, []);
    let status = world.step().status;
    assert_eq!((status.replicas, status.available_replicas), (Some(2), Some(1)));
    world.pod("s-1-prefill-0-0").owner = None;
    assert_eq!(world.plan().actions, []);
    world.observed.pods.pop();
    assert_eq!(created(&world), [1]);
}

#[test]
fn the_label_selector_finds_one_pod_of_each_group() {
    let world = running(spec(1, &[role("prefill", 2, 0), role("decode", 1, 0)]));
    assert_eq!(
        world.serving.status.unwrap().label_selector.as_deref(),
        Some(
            "modelserving.volcano.sh/entry=true,modelserving.volcano.sh/name=s,\
             modelserving.volcano.sh/role-id=prefill-0,modelserving.volcano.sh/role=prefill"
        )
    );
}

// --- Scale up ---

#[test]
fn missing_ordinals_are_filled_from_below() {
    for (there, replicas, expected) in [
        (&[][..], 2, &[0, 1][..]),
        (&[0], 3, &[1, 2]),
        (&[0, 5], 4, &[1, 2]),
        (&[10], 3, &[0, 1]),
        (&[0, 1], 2, &[]),
        (&[0], 5, &[1, 2, 3, 4]),
        (&[0, 2, 4], 5, &[1, 3]),
    ] {
        let mut world = with_groups(there, |_| {});
        scale(&mut world, replicas);
        assert_eq!(created(&world), expected, "{there:?} to {replicas}");
    }
}

#[test]
fn instances_are_filled_in_the_same_way_and_one_that_goes_keeps_its_ordinal() {
    let mut world = running(spec(1, &[role("prefill", 2, 0)]));
    world.edit(|serving| serving.spec.template.roles[0].replicas = Some(3));
    world.pod("s-0-prefill-1-0").state = PodState::Terminating;
    world.step();
    assert_eq!(
        world.names(),
        ["s-0-prefill-0-0", "s-0-prefill-1-0", "s-0-prefill-2-0"]
    );
    let revisions = world.observed.revisions.len();
    world.converge();
    assert_eq!(
        (world.observed.pods.len(), world.observed.revisions.len()),
        (3, revisions)
    );
}

#[test]
fn a_group_that_goes_keeps_its_ordinal() {
    let mut world = running(simple(4));
    scale(&mut world, 0);
    world.step();
    scale(&mut world, 4);
    assert_eq!(created(&world), Vec::<u32>::new());
    world.observed.pods.retain(|pod| pod.group != 2);
    assert_eq!(created(&world), [2]);
}

#[test]
fn a_number_of_groups_that_nobody_has_is_not_counted_through() {
    let mut world = with_groups(&[0, 1], |_| {});
    world.edit(|serving| serving.spec.template.roles[0].replicas = Some(0));
    scale(&mut world, 2);
    assert!(super::super::scale::missing_ordinals(0..i32::MAX as u32, 2, |ordinal| *ordinal > 1).eq([2, 3]));
}

// --- Scale down ---

/// Groups of single pods: state and cost.
fn check_down(groups: &[(u32, PodState, i64)], partition: u32, replicas: i32, expected: &[u32]) {
    let ordinals: Vec<u32> = groups.iter().map(|(ordinal, ..)| *ordinal).collect();
    let mut world = with_groups(&ordinals, |spec| {
        spec["rolloutStrategy"] = json!({ "rollingUpdateConfiguration": { "partition": partition } });
    });
    for (ordinal, state, cost) in groups {
        let pod = world.pod(&format!("s-{ordinal}-prefill-0-0"));
        (pod.state, pod.deletion_cost) = (*state, *cost);
    }
    scale(&mut world, replicas);
    world.step();
    assert_eq!(staying(&world), expected, "{groups:?} to {replicas}");
}

#[test]
fn groups_that_do_not_run_go_first_then_the_cheapest_then_the_last() {
    use PodState::{Ready as R, Terminating as D, Unready as C};
    let equal =
        |ordinals: &[u32]| -> Vec<(u32, PodState, i64)> { ordinals.iter().map(|it| (*it, R, 0)).collect() };
    check_down(&equal(&[0, 1, 2, 3]), 0, 2, &[0, 1]);
    check_down(&equal(&[0, 1, 2, 3, 4]), 0, 3, &[0, 1, 2]);
    check_down(&equal(&[0, 2, 5, 8]), 0, 2, &[0, 2]);
    check_down(&equal(&[0, 1]), 0, 2, &[0, 1]);
    check_down(&[(0, R, 0), (1, R, 0), (2, C, 0), (3, R, 0)], 0, 2, &[0, 1]);
    check_down(&[(0, R, 100), (1, R, 50), (2, R, 0), (3, R, 75)], 0, 2, &[0, 3]);
    check_down(&[(0, R, 10), (1, C, 1000), (2, R, 20), (3, R, 30)], 0, 2, &[2, 3]);
    check_down(
        &[(0, R, 100), (1, C, 0), (2, R, 50), (3, D, 0), (4, R, 200)],
        0,
        2,
        &[0, 4],
    );
    check_down(&[(0, C, 0), (1, C, 0), (2, C, 0), (3, C, 0)], 0, 2, &[0, 1]);
    check_down(
        &[(0, R, 100), (1, R, -100), (2, R, 50), (3, R, 75)],
        0,
        2,
        &[0, 3],
    );
}

#[test]
fn protected_groups_go_last() {
    use PodState::{Ready as R, Unready as C};
    check_down(
        &[(0, R, 0), (1, R, 0), (2, R, 0), (3, R, 100), (4, R, 50)],
        3,
        3,
        &[0, 1, 2],
    );
    check_down(
        &[(0, R, 0), (1, C, 0), (2, R, 0), (3, R, 0), (4, R, 0)],
        3,
        3,
        &[0, 1, 2],
    );
    check_down(&[(0, R, 100), (1, R, 50), (2, R, 0), (3, R, 200)], 5, 2, &[0, 3]);
    check_down(
        &[(0, R, 100), (1, R, 50), (2, R, 0), (3, R, 200), (4, R, 150)],
        3,
        2,
        &[0, 1],
    );
}

#[test]
fn a_group_that_goes_already_is_not_made_up_for() {
    let mut world = running(simple(4));
    scale(&mut world, 3);
    world.step();
    assert_eq!(staying(&world), [0, 1, 2]);
    world.pod("s-1-prefill-0-0").state = PodState::Unready;
    assert_eq!(deleted(&world), []);
}

#[test]
fn instances_go_in_the_same_order() {
    let check = |pods: &[(u32, PodState, i64)], wanted: i32, partition: u32, expected: &[u32]| {
        let last = pods.iter().map(|it| it.0).max().unwrap();
        let mut spec = spec(1, &[role("prefill", last + 1, 0)]);
        spec["rolloutStrategy"] = json!({ "type": "RoleRollingUpdate" });
        spec["template"]["roles"][0]["partition"] = partition.into();
        let mut world = running(spec);
        world
            .observed
            .pods
            .retain(|pod| pods.iter().any(|it| it.0 == pod.instance));
        for (ordinal, state, cost) in pods {
            let pod = world.pod(&format!("s-0-prefill-{ordinal}-0"));
            (pod.state, pod.deletion_cost) = (*state, *cost);
        }
        world.edit(|serving| serving.spec.template.roles[0].replicas = Some(wanted));
        world.step();
        let live = world
            .observed
            .pods
            .iter()
            .filter(|pod| pod.state != PodState::Terminating);
        let mut live: Vec<u32> = live.map(|pod| pod.instance).collect();
        live.sort_unstable();
        assert_eq!(live, expected, "{pods:?}");
    };
    use PodState::{Ready as R, Terminating as D, Unready as C};
    check(&[(0, R, 0), (1, R, 0), (2, R, 0), (3, R, 0)], 2, 0, &[0, 1]);
    check(
        &[(0, R, 100), (1, C, 0), (2, R, 50), (3, D, 0), (4, R, 200)],
        2,
        0,
        &[0, 4],
    );
    check(&[(0, R, 100), (1, R, 0), (2, R, 50), (3, R, 0)], 2, 0, &[0, 2]);
    check(&[(0, C, 0), (1, R, 0), (2, C, 0), (3, R, 0)], 2, 0, &[1, 3]);
    check(&[(1, R, 0), (3, R, 0), (5, R, 0), (8, R, 0)], 2, 2, &[1, 3]);
    check(&[(0, R, 0), (1, R, 0), (2, D, 0)], 2, 0, &[0, 1]);
    check(
        &[(0, R, 0), (1, R, 0), (2, R, 0), (3, R, 9), (4, R, 9)],
        3,
        3,
        &[0, 1, 2],
    );
}

#[test]
fn services_go_with_their_instances() {
    let mut world = running(spec(3, &[role("prefill", 1, 1)]));
    assert_eq!(world.observed.services.len(), 3);
    scale(&mut world, 1);
    world.converge();
    assert_eq!((world.observed.services.len(), world.observed.pods.len()), (1, 2));
}

// --- Recovery ---

fn recovering(policy: &str, grace: i64) -> World {
    let mut spec = spec(2, &[role("prefill", 2, 1), role("decode", 1, 0)]);
    spec["recoveryPolicy"] = policy.into();
    spec["template"]["restartGracePeriodSeconds"] = grace.into();
    running(spec)
}

fn replaced(mut world: World) -> Vec<String> {
    let before: BTreeSet<String> = world.observed.pods.iter().map(|pod| pod.uid.clone()).collect();
    world.converge();
    assert_eq!(counts(&world), [2; 4]);
    let new = world
        .observed
        .pods
        .iter()
        .filter(|pod| !before.contains(&pod.uid));
    let mut new: Vec<String> = new.map(|pod| pod.name.clone()).collect();
    new.sort_unstable();
    new
}

fn replaced_after_step(mut world: World) -> Vec<String> {
    let before = world.clone();
    world.step();
    // The plan is carried out before the pods come to themselves.
    let gone: BTreeSet<String> = before.observed.pods.iter().map(|pod| pod.uid.clone()).collect();
    world.converge();
    let new = world.observed.pods.iter().filter(|pod| !gone.contains(&pod.uid));
    let mut new: Vec<String> = new.map(|pod| pod.name.clone()).collect();
    new.sort_unstable();
    new
}

const GROUP: [&str; 5] = [
    "s-1-decode-0-0",
    "s-1-prefill-0-0",
    "s-1-prefill-0-1",
    "s-1-prefill-1-0",
    "s-1-prefill-1-1",
];

#[test]
fn a_lost_pod_is_replaced_with_what_the_policy_names() {
    let lose = |policy: &str, name: &str, seen: bool| {
        let mut world = recovering(policy, 0);
        if seen {
            world.pod(name).state = PodState::Terminating;
            world.step();
        }
        world.observed.pods.retain(|pod| pod.name != name);
        replaced(world)
    };
    for seen in [true, false] {
        assert_eq!(lose("RoleRecreate", "s-1-prefill-0-1", seen), GROUP[1..3]);
        assert_eq!(lose("RoleRecreate", "s-1-decode-0-0", seen), GROUP[..1]);
        assert_eq!(lose("ServingGroupRecreate", "s-1-prefill-0-1", seen), GROUP);
        assert_eq!(lose("ServingGroupRecreate", "s-1-decode-0-0", seen), GROUP);
        assert_eq!(lose("None", "s-1-prefill-0-1", seen), GROUP[2..3]);
    }
}

#[test]
fn a_failed_pod_is_given_its_time() {
    for (policy, expected) in [
        ("RoleRecreate", &GROUP[1..3]),
        ("ServingGroupRecreate", &GROUP[..]),
        ("None", &[]),
    ] {
        let mut world = recovering(policy, 60);
        let since = world.now;
        world.pod("s-1-prefill-0-1").state = PodState::Failed { since };
        let plan = world.step();
        assert_eq!(plan.actions, []);
        let is_none = policy == "None";
        assert_eq!(plan.wake_at, (!is_none).then(|| since + 60.seconds()));
        assert_eq!(plan.status.available_replicas, Some(1));
        world.wait(59);
        assert_eq!(world.plan().actions, []);
        world.wait(1);
        let is_same = replaced_after_step(world);
        assert_eq!(is_same, expected, "{policy}");
    }
}

#[test]
fn a_pod_that_recovers_in_time_stays() {
    let mut world = recovering("RoleRecreate", 60);
    let since = world.now;
    world.pod("s-1-decode-0-0").state = PodState::Failed { since };
    world.step();
    world.wait(30);
    assert_eq!(replaced(world), Vec::<String>::new());
}

#[test]
fn readiness_alone_costs_availability_and_no_pod() {
    let mut world = recovering("RoleRecreate", 0);
    world.pod("s-1-decode-0-0").state = PodState::Unready;
    let plan = world.step();
    assert_eq!((plan.actions, plan.status.available_replicas), (vec![], Some(1)));
}

#[test]
fn more_instances_are_no_loss() {
    let mut world = recovering("ServingGroupRecreate", 0);
    world.edit(|serving| serving.spec.template.roles[1].replicas = Some(3));
    assert_eq!(
        replaced(world),
        [
            "s-0-decode-1-0",
            "s-0-decode-2-0",
            "s-1-decode-1-0",
            "s-1-decode-2-0"
        ]
    );
    let mut world = recovering("ServingGroupRecreate", 0);
    world.edit(|serving| serving.spec.template.roles[0].replicas = Some(1));
    assert_eq!(replaced(world), Vec::<String>::new());
}

#[test]
fn a_service_that_was_deleted_comes_back_and_its_pods_stay() {
    let mut world = recovering("RoleRecreate", 0);
    world.observed.services.remove(0);
    let plan = world.step();
    assert!(
        matches!(plan.actions[..], [Action::CreateService(_)]),
        "{:?}",
        plan.actions
    );
    assert_eq!(plan.status.available_replicas, Some(2));
}

#[test]
fn pods_that_have_not_been_made_yet_are_no_loss() {
    let mut world = World::new(spec(1, &[role("prefill", 1, 1)]));
    world.crash_after(2);
    assert_eq!(world.names(), ["s-0-prefill-0-0"]);
    world.pod("s-0-prefill-0-0").state = PodState::Ready;
    world.step();
    assert_eq!(world.names(), ["s-0-prefill-0-0", "s-0-prefill-0-1"]);
}

// --- Rollouts ---

fn rolling(replicas: u32, more: Value) -> World {
    let mut spec = simple(replicas);
    spec["rolloutStrategy"] =
        json!({ "type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": more });
    running(spec)
}

#[test]
fn a_rollout_replaces_one_group_after_the_other_from_the_last() {
    let mut world = rolling(3, json!({ "maxUnavailable": 1 }));
    let old = world.serving.status.clone().unwrap().update_revision;
    image(&mut world, 0, "new");
    let mut seen = Vec::new();
    let mut observe = |world: &mut World| {
        world.step();
        let status = world.serving.status.clone().unwrap();
        seen.push((counts(world), status.current_revision == old));
    };
    observe(&mut world);
    assert_eq!(condition(&world).0, "UpdateInProgress");
    for _ in 0..3 {
        world
            .observed
            .pods
            .retain(|pod| pod.state != PodState::Terminating);
        observe(&mut world);
        world.settle_pods();
        observe(&mut world);
    }
    assert_eq!(
        seen,
        [
            ([3, 2, 0, 2], true),
            ([3, 2, 1, 2], true),
            ([3, 2, 1, 1], true),
            ([3, 2, 2, 1], true),
            ([3, 2, 2, 0], false),
            ([3, 2, 3, 0], false),
            ([3, 3, 3, 3], false),
        ]
    );
    assert_eq!(condition(&world).0, "Available");
}

#[test]
fn groups_that_are_down_are_replaced_first_and_within_the_budget() {
    // Of 4 groups so many may be unavailable, and these are down.
    for (unavailable, down, expected) in [
        (1, &[][..], &[3][..]),
        (2, &[], &[2, 3]),
        (2, &[0, 1], &[0, 1]),
        (2, &[0, 1, 2], &[1, 2]),
        (1, &[0], &[0]),
    ] {
        let mut world = rolling(4, json!({ "maxUnavailable": unavailable }));
        for group in down {
            world.pod(&format!("s-{group}-prefill-0-0")).state = PodState::Unready;
        }
        image(&mut world, 0, "new");
        let mut groups: Vec<u32> = deleted(&world).into_iter().map(|it| it.0).collect();
        groups.sort_unstable();
        assert_eq!(groups, expected, "{unavailable} {down:?}");
    }
}

#[test]
fn a_broken_revision_stops_at_what_may_be_unavailable_and_does_not_block_the_next() {
    let mut world = rolling(6, json!({ "maxUnavailable": 2 }));
    image(&mut world, 0, "broken");
    for _ in 0..10 {
        world.step();
        world
            .observed
            .pods
            .retain(|pod| pod.state != PodState::Terminating);
    }
    assert_eq!((counts(&world), staying(&world).len()), ([6, 4, 2, 4], 6));
    image(&mut world, 0, "fixed");
    let mut groups: Vec<u32> = deleted(&world).into_iter().map(|it| it.0).collect();
    groups.sort_unstable();
    assert_eq!(groups, [4, 5]);
    world.converge();
    assert_eq!(counts(&world), [6; 4]);
}

#[test]
fn going_back_to_an_earlier_template_leaves_alone_what_is_of_it() {
    let mut world = rolling(3, json!({}));
    let first = world.serving.status.clone().unwrap().update_revision;
    image(&mut world, 0, "new");
    world.step();
    world
        .observed
        .pods
        .retain(|pod| pod.state != PodState::Terminating);
    world.step();
    image(&mut world, 0, "old");
    let plan = world.step();
    assert!(
        matches!(&plan.actions[..], [Action::RenumberRevision { number: 3, .. }, Action::DeletePods(pods)] if pods.unit.group == 2),
        "{:?}",
        plan.actions
    );
    world.converge();
    assert_eq!(world.serving.status.clone().unwrap().update_revision, first);
    assert_eq!(
        world.observed.revisions.len(),
        2,
        "the other one is kept as history"
    );
}

#[test]
fn ordinals_below_the_partition_keep_their_revision() {
    let mut world = rolling(5, json!({ "partition": 3, "maxUnavailable": 5 }));
    let old = world.serving.status.clone().unwrap().update_revision.unwrap();
    image(&mut world, 0, "new");
    world.step();
    assert_eq!(condition(&world).0, "Progressing");
    world.converge();
    let of = |world: &World, revision: &str| -> Vec<u32> {
        let pods = world.observed.pods.iter().filter(|pod| pod.revision == revision);
        let mut groups: Vec<u32> = pods.map(|pod| pod.group).collect();
        groups.sort_unstable();
        groups
    };
    assert_eq!(of(&world, &old), [0, 1, 2]);
    assert_eq!(counts(&world), [5, 5, 2, 3]);
    let status = world.serving.status.clone().unwrap();
    assert_eq!(status.current_revision.as_deref(), Some(old.as_str()));
    // One of them is lost and comes back as it was.
    world.observed.pods.retain(|pod| pod.group != 1);
    world.converge();
    assert_eq!(of(&world, &old), [0, 1, 2]);
    let uid = world.pod("s-1-prefill-0-0").uid.clone();
    assert_eq!(world.specs[&uid]["containers"][0]["image"], "old");
    scale(&mut world, 7);
    world.converge();
    assert_eq!(of(&world, &old), [0, 1, 2]);
    scale(&mut world, 3);
    world.converge();
    assert_eq!((of(&world, &old), counts(&world)), (vec![0, 1, 2], [3, 3, 0, 3]));
}

#[test]
fn protected_groups_keep_the_roles_of_their_revision() {
    let mut spec = spec(2, &[role("prefill", 1, 0), role("decode", 1, 0)]);
    spec["rolloutStrategy"] = json!({ "rollingUpdateConfiguration": { "partition": 1 } });
    let mut world = running(spec);
    world.edit(|serving| drop(serving.spec.template.roles.pop()));
    world.converge();
    assert_eq!(
        world.names(),
        ["s-0-decode-0-0", "s-0-prefill-0-0", "s-1-prefill-0-0"]
    );
    world.observed.pods.retain(|pod| pod.group != 0);
    world.converge();
    assert_eq!(
        world.names(),
        ["s-0-decode-0-0", "s-0-prefill-0-0", "s-1-prefill-0-0"]
    );
}

#[test]
fn protected_groups_keep_their_numbers_of_instances() {
    let mut spec = spec(2, &[role("prefill", 1, 0), role("decode", 1, 0)]);
    spec["rolloutStrategy"] = json!({ "rollingUpdateConfiguration": { "partition": 1 } });
    let mut world = running(spec);
    world.edit(|serving| serving.spec.template.roles[1].replicas = Some(2));
    world.converge();
    let of = |group: u32| {
        world
            .observed
            .pods
            .iter()
            .filter(|pod| pod.group == group)
            .count()
    };
    assert_eq!((of(0), of(1)), (2, 3));
}

#[test]
fn groups_that_wait_for_their_turn_keep_the_roles_they_have() {
    let mut world = running(spec(3, &[role("prefill", 1, 1), role("decode", 1, 0)]));
    world.edit(|serving| {
        serving.spec.template.roles[0].worker_replicas = Some(2);
        serving.spec.template.roles[1].name = "lb".into();
    });
    world.step();
    assert_eq!(world.observed.pods.len(), 9, "nothing is added to old groups");
    world.pod("s-0-prefill-0-1").state = PodState::Terminating;
    world.step();
    world
        .observed
        .pods
        .retain(|pod| pod.state != PodState::Terminating || pod.group != 0);
    world.step();
    let pods = world.observed.pods.iter().filter(|pod| pod.group == 0);
    let revisions: BTreeSet<&str> = pods.map(|pod| pod.revision.as_str()).collect();
    assert_eq!(
        revisions.len(),
        1,
        "what is lost comes back as it was, until the group is replaced"
    );
    world.converge();
    assert_eq!(counts(&world), [3; 4]);
    assert_eq!(world.observed.pods.len(), 12);
}

#[test]
fn a_surge_adds_before_it_takes_away() {
    let mut world = rolling(3, json!({ "maxUnavailable": 0, "maxSurge": 1 }));
    image(&mut world, 0, "new");
    let mut most = 0;
    for _ in 0..30 {
        world.step();
        let ready = world
            .observed
            .pods
            .iter()
            .filter(|pod| pod.state == PodState::Ready)
            .count();
        assert!(ready >= 3, "{:?}", world.names());
        most = most.max(world.observed.pods.len());
        world.settle_pods();
    }
    assert_eq!(most, 4);
    world.converge();
    assert_eq!((counts(&world), staying(&world)), ([3; 4], vec![0, 1, 2]));
}

#[test]
fn a_paused_rollout_replaces_nothing() {
    let mut world = rolling(3, json!({}));
    image(&mut world, 0, "new");
    world.edit(|serving| serving.spec.rollout_strategy.as_mut().unwrap().paused = Some(true));
    world.converge();
    assert_eq!(counts(&world), [3, 3, 0, 3]);
    scale(&mut world, 4);
    world.converge();
    assert_eq!(counts(&world), [4, 4, 1, 3]);
    world.edit(|serving| serving.spec.rollout_strategy.as_mut().unwrap().paused = None);
    world.converge();
    assert_eq!(counts(&world), [4; 4]);
}

#[test]
fn a_change_of_numbers_alone_replaces_nothing() {
    let mut world = running(spec(2, &[role("prefill", 1, 0)]));
    let before = world.observed.pods.clone();
    world.edit(|serving| {
        serving.spec.template.roles[0].max_unavailable = Some(2.into());
        serving.spec.template.restart_grace_period_seconds = Some(5);
    });
    world.converge();
    assert_eq!(
        (&world.observed.pods, world.observed.revisions.len()),
        (&before, 1)
    );
}

// --- Rollouts by role ---

fn by_role(groups: u32, prefill: Value) -> World {
    let mut first = role("prefill", 4, 0);
    first
        .as_object_mut()
        .unwrap()
        .extend(prefill.as_object().unwrap().clone());
    let mut spec = spec(groups, &[first, role("decode", 1, 0)]);
    spec["rolloutStrategy"] = json!({ "type": "RoleRollingUpdate" });
    running(spec)
}

#[test]
fn instances_are_replaced_and_other_roles_are_not_touched() {
    let mut world = by_role(2, json!({ "maxUnavailable": 1 }));
    let decode: Vec<String> = (0..2)
        .map(|group| world.pod(&format!("s-{group}-decode-0-0")).uid.clone())
        .collect();
    image(&mut world, 0, "new");
    assert_eq!(
        deleted(&world),
        [
            (0, Some(("prefill".into(), 3)), Reason::Rollout),
            (1, Some(("prefill".into(), 3)), Reason::Rollout)
        ]
    );
    world.converge();
    assert_eq!(counts(&world), [2; 4]);
    for group in 0..2 {
        assert_eq!(
            world.pod(&format!("s-{group}-decode-0-0")).uid,
            decode[group as usize]
        );
    }
    let revisions = world.observed.revisions.len();
    assert_eq!(revisions, 2, "both are kept while pods are of them");
}

#[test]
fn the_roles_budget_counts_what_is_down_already() {
    use PodState::{Ready as R, Terminating as D, Unready as C};
    // State of each instance, and whether it is of the new revision.
    for (limit, pods, expected) in [
        (json!(null), [(R, false); 4], &[3, 2, 1, 0][..]),
        (json!(2), [(R, false); 4], &[3, 2]),
        (
            json!(2),
            [(R, false), (C, false), (R, false), (C, false)],
            &[3, 1],
        ),
        (json!(2), [(R, false), (R, false), (C, true), (C, true)], &[]),
        (json!(2), [(R, false), (R, false), (C, true), (R, true)], &[1]),
        (json!(2), [(R, false), (R, false), (D, false), (C, true)], &[]),
        (json!("invalid"), [(R, false); 4], &[]),
    ] {
        let mut world = by_role(1, json!({ "maxUnavailable": limit }));
        image(&mut world, 0, "new");
        let target = world.plan().status.update_revision.unwrap();
        for (ordinal, (state, is_new)) in pods.iter().enumerate() {
            let pod = world.pod(&format!("s-0-prefill-{ordinal}-0"));
            pod.state = *state;
            if *is_new {
                pod.revision.clone_from(&target);
            }
        }
        let instances: Vec<u32> = deleted(&world)
            .into_iter()
            .filter_map(|it| Some(it.1?.1))
            .collect();
        assert_eq!(instances, expected, "{limit} {pods:?}");
    }
}

#[test]
fn instances_below_the_roles_partition_keep_their_revision() {
    let mut world = by_role(1, json!({ "maxUnavailable": 4, "partition": 2 }));
    let old = world.serving.status.clone().unwrap().update_revision.unwrap();
    image(&mut world, 0, "new");
    world.converge();
    let is_old = |world: &mut World| -> Vec<bool> {
        (0..4)
            .map(|ordinal| world.pod(&format!("s-0-prefill-{ordinal}-0")).revision == old)
            .collect()
    };
    assert_eq!(is_old(&mut world), [true, true, false, false]);
    world.observed.pods.retain(|pod| pod.name != "s-0-prefill-0-0");
    world.converge();
    assert_eq!(is_old(&mut world), [true, true, false, false]);
    let uid = world.pod("s-0-prefill-0-0").uid.clone();
    assert_eq!(world.specs[&uid]["containers"][0]["image"], "old");
}

#[test]
fn a_role_that_is_no_more_goes_at_once() {
    let mut world = by_role(1, json!({}));
    world.edit(|serving| drop(serving.spec.template.roles.pop()));
    assert_eq!(
        deleted(&world),
        [(0, Some(("decode".into(), 0)), Reason::Rollout)]
    );
    world.converge();
    assert_eq!((world.observed.pods.len(), counts(&world)), (4, [1; 4]));
}

#[test]
fn a_pod_whose_revision_is_lost_is_judged_by_its_hash() {
    for (hash, outdated) in [("keep", 0), ("other", 1), ("", 0)] {
        let mut world = by_role(1, json!({}));
        let pod = world.pod("s-0-decode-0-0");
        pod.revision = "lost".into();
        match hash {
            "keep" => {}
            "" => pod.role_hash = None,
            other => pod.role_hash = Some(other.into()),
        }
        assert_eq!(deleted(&world).len(), outdated, "{hash}");
    }
}

// --- PodGroups ---

#[test]
fn pod_groups_come_before_pods_and_follow_the_spec() {
    let mut world = World::new(spec(2, &[role("prefill", 1, 1)]));
    world.edit(|serving| serving.spec.scheduler_name = None);
    world.observed.gang = Some(super::super::gang::Support { has_sub_groups: true });
    let plan = world.step();
    let kinds: Vec<&str> = plan
        .actions
        .iter()
        .map(|action| match action {
            Action::CreateRevision(_) => "revision",
            Action::ApplyPodGroup(_) => "group",
            Action::CreatePod(_) => "pod",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["revision", "group", "group", "pod", "pod", "pod", "pod"]);
    world.converge();
    assert_eq!(world.observed.pod_groups[0].spec["minMember"], 2);
    world.edit(|serving| serving.spec.template.roles[0].replicas = Some(2));
    world.converge();
    assert_eq!(world.observed.pod_groups[0].spec["minMember"], 4);
    world.observed.pod_groups.remove(0);
    assert!(matches!(world.step().actions[..], [Action::ApplyPodGroup(_)]));
    scale(&mut world, 1);
    world.converge();
    assert_eq!(world.observed.pod_groups.len(), 1);
    world.edit(|serving| serving.spec.scheduler_name = Some("default-scheduler".into()));
    world.converge();
    assert!(world.observed.pod_groups.is_empty());
}

#[test]
fn a_pod_group_of_somebody_else_is_left_alone() {
    let mut world = World::new(simple(1));
    world.edit(|serving| serving.spec.scheduler_name = None);
    world.observed.gang = Some(super::super::gang::Support {
        has_sub_groups: false,
    });
    world.converge();
    world.observed.pod_groups[0].child.owner = Some("another".into());
    world.observed.pod_groups[0].spec = json!({});
    assert_eq!(world.plan().actions, []);
}

// --- Leftovers ---

#[test]
fn what_belongs_to_nothing_is_removed() {
    let mut world = running(spec(1, &[role("prefill", 1, 1)]));
    let stray = |group: u32| Child {
        name: format!("s-{group}-prefill-0-0"),
        uid: format!("stray-{group}"),
        owner: Some("owner".into()),
        group: Some(group),
        role: Some(("prefill".into(), 0)),
        is_terminating: false,
    };
    world.observed.services.push(stray(7));
    let plan = world.step();
    assert!(
        matches!(&plan.actions[..], [Action::DeleteService(target)] if target.uid == "stray-7"),
        "{:?}",
        plan.actions
    );
    world.edit(|serving| {
        let role = &mut serving.spec.template.roles[0];
        (role.worker_replicas, role.worker_template) = (None, None);
    });
    world.converge();
    assert_eq!((world.observed.services.len(), world.observed.pods.len()), (0, 1));
}

#[test]
fn only_revisions_that_nothing_is_of_are_forgotten_and_the_latest_are_kept() {
    let mut world = rolling(1, json!({ "partition": 1 }));
    for revision in 0..20 {
        image(&mut world, 0, &format!("new-{revision}"));
        world.step();
    }
    let numbers: Vec<i64> = world.observed.revisions.iter().map(|it| it.number).collect();
    let expected: Vec<i64> = std::iter::once(1).chain(11..22).collect();
    assert_eq!(
        numbers, expected,
        "the one in use, the one that is asked for, and ten before it"
    );
}

// --- Causes ---

#[test]
fn the_condition_says_what_is_the_matter() {
    use super::super::{Cause, Rank};
    let mut world = running(simple(2));
    let pod = world.pod("s-1-prefill-0-0");
    pod.state = PodState::Unready;
    pod.cause = Some(Cause {
        rank: Rank::Broken,
        reason: "ImagePullBackOff".into(),
        message: "no such image".into(),
    });
    world.step();
    assert_eq!(
        condition(&world),
        (
            "Progressing".into(),
            "Some groups is progressing: [1]; pod s-1-prefill-0-0: ImagePullBackOff: no such image".into()
        )
    );
    world.converge();
    assert_eq!(condition(&world).0, "Available");
}
