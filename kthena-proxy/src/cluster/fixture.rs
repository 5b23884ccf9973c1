//! Objects for unit tests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::objects::{Event, Objects, Pod, Update};
use super::source::manifest::{self, Object};

/// What a manifest says, as changes.
pub(crate) fn updates(objects: &[Value]) -> Vec<Update> {
    let text: String = objects.iter().map(|object| format!("---\n{object}\n")).collect();
    manifest::parse(text.as_bytes())
        .expect("objects that the API server accepts")
        .into_iter()
        .map(|object| match object {
            Object::Route(route) => Update::Route(Event::Apply(*route)),
            Object::Server(server) => Update::Server(Event::Apply(*server)),
            Object::Provider(provider) => Update::Provider(Event::Apply(*provider)),
            Object::Secret(secret) => Update::Secret(Event::Apply(secret)),
        })
        .collect()
}

pub(crate) fn objects(updates: impl IntoIterator<Item = Update>) -> Objects {
    let mut objects = Objects::default();
    for update in updates {
        objects.update(update);
    }
    objects
}

pub(crate) fn route(targets: &[&str]) -> Value {
    let targets: Vec<Value> = targets
        .iter()
        .map(|name| json!({"modelServerName": name}))
        .collect();
    json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
        "metadata": {"name": "r", "generation": 3},
        "spec": {"modelName": "m", "rules": [{"name": "default", "targetModels": targets}]},
    })
}

/// ModelServer `s`: the vLLM pods with `app: x`, in pairs by `group` and `role`, with these members of its spec changed.
pub(crate) fn server(more: Value) -> Value {
    let mut spec = json!({
        "inferenceEngine": "vLLM",
        "workloadPort": {"port": 8000},
        "workloadSelector": {
            "matchLabels": {"app": "x"},
            "pdGroup": {
                "groupKey": "group",
                "prefillLabels": {"role": "prefill"},
                "decodeLabels": {"role": "decode"},
            },
        },
    });
    for (name, value) in more.as_object().expect("an object") {
        if value.is_null() {
            spec.as_object_mut().expect("an object").remove(name);
        } else {
            spec[name] = value.clone();
        }
    }
    json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelServer",
        "metadata": {"name": "s", "generation": 1}, "spec": spec,
    })
}

/// A pod that serves, with these labels besides `app: x`.
pub(crate) fn pod(name: &str, ip: &str, labels: &[(&str, &str)]) -> Pod {
    let label = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Pod {
        key: ("default".into(), name.into()),
        uid: format!("uid-{name}").into(),
        ip: Some(ip.parse().expect("an address")),
        labels: labels.iter().copied().chain([("app", "x")]).map(label).collect(),
        annotations: BTreeMap::new(),
        ready: true,
        node: None,
        phase: Some("Running".into()),
        started: None,
    }
}

pub(crate) fn apply(pod: Pod) -> Update {
    Update::Pod(Event::Apply(pod))
}
