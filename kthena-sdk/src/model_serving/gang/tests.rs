use super::*;

/// Prefill: 2 instances of 1 + 3 pods; decode: 1 of 1 + 2.
fn serving() -> ModelServing {
    let pod = |cpu: &str, memory: &str| json!({ "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu, "memory": memory } } }] } });
    let spec = json!({
        "metadata": { "name": "sample", "namespace": "ns", "uid": "u" },
        "spec": { "template": { "roles": [
            { "name": "prefill", "replicas": 2, "workerReplicas": 3, "entryTemplate": pod("1", "2Gi"), "workerTemplate": pod("2", "4Gi") },
            { "name": "decode", "replicas": 1, "workerReplicas": 2, "entryTemplate": pod("1", "1Gi"), "workerTemplate": pod("1", "2Gi") },
        ] } },
    });
    serde_json::from_value(spec).unwrap()
}

fn of(serving: &ModelServing, has_sub_groups: bool) -> Value {
    let roles = &serving.spec.template.roles;
    let frame = Frame {
        revision: "r".into(),
        roles: roles
            .iter()
            .map(|role| (role, role.effective_replicas().try_into().unwrap()))
            .collect(),
    };
    pod_group(serving, 0, &frame, Support { has_sub_groups })
}

fn least(serving: &mut ModelServing, least: Value) {
    serving.spec.template.gang_policy = serde_json::from_value(json!({ "minRoleReplicas": least })).unwrap();
}

#[track_caller]
fn check(serving: &ModelServing, members: u32, sizes: Value, least: Value, resources: Value) {
    let spec = &of(serving, true)["spec"];
    let column = |name: &str| -> Value {
        let entries = spec["subGroupPolicy"].as_array().unwrap();
        entries.iter().map(|entry| entry[name].clone()).collect()
    };
    assert_eq!(spec["minMember"], members);
    assert_eq!((column("subGroupSize"), column("minSubGroups")), (sizes, least));
    assert_eq!(spec["minResources"], resources);
}

#[test]
fn all_of_a_group_or_what_the_policy_names_must_fit() {
    let mut serving = serving();
    check(
        &serving,
        11,
        json!([4, 3]),
        json!([2, 1]),
        json!({ "cpu": "17", "memory": "33Gi" }),
    );
    least(&mut serving, json!({ "prefill": 1, "decode": 1 }));
    check(
        &serving,
        7,
        json!([4, 3]),
        json!([1, 1]),
        json!({ "cpu": "10", "memory": "19Gi" }),
    );
    least(&mut serving, json!({}));
    check(
        &serving,
        11,
        json!([4, 3]),
        json!([2, 1]),
        json!({ "cpu": "17", "memory": "33Gi" }),
    );
    least(&mut serving, json!({ "prefill": 9 }));
    check(
        &serving,
        11,
        json!([4, 3]),
        json!([2, 1]),
        json!({ "cpu": "17", "memory": "33Gi" }),
    );
}

#[test]
fn roles_without_workers_count_their_entry_pods() {
    let mut one = serving();
    one.spec.template.roles[1].worker_replicas = Some(0);
    check(
        &one,
        9,
        json!([4, 1]),
        json!([2, 1]),
        json!({ "cpu": "15", "memory": "29Gi" }),
    );
    let mut serving = serving();
    serving.spec.template.roles[0].worker_replicas = Some(0);
    least(&mut serving, json!({ "prefill": 2, "decode": 1 }));
    check(
        &serving,
        5,
        json!([1, 3]),
        json!([2, 1]),
        json!({ "cpu": "5", "memory": "9Gi" }),
    );
    serving.spec.template.roles.clear();
    check(&serving, 0, json!([]), json!([]), json!({}));
}

#[test]
fn a_pod_group_belongs_to_its_group() {
    let mut serving = serving();
    serving.spec.template.roles.truncate(1);
    serving.spec.template.network_topology = serde_json::from_value(json!({
        "groupPolicy": { "mode": "hard", "highestTierAllowed": 1 }, "rolePolicy": { "mode": "soft", "highestTierAllowed": 2 },
    }))
    .unwrap();
    serving.metadata.annotations = Some([(labels::QUEUE_NAME.to_owned(), "gpu".to_owned())].into());
    assert_eq!(
        of(&serving, true),
        json!({
            "apiVersion": "scheduling.volcano.sh/v1beta1",
            "kind": "PodGroup",
            "metadata": {
                "name": "sample-0",
                "namespace": "ns",
                "labels": { "modelserving.volcano.sh/name": "sample", "modelserving.volcano.sh/group-name": "sample-0" },
                "annotations": { "scheduling.k8s.io/group-name": "sample-0" },
                "ownerReferences": [{ "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing", "name": "sample",
                    "uid": "u", "controller": true }],
            },
            "spec": {
                "minMember": 8,
                "minResources": { "cpu": "14", "memory": "28Gi" },
                "queue": "gpu",
                "networkTopology": { "mode": "hard", "highestTierAllowed": 1 },
                "subGroupPolicy": [{
                    "name": "prefill",
                    "labelSelector": { "matchLabels": {
                        "modelserving.volcano.sh/name": "sample", "modelserving.volcano.sh/role": "prefill" } },
                    "matchLabelKeys": ["modelserving.volcano.sh/role-id"],
                    "subGroupSize": 4,
                    "minSubGroups": 2,
                    "networkTopology": { "mode": "soft", "highestTierAllowed": 2 },
                }],
            },
        })
    );
    let old = of(&serving, false);
    assert!(
        old["spec"].get("subGroupPolicy").is_none(),
        "Volcano before 1.14 would refuse it"
    );
}

#[test]
fn a_priority_class_counts_where_the_roles_agree() {
    let mut serving = serving();
    let name = |serving: &mut ModelServing, role: usize, class: &str| {
        let spec = serving.spec.template.roles[role]
            .entry_template
            .spec
            .as_mut()
            .unwrap();
        spec.as_object_mut()
            .insert("priorityClassName".into(), class.into());
    };
    name(&mut serving, 0, "high");
    assert_eq!(of(&serving, true)["spec"]["priorityClassName"], Value::Null);
    name(&mut serving, 1, "high");
    assert_eq!(of(&serving, true)["spec"]["priorityClassName"], "high");
    name(&mut serving, 1, "low");
    assert_eq!(of(&serving, true)["spec"]["priorityClassName"], Value::Null);
}

#[test]
fn only_differences_that_mean_something_are_differences() {
    let mut serving = serving();
    let wanted = of(&serving, true);
    let found = |change: &dyn Fn(&mut Value)| {
        let mut spec = wanted["spec"].clone();
        change(&mut spec);
        let child = Child::of(&Default::default());
        PodGroup { child, spec }
    };
    assert!(is_current(&wanted, &found(&|_| {})));
    assert!(is_current(
        &wanted,
        &found(&|spec| spec["minResources"]["cpu"] = "17000m".into())
    ));
    assert!(is_current(
        &wanted,
        &found(&|spec| spec["queue"] = "default".into())
    ));
    assert!(is_current(
        &wanted,
        &found(&|spec| spec["minTaskMember"] = json!({}))
    ));
    assert!(!is_current(&wanted, &found(&|spec| spec["minMember"] = 3.into())));
    assert!(!is_current(
        &wanted,
        &found(&|spec| spec["minResources"]["cpu"] = "1".into())
    ));
    assert!(!is_current(&wanted, &found(&|spec| spec["queue"] = "gpu".into())));
    assert!(!is_current(
        &wanted,
        &found(&|spec| spec["subGroupPolicy"] = json!([]))
    ));
    assert!(!is_current(
        &wanted,
        &found(&|spec| spec["networkTopology"] = json!({ "mode": "soft" }))
    ));
    serving.spec.template.network_topology =
        serde_json::from_value(json!({ "groupPolicy": { "highestTierAllowed": 2 } })).unwrap();
    let wanted = of(&serving, true);
    let with_default =
        |spec: &mut Value| spec["networkTopology"] = json!({ "mode": "hard", "highestTierAllowed": 2 });
    assert!(is_current(&wanted, &found(&with_default)));
}

#[test]
fn what_another_controller_has_left_is_taken_away() {
    let serving = serving();
    let wanted = of(&serving, true);
    let child = || Child::of(&Default::default());
    let mut spec = wanted["spec"].clone();
    assert_eq!(
        surplus(
            &wanted,
            &PodGroup {
                child: child(),
                spec: spec.clone()
            }
        ),
        None
    );
    spec["networkTopology"] = json!({ "mode": "hard", "highestTierAllowed": 1 });
    spec["minResources"]["nvidia.com/gpu"] = "8".into();
    let nulls = json!({ "spec": { "networkTopology": null, "minResources": { "nvidia.com/gpu": null } } });
    assert_eq!(surplus(&wanted, &PodGroup { child: child(), spec }), Some(nulls));
}

#[test]
fn sub_groups_are_there_where_a_version_has_them() {
    let definition = |properties: Value| -> CustomResourceDefinition {
        let version = |name: &str, properties: Value| {
            json!({ "name": name, "served": true, "storage": name == "v2",
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": { "type": "object", "properties": properties } } } } })
        };
        serde_json::from_value(json!({ "metadata": { "name": "podgroups.scheduling.volcano.sh" }, "spec": {
            "group": "scheduling.volcano.sh", "scope": "Namespaced", "names": { "kind": "PodGroup", "plural": "podgroups" },
            "versions": [{ "name": "v0", "served": true, "storage": false }, version("v1", json!({})), version("v2", properties)],
        } }))
        .unwrap()
    };
    for (properties, expected) in [
        (json!({ "minMember": { "type": "integer" } }), false),
        (json!({ "subGroupPolicy": { "type": "array" } }), true),
    ] {
        assert_eq!(Support::of(&definition(properties)).has_sub_groups, expected);
    }
}
