//! A ModelServing's life by a script, under controllers that are killed.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod, Service};
use kthena_api::ModelServing;
use kthena_sdk::model_serving::controller::Controller;
use kthena_sdk::model_serving::gang::PodGroupObject;
use kthena_sdk::model_serving::plugin::Registry;
use kthena_tests::cluster::{Identity, Namespace};
use kthena_tests::wait;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::client::ClientBuilder;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::gate::Gate;

/// Name of the ModelServing.
pub(super) const NAME: &str = "s";

/// Something that happens, and what comes of it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) event: Event,
    /// Groups, pods and Services afterwards.
    pub(super) counts: [usize; 3],
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The ModelServing is made with this spec.
    Create(Value),
    /// Its spec is changed in these places.
    Change(Value),
    /// A pod is lost.
    Lose(&'static str),
}

/// All objects of a ModelServing, without what differs from one life to another.
pub(super) type Objects = BTreeMap<String, Value>;

/// Lives through a script. Returns the objects after each step.
pub(super) async fn live(
    space: &Namespace,
    account: &Identity,
    gate: &Gate,
    script: &[Step],
) -> Result<Vec<Objects>> {
    let mut controllers = std::pin::pin!(controllers(account, gate));
    let mut all = Vec::new();
    for step in script {
        gate.begin(step.name);
        let lived = tokio::select! {
            lived = through(space, step) => lived,
            ended = &mut controllers => ended.map(|never| match never {}),
        };
        all.push(lived.with_context(|| format!("in the step {}", step.name))?);
    }
    Ok(all)
}

/// One controller after the other, each until it is killed.
async fn controllers(account: &Identity, gate: &Gate) -> Result<std::convert::Infallible> {
    loop {
        let (way, mut killed) = gate.open();
        let config = account.config().await?;
        let client: Client = ClientBuilder::try_from(config)?.with_layer(&way).build();
        let controller = Controller::new(client, 5, Registry::built_in(), Arc::new(()));
        tokio::select! {
            _ = killed.recv() => {}
            () = controller.run(std::future::pending()) => bail!("a controller has ended"),
        }
    }
}

/// A step, until everything is at rest again.
async fn through(space: &Namespace, step: &Step) -> Result<Objects> {
    let servings: Api<ModelServing> = space.api().await?;
    let mut lost = None;
    match &step.event {
        Event::Create(spec) => {
            let object = json!({
                "apiVersion": "workload.serving.volcano.sh/v1alpha1",
                "kind": "ModelServing",
                "metadata": { "name": NAME },
                "spec": spec,
            });
            space.apply(&object.to_string()).await?;
        }
        Event::Change(spec) => {
            let patch = Patch::Merge(json!({ "spec": spec }));
            servings.patch(NAME, &PatchParams::default(), &patch).await?;
        }
        Event::Lose(pod) => {
            let pods = space.api::<Pod>().await?;
            lost = pods.get(pod).await?.uid();
            pods.delete(pod, &DeleteParams::default()).await?;
        }
    }
    let is_settled = |serving: Option<&ModelServing>| {
        serving.is_some_and(|serving| {
            let status = serving.status.clone().unwrap_or_default();
            let counts = [
                status.replicas,
                status.available_replicas,
                status.updated_replicas,
                status.current_replicas,
            ];
            status.observed_generation == serving.metadata.generation
                && counts == [i32::try_from(step.counts[0]).ok(); 4]
        })
    };
    let settled = kube::runtime::wait::await_condition(servings.clone(), NAME, is_settled);
    tokio::time::timeout(wait::PATIENCE, settled)
        .await
        .context("it does not come to rest")??;
    let look = || async {
        let pods = space.api::<Pod>().await?.list(&Default::default()).await?.items;
        let services = space
            .api::<Service>()
            .await?
            .list(&Default::default())
            .await?
            .items;
        let serving = servings.get(NAME).await?;
        ensure!(is_settled(Some(&serving)), "{:?}", serving.status);
        let is_at_rest = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none() && pod.uid() != lost;
        Ok([
            serving.spec.effective_replicas().try_into()?,
            pods.iter().filter(is_at_rest).count(),
            services.len(),
            pods.len(),
        ])
    };
    let [groups, pods, services] = step.counts;
    let expected = [groups, pods, services, pods];
    wait::until_value("all to be at rest", look, |found| *found == expected).await?;
    objects(space).await
}

/// All objects, as they are compared.
async fn objects(space: &Namespace) -> Result<Objects> {
    let serving: ModelServing = space.api().await?.get(NAME).await?;
    let mut status = json!(serving.status);
    // What never held need not be denied, and when it held differs.
    let held = status["conditions"].as_array().into_iter().flatten();
    let held: Vec<Value> = held
        .filter(|it| it["status"] == "True")
        .map(|it| it["type"].clone())
        .collect();
    status["conditions"] = held.into();
    let mut all = Objects::from([("status".to_owned(), status)]);
    let list = Default::default();
    for pod in space.api::<Pod>().await?.list(&list).await?.items {
        all.insert(format!("Pod {}", pod.name_any()), kept(&json!(pod), &["spec"]));
    }
    for service in space.api::<Service>().await?.list(&list).await?.items {
        all.insert(
            format!("Service {}", service.name_any()),
            kept(&json!(service), &["spec"]),
        );
    }
    for group in space.api::<PodGroupObject>().await?.list(&list).await?.items {
        all.insert(
            format!("PodGroup {}", group.name_any()),
            kept(&json!(group), &["spec"]),
        );
    }
    for revision in space.api::<ControllerRevision>().await?.list(&list).await?.items {
        let value = kept(&json!(revision), &["data", "revision"]);
        all.insert(format!("ControllerRevision {}", revision.name_any()), value);
    }
    let owner = serving.uid().unwrap_or_default();
    for value in all.values_mut() {
        let text = value
            .to_string()
            .replace(&owner, "OWNER")
            .replace(space.name(), "SPACE");
        *value = serde_json::from_str(&text)?;
    }
    Ok(all)
}

fn kept(object: &Value, members: &[&str]) -> Value {
    let metadata = &object["metadata"];
    let mut kept = json!({
        "labels": metadata["labels"],
        "annotations": metadata["annotations"],
        "ownerReferences": metadata["ownerReferences"],
    });
    for member in members {
        kept[member] = object[member].clone();
    }
    kept
}
