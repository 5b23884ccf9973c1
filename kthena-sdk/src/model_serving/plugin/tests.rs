use serde_json::json;

use super::super::testing::World;
use super::super::{Action, plan_with};
use super::*;

fn serving(plugins: Value) -> ModelServing {
    let template = json!({ "spec": {
        "initContainers": [{ "name": "init", "image": "i" }],
        "containers": [{ "name": "engine", "image": "e", "env": [{ "name": "B", "value": "template" }] }],
    } });
    serde_json::from_value(json!({
        "metadata": { "name": "s", "namespace": "ns", "uid": "u" },
        "spec": { "schedulerName": "x", "plugins": plugins, "template": { "roles": [
            { "name": "prefill", "workerReplicas": 2, "entryTemplate": template, "workerTemplate": template },
            { "name": "decode", "entryTemplate": template },
        ] } },
    }))
    .unwrap()
}

fn adjusted_by(registry: &Registry, serving: &ModelServing, role: usize, index: u32) -> Result<Value, Error> {
    let place = Place {
        serving,
        group: 3,
        role: &serving.spec.template.roles[role],
        instance: 1,
        index,
        revision: "rev",
        role_hash: "hash",
        in_pod_group: false,
        is_surge: false,
    };
    let mut pod = place.pod();
    registry.chain(&serving.spec.plugins)?.adjust(&place, &mut pod)?;
    Ok(pod)
}

fn adjusted(serving: &ModelServing, role: usize, index: u32) -> Value {
    adjusted_by(&Registry::built_in(), serving, role, index).unwrap()
}

/// Notes its settings in an annotation, after those of plugins before it.
struct Note(String);

impl Plugin for Note {
    fn on_pod_create(&self, _place: &Place<'_>, pod: &mut Value) -> Result<(), BoxError> {
        let notes = &mut pod["metadata"]["annotations"]["notes"];
        *notes = format!("{}{}", notes.as_str().unwrap_or_default(), self.0).into();
        Ok(())
    }
}

fn with_note() -> Registry {
    Registry::built_in().with("note", |settings| {
        Ok(Box::new(Note(
            settings.as_str().ok_or("a text is wanted")?.to_owned(),
        )))
    })
}

#[test]
fn plugins_work_in_their_order_on_the_pods_of_their_scope() {
    let note = |text: &str, scope: Value| json!({ "name": "note", "type": "BuiltIn", "config": text, "scope": scope });
    // Role (0 has workers), index of the pod, scope of the second plugin, what is noted.
    for (role, index, scope, notes) in [
        (0, 0, json!({}), "12"),
        (0, 0, json!({ "target": "Worker" }), "1"),
        (0, 1, json!({ "target": "Worker" }), "12"),
        (0, 0, json!({ "target": "Entry" }), "12"),
        (0, 2, json!({ "target": "Entry" }), "1"),
        (0, 2, json!({ "target": "All" }), "12"),
        (0, 2, json!({ "target": "" }), "12"),
        (0, 2, json!({ "target": "worker" }), "1"),
        (0, 0, json!({ "roles": ["prefill"] }), "12"),
        (1, 0, json!({ "roles": ["prefill"] }), "1"),
        (
            1,
            0,
            json!({ "roles": ["prefill", "decode"], "target": "Entry" }),
            "12",
        ),
        (1, 0, json!({ "roles": ["decode"], "target": "Worker" }), "1"),
    ] {
        let serving = serving(json!([{ "name": "note", "config": "1" }, note("2", scope.clone())]));
        let pod = adjusted_by(&with_note(), &serving, role, index).unwrap();
        assert_eq!(
            pod["metadata"]["annotations"]["notes"], notes,
            "{role} {index} {scope}"
        );
    }
}

#[test]
fn demo_pod_tweaks_sets_what_it_is_told() {
    let serving = serving(json!([{ "name": "demo-pod-tweaks", "config": {
        "runtimeClassName": "kata", "annotations": { "a": "1" },
        "env": [{ "name": "B", "value": "plugin" }, { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
    } }]));
    for index in 0..3 {
        let pod = adjusted(&serving, 0, index);
        assert_eq!(pod["spec"]["runtimeClassName"], "kata");
        assert_eq!(pod["metadata"]["annotations"], json!({ "a": "1" }));
        for kind in ["initContainers", "containers"] {
            let env = pod["spec"][kind][0]["env"].as_array().unwrap();
            let names: Vec<_> = env.iter().map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["GROUP_SIZE", "ENTRY_ADDRESS", "WORKER_INDEX", "B", "POD"]);
            assert_eq!(
                (&env[3]["value"], &env[4]["valueFrom"]["fieldRef"]["fieldPath"]),
                (&json!("plugin"), &json!("metadata.name"))
            );
        }
    }
}

#[test]
fn settings_may_be_missing_or_empty() {
    for name in ["demo-pod-tweaks", "lws-standard-labels"] {
        let bare = adjusted(&serving(json!([])), 0, 1);
        for settings in [json!({}), Value::Null] {
            let plugin = json!([{ "name": name, "type": "BuiltIn", "config": settings }]);
            assert_eq!(adjusted(&serving(plugin), 0, 1), bare, "{name} {settings}");
        }
    }
}

#[test]
fn lws_standard_labels_marks_pods_of_a_leader_worker_set() {
    let mut serving = serving(json!([{ "name": "lws-standard-labels" }]));
    let owner = json!([{ "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "llama", "uid": "1" }]);
    serving.metadata.owner_references = serde_json::from_value(owner).unwrap();
    for (index, worker) in [(0, "0"), (2, "2")] {
        let labels = adjusted(&serving, 0, index)["metadata"]["labels"].clone();
        let own: Vec<_> = [
            labels::LWS_NAME,
            labels::LWS_GROUP_INDEX,
            labels::LWS_WORKER_INDEX,
            labels::LWS_GROUP_KEY,
        ]
        .iter()
        .map(|key| labels[key].as_str().unwrap().to_owned())
        .collect();
        // printf llama-3 | sha1sum
        assert_eq!(
            own,
            ["llama", "3", worker, "54e8656d027f4ef7482a2edca8316e225454d8a4"]
        );
    }
}

#[test]
fn what_cannot_work_is_told() {
    // Plugins, what the chain says, what the admission says.
    for (plugins, chain, admission) in [
        (
            json!([{ "name": "none" }]),
            "plugin none not registered",
            r#"spec.plugins[0].name: Unsupported value: "none": supported values: "demo-pod-tweaks", "lws-standard-labels""#,
        ),
        (
            json!([{ "name": "demo-pod-tweaks", "type": "Wasm" }]),
            "plugin demo-pod-tweaks has unsupported type Wasm",
            "",
        ),
        (
            json!([{ "name": "lws-standard-labels" }, { "name": "demo-pod-tweaks", "config": { "env": [{ "value": "1" }] } }]),
            "build plugin demo-pod-tweaks: env: a variable has no name",
            r#"spec.plugins[1].config: Invalid value: {"env":[{"value":"1"}]}: env: a variable has no name"#,
        ),
        (
            json!([{ "name": "demo-pod-tweaks", "config": { "runtimeClass": "kata" } }]),
            "build plugin demo-pod-tweaks: unknown field `runtimeClass`, expected one of `runtimeClassName`, `annotations`, `env`",
            r#"spec.plugins[0].config: Invalid value: {"runtimeClass":"kata"}: unknown field `runtimeClass`, expected one of `runtimeClassName`, `annotations`, `env`"#,
        ),
        (
            json!([{ "name": "lws-standard-labels", "config": [1] }]),
            "build plugin lws-standard-labels: this plugin has no settings",
            "spec.plugins[0].config: Invalid value: [1]: this plugin has no settings",
        ),
    ] {
        let serving = serving(plugins);
        let registry = Registry::built_in();
        assert_eq!(
            adjusted_by(&registry, &serving, 0, 0).unwrap_err().to_string(),
            chain
        );
        let problems = registry.validate(&serving);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.join("\n"), admission);
    }
}

#[test]
fn a_plugin_cannot_make_a_pod_one_of_somebody_else() {
    struct Edit(Value);
    impl Plugin for Edit {
        fn on_pod_create(&self, _place: &Place<'_>, pod: &mut Value) -> Result<(), BoxError> {
            let (pointer, value) = (self.0[0].as_str().unwrap(), self.0[1].clone());
            *pod.pointer_mut(pointer).ok_or("nothing there")? = value;
            Ok(())
        }
    }
    let registry = Registry::empty().with("edit", |settings| Ok(Box::new(Edit(settings.clone()))));
    for (pointer, value, is_refused) in [
        ("/metadata/name", json!("other"), true),
        ("/metadata/namespace", json!("other"), true),
        ("/metadata/ownerReferences", json!([]), true),
        (
            "/metadata/labels/modelserving.volcano.sh~1role-id",
            json!("decode-9"),
            true,
        ),
        (
            "/metadata/labels/modelserving.volcano.sh~1revision",
            json!("other"),
            true,
        ),
        ("/metadata/labels", json!({}), true),
        ("/spec/schedulerName", json!("other"), false),
    ] {
        let serving = serving(json!([{ "name": "edit", "config": [pointer, value] }]));
        let result = adjusted_by(&registry, &serving, 1, 0);
        let told = result.map(drop).map_err(|error| error.to_string());
        let refused = told
            .as_ref()
            .is_err_and(|told| told.starts_with("plugin edit OnPodCreate: metadata."));
        assert_eq!(
            (refused, told.is_ok()),
            (is_refused, !is_refused),
            "{pointer}: {told:?}"
        );
    }
}

fn spec(plugins: Value, image: &str) -> Value {
    let template = json!({ "spec": { "containers": [{ "name": "engine", "image": image }] } });
    json!({ "replicas": 2, "schedulerName": "x", "plugins": plugins, "template": { "roles": [
        { "name": "prefill", "workerReplicas": 1, "entryTemplate": template, "workerTemplate": template },
        { "name": "decode", "entryTemplate": template },
    ] } })
}

#[test]
fn a_plugin_that_cannot_be_made_keeps_pods_from_being_made_and_from_being_replaced() {
    let mut world = World::new(spec(json!([]), "old"));
    world.converge();
    let before = world.names();
    let wanted = spec(json!([{ "name": "none" }]), "new");
    world.edit(|serving| serving.spec = serde_json::from_value(wanted).unwrap());
    let plan = world.plan();
    let is_harmless = |action: &Action| matches!(action, Action::CreateRevision(_));
    assert!(plan.actions.iter().all(is_harmless), "{:?}", plan.actions);
    assert_eq!(
        plan.problems.iter().collect::<Vec<_>>(),
        ["plugin none not registered"]
    );
    let says = |world: &World| {
        let conditions = &world.serving.status.as_ref().unwrap().conditions;
        (conditions.iter())
            .any(|it| it.type_ == "ReplicaFailure" && it.message == "plugin none not registered")
    };
    world.step();
    assert!(says(&world));
    assert_eq!(world.names(), before);

    world.edit(|serving| serving.spec.plugins.clear());
    world.converge();
    assert!(!says(&world));
    assert!(
        world
            .specs
            .values()
            .any(|spec| spec["containers"][0]["image"] == "new")
    );
}

#[test]
fn a_plugin_that_refuses_one_pod_holds_back_its_instance_alone() {
    struct Picky;
    impl Plugin for Picky {
        fn on_pod_create(&self, place: &Place<'_>, _pod: &mut Value) -> Result<(), BoxError> {
            match place.index {
                1 => Err("no workers today".into()),
                _ => Ok(()),
            }
        }
    }
    let registry = Registry::empty().with("picky", |_| Ok(Box::new(Picky)));
    let world = World::new(spec(json!([{ "name": "picky" }]), "old"));
    let plan = plan_with(&world.serving, &world.observed, &registry, world.now);
    let made: Vec<&str> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::CreatePod(new) => new.pod["metadata"]["name"].as_str(),
            _ => None,
        })
        .collect();
    assert_eq!(made, ["s-0-decode-0-0", "s-1-decode-0-0"]);
    assert_eq!(plan.problems.len(), 1);
    assert!(
        (plan.status.conditions.iter()).any(|it| it.message == "plugin picky OnPodCreate: no workers today")
    );
}

#[test]
fn plugins_do_not_replace_pods() {
    let mut world = World::new(spec(json!([]), "old"));
    world.converge();
    let before: Vec<String> = world.observed.pods.iter().map(|pod| pod.uid.clone()).collect();
    world.edit(|serving| {
        serving.spec.plugins = serde_json::from_value(
            json!([{ "name": "demo-pod-tweaks", "config": { "runtimeClassName": "kata" } }]),
        )
        .unwrap();
    });
    world.converge();
    let after: Vec<String> = world.observed.pods.iter().map(|pod| pod.uid.clone()).collect();
    assert_eq!(after, before);
    // What is made from now on is adjusted.
    world.edit(|serving| serving.spec.replicas = Some(3));
    world.converge();
    let adjusted = world
        .specs
        .values()
        .filter(|spec| spec["runtimeClassName"] == "kata")
        .count();
    assert_eq!(adjusted, 3);
}
