//! What the tests have in common: a control plane of their own, a kubelet, and the controller.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kthena_api::{ModelServing, ModelServingStatus, labels};
use kthena_tests::{
    cluster::{Cluster, Identity, Namespace},
    controller::Controller,
    kubelet::Kubelet,
    wait,
};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::Value;

/// A control plane with the controller, and a namespace whose pods run.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) space: Namespace,
    pub(crate) controller: Controller,
    pub(crate) account: Identity,
    pub(crate) kubelet: Kubelet,
}

impl Bed {
    pub(crate) async fn start() -> Result<Self> {
        let cluster = Cluster::builder().controller_manager().start().await?;
        let space = cluster.namespace("serving").await?;
        let kubelet = Kubelet::on(&cluster, &space).start().await?;
        let account = Controller::account(&cluster, &space).await?;
        let controller = Controller::start(&account).await?;
        Ok(Self {
            cluster,
            space,
            controller,
            account,
            kubelet,
        })
    }

    /// Changes a ModelServing as `kubectl patch` does.
    pub(crate) async fn patch(&self, name: &str, patch: Value) -> Result<()> {
        let api = self.space.api::<ModelServing>().await?;
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Waits until the status is of the spec as it is now and says that all groups are available and up to date.
    pub(crate) async fn until_settled(&self, name: &str, replicas: i32) -> Result<ModelServingStatus> {
        let settled = |serving: &ModelServing| {
            let status = serving.status.clone().unwrap_or_default();
            let counts = [
                status.replicas,
                status.available_replicas,
                status.updated_replicas,
                status.current_replicas,
            ];
            status.observed_generation == serving.metadata.generation && counts == [Some(replicas); 4]
        };
        let what = format!("{replicas} groups of {name} to be available");
        let found = self.space.until(name, &what, settled).await;
        let serving: ModelServing =
            found.with_context(|| format!("the controller's last lines:\n{}", self.controller.tail()))?;
        serving.status.context("a status")
    }

    /// Pods of a ModelServing that are not being deleted: UIDs by name.
    pub(crate) async fn pods(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let pods = self.space.api::<Pod>().await?.list(&of(name)).await?;
        let live = pods
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(live
            .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default()))
            .collect())
    }

    /// Names of a ModelServing's Services.
    pub(crate) async fn services(&self, name: &str) -> Result<Vec<String>> {
        let services = self.space.api::<Service>().await?.list(&of(name)).await?;
        let mut names: Vec<String> = services.items.iter().map(ResourceExt::name_any).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// How many pods, Services, ControllerRevisions and PodDisruptionBudgets a ModelServing has.
    pub(crate) async fn belongings(&self, name: &str) -> Result<[usize; 4]> {
        let (space, all) = (&self.space, of(name));
        Ok([
            space.api::<Pod>().await?.list(&all).await?.items.len(),
            space.api::<Service>().await?.list(&all).await?.items.len(),
            space
                .api::<ControllerRevision>()
                .await?
                .list(&all)
                .await?
                .items
                .len(),
            space
                .api::<PodDisruptionBudget>()
                .await?
                .list(&all)
                .await?
                .items
                .len(),
        ])
    }

    /// Waits until the pods of a ModelServing are as expected, by name.
    pub(crate) async fn until_pods(
        &self,
        name: &str,
        what: &str,
        accept: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> Result<BTreeMap<String, String>> {
        wait::until_value(what, || self.pods(name), accept)
            .await
            .with_context(|| format!("the controller's last lines:\n{}", self.controller.tail()))
    }
}

fn of(name: &str) -> ListParams {
    ListParams::default().labels(&format!("{}={name}", labels::MODEL_SERVING_NAME))
}
