//! The optional parts: what runs against the API server.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};

use super::{Builder, Cluster, Component};
use crate::tools;

/// Volcano's scheduler: enough of its actions and plugins for gangs on a network topology.
const VOLCANO_CONFIGURATION: &str = "actions: \"enqueue, allocate, backfill\"
tiers:
- plugins:
  - name: priority
  - name: gang
  - name: conformance
- plugins:
  - name: predicates
  - name: proportion
  - name: nodeorder
  - name: binpack
  - name: network-topology-aware
";

impl Builder {
    pub(super) async fn start_controllers(&self, cluster: &Cluster) -> Result<()> {
        let (dir, kubeconfig) = (cluster.dir(), cluster.kubeconfig());
        if self.controller_manager {
            cluster.add(controller_manager(dir, kubeconfig)?.started()?);
        }
        if self.scheduler {
            cluster.add(scheduler(dir, kubeconfig)?.started()?);
        }
        if self.kwok {
            cluster.add(kwok(dir, kubeconfig)?.started()?);
        }
        if self.volcano {
            cluster
                .apply_path(tools::volcano_crds()?)
                .await
                .context("installing Volcano's CRDs")?;
            cluster
                .apply("{apiVersion: v1, kind: Namespace, metadata: {name: volcano-system}}")
                .await?;
            cluster.add(volcano_controller_manager(dir, kubeconfig)?.started()?);
            cluster.add(volcano_scheduler(dir, kubeconfig)?.started()?);
            until_queue_is_open(cluster).await?;
        }
        if self.controller_manager {
            until_accounts_are_made(cluster).await?;
        }
        cluster.check()
    }
}

fn controller_manager(dir: &Path, kubeconfig: &Path) -> Result<Component> {
    let pki = dir.join("pki");
    let component = Component::new("kube-controller-manager", tools::kube_controller_manager()?, dir)
        .path("kubeconfig", kubeconfig)
        .path(
            "service-account-private-key-file",
            &pki.join("service-account.key"),
        )
        .path("root-ca-file", &pki.join("ca.crt"))
        // No addresses for nodes, and pods may sit on nodes that a test never created.
        .args([
            "--controllers=*,-nodeipam,-podgc",
            "--leader-elect=false",
            "--secure-port=0",
            // Tests wait for autoscalers.
            "--horizontal-pod-autoscaler-sync-period=1s",
        ]);
    Ok(component)
}

fn scheduler(dir: &Path, kubeconfig: &Path) -> Result<Component> {
    let component = Component::new("kube-scheduler", tools::kube_scheduler()?, dir)
        .path("kubeconfig", kubeconfig)
        .args(["--leader-elect=false", "--secure-port=0"])
        // Its usual 50 pods a second would be what a bench of a controller measures.
        .args(["--kube-api-qps=1000", "--kube-api-burst=2000"]);
    Ok(component)
}

fn kwok(dir: &Path, kubeconfig: &Path) -> Result<Component> {
    let component = Component::new("kwok", tools::kwok()?, dir)
        .path("kubeconfig", kubeconfig)
        .args([
            "--manage-all-nodes=false",
            "--manage-nodes-with-label-selector=type=kwok",
            // Without leases nodes count as lost after 50 seconds, and their pods as not ready.
            "--node-lease-duration-seconds=40",
        ]);
    Ok(component)
}

fn volcano_controller_manager(dir: &Path, kubeconfig: &Path) -> Result<Component> {
    let component = Component::new(
        "volcano-controller-manager",
        tools::volcano_controller_manager()?,
        dir,
    )
    .path("kubeconfig", kubeconfig)
    .args([
        "--leader-elect=false",
        "--enable-healthz=false",
        "--enable-metrics=false",
    ]);
    Ok(component)
}

fn volcano_scheduler(dir: &Path, kubeconfig: &Path) -> Result<Component> {
    // A folder of its own: the scheduler reloads whenever something in it changes.
    let folder = dir.join("volcano");
    fs::create_dir_all(&folder).context("creating the folder of Volcano's configuration")?;
    let configuration = folder.join("scheduler.yaml");
    fs::write(&configuration, VOLCANO_CONFIGURATION).context("writing Volcano's configuration")?;
    let component = Component::new("volcano-scheduler", tools::volcano_scheduler()?, dir)
        .path("kubeconfig", kubeconfig)
        .path("scheduler-conf", &configuration)
        .args([
            "--leader-elect=false",
            "--enable-healthz=false",
            "--enable-metrics=false",
        ]);
    Ok(component)
}

/// Until the default queue has a state, Volcano rejects every group of pods.
async fn until_queue_is_open(cluster: &Cluster) -> Result<()> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "scheduling.volcano.sh",
        "v1beta1",
        "Queue",
    ));
    let queues: Api<DynamicObject> = Api::all_with(cluster.client().await?, &kind);
    let open =
        |queue: Option<DynamicObject>| queue.is_some_and(|queue| queue.data["status"]["state"] == "Open");
    let look = || async { Ok(open(queues.get_opt("default").await?).then_some(())) };
    cluster.until("Volcano's default queue to be open", look).await
}

/// The sign that the controller manager works: every namespace gets a service account.
async fn until_accounts_are_made(cluster: &Cluster) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client().await?, "default");
    let look = || async { Ok(accounts.get_opt("default").await?.map(drop)) };
    cluster
        .until("the controller manager to make service accounts", look)
        .await
}
