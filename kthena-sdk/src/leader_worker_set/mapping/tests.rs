use super::*;

fn template(image: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": image }, "annotations": { "note": image } },
        "spec": { "containers": [{ "name": "engine", "image": image }] },
    })
}

/// A LeaderWorkerSet with these members in its spec, and these in its template.
fn set(spec: Value, group: Value) -> LeaderWorkerSet {
    let mut object = json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": { "name": "vllm", "namespace": "ns", "uid": "1" },
        "spec": { "leaderWorkerTemplate": { "workerTemplate": template("worker") } },
    });
    let add = |target: &mut Value, members: Value| {
        let target = target.as_object_mut().unwrap();
        target.extend(members.as_object().unwrap().clone());
    };
    add(&mut object["spec"]["leaderWorkerTemplate"], group);
    add(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

#[track_caller]
fn check_role(spec: Value, group: Value, replicas: i32, workers: i32, entry: &str) {
    let mapping = map(&set(spec, group));
    let expected = json!({
        "replicas": replicas,
        "plugins": [{ "name": "lws-standard-labels", "type": "BuiltIn" }],
        "recoveryPolicy": "ServingGroupRecreate",
        "template": { "roles": [{
            "name": "default",
            "replicas": 1,
            "workerReplicas": workers,
            "entryTemplate": template(entry),
            "workerTemplate": template("worker"),
        }] },
    });
    assert_eq!((json!(mapping.spec), mapping.ignored), (expected, vec![]));
}

#[test]
fn a_group_is_one_instance_of_one_role() {
    let none = || json!({});
    check_role(none(), none(), 1, 0, "worker");
    check_role(json!({ "replicas": 3 }), json!({ "size": 4 }), 3, 3, "worker");
    let leader = json!({ "size": 2, "leaderTemplate": template("leader") });
    check_role(none(), leader, 1, 1, "leader");
    check_role(none(), json!({ "size": 1 }), 1, 0, "worker");
    check_role(json!({ "replicas": 0 }), json!({ "size": 0 }), 0, 0, "worker");
}

#[test]
fn pods_are_kept_as_they_were_written() {
    let pod = json!({ "spec": {
        "containers": [{ "name": "engine", "resources": { "limits": { "cpu": 2 } }, "ports": [{ "containerPort": 80 }] }],
    } });
    let mapping = map(&set(json!({}), json!({ "workerTemplate": pod })));
    assert_eq!(json!(mapping.spec.template.roles[0].entry_template), pod);
}

#[track_caller]
fn check_recovery(policy: Option<&str>, recovery: &str, ignored: &[&str]) {
    let group = policy.map_or_else(|| json!({}), |policy| json!({ "restartPolicy": policy }));
    let mapping = map(&set(json!({}), group));
    assert_eq!(mapping.spec.recovery_policy.unwrap().as_str(), recovery);
    let told: Vec<String> = mapping.ignored.iter().map(ToString::to_string).collect();
    assert_eq!(told, ignored);
}

#[test]
fn the_restart_policy_says_what_is_recreated() {
    check_recovery(None, "ServingGroupRecreate", &[]);
    check_recovery(Some("RecreateGroupOnPodRestart"), "ServingGroupRecreate", &[]);
    check_recovery(Some("None"), "None", &[]);
    check_recovery(Some("Default"), "None", &[]);
    check_recovery(
        Some("RecreateGroupAfterStart"),
        "ServingGroupRecreate",
        &["spec.leaderWorkerTemplate.restartPolicy: a group is recreated also while it starts"],
    );
    check_recovery(
        Some("Never"),
        "ServingGroupRecreate",
        &["spec.leaderWorkerTemplate.restartPolicy: Never is not known; groups are recreated"],
    );
}

#[test]
fn limits_of_a_rollout_mean_the_same_on_both_sides() {
    let rollout = |strategy: Value| {
        let mapping = map(&set(json!({ "rolloutStrategy": strategy }), json!({})));
        assert_eq!(mapping.ignored, []);
        json!(mapping.spec.rollout_strategy)
    };
    assert_eq!(rollout(json!({ "type": "RollingUpdate" })), Value::Null);
    let limits = json!({ "maxUnavailable": "25%", "maxSurge": 2, "partition": 1 });
    assert_eq!(
        rollout(json!({ "type": "RollingUpdate", "rollingUpdateConfiguration": limits })),
        json!({ "type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": limits })
    );
}

#[track_caller]
fn check_scheduler(leader: Option<&str>, worker: Option<&str>, expected: Option<&str>, ignored: usize) {
    let pod = |scheduler: Option<&str>| {
        let mut pod = template("x");
        if let Some(scheduler) = scheduler {
            pod["spec"]["schedulerName"] = scheduler.into();
        }
        pod
    };
    let group = json!({ "leaderTemplate": pod(leader), "workerTemplate": pod(worker) });
    let mapping = map(&set(json!({}), group));
    assert_eq!(mapping.spec.scheduler_name.as_deref(), expected);
    assert_eq!(mapping.ignored.len(), ignored);
}

#[test]
fn the_scheduler_is_that_of_the_templates() {
    check_scheduler(None, None, None, 0);
    check_scheduler(Some(""), None, None, 0);
    check_scheduler(Some("a"), Some("a"), Some("a"), 0);
    check_scheduler(None, Some("b"), Some("b"), 0);
    check_scheduler(Some("a"), Some("b"), Some("a"), 1);
}

#[track_caller]
fn check_ignored(spec: Value, group: Value, field: &str) {
    let mapping = map(&set(spec, group));
    let fields: Vec<&str> = mapping.ignored.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, [field]);
}

#[test]
fn what_has_no_effect_is_told() {
    let none = || json!({});
    check_ignored(
        json!({ "startupPolicy": "LeaderReady" }),
        none(),
        "spec.startupPolicy",
    );
    check_ignored(json!({ "startupPolicy": "Later" }), none(), "spec.startupPolicy");
    check_ignored(
        json!({ "networkConfig": { "subdomainPolicy": "UniquePerReplica" } }),
        none(),
        "spec.networkConfig.subdomainPolicy",
    );
    check_ignored(
        json!({ "networkConfig": { "new": 1 } }),
        none(),
        "spec.networkConfig.new",
    );
    check_ignored(
        json!({ "rolloutStrategy": { "type": "OnDelete" } }),
        none(),
        "spec.rolloutStrategy.type",
    );
    check_ignored(
        json!({ "rolloutStrategy": { "new": true } }),
        none(),
        "spec.rolloutStrategy.new",
    );
    check_ignored(
        json!({ "rolloutStrategy": { "rollingUpdateConfiguration": { "new": "1" } } }),
        none(),
        "spec.rolloutStrategy.rollingUpdateConfiguration.new",
    );
    check_ignored(json!({ "new": { "a": 1 } }), none(), "spec.new");
    check_ignored(
        none(),
        json!({ "subGroupPolicy": { "subGroupSize": 2 } }),
        "spec.leaderWorkerTemplate.subGroupPolicy",
    );
    check_ignored(
        none(),
        json!({ "volumeClaimTemplates": [{ "metadata": { "name": "cache" } }] }),
        "spec.leaderWorkerTemplate.volumeClaimTemplates",
    );
    check_ignored(
        none(),
        json!({ "leaderTemplate": { "metadata": { "finalizers": ["a/b"] }, "spec": { "containers": [] } } }),
        "spec.leaderWorkerTemplate.leaderTemplate.metadata.finalizers",
    );
}

#[test]
fn pod_fields_that_the_definition_lacks_are_told_once() {
    let pod = |field: &str| json!({ "spec": { "containers": [{ "name": "engine", field: true }] } });
    check_ignored(
        json!({}),
        json!({ "workerTemplate": pod("new") }),
        "spec.leaderWorkerTemplate.workerTemplate.spec.containers[0].new",
    );
    check_ignored(
        json!({}),
        json!({ "leaderTemplate": pod("new") }),
        "spec.leaderWorkerTemplate.leaderTemplate.spec.containers[0].new",
    );
}

#[test]
fn what_asks_for_nothing_is_not_told() {
    let spec = json!({ "startupPolicy": "LeaderCreated", "rolloutStrategy": { "type": "RollingUpdate" } });
    let mapping = map(&set(spec, json!({ "volumeClaimTemplates": [] })));
    assert_eq!(mapping.ignored, []);
}

#[test]
fn annotations_that_ask_for_placement_are_told() {
    let mut set = set(json!({}), json!({}));
    let key = "leaderworkerset.sigs.k8s.io/exclusive-topology";
    set.metadata.annotations = Some([(key.to_owned(), "rack".to_owned())].into());
    let fields: Vec<String> = map(&set).ignored.into_iter().map(|it| it.field).collect();
    assert_eq!(fields, [format!("metadata.annotations[{key}]")]);
}
