use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use super::super::testing::World;
use super::super::{Action, PodState};
use super::*;

fn spec(strategy: &str) -> Value {
    let container = json!({ "name": "engine", "image": "a", "resources": { "limits": { "cpu": 2 } } });
    let template = json!({ "spec": { "containers": [container] } });
    json!({ "replicas": 2, "rolloutStrategy": { "type": strategy }, "template": { "roles": [
        { "name": "prefill", "entryTemplate": template },
        { "name": "decode", "entryTemplate": template },
    ] } })
}

/// What the reference's controller stores of these roles: with the empty values of Go's types, and its own notation.
fn foreign(name: &str, image: &str) -> Revision {
    let container = json!({ "name": "engine", "image": image, "resources": { "limits": { "cpu": "2" } } });
    let role = |name: &str| {
        json!({ "name": name, "replicas": 1, "workerReplicas": 0, "maxUnavailable": 1,
        "entryTemplate": { "metadata": {}, "spec": { "containers": [container] } } })
    };
    let object = json!({
        "metadata": { "name": format!("s-{name}"), "labels": { "modelserving.volcano.sh/revision": name }, "ownerReferences": [
            { "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing", "name": "s", "uid": "owner", "controller": true },
        ] },
        "data": { "data": [role("prefill"), role("decode")] },
        "revision": 1,
    });
    let object: ControllerRevision = serde_json::from_value(object).unwrap();
    Revision::of(&object).unwrap()
}

/// A ModelServing as the reference's controller leaves it: pods under names and hashes that mean nothing here.
fn taken_over(strategy: &str, revisions: Vec<Revision>) -> World {
    let mut world = World::new(spec(strategy));
    world.converge();
    for pod in &mut world.observed.pods {
        pod.revision = "64b659464f".into();
        pod.role_hash = Some(format!("go-{}", pod.role));
    }
    world.observed.revisions = revisions;
    let status = world.serving.status.as_mut().unwrap();
    status.current_revision = Some("64b659464f".into());
    status.update_revision = Some("64b659464f".into());
    world
}

fn touches_pods(world: &World) -> bool {
    let actions = world.plan().actions;
    actions
        .iter()
        .any(|action| matches!(action, Action::DeletePods(_) | Action::CreatePod(_)))
}

#[test]
fn taking_over_from_the_reference_touches_no_pod() {
    for strategy in ["ServingGroupRollingUpdate", "RoleRollingUpdate"] {
        let mut world = taken_over(strategy, vec![foreign("64b659464f", "a")]);
        assert_eq!(world.plan().actions, [], "{strategy}");
        let pods = world.observed.pods.clone();
        world.converge();
        assert_eq!(world.observed.pods, pods);
        let status = world.serving.status.clone().unwrap();
        assert_eq!(status.update_revision.as_deref(), Some("64b659464f"));
        assert_eq!(status.updated_replicas, Some(2));
    }
}

#[test]
fn without_a_stored_revision_the_status_says_which_it_is() {
    for strategy in ["ServingGroupRollingUpdate", "RoleRollingUpdate"] {
        let mut world = taken_over(strategy, Vec::new());
        if strategy == "RoleRollingUpdate" {
            // Pods of a role that was not changed keep the revision that they were made from.
            world.pod("s-0-decode-0-0").revision = "lost".into();
        }
        assert!(
            matches!(world.plan().actions[..], [Action::CreateRevision(_)]),
            "{strategy}"
        );
        let pods = world.observed.pods.clone();
        world.converge();
        assert_eq!(world.observed.pods, pods);
        assert_eq!(world.observed.revisions[0].name, "64b659464f");
        // The next change replaces all that it is about, and nothing else.
        world.edit(|serving| {
            let spec = serving.spec.template.roles[0]
                .entry_template
                .spec
                .as_mut()
                .unwrap();
            spec.as_object_mut()["containers"][0]["image"] = "b".into();
        });
        world.converge();
        let kept = world
            .observed
            .pods
            .iter()
            .filter(|pod| pods.iter().any(|old| old.uid == pod.uid))
            .count();
        assert_eq!(kept, if strategy == "RoleRollingUpdate" { 2 } else { 0 });
    }
}

#[test]
fn a_spec_that_was_changed_meanwhile_is_rolled_out() {
    let mut world = taken_over("ServingGroupRollingUpdate", vec![foreign("64b659464f", "before")]);
    assert!(touches_pods(&world));
    world.converge();
    let status = world.serving.status.clone().unwrap();
    assert_ne!(status.update_revision.as_deref(), Some("64b659464f"));
}

#[test]
fn revisions_of_somebody_else_are_not_looked_at() {
    let mut revision = foreign("64b659464f", "a");
    revision.owner = Some("another".into());
    let mut world = World::new(spec("ServingGroupRollingUpdate"));
    world.observed.revisions.push(revision);
    let plan = world.step();
    assert!(matches!(plan.actions[0], Action::CreateRevision(_)));
    assert_ne!(plan.status.update_revision.as_deref(), Some("64b659464f"));
}

#[test]
fn a_hash_that_is_taken_by_another_template_is_passed_over() {
    let mut world = World::new(spec("ServingGroupRollingUpdate"));
    let hash = Template::of(&world.serving.spec).hash(0);
    world.observed.revisions.push(foreign(&hash, "another"));
    world.converge();
    let status = world.serving.status.clone().unwrap();
    assert_eq!(
        status.update_revision,
        Some(Template::of(&world.serving.spec).hash(1))
    );
    assert!(world.observed.pods.iter().all(|pod| pod.state == PodState::Ready));
}

#[test]
fn what_is_stored_is_read_back() {
    let mut world = World::new(spec("ServingGroupRollingUpdate"));
    world.step();
    let object = world.observed.revisions[0].controller_revision(&world.serving);
    let name = world.observed.revisions[0].name.clone();
    let metadata = &object.metadata;
    assert_eq!(metadata.name, Some(format!("s-{name}")));
    let labels = metadata.labels.clone().unwrap();
    assert_eq!(
        (
            labels["modelserving.volcano.sh/name"].as_str(),
            labels["modelserving.volcano.sh/revision"].as_str()
        ),
        ("s", name.as_str())
    );
    assert_eq!(object.data.as_ref().unwrap().0["data"][0]["name"], "prefill");
    assert_eq!(Revision::of(&object).unwrap(), world.observed.revisions[0]);
    let mut broken = object;
    broken.data = None;
    assert!(matches!(Revision::of(&broken), Err(Error::NoData)));
}

#[test]
fn hashes_of_others_survive_the_annotation() {
    let all = BTreeMap::from([
        (
            "decode".to_owned(),
            BTreeSet::from(["x".to_owned(), "y".to_owned()]),
        ),
        ("prefill".to_owned(), BTreeSet::from(["z".to_owned()])),
    ]);
    assert_eq!(write_aliases(&all), "decode=x,decode=y,prefill=z");
    assert_eq!(aliases(&write_aliases(&all)), all);
    assert_eq!(aliases("nonsense"), BTreeMap::new());
}
