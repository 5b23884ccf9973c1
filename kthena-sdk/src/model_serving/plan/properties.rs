//! Whatever happens: it comes to rest at what is asked for, and a rollout never costs more than it may.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::group::{Frame, Status, groups};
use super::super::limit::Limits;
use super::super::revision::Revisions;
use super::super::testing::World;
use super::super::{Action, Pod, PodState, Reason};

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// The controller plans and acts.
    Step,
    /// The controller is killed after so many actions.
    Crash(usize),
    /// So many pods that are going are gone.
    Gone(usize),
    /// The pod at this place becomes ready.
    Ready(usize),
    /// Somebody deletes it.
    Delete(usize),
    /// It vanishes without having been seen to go.
    Vanish(usize),
    /// It fails.
    Fail(usize),
    /// The image changes.
    Image(u8),
    /// Groups are scaled.
    Scale(u8),
    /// A role is scaled.
    ScaleRole(u8, u8),
    /// Workers are scaled.
    Workers(u8),
}

fn spec() -> impl Strategy<Value = Value> {
    let role = (0..3_u8, 0..3_u8);
    let roles = prop::collection::vec(role, 1..3);
    let recovery = prop::sample::select(vec!["RoleRecreate", "ServingGroupRecreate", "None"]);
    (1..5_u8, roles, recovery, any::<bool>(), 0..3_u8, 0..3_u8, 0..3_u8).prop_map(
        |(replicas, roles, recovery, by_role, unavailable, surge, partition)| {
            let by_role = by_role && recovery != "ServingGroupRecreate";
            let strategy = if by_role {
                json!({ "type": "RoleRollingUpdate" })
            } else {
                let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
                json!({ "type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": {
                    "maxUnavailable": unavailable, "maxSurge": surge, "partition": partition } })
            };
            let roles: Vec<Value> = roles
                .into_iter()
                .enumerate()
                .map(|(index, (replicas, workers))| role_of(index, replicas, workers))
                .collect();
            json!({ "replicas": replicas, "recoveryPolicy": recovery, "rolloutStrategy": strategy, "template": { "roles": roles } })
        },
    )
}

fn role_of(index: usize, replicas: u8, workers: u8) -> Value {
    let template = json!({ "spec": { "containers": [{ "name": "engine", "image": "0" }] } });
    json!({ "name": format!("role{index}"), "replicas": replicas, "workerReplicas": workers, "maxUnavailable": 1,
        "entryTemplate": template, "workerTemplate": if workers > 0 { template } else { Value::Null } })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Step),
        2 => (0..6_usize).prop_map(Event::Crash),
        3 => (1..4_usize).prop_map(Event::Gone),
        4 => any::<usize>().prop_map(Event::Ready),
        1 => any::<usize>().prop_map(Event::Delete),
        1 => any::<usize>().prop_map(Event::Vanish),
        1 => any::<usize>().prop_map(Event::Fail),
        1 => (0..4_u8).prop_map(Event::Image),
        1 => (0..5_u8).prop_map(Event::Scale),
        1 => (0..2_u8, 0..4_u8).prop_map(|(role, count)| Event::ScaleRole(role, count)),
        1 => (0..3_u8).prop_map(Event::Workers),
    ]
}

fn scaling() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Step),
        2 => (0..6_usize).prop_map(Event::Crash),
        3 => (1..4_usize).prop_map(Event::Gone),
        4 => any::<usize>().prop_map(Event::Ready),
        1 => (0..5_u8).prop_map(Event::Scale),
        1 => (0..2_u8, 0..4_u8).prop_map(|(role, count)| Event::ScaleRole(role, count)),
    ]
}

fn at(world: &mut World, place: usize) -> Option<&mut Pod> {
    let count = world.observed.pods.len();
    (count > 0).then(|| &mut world.observed.pods[place % count])
}

fn happen(world: &mut World, event: &Event) {
    match *event {
        Event::Step => drop(world.step()),
        Event::Crash(actions) => world.crash_after(actions),
        Event::Gone(mut count) => world.observed.pods.retain(|pod| {
            let goes = pod.state == PodState::Terminating && count > 0;
            count -= usize::from(goes);
            !goes
        }),
        Event::Ready(place) => {
            if let Some(pod) = at(world, place).filter(|pod| pod.state == PodState::Unready) {
                pod.state = PodState::Ready;
            }
        }
        Event::Delete(place) => {
            if let Some(pod) = at(world, place) {
                pod.state = PodState::Terminating;
            }
        }
        Event::Vanish(place) => {
            let count = world.observed.pods.len();
            if count > 0 {
                world.observed.pods.remove(place % count);
            }
        }
        Event::Fail(place) => {
            let since = world.now;
            if let Some(pod) = at(world, place).filter(|pod| pod.state != PodState::Terminating) {
                pod.state = PodState::Failed { since };
            }
        }
        Event::Image(image) => set_image(world, image),
        Event::Scale(replicas) => world.edit(|serving| serving.spec.replicas = Some(replicas.into())),
        Event::ScaleRole(role, count) => world.edit(|serving| {
            let roles = &mut serving.spec.template.roles;
            let index = usize::from(role) % roles.len();
            roles[index].replicas = Some(count.into());
        }),
        Event::Workers(count) => world.edit(|serving| {
            let role = &mut serving.spec.template.roles[0];
            role.worker_template = (count > 0).then(|| role.entry_template.clone());
            role.worker_replicas = Some(count.into());
        }),
    }
}

fn set_image(world: &mut World, image: u8) {
    world.edit(|serving| {
        for role in &mut serving.spec.template.roles {
            let templates = [Some(&mut role.entry_template), role.worker_template.as_mut()];
            for template in templates.into_iter().flatten() {
                let spec = template.spec.as_mut().expect("a spec");
                spec.as_object_mut()["containers"][0]["image"] = image.to_string().into();
            }
        }
    });
}

/// Groups all of whose pods are ready, measured by what each was made from.
fn available(world: &World) -> usize {
    let own: Vec<&Pod> = world.observed.pods.iter().collect();
    let revisions = Revisions::of(&world.serving, &world.observed.revisions, &own);
    let all = groups(
        "owner",
        &world.observed.pods,
        &world.observed.services,
        std::iter::empty(),
    );
    let frame = Frame {
        revision: String::new(),
        roles: world
            .serving
            .spec
            .template
            .roles
            .iter()
            .map(|role| (role, super::super::limit::instances(role)))
            .collect(),
    };
    all.values()
        .filter(|group| group.status(&frame, &revisions) == Status::Running)
        .count()
}

fn check_rest(world: &World) -> Result<(), TestCaseError> {
    let status = world.serving.status.clone().unwrap_or_default();
    let limits = Limits::of(&world.serving);
    let replicas = i32::try_from(limits.replicas).unwrap();
    let has_pods = world
        .serving
        .spec
        .template
        .roles
        .iter()
        .any(|role| role.effective_replicas() > 0);
    prop_assert!(world.observed.pods.iter().all(|pod| pod.state == PodState::Ready));
    if has_pods {
        prop_assert_eq!(status.replicas, Some(replicas));
        prop_assert_eq!(status.available_replicas, Some(replicas), "{:?}", status);
    }
    let target = status.update_revision.unwrap_or_default();
    for pod in &world.observed.pods {
        if pod.group >= limits.partition && !limits.by_role {
            prop_assert_eq!(&pod.revision, &target, "{:?}", pod);
        }
        let spec = world.specs[&pod.uid].to_string();
        let stored = world.observed.revisions.iter().find(|it| it.name == pod.revision);
        let template = stored
            .expect("every pod's revision is stored")
            .template
            .role(&pod.role);
        let image = &template
            .expect("its role")
            .entry_template
            .spec
            .as_ref()
            .unwrap()
            .as_object()["containers"][0]["image"];
        prop_assert!(
            spec.contains(&format!("\"image\":{image}")),
            "{} of {}: {}",
            pod.name,
            pod.revision,
            spec
        );
    }
    let mut names = world.names();
    names.dedup();
    prop_assert_eq!(names.len(), world.observed.pods.len());
    prop_assert!(world.observed.revisions.len() <= super::super::revision::HISTORY + 4);
    Ok(())
}

/// There is one rollout at a time: what comes anew is of the revision that is asked for, never of one on the way to it. And a plan does nothing
/// twice.
fn check_plan(world: &World) -> Result<(), TestCaseError> {
    let plan = world.plan();
    let target = plan.status.update_revision.clone().unwrap_or_default();
    let partition = Limits::of(&world.serving).partition;
    let mut objects = BTreeSet::new();
    for action in &plan.actions {
        let all: Vec<String> = match action {
            Action::CreatePod(new) => {
                let is_there = world.observed.pods.iter().any(|pod| pod.group == new.unit.group);
                let revision = &new.pod["metadata"]["labels"]["modelserving.volcano.sh/revision"];
                if !is_there && new.unit.group >= partition {
                    prop_assert_eq!(revision, &Value::from(target.as_str()), "{:?}", new.unit);
                }
                vec![format!("create {}", new.pod["metadata"]["name"])]
            }
            Action::DeletePods(pods) => pods
                .pods
                .iter()
                .map(|pod| format!("delete {}", pod.uid))
                .collect(),
            action => vec![format!("{action:?}")],
        };
        for object in all {
            prop_assert!(objects.insert(object.clone()), "{}", object);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn it_always_comes_to_rest(spec in spec(), events in prop::collection::vec(event(), 0..40)) {
        let mut world = World::new(spec);
        for event in &events {
            if matches!(event, Event::Step | Event::Crash(_)) {
                check_plan(&world)?;
            }
            happen(&mut world, event);
        }
        world.converge();
        check_rest(&world)?;
        // And stays there.
        let writes = world.writes;
        world.step();
        prop_assert_eq!(world.writes, writes);
    }

    #[test]
    fn scaling_costs_nothing_but_what_is_too_much(spec in spec(), events in prop::collection::vec(scaling(), 0..40)) {
        let mut world = World::new(spec);
        world.converge();
        for event in &events {
            if matches!(event, Event::Step | Event::Crash(_)) {
                for action in world.plan().actions {
                    if let Action::DeletePods(pods) = action {
                        prop_assert_eq!(pods.reason, Reason::ScaleDown, "{:?}", pods);
                    }
                }
            }
            happen(&mut world, event);
        }
        world.converge();
        check_rest(&world)?;
    }

    #[test]
    fn killed_at_each_write_it_comes_to_the_same(spec in spec(), image in 1..3_u8) {
        let mut whole = World::new(spec.clone());
        whole.converge();
        set_image(&mut whole, image);
        whole.converge();
        let mut killed = World::new(spec);
        for _ in 0..2 {
            let mut idle = 0;
            while idle < 2 {
                let actions = killed.plan().actions;
                idle = if actions.is_empty() { idle + 1 } else { 0 };
                match actions.first() {
                    Some(first) => killed.apply(first),
                    None => {
                        killed.step();
                        killed.settle_pods();
                    }
                }
            }
            set_image(&mut killed, image);
        }
        killed.converge();
        prop_assert_eq!(killed.names(), whole.names());
        prop_assert_eq!(killed.serving.status.map(|it| it.update_revision), whole.serving.status.map(|it| it.update_revision));
    }

    #[test]
    fn a_rollout_costs_what_it_must(spec in spec()) {
        let mut world = World::new(spec);
        world.converge();
        let limits = Limits::of(&world.serving);
        if limits.by_role || limits.max_surge > 0 || world.observed.pods.is_empty() {
            return Ok(());
        }
        let of_groups = |groups: Vec<u32>| groups.into_iter().filter(|group| *group >= limits.partition).count();
        let pods = of_groups(world.observed.pods.iter().map(|pod| pod.group).collect());
        let services = of_groups(world.observed.services.iter().filter_map(|service| service.group).collect());
        let groups = of_groups((0..limits.replicas).collect());
        let writes = world.writes;
        set_image(&mut world, 1);
        let steps = world.converge();
        // The revision; pods of a group go in one request.
        prop_assert_eq!(world.writes - writes, 1 + groups + pods + 2 * services);
        prop_assert!(steps <= 3 * groups + 4, "{} steps for {} groups", steps, groups);
    }

    #[test]
    fn a_rollout_leaves_enough_groups_available(spec in spec(), order in prop::collection::vec(any::<(bool, usize)>(), 10..200)) {
        let mut world = World::new(spec);
        world.converge();
        set_image(&mut world, 1);
        let limits = Limits::of(&world.serving);
        let has_pods = !world.observed.pods.is_empty();
        if limits.by_role || !has_pods {
            return Ok(());
        }
        let least = limits.replicas.saturating_sub(limits.max_unavailable) as usize;
        for (is_step, place) in order {
            if is_step {
                world.step();
            } else {
                happen(&mut world, &Event::Ready(place));
                happen(&mut world, &Event::Gone(place % 3));
            }
            prop_assert!(available(&world) >= least, "{} of {}", available(&world), least);
            let groups = world.observed.pods.iter().map(|pod| pod.group).collect::<BTreeSet<_>>();
            prop_assert!(groups.len() <= (limits.replicas + limits.max_surge) as usize);
        }
        world.converge();
        check_rest(&world)?;
    }

    #[test]
    fn a_rollout_by_roles_leaves_enough_instances(spec in spec(), order in prop::collection::vec(any::<(bool, usize)>(), 10..200)) {
        let mut world = World::new(spec);
        world.edit(|serving| {
            serving.spec.recovery_policy = None;
            serving.spec.rollout_strategy = serde_json::from_value(json!({ "type": "RoleRollingUpdate" })).unwrap();
        });
        world.converge();
        let least: Vec<usize> = world.serving.spec.template.roles.iter().map(|role| (role.effective_replicas() - 1).max(0) as usize).collect();
        set_image(&mut world, 1);
        for (is_step, place) in order {
            if is_step {
                world.step();
            } else {
                happen(&mut world, &Event::Ready(place));
                happen(&mut world, &Event::Gone(place % 3));
            }
            let groups = groups("owner", &world.observed.pods, &world.observed.services, std::iter::empty());
            for group in groups.values() {
                for (role, least) in world.serving.spec.template.roles.iter().zip(&least) {
                    let ready = group.of_role(&role.name).filter(|(_, instance)| instance.pods.iter().all(|pod| pod.state == PodState::Ready)
                        && instance.pods.len() == super::super::pod::count(role) as usize);
                    prop_assert!(ready.count() >= *least);
                }
            }
        }
        world.converge();
        check_rest(&world)?;
    }
}
