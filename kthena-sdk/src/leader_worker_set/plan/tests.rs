use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1000).unwrap()
}

fn set(replicas: i32) -> LeaderWorkerSet {
    serde_json::from_value(json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": { "name": "vllm", "namespace": "ns", "uid": "1", "generation": 4 },
        "spec": {
            "replicas": replicas,
            "leaderWorkerTemplate": { "size": 2, "workerTemplate": { "spec": { "containers": [
                { "name": "engine", "image": "a", "ports": [{ "containerPort": 8000 }] },
            ] } } },
        },
    }))
    .unwrap()
}

fn seen(serving: &ModelServing) -> Observed<'_> {
    Observed {
        serving: Some(serving),
        has_pod_groups: true,
    }
}

/// The ModelServing as the API server has it once it was created.
fn stored(set: &LeaderWorkerSet) -> ModelServing {
    let observed = Observed {
        serving: None,
        has_pod_groups: true,
    };
    let Some(Action::Create(serving)) = plan(set, observed, now()).action else {
        panic!("it is not there");
    };
    let mut object = json!(serving);
    schema::prune(Kind::ModelServing, &mut object);
    schema::apply_defaults(Kind::ModelServing, &mut object);
    object["metadata"]["resourceVersion"] = "7".into();
    object["metadata"]["generation"] = 2.into();
    serde_json::from_value(object).unwrap()
}

#[track_caller]
fn check_patch(set: &LeaderWorkerSet, serving: &ModelServing, expected: Option<Value>) {
    let patch = match plan(set, seen(serving), now()).action {
        Some(Action::Patch(patch)) => Some(patch),
        None => None,
        Some(Action::Create(_)) => panic!("it is there"),
    };
    assert_eq!(patch, expected);
}

#[test]
fn a_model_serving_is_made_that_belongs_to_the_leader_worker_set() {
    let plan = plan(&set(3), Observed::default(), now());
    let Some(Action::Create(serving)) = &plan.action else {
        panic!("{plan:?}");
    };
    assert_eq!(
        json!(serving.metadata),
        json!({
            "name": "vllm",
            "namespace": "ns",
            "annotations": { "leaderworkerset.sigs.k8s.io/replicas": "3" },
            "ownerReferences": [{
                "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "vllm", "uid": "1",
                "controller": true, "blockOwnerDeletion": true,
            }],
        })
    );
    assert_eq!(serving.spec.replicas, Some(3));
    assert_eq!(plan.notice, None);
}

#[test]
fn without_volcano_pods_have_the_scheduler_that_is_there() {
    for (has_pod_groups, named, expected) in [
        (true, None, None),
        (false, None, Some("default-scheduler")),
        (false, Some("mine"), Some("mine")),
    ] {
        let mut set = set(1);
        if let Some(named) = named {
            let template = &mut set.spec.leader_worker_template.worker_template;
            let spec = template.spec.as_mut().unwrap().as_object_mut();
            spec.insert("schedulerName".into(), named.into());
        }
        let observed = Observed {
            serving: None,
            has_pod_groups,
        };
        let Some(Action::Create(serving)) = plan(&set, observed, now()).action else {
            panic!("it is not there");
        };
        assert_eq!(serving.spec.scheduler_name.as_deref(), expected);
    }
}

#[test]
fn what_was_made_needs_no_change() {
    check_patch(&set(2), &stored(&set(2)), None);
}

#[test]
fn what_others_have_set_besides_stays() {
    let mut serving = stored(&set(2));
    serving.spec.scheduler_name = Some("mine".into());
    serving.spec.template.restart_grace_period_seconds = Some(30);
    serving.spec.template.gang_policy = Some(Default::default());
    serving.spec.rollout_strategy = Some(serde_json::from_value(json!({ "paused": true })).unwrap());
    let tweaks = serde_json::from_value(json!({ "name": "demo-pod-tweaks", "type": "BuiltIn" })).unwrap();
    serving.spec.plugins.push(tweaks);
    serving.spec = serde_json::from_value(as_stored(&serving.spec)).unwrap();
    check_patch(&set(2), &serving, None);
}

#[test]
fn what_the_leader_worker_set_asks_for_wins_where_others_have_changed_it() {
    let mut serving = stored(&set(2));
    serving.spec.recovery_policy = Some("None".into());
    serving.spec.plugins.clear();
    serving.spec.rollout_strategy = serde_json::from_value(
        json!({ "type": "RoleRollingUpdate", "rollingUpdateConfiguration": { "maxSurge": 1 } }),
    )
    .unwrap();
    let expected = json!({
        "metadata": { "resourceVersion": "7" },
        "spec": {
            "plugins": [{ "name": "lws-standard-labels", "type": "BuiltIn" }],
            "recoveryPolicy": "ServingGroupRecreate",
            "rolloutStrategy": null,
        },
    });
    check_patch(&set(2), &serving, Some(expected));
}

#[test]
fn a_new_template_is_the_only_thing_that_is_written() {
    let serving = stored(&set(2));
    let mut set = set(2);
    set.spec.leader_worker_template.size = Some(3);
    let mut roles = json!(serving.spec.template.roles);
    roles[0]["workerReplicas"] = 2.into();
    let expected = json!({
        "metadata": { "resourceVersion": "7" },
        "spec": { "template": { "roles": roles } },
    });
    check_patch(&set, &serving, Some(expected));
}

#[test]
fn whoever_has_scaled_last_decides() {
    let scaled = |to: i32| {
        let mut serving = stored(&set(2));
        serving.spec.replicas = Some(to);
        serving
    };
    check_patch(&set(2), &scaled(5), None);
    let taken_over = |replicas: &str| {
        json!({
            "resourceVersion": "7",
            "annotations": { "leaderworkerset.sigs.k8s.io/replicas": replicas },
        })
    };
    let expected = json!({ "metadata": taken_over("3"), "spec": { "replicas": 3 } });
    check_patch(&set(3), &scaled(5), Some(expected));
    check_patch(&set(5), &scaled(5), Some(json!({ "metadata": taken_over("5") })));
    // Nobody knows who scaled one that Kthena's own controller has made.
    let mut old = scaled(5);
    old.metadata.annotations = None;
    let expected = json!({ "metadata": taken_over("2"), "spec": { "replicas": 2 } });
    check_patch(&set(2), &old, Some(expected));
}

/// The condition by type: status and reason.
fn conditions(status: &LeaderWorkerSetStatus) -> Vec<(&str, &str, &str)> {
    let all = status.conditions.iter();
    all.map(|it| (it.type_.as_str(), it.status.as_str(), it.reason.as_str()))
        .collect()
}

#[test]
fn what_belongs_to_others_is_left_alone_and_told() {
    for (owners, reason, message) in [
        (
            json!([]),
            "ModelServingNotOwned",
            "does not belong to this LeaderWorkerSet",
        ),
        (
            json!([{ "apiVersion": "x/v1", "kind": "ModelBooster", "name": "b", "uid": "9", "controller": true }]),
            "ModelServingNotOwned",
            "belongs to ModelBooster b",
        ),
        (
            json!([{ "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "vllm", "uid": "0", "controller": true }]),
            "WaitingForRemoval",
            "earlier LeaderWorkerSet",
        ),
    ] {
        let set = set(2);
        let mut serving = stored(&set);
        serving.metadata.owner_references = serde_json::from_value(owners).unwrap();
        serving.status = serde_json::from_value(json!({ "replicas": 9, "labelSelector": "a=b" })).unwrap();
        let plan = plan(&set, seen(&serving), now());
        assert_eq!(plan.action, None);
        let mapped = condition::find(&plan.status.conditions, "workload.serving.volcano.sh/Mapped").unwrap();
        assert_eq!(mapped.reason, reason);
        assert!(mapped.message.contains(message), "{}", mapped.message);
        assert_eq!(
            (plan.status.replicas, plan.status.hpa_pod_selector.as_str()),
            (0, "")
        );
        assert_eq!(plan.notice.is_some(), reason == "ModelServingNotOwned");
    }
}

#[test]
fn one_that_is_being_deleted_is_waited_for() {
    let mut serving = stored(&set(2));
    serving.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    check_patch(&set(5), &serving, None);
}

fn with_status(holds: &str, observed: i64) -> ModelServing {
    let mut serving = stored(&set(3));
    serving.status = serde_json::from_value(json!({
        "observedGeneration": observed,
        "replicas": 3, "availableReplicas": 2, "updatedReplicas": 1,
        "labelSelector": "modelserving.volcano.sh/name=vllm",
        "conditions": [{
            "type": holds, "status": "True", "reason": "X", "message": "because", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }))
    .unwrap();
    serving
}

#[track_caller]
fn check_status(holds: &str, observed: i64, expected: [&str; 3], reason: &str, message: &str) {
    let serving = with_status(holds, observed);
    let status = plan(&set(3), seen(&serving), now()).status;
    let counts = (
        status.replicas,
        status.ready_replicas,
        status.updated_replicas,
        status.observed_generation,
    );
    assert_eq!(counts, (3, 2, 1, 4));
    assert_eq!(status.hpa_pod_selector, "modelserving.volcano.sh/name=vllm");
    assert_eq!(
        conditions(&status),
        [
            ("Available", expected[0], reason),
            ("Progressing", expected[1], reason),
            ("UpdateInProgress", expected[2], reason),
            ("workload.serving.volcano.sh/Mapped", "True", "AllFieldsHonoured"),
        ]
    );
    assert_eq!(status.conditions[0].message, message);
}

#[test]
fn the_status_is_that_of_the_model_serving() {
    check_status(
        "Available",
        2,
        ["True", "False", "False"],
        "AllGroupsReady",
        "because",
    );
    check_status(
        "Progressing",
        2,
        ["False", "True", "False"],
        "GroupsProgressing",
        "because",
    );
    check_status(
        "UpdateInProgress",
        2,
        ["False", "True", "True"],
        "GroupsUpdating",
        "because",
    );
    check_status(
        "Available",
        1,
        ["False", "True", "False"],
        "GroupsProgressing",
        "the ModelServing has changed and is yet to be looked at",
    );
}

#[test]
fn a_status_that_is_there_stays_until_something_happens() {
    let serving = with_status("Available", 2);
    let mut set = set(3);
    let foreign = json!([{
        "type": "example.com/Audited", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    set.status = serde_json::from_value(json!({ "conditions": foreign })).unwrap();
    let first = plan(&set, seen(&serving), now()).status;
    assert_eq!(json!(first.conditions[0]), foreign[0]);
    set.status = Some(first.clone());
    let later = Timestamp::from_second(2000).unwrap();
    assert_eq!(plan(&set, seen(&serving), later).status, first);
}

#[test]
fn fields_without_effect_are_told_once_and_when_they_are_gone() {
    let serving = with_status("Available", 2);
    let mut set = set(3);
    set.spec.startup_policy = Some("LeaderReady".into());
    let first = plan(&set, seen(&serving), now());
    let told = first.notice.unwrap();
    assert_eq!(
        (told.is_warning, told.reason.as_str()),
        (true, "FieldsNotHonoured")
    );
    assert_eq!(
        told.message,
        "spec.startupPolicy: workers start together with their leader"
    );
    assert_eq!(
        conditions(&first.status)[0],
        ("Available", "True", "AllGroupsReady")
    );
    set.status = Some(first.status);
    assert_eq!(plan(&set, seen(&serving), now()).notice, None);
    set.spec.startup_policy = None;
    let told = plan(&set, seen(&serving), now()).notice.unwrap();
    assert_eq!(
        (told.is_warning, told.reason.as_str()),
        (false, "AllFieldsHonoured")
    );
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_api_server() {
    let set = set(3);
    let observed = Observed::default();
    let plan = plan(&set, observed, now());
    let refused = plan.refused(&set, observed, "the name is too long", now());
    assert_eq!(
        conditions(&refused.status),
        [
            ("Available", "False", "ModelServingRefused"),
            ("Progressing", "False", "ModelServingRefused"),
            ("UpdateInProgress", "False", "ModelServingRefused"),
            (
                "workload.serving.volcano.sh/Mapped",
                "False",
                "ModelServingRefused"
            ),
        ]
    );
    let notice = refused.notice.unwrap();
    assert_eq!(
        (notice.is_warning, notice.message.as_str()),
        (true, "the name is too long")
    );
}

#[test]
fn a_difference_is_a_merge_patch() {
    let from = json!({ "a": 1, "b": { "c": 1, "d": [1] }, "e": 1 });
    let to = json!({ "a": 1, "b": { "c": 2, "d": [1] }, "f": {} });
    assert_eq!(difference(&from, &from), None);
    assert_eq!(
        difference(&from, &to),
        Some(json!({ "b": { "c": 2 }, "e": null, "f": {} }))
    );
}
