//! Watches that lag behind, tell things twice, and begin anew; controllers that are killed: nothing is made twice, nothing goes that need not,
//! and what is there in the end is what is asked for.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::limit::Limits;
use super::super::testing::server::Server;
use super::super::{Action, Pod, Reason};

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// The controller plans and acts. While it waits for answers, the watch of pods tells so much.
    Step(usize),
    /// The controller is killed after so many requests.
    Crash(usize),
    /// The watch of a kind tells so much.
    Tell(usize, usize),
    /// All watches begin anew.
    Relist,
    /// So many pods that are going are gone.
    Gone(usize),
    /// The pod at this place becomes ready.
    Ready(usize),
    /// The image changes.
    Image(u8),
    /// Groups are scaled.
    Scale(u8),
    /// A role is scaled.
    ScaleRole(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..4_usize).prop_map(Event::Step),
        1 => (0..6_usize).prop_map(Event::Crash),
        8 => (0..5_usize, 1..6_usize).prop_map(|(kind, events)| Event::Tell(kind, events)),
        1 => Just(Event::Relist),
        3 => (1..4_usize).prop_map(Event::Gone),
        6 => any::<usize>().prop_map(Event::Ready),
        1 => (0..3_u8).prop_map(Event::Image),
        1 => (0..5_u8).prop_map(Event::Scale),
        1 => (0..3_u8).prop_map(Event::ScaleRole),
    ]
}

fn spec() -> impl Strategy<Value = Value> {
    let recovery = prop::sample::select(vec!["RoleRecreate", "ServingGroupRecreate", "None"]);
    let scheduler = prop::sample::select(vec!["volcano", "default-scheduler"]);
    (1..5_u8, 1..3_u8, 0..3_u8, recovery, scheduler, any::<bool>(), 0..3_u8, 0..2_u8).prop_map(
        |(replicas, prefill, workers, recovery, scheduler, by_role, unavailable, surge)| {
            let strategy = if by_role && recovery != "ServingGroupRecreate" {
                json!({ "type": "RoleRollingUpdate" })
            } else {
                let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
                json!({ "type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": {
                    "maxUnavailable": unavailable, "maxSurge": surge } })
            };
            let template = json!({ "spec": { "containers": [{ "name": "engine", "image": "0" }] } });
            json!({ "replicas": replicas, "recoveryPolicy": recovery, "schedulerName": scheduler, "rolloutStrategy": strategy,
                "template": { "roles": [
                    { "name": "prefill", "replicas": prefill, "workerReplicas": workers, "maxUnavailable": 1,
                        "entryTemplate": template, "workerTemplate": template },
                    { "name": "decode", "maxUnavailable": 1, "entryTemplate": template },
                ] } })
        },
    )
}

fn set_image(server: &mut Server, image: u8) {
    server.edit(|serving| {
        for role in &mut serving.spec.template.roles {
            let templates = [Some(&mut role.entry_template), role.worker_template.as_mut()];
            for template in templates.into_iter().flatten() {
                let spec = template.spec.as_mut().expect("a spec").as_object_mut();
                spec["containers"][0]["image"] = image.to_string().into();
            }
        }
    });
}

/// Lets it happen. Returns why pods were told to go.
fn happen(server: &mut Server, event: &Event) -> Vec<Reason> {
    let mut actions = Vec::new();
    match *event {
        Event::Step(events) => actions = server.step(None, events).actions,
        Event::Crash(requests) => actions = server.step(Some(requests), 1).actions,
        Event::Tell(kind, events) => server.tell(kind, events),
        Event::Relist => server.relist(),
        Event::Gone(count) => server.end_pods(count),
        Event::Ready(place) => server.make_ready(place),
        Event::Image(image) => set_image(server, image),
        Event::Scale(replicas) => server.edit(|serving| serving.spec.replicas = Some(replicas.into())),
        Event::ScaleRole(count) => {
            server.edit(|serving| serving.spec.template.roles[0].replicas = Some(count.into()));
        }
    }
    let reasons = actions.iter().filter_map(|action| match action {
        Action::DeletePods(pods) => Some(pods.reason),
        _ => None,
    });
    reasons.collect()
}

/// Groups by roles: how many pods each instance has. Ordinals may be any, since those that do not run go first.
fn shape(names: &BTreeSet<String>) -> Vec<BTreeMap<&str, Vec<usize>>> {
    let mut instances = BTreeMap::<(&str, &str, &str), usize>::new();
    for name in names {
        let parts: Vec<&str> = name.split('-').collect();
        *instances.entry((parts[1], parts[2], parts[3])).or_default() += 1;
    }
    let mut groups = BTreeMap::<&str, BTreeMap<&str, Vec<usize>>>::new();
    for ((group, role, _), pods) in instances {
        groups
            .entry(group)
            .or_default()
            .entry(role)
            .or_default()
            .push(pods);
    }
    groups.into_values().collect()
}

/// Names of the pods that are asked for.
fn wanted(server: &Server) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for group in 0..server.serving.spec.effective_replicas() {
        for role in &server.serving.spec.template.roles {
            for instance in 0..role.effective_replicas() {
                for index in 0..=role.effective_worker_replicas() {
                    names.insert(format!("s-{group}-{}-{instance}-{index}", role.name));
                }
            }
        }
    }
    names
}

fn check_rest(server: &Server) -> Result<(), TestCaseError> {
    let names: BTreeSet<String> = server
        .pods()
        .filter_map(|pod| pod.metadata.name.clone())
        .collect();
    let wanted = wanted(server);
    prop_assert_eq!(shape(&names), shape(&wanted));
    let status = server.serving.status.clone().unwrap_or_default();
    let all: BTreeSet<Option<String>> = server
        .pods()
        .map(|pod| Pod::of(pod).map(|pod| pod.revision))
        .collect();
    // By roles, an older revision may say the same of a role.
    if !Limits::of(&server.serving).by_role && !all.is_empty() {
        prop_assert_eq!(all, BTreeSet::from([status.update_revision]));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_watches_tell_late_nothing_is_made_twice_or_taken_for_lost(
        spec in spec(), events in prop::collection::vec(event(), 0..120),
    ) {
        let mut server = Server::new(spec);
        for event in &events {
            // A name that is taken panics in there.
            for reason in happen(&mut server, event) {
                prop_assert!(matches!(reason, Reason::ScaleDown | Reason::Rollout), "{:?} at {:?}", reason, event);
            }
        }
        server.converge();
        check_rest(&server)?;
    }

    #[test]
    fn a_rollout_that_is_seen_late_leaves_enough_groups_and_makes_each_pod_once(
        spec in spec(), events in prop::collection::vec(event(), 10..200),
    ) {
        let mut server = Server::new(spec);
        server.converge();
        let limits = Limits::of(&server.serving);
        if limits.by_role {
            return Ok(());
        }
        let (before, size) = (server.made.clone(), server.pods().count() / limits.replicas as usize);
        let least = limits.replicas.saturating_sub(limits.max_unavailable) as usize;
        set_image(&mut server, 1);
        for event in events {
            if matches!(event, Event::Image(_) | Event::Scale(_) | Event::ScaleRole(_)) {
                continue;
            }
            happen(&mut server, &event);
            prop_assert!(server.available(size).len() >= least, "{:?} of {}", server.available(size), least);
        }
        server.converge();
        check_rest(&server)?;
        for name in wanted(&server) {
            let name = format!("Pod {name}");
            prop_assert_eq!(server.made[&name], before[&name] + 1, "{}", name);
        }
    }

    #[test]
    fn kills_cost_no_writes(spec in spec(), kills in prop::collection::vec(0..4_usize, 0..24)) {
        let life = |kills: &[usize]| {
            let mut server = Server::new(spec.clone());
            for image in 0..2 {
                set_image(&mut server, image);
                for kill in kills {
                    server.settle();
                    server.step(Some(*kill), 0);
                }
                server.converge();
            }
            server
        };
        let (whole, killed) = (life(&[]), life(&kills));
        check_rest(&killed)?;
        // A group that takes the others' place during a rollout may not be needed any more.
        for (name, made) in &killed.made {
            prop_assert!(Some(made) <= whole.made.get(name), "{} was made {} times", name, made);
        }
        prop_assert!(killed.writes <= whole.writes, "{} instead of {}", killed.writes, whole.writes);
    }
}
