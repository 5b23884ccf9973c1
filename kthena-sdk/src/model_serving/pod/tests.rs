use super::*;

fn serving() -> ModelServing {
    serde_json::from_value(json!({
        "metadata": { "name": "sample", "namespace": "ns", "uid": "u-1" },
        "spec": { "schedulerName": "volcano", "template": { "roles": [{
            "name": "prefill", "workerReplicas": 2,
            "entryTemplate": {
                "metadata": { "labels": { "app": "x", "modelserving.volcano.sh/role-id": "mine" }, "annotations": { "a": "1" } },
                "spec": {
                    "schedulerName": "other",
                    "hostAliases": [{ "ip": "10.0.0.1", "hostnames": ["a"] }, { "ip": "10.0.0.1", "hostnames": ["b"] }],
                    "initContainers": [{ "name": "init", "image": "i" }],
                    "containers": [{ "name": "engine", "image": "e", "resources": { "limits": { "cpu": 2 } },
                        "env": [{ "name": "GROUP_SIZE", "value": "user" }, { "name": "A", "value": "1" }] }],
                },
            },
            "workerTemplate": { "spec": { "containers": [{ "name": "engine", "image": "e",
                "env": [{ "name": "GROUP_SIZE", "value": "user" }, { "name": "A", "value": "1" }] }] } },
        }] } },
    }))
    .unwrap()
}

fn pod(serving: &ModelServing, index: u32, in_pod_group: bool) -> Value {
    let role = &serving.spec.template.roles[0];
    Place {
        serving,
        group: 1,
        role,
        instance: 0,
        index,
        revision: "rev",
        role_hash: "hash",
        in_pod_group,
        is_surge: false,
    }
    .pod()
}

#[test]
fn an_entry_pod_is_its_template_and_what_the_controller_adds() {
    let own = json!([
        { "name": "GROUP_SIZE", "value": "3" },
        { "name": "ENTRY_ADDRESS", "value": "sample-1-prefill-0-0.ns" },
        { "name": "WORKER_INDEX", "value": "0" },
    ]);
    let mut env = vec![json!({ "name": "A", "value": "1" })];
    env.extend(own.as_array().unwrap().iter().cloned());
    assert_eq!(
        pod(&serving(), 0, true),
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "sample-1-prefill-0-0",
                "namespace": "ns",
                "labels": {
                    "app": "x",
                    "modelserving.volcano.sh/name": "sample",
                    "modelserving.volcano.sh/group-name": "sample-1",
                    "modelserving.volcano.sh/role": "prefill",
                    "modelserving.volcano.sh/role-id": "prefill-0",
                    "modelserving.volcano.sh/revision": "rev",
                    "modelserving.volcano.sh/role-template-hash": "hash",
                    "modelserving.volcano.sh/entry": "true",
                },
                "annotations": {
                    "a": "1",
                    "scheduling.k8s.io/group-name": "sample-1",
                    "volcano.sh/task-spec": "prefill-0",
                },
                "ownerReferences": [{
                    "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing", "name": "sample", "uid": "u-1",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "schedulerName": "volcano",
                "hostAliases": [{ "ip": "10.0.0.1", "hostnames": ["a"] }, { "ip": "10.0.0.1", "hostnames": ["b"] }],
                "initContainers": [{ "name": "init", "image": "i", "env": own }],
                "containers": [{ "name": "engine", "image": "e", "resources": { "limits": { "cpu": 2 } }, "env": env }],
            },
        })
    );
}

#[test]
fn a_worker_pod_has_no_entry_label_and_its_own_index() {
    let pod = pod(&serving(), 2, false);
    assert_eq!(pod["metadata"]["name"], "sample-1-prefill-0-2");
    assert!(
        pod["metadata"]["labels"]
            .get("modelserving.volcano.sh/entry")
            .is_none()
    );
    assert!(pod["metadata"].get("annotations").is_none());
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([
            { "name": "A", "value": "1" },
            { "name": "GROUP_SIZE", "value": "3" },
            { "name": "ENTRY_ADDRESS", "value": "sample-1-prefill-0-0.ns" },
            { "name": "WORKER_INDEX", "value": "2" },
        ])
    );
}

#[test]
fn a_template_without_anything_gives_a_pod_with_labels_alone() {
    let mut serving = serving();
    serving.spec.template.roles[0].entry_template = PodTemplate::default();
    let pod = pod(&serving, 0, false);
    assert_eq!(pod["metadata"]["labels"].as_object().unwrap().len(), 7);
    assert_eq!(pod["spec"], json!({ "schedulerName": "volcano" }));
}

#[test]
fn workers_need_a_template() {
    let mut role = serving().spec.template.roles[0].clone();
    assert_eq!(count(&role), 3);
    role.worker_template = None;
    assert_eq!(count(&role), 1);
}
