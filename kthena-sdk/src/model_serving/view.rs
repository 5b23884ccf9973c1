//! What a controller knows, for people who look into it.
//!
//! ```
//! use std::sync::Arc;
//!
//! use kthena_sdk::kube::Client;
//! use kthena_sdk::model_serving::controller::Controller;
//! use kthena_sdk::model_serving::plugin::Registry;
//! use kthena_sdk::model_serving::view::View;
//!
//! /// What a controller knows, whenever somebody asks.
//! fn watched(client: Client) -> (Controller, View) {
//!     let controller = Controller::new(client, 5, Registry::built_in(), Arc::new(()));
//!     let view = controller.view();
//!     (controller, view)
//! }
//! # fn show(view: &View) {
//! println!("{:#}", view.all());
//! # }
//!
//! let serving = kthena_sdk::api::ModelServing::new("llama", Default::default());
//! let none = kthena_sdk::model_serving::view::groups(&serving, &Default::default());
//! assert_eq!(none, serde_json::json!({}));
//! ```

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kthena_api::ModelServing;
use kthena_api::name::{Serving, role_instance};
use kube::runtime::reflector::Store;
use serde_json::{Map, Value, json};

use super::Observed;
use super::draft::Draft;
use super::group::{Group, Instance, Status};
use super::index::Index;
use super::observe::PodState;
use super::plugin::Registry;
use super::revision::Revisions;

/// Looks into what a controller knows.
#[derive(Clone)]
pub struct View {
    pub(super) servings: Store<ModelServing>,
    pub(super) index: Arc<Index>,
}

impl View {
    /// All ModelServings as `namespace/name`, each with its ServingGroups as [`groups`] has them.
    #[must_use]
    pub fn all(&self) -> Value {
        let servings = self.servings.state();
        let all = servings.iter().map(|serving| {
            let metadata = &serving.metadata;
            let key = (
                metadata.namespace.clone().unwrap_or_default(),
                metadata.name.clone().unwrap_or_default(),
            );
            let observed = self.index.observe(&key);
            (format!("{}/{}", key.0, key.1), groups(serving, &observed))
        });
        Value::Object(all.collect())
    }
}

/// The ServingGroups that there are, by name: revision and state of each and of its roles' instances, and the names of its ready pods.
#[must_use]
pub fn groups(serving: &ModelServing, observed: &Observed) -> Value {
    let uid = serving.metadata.uid.as_deref();
    let all = observed.pods.iter();
    let own: Vec<_> = all
        .filter(|pod| uid.is_some() && pod.owner.as_deref() == uid)
        .collect();
    let revisions = Revisions::of(serving, &observed.revisions, &own);
    // Nothing here depends on the time.
    let draft = Draft::new(
        serving,
        observed,
        &revisions,
        &Registry::empty(),
        Timestamp::UNIX_EPOCH,
    );
    let there = draft.groups.values().filter(|group| group.exists());
    let groups = there.map(|group| {
        let name = Serving(draft.name).group(group.ordinal);
        (name.clone(), of_group(&draft, group, &name))
    });
    Value::Object(groups.collect())
}

fn of_group(draft: &Draft<'_>, group: &Group<'_>, name: &str) -> Value {
    let ready = group.pods().filter(|pod| pod.state == PodState::Ready);
    let mut ready: Vec<&str> = ready.map(|pod| pod.name.as_str()).collect();
    ready.sort_unstable();
    let mut roles = Map::new();
    for (role, ordinal, instance) in group.instances() {
        if instance.is_empty() {
            continue;
        }
        let id = role_instance(role, ordinal);
        let of_role = roles.entry(role).or_insert_with(|| json!({}));
        of_role[&id] = json!({
            "name": id,
            "revision": instance.revision().unwrap_or_default(),
            "roleTemplateHash": role_hash(instance),
            "status": text(status(draft, group, role, instance)),
        });
    }
    json!({
        "name": name,
        "runningPods": ready,
        "revision": draft.revision_of(group),
        "status": text(draft.status(group)),
        "roles": roles,
    })
}

fn status(draft: &Draft<'_>, group: &Group<'_>, role: &str, instance: &Instance<'_>) -> Status {
    let frame = draft.frame(group.ordinal);
    let wanted = frame.roles.iter().map(|(it, _)| *it).find(|it| it.name == role);
    let own = || {
        let template = draft.revisions.template(instance.revision()?)?;
        template.role(role)
    };
    match wanted.or_else(own) {
        Some(role) => instance.status(role, draft.revisions),
        None if instance.is_deleting() => Status::Deleting,
        // Nobody knows how many pods it should have.
        None => Status::Creating,
    }
}

fn role_hash<'a>(instance: &Instance<'a>) -> &'a str {
    let hash = instance.pods.iter().find_map(|pod| pod.role_hash.as_deref());
    hash.unwrap_or_default()
}

const fn text(status: Status) -> &'static str {
    match status {
        Status::Running => "Running",
        Status::Creating => "Creating",
        Status::Scaling => "Scaling",
        Status::Deleting => "Deleting",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;

    fn world() -> World {
        let template = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
        let mut world = World::new(
            json!({ "replicas": 2, "schedulerName": "default-scheduler", "template": { "roles": [
            { "name": "prefill", "replicas": 2, "entryTemplate": template },
            { "name": "decode", "workerReplicas": 1, "entryTemplate": template, "workerTemplate": template },
        ] } }),
        );
        world.converge();
        world
    }

    fn seen(world: &World) -> Value {
        groups(&world.serving, &world.observed)
    }

    #[test]
    fn a_group_is_shown_as_kthena_shows_it() {
        let mut world = world();
        let revision = world.pod("s-0-decode-0-0").revision.clone();
        let hash = |world: &mut World, pod: &str| world.pod(pod).role_hash.clone().unwrap();
        let (decode, prefill) = (
            hash(&mut world, "s-0-decode-0-0"),
            hash(&mut world, "s-0-prefill-0-0"),
        );
        let role = |name: &str, hash: &str| json!({ "name": name, "revision": revision, "roleTemplateHash": hash, "status": "Running" });
        let group = json!({
            "name": "s-0",
            "runningPods": ["s-0-decode-0-0", "s-0-decode-0-1", "s-0-prefill-0-0", "s-0-prefill-1-0"],
            "revision": revision,
            "status": "Running",
            "roles": {
                "prefill": { "prefill-0": role("prefill-0", &prefill), "prefill-1": role("prefill-1", &prefill) },
                "decode": { "decode-0": role("decode-0", &decode) },
            },
        });
        let seen = seen(&world);
        assert_eq!(seen["s-0"], group);
        assert_eq!(seen.as_object().unwrap().len(), 2);
    }

    #[test]
    fn states_are_those_of_the_moment() {
        let mut world = world();
        world.pod("s-0-decode-0-1").state = PodState::Unready;
        world.pod("s-1-prefill-1-0").state = PodState::Terminating;
        let now = seen(&world);
        assert_eq!(
            (&now["s-0"]["status"], &now["s-1"]["status"]),
            (&json!("Creating"), &json!("Scaling"))
        );
        assert_eq!(now["s-0"]["roles"]["decode"]["decode-0"]["status"], "Creating");
        assert_eq!(now["s-1"]["roles"]["prefill"]["prefill-1"]["status"], "Deleting");
        assert_eq!(now["s-0"]["runningPods"].as_array().unwrap().len(), 3);
        for pod in &mut world.observed.pods {
            pod.state = PodState::Terminating;
        }
        let now = seen(&world);
        assert_eq!(
            (&now["s-0"]["status"], &now["s-0"]["runningPods"]),
            (&json!("Deleting"), &json!([]))
        );
        world.observed.pods.clear();
        assert_eq!(seen(&world), json!({}));
    }

    #[test]
    fn a_role_that_is_asked_for_no_more_is_shown_until_it_is_gone() {
        let mut world = world();
        world.edit(|serving| drop(serving.spec.template.roles.remove(0)));
        let now = seen(&world);
        assert_eq!(now["s-0"]["roles"]["prefill"]["prefill-0"]["status"], "Running");
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_shown() {
        let mut world = world();
        for pod in &mut world.observed.pods {
            pod.owner = Some("other".into());
        }
        world.observed.services.clear();
        assert_eq!(seen(&world), json!({}));
    }
}
