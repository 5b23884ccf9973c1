//! More cases: revisions at ordinals, what the status counts, what is gone and what is not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::testing::World;
use super::super::{Action, Child, PodState, Reason};

fn role(name: &str, replicas: u32, workers: u32) -> Value {
    let template = json!({ "spec": { "containers": [{ "name": "engine", "image": "old" }] } });
    json!({ "name": name, "replicas": replicas, "workerReplicas": workers, "entryTemplate": template,
        "workerTemplate": if workers > 0 { template } else { Value::Null } })
}

fn world(replicas: u32, roles: &[Value], more: Value) -> World {
    let mut spec =
        json!({ "replicas": replicas, "schedulerName": "default-scheduler", "template": { "roles": roles } });
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let mut world = World::new(spec);
    world.converge();
    world
}

fn set_image(world: &mut World, image: &str) {
    world.edit(|serving| {
        for role in &mut serving.spec.template.roles {
            let spec = role.entry_template.spec.as_mut().unwrap().as_object_mut();
            spec["containers"][0]["image"] = image.into();
        }
    });
}

fn scale(world: &mut World, replicas: i32) {
    world.edit(|serving| serving.spec.replicas = Some(replicas));
}

/// The condition that holds.
fn condition(world: &World) -> (String, String) {
    let conditions = &world.serving.status.as_ref().unwrap().conditions;
    let holding = conditions
        .iter()
        .find(|condition| condition.status == "True")
        .unwrap();
    (holding.type_.clone(), holding.message.clone())
}

fn uids(world: &World, groups: &[u32]) -> BTreeSet<String> {
    let pods = world
        .observed
        .pods
        .iter()
        .filter(|pod| groups.contains(&pod.group));
    pods.map(|pod| pod.uid.clone()).collect()
}

#[test]
fn groups_are_made_of_the_revision_of_their_ordinal() {
    // Partition, groups that are there in the old revision, how many are asked for, and which of those that come are old.
    for (partition, there, replicas, old) in [
        (2, &[0, 1][..], 4, &[][..]),
        (2, &[0, 2], 4, &[1]),
        (0, &[0, 1], 3, &[]),
        (3, &[0, 3, 4], 5, &[1, 2]),
    ] {
        let groups = there.iter().max().unwrap() + 1;
        let strategy = json!({ "rolloutStrategy": { "type": "ServingGroupRollingUpdate", "paused": true,
            "rollingUpdateConfiguration": { "partition": partition } } });
        let mut world = world(groups, &[role("prefill", 1, 0)], strategy);
        world.observed.pods.retain(|pod| there.contains(&pod.group));
        let current = world.serving.status.clone().unwrap().update_revision.unwrap();
        set_image(&mut world, "new");
        scale(&mut world, replicas);
        world.step();
        let of = |is_old: bool| -> Vec<u32> {
            let pods = world
                .observed
                .pods
                .iter()
                .filter(|pod| !there.contains(&pod.group));
            let mut groups: Vec<u32> = pods
                .filter(|pod| (pod.revision == current) == is_old)
                .map(|pod| pod.group)
                .collect();
            groups.sort_unstable();
            groups
        };
        assert_eq!(of(true), old, "{partition} {there:?}");
        assert_eq!(
            of(true).len() + of(false).len() + there.len(),
            usize::try_from(replicas).unwrap()
        );
        let status = world.serving.status.clone().unwrap();
        assert_eq!(status.current_revision, Some(current));
        assert_ne!(status.current_revision, status.update_revision);
    }
}

#[test]
fn a_protected_group_whose_revision_is_lost_is_made_of_the_target_and_says_so() {
    let strategy = json!({ "rolloutStrategy": { "rollingUpdateConfiguration": { "partition": 1 } } });
    let mut world = world(1, &[role("prefill", 1, 0)], strategy);
    set_image(&mut world, "new");
    world.observed.revisions.clear();
    world.observed.pods.clear();
    world.converge();
    let target = world.serving.status.clone().unwrap().update_revision.unwrap();
    let pod = world.pod("s-0-prefill-0-0").clone();
    assert_eq!(pod.revision, target);
    assert_eq!(world.specs[&pod.uid]["containers"][0]["image"], "new");
}

#[test]
fn groups_and_instances_shrink_together_to_the_dearest() {
    let mut world = world(2, &[role("prefill", 2, 0), role("decode", 1, 0)], json!({}));
    for pod in &mut world.observed.pods {
        pod.deletion_cost = i64::from(pod.group) * 100 + i64::from(pod.instance) * 10;
    }
    scale(&mut world, 1);
    world.edit(|serving| serving.spec.template.roles[0].replicas = Some(1));
    world.converge();
    assert_eq!(world.names(), ["s-1-decode-0-0", "s-1-prefill-1-0"]);
}

#[test]
fn more_instances_of_the_only_group_are_no_rollout() {
    let mut world = world(1, &[role("prefill", 1, 0)], json!({}));
    let (before, revision) = (
        uids(&world, &[0]),
        world.serving.status.clone().unwrap().update_revision,
    );
    world.edit(|serving| serving.spec.template.roles[0].replicas = Some(3));
    world.converge();
    assert!(world.observed.pods.len() == 3 && uids(&world, &[0]).is_superset(&before));
    assert_eq!(world.serving.status.unwrap().update_revision, revision);
}

#[test]
fn an_instance_runs_when_all_its_pods_are_ready() {
    use PodState::{Ready as R, Terminating as D, Unready as C};
    for (pods, is_running) in [
        ([R, R, R], true),
        ([R, C, C], false),
        ([C, R, R], false),
        ([R, R, C], false),
        ([R, R, D], false),
        ([C, C, C], false),
        ([D, D, D], false),
        ([R, R, PodState::Succeeded], false),
    ] {
        let mut world = world(1, &[role("prefill", 1, 2)], json!({ "recoveryPolicy": "None" }));
        for (index, state) in pods.iter().enumerate() {
            world.pod(&format!("s-0-prefill-0-{index}")).state = *state;
        }
        let plan = world.plan();
        assert_eq!(plan.running.contains_key(&0), is_running, "{pods:?}");
        assert_eq!(
            plan.status.available_replicas,
            Some(i32::from(is_running)),
            "{pods:?}"
        );
    }
}

#[test]
fn a_group_keeps_its_ordinal_while_anything_of_it_is_going() {
    let child = |group: u32, role: Option<(String, u32)>, is_terminating: bool| Child {
        name: format!("s-{group}"),
        uid: format!("left-{group}"),
        owner: Some("owner".into()),
        group: Some(group),
        role,
        is_terminating,
    };
    let service = |group, is_terminating| child(group, Some(("prefill".into(), 0)), is_terminating);
    // What is left, and whether group 1 can be made.
    for (left, is_free) in [
        (None, true),
        (Some(service(1, true)), false),
        // Another group that is going takes a place as long as it is there.
        (Some(service(7, true)), false),
        // What cannot be seen to belong to a group is in nobody's way.
        (Some(child(1, None, true)), true),
    ] {
        let mut world = world(2, &[role("prefill", 1, 1)], json!({}));
        world.observed.pods.retain(|pod| pod.group == 0);
        world.observed.services.retain(|service| service.group == Some(0));
        world.observed.services.extend(left.clone());
        let comes = world
            .plan()
            .actions
            .iter()
            .any(|action| matches!(action, Action::CreatePod(new) if new.unit.group == 1));
        assert_eq!(comes, is_free, "{left:?}");
    }
}

#[test]
fn what_is_going_gets_no_service() {
    let mut world = world(2, &[role("prefill", 2, 1)], json!({ "recoveryPolicy": "None" }));
    world.observed.services.clear();
    for pod in &mut world.observed.pods {
        if pod.group == 1 || pod.instance == 1 {
            pod.state = PodState::Terminating;
        }
    }
    let services = world
        .plan()
        .actions
        .into_iter()
        .filter_map(|action| match action {
            Action::CreateService(service) => service.metadata.name,
            _ => None,
        });
    assert_eq!(services.collect::<Vec<_>>(), ["s-0-prefill-0-0"]);
}

#[test]
fn the_current_revision_is_the_one_that_is_left_behind() {
    // Revisions of groups, the one that the status calls current, and what it calls so then. The target is v2.
    for (groups, current, expected) in [
        (&["v1", "v1", "v1"][..], None, "v1"),
        (&["v1", "v1", "v2"], Some("v1"), "v1"),
        (&["v2", "v2", "v2"], Some("v1"), "v2"),
        (&["v1", "v1", "v0", "v2"], None, "v1"),
        (&["v0", "v1", "v1"], Some("v0"), "v0"),
        (&[], None, "v2"),
    ] {
        let replicas = u32::try_from(groups.len()).unwrap();
        let strategy = json!({ "rolloutStrategy": { "type": "ServingGroupRollingUpdate", "paused": true } });
        let mut world = world(replicas, &[role("prefill", 1, 0)], strategy);
        let target = world.plan().status.update_revision.unwrap();
        let named = |name: &str| {
            if name == "v2" {
                target.clone()
            } else {
                name.to_owned()
            }
        };
        for (group, revision) in groups.iter().enumerate() {
            world.pod(&format!("s-{group}-prefill-0-0")).revision = named(revision);
        }
        world.serving.status.as_mut().unwrap().current_revision = current.map(named);
        let status = world.plan().status;
        assert_eq!(status.current_revision, Some(named(expected)), "{groups:?}");
        assert_eq!(status.update_revision, Some(target.clone()));
    }
}

#[test]
fn the_message_lists_what_is_under_way_and_what_is_done() {
    let strategy = json!({ "rolloutStrategy": { "rollingUpdateConfiguration": { "maxUnavailable": 2 } } });
    let mut world = world(4, &[role("prefill", 1, 0)], strategy);
    set_image(&mut world, "new");
    for _ in 0..2 {
        world.step();
        world
            .observed
            .pods
            .retain(|pod| pod.state != PodState::Terminating);
    }
    world.pod("s-2-prefill-0-0").state = PodState::Ready;
    // The next one goes in its place.
    let expected = "Some groups is progressing: [1 3], Updated Groups are: [2-3]";
    world.step();
    assert_eq!(condition(&world), ("UpdateInProgress".into(), expected.into()));
}

#[test]
fn a_broken_image_of_a_role_costs_what_may_be_unavailable() {
    let mut prefill = role("prefill", 4, 0);
    prefill["maxUnavailable"] = 2.into();
    let strategy = json!({ "rolloutStrategy": { "type": "RoleRollingUpdate" } });
    let mut world = world(1, &[prefill, role("decode", 1, 0)], strategy);
    let before = uids(&world, &[0]);
    world.edit(|serving| {
        let spec = serving.spec.template.roles[0]
            .entry_template
            .spec
            .as_mut()
            .unwrap()
            .as_object_mut();
        spec["containers"][0]["image"] = "broken".into();
    });
    for _ in 0..10 {
        world.step();
        world
            .observed
            .pods
            .retain(|pod| pod.state != PodState::Terminating);
        let ready = world
            .observed
            .pods
            .iter()
            .filter(|pod| pod.state == PodState::Ready);
        assert!(
            ready.count() >= 3,
            "two of prefill and decode: {:?}",
            world.names()
        );
    }
    let kept = uids(&world, &[0]).intersection(&before).count();
    assert_eq!((kept, world.observed.pods.len()), (3, 5));
}

#[test]
fn a_roles_partition_is_about_ordinals() {
    let mut prefill = role("prefill", 9, 0);
    (prefill["partition"], prefill["maxUnavailable"]) = (2.into(), 9.into());
    let strategy = json!({ "rolloutStrategy": { "type": "RoleRollingUpdate" } });
    let mut world = world(1, &[prefill], strategy);
    world
        .observed
        .pods
        .retain(|pod| [1, 3, 5, 8].contains(&pod.instance));
    set_image(&mut world, "new");
    let gone = world
        .plan()
        .actions
        .into_iter()
        .filter_map(|action| match action {
            Action::DeletePods(pods) if pods.reason == Reason::Rollout => pods.unit.instance,
            _ => None,
        });
    let mut gone: Vec<u32> = gone.map(|(_, ordinal)| ordinal).collect();
    gone.sort_unstable();
    assert_eq!(gone, [3, 5, 8]);
}

#[test]
fn of_a_role_that_is_no_more_all_goes_but_what_goes_already() {
    let strategy = json!({ "rolloutStrategy": { "type": "RoleRollingUpdate" } });
    let mut world = world(1, &[role("prefill", 1, 0), role("deprecated", 2, 0)], strategy);
    world.pod("s-0-deprecated-1-0").state = PodState::Terminating;
    world.edit(|serving| drop(serving.spec.template.roles.pop()));
    let status = world.plan().status;
    assert_eq!(
        (status.updated_replicas, status.replicas),
        (Some(0), Some(1)),
        "it is not of the target yet"
    );
    world.step();
    let live: Vec<&str> = (world.observed.pods.iter())
        .filter(|pod| pod.state != PodState::Terminating)
        .map(|pod| pod.name.as_str())
        .collect();
    assert_eq!(live, ["s-0-prefill-0-0"]);
}

#[test]
fn at_the_start_what_has_failed_is_replaced_and_what_runs_stays() {
    let mut world = world(3, &[role("prefill", 1, 0)], json!({}));
    let since = world.now;
    world.pod("s-1-prefill-0-0").state = PodState::Failed { since };
    world.pod("s-2-prefill-0-0").state = PodState::Failed { since };
    // A controller that starts knows no status, either.
    world.serving.status = None;
    let before = uids(&world, &[0, 1, 2]);
    world.step();
    world.converge();
    assert_eq!(uids(&world, &[0, 1, 2]).intersection(&before).count(), 1);
    assert!(uids(&world, &[0]).is_subset(&before));
}

#[test]
fn each_failure_has_its_own_time() {
    let more = json!({ "template": { "restartGracePeriodSeconds": 10, "roles": [role("prefill", 1, 0)] } });
    let mut world = world(1, &[], more);
    let since = world.now;
    world.pod("s-0-prefill-0-0").state = PodState::Failed { since };
    world.wait(10);
    world.step();
    world.observed.pods.clear();
    world.step();
    // The one in its place fails, too.
    world.wait(5);
    let since = world.now;
    world.pod("s-0-prefill-0-0").state = PodState::Failed { since };
    world.wait(9);
    assert_eq!(world.step().actions, []);
    world.wait(1);
    assert!(matches!(world.step().actions[..], [Action::DeletePods(_)]));
}

#[test]
fn a_group_that_the_status_takes_for_another_is_missing_until_it_is_made() {
    let mut world = world(
        2,
        &[role("prefill", 1, 0)],
        json!({ "recoveryPolicy": "ServingGroupRecreate" }),
    );
    // The controller was killed after the group was gone and before it could say so.
    world.observed.pods.retain(|pod| pod.group == 1);
    let plan = world.step();
    assert_eq!(
        (plan.actions, plan.status.available_replicas),
        (Vec::new(), Some(1))
    );
    assert_eq!(
        condition(&world),
        ("Progressing".into(), "Some groups is progressing: [0]".into())
    );
    world.converge();
    assert_eq!(world.names(), ["s-0-prefill-0-0", "s-1-prefill-0-0"]);
}
