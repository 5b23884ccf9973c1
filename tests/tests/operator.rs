//! The example of another operator, on a real API server and under the account that it is deployed with.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kthena_api::ModelServing;
use kthena_tests::{cargo, cluster::Cluster, process::Process, setting};
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

const NAME: &str = "chat-operator";

/// A kubeconfig for the namespace that a pod of the operator would be in.
fn in_its_namespace(kubeconfig: &Path) -> Result<std::path::PathBuf> {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(kubeconfig)?)?;
    config["contexts"][0]["context"]["namespace"] = NAME.into();
    let path = kubeconfig.with_file_name("operator.kubeconfig");
    fs::write(&path, config.to_string())?;
    Ok(path)
}

#[tokio::test]
async fn the_example_operator_does_its_work_under_its_own_account() -> Result<()> {
    let deploy = setting::checkout().join("examples/operator/deploy");
    // It looks after all namespaces.
    let cluster = Cluster::builder().start().await?;
    for file in ["crd.yaml", "operator.yaml"] {
        cluster.apply_path(deploy.join(file)).await?;
    }
    let client = cluster.client().await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "ChatService"));
    let services: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &kind);
    let servings: Api<ModelServing> = Api::namespaced(client.clone(), "default");
    let ready = async || -> Result<Option<Value>> {
        let service = services.get("assistant").await?;
        let is_current = service.data["status"]["observedGeneration"] == json!(service.metadata.generation);
        let ready = service.data["status"]["conditions"][0].clone();
        Ok(is_current
            .then_some(ready)
            .filter(|ready| ready["type"] == "Ready"))
    };
    cluster
        .until("the definition to be served", || async {
            Ok(cluster.apply_path(deploy.join("sample.yaml")).await.ok())
        })
        .await?;

    let account = cluster.service_account(NAME, NAME).await?;
    let program = tokio::task::spawn_blocking(|| cargo::binary(NAME))
        .await
        .context("building the operator")??;
    let mut command = Command::new(program);
    command.env("KUBECONFIG", in_its_namespace(account.kubeconfig())?);
    let mut operator = Process::start(NAME, &mut command, cluster.dir().join("operator.log"))?;

    let is_made = || async { Ok(servings.get_opt("assistant").await?) };
    let serving = operator.until("the ModelServing", is_made).await?;
    ensure!(serving.spec.replicas == Some(2), "{:?}", serving.spec.replicas);
    let is_unknown = || async { Ok(ready().await?.filter(|it| it["status"] == "Unknown")) };
    operator
        .until("a status that says nothing yet", is_unknown)
        .await?;

    // What Kthena's controller would report.
    let status = json!({ "status": {
        "availableReplicas": 2,
        "conditions": [{
            "type": "Available", "status": "True", "reason": "AllGroupsReady", "message": "",
            "observedGeneration": serving.metadata.generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    } });
    let merge = Patch::Merge(&status);
    servings
        .patch_status("assistant", &PatchParams::default(), &merge)
        .await?;
    let is_ready = || async { Ok(ready().await?.filter(|it| it["status"] == "True")) };
    operator.until("a status that says so too", is_ready).await?;

    let more = Patch::Merge(json!({ "spec": { "size": "huge" } }));
    services
        .patch("assistant", &PatchParams::default(), &more)
        .await?;
    let is_changed = || async {
        let serving = servings.get("assistant").await?;
        let workers = serving.spec.template.roles[0].worker_replicas;
        Ok((workers == Some(1)).then_some(()))
    };
    operator.until("the change to arrive", is_changed).await?;

    let ended = operator.stop(Duration::from_secs(30)).await;
    ensure!(ended.success(), "{ended}: {}", operator.tail());
    let lease = Api::<Lease>::namespaced(client, NAME).get(NAME).await?;
    let holder = lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .unwrap_or_default();
    ensure!(holder.is_empty(), "{holder} has not let go");
    Ok(())
}
