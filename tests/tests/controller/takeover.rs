//! Taking over from the controller manager written in Go: its pods stay as they are.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result};
use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use kthena_api::{ModelServing, condition, labels};
use kthena_controller::rbac::Part;
use kthena_tests::{
    cluster::{Cluster, Filter, Namespace},
    controller::Controller,
    kubelet::Kubelet,
    process::Process,
    tools, wait,
};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

fn serving(name: &str, strategy: &str) -> Value {
    let pod = json!({ "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "engine",
            "image": "kthena-sim",
            "ports": [{ "containerPort": 8000 }],
            "env": [{ "name": "EMPTY", "value": "" }],
            "resources": { "requests": { "cpu": 1, "memory": "1024Mi" } },
        }],
    } });
    json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelServing",
        "metadata": { "name": name },
        "spec": { "replicas": 2, "schedulerName": "default-scheduler", "rolloutStrategy": { "type": strategy }, "template": { "roles": [
            { "name": "prefill", "workerReplicas": 1, "entryTemplate": pod, "workerTemplate": pod },
            { "name": "decode", "replicas": 1, "entryTemplate": pod },
        ] } },
    })
}

/// UIDs of all pods, by name.
async fn pods(space: &Namespace) -> Result<BTreeMap<String, String>> {
    let pods = space
        .api::<Pod>()
        .await?
        .list(&ListParams::default())
        .await?
        .items;
    Ok(pods
        .iter()
        .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default()))
        .collect())
}

fn is_available(serving: &ModelServing) -> bool {
    let status = serving.status.clone().unwrap_or_default();
    let replicas = Some(serving.spec.effective_replicas());
    status.observed_generation == serving.metadata.generation
        && (
            status.replicas,
            status.available_replicas,
            status.updated_replicas,
        ) == (replicas, replicas, replicas)
}

/// Whether the status is ours: the other one's conditions do not say what they were observed of.
fn is_ours(serving: &ModelServing) -> bool {
    let status = serving.status.clone().unwrap_or_default();
    let available = condition::find(&status.conditions, "Available");
    is_available(serving) && available.is_some_and(|it| it.observed_generation == serving.metadata.generation)
}

#[tokio::test]
async fn what_the_go_controller_made_is_kept_as_it_is() -> Result<()> {
    let program = tokio::task::spawn_blocking(tools::reference_controller_manager).await??;
    let cluster = Cluster::builder().controller_manager().start().await?;
    let space = cluster.namespace("takeover").await?;
    let _kubelet = Kubelet::on(&cluster, &space).start().await?;
    let mut command = Command::new(program);
    command
        .arg(format!("--kubeconfig={}", cluster.kubeconfig().display()))
        .args([
            "--controllers=modelserving",
            "--enable-webhook=false",
            "--kube-api-qps=100",
            "--kube-api-burst=200",
        ]);
    let log = cluster.dir().join("reference.log");
    let mut reference = Process::start("the controller manager in Go", &mut command, log)?;
    let names = [
        ("by-group", "ServingGroupRollingUpdate"),
        ("by-role", "RoleRollingUpdate"),
    ];
    for (name, strategy) in names {
        space.apply(&serving(name, strategy).to_string()).await?;
    }
    for (name, _) in names {
        let made = space
            .until(name, "the other controller's pods to be ready", is_available)
            .await;
        let _serving: ModelServing = made.with_context(|| reference.tail())?;
    }
    // A rollout by roles, after which some pods are of a revision that is not stored any more.
    let api = space.api::<ModelServing>().await?;
    let mut changed = serving("by-role", "RoleRollingUpdate");
    changed["spec"]["template"]["roles"][1]["entryTemplate"]["metadata"] =
        json!({ "annotations": { "changed": "yes" } });
    let before = pods(&space).await?;
    api.patch("by-role", &PatchParams::default(), &Patch::Merge(&changed))
        .await?;
    let rolled = |now: &BTreeMap<String, String>| {
        let of = |name: &str| now.get(name).is_some_and(|uid| before.get(name) != Some(uid));
        now.len() == before.len() && of("by-role-0-decode-0-0") && of("by-role-1-decode-0-0")
    };
    wait::until_value("the rollout", || pods(&space), rolled)
        .await
        .with_context(|| reference.tail())?;
    let _serving: ModelServing = space
        .until("by-role", "the end of the rollout", is_available)
        .await?;
    reference.kill();
    let stored = space
        .api::<ControllerRevision>()
        .await?
        .list(&ListParams::default())
        .await?
        .items;
    let of_role = stored.iter().filter(|it| it.name_any().starts_with("by-role"));
    assert_eq!(
        (stored.len(), of_role.count()),
        (1, 0),
        "the other one forgets the revision of a rollout by roles"
    );

    let before = pods(&space).await?;
    // It takes nothing but what ModelServings take.
    let account = Controller::account_for(&cluster, &space, &[Part::ModelServing]).await?;
    let mark = cluster.audit().mark()?;
    let controller = Controller::start(&account).await?;
    for (name, _) in names {
        let taken = space.until(name, "the takeover", is_ours).await;
        let _serving: ModelServing = taken.with_context(|| controller.tail())?;
    }
    assert_eq!(pods(&space).await?, before);
    for verb in ["create", "delete", "deletecollection"] {
        let filter = Filter::default()
            .verb(verb)
            .resource("pods")
            .namespace(space.name());
        let asked = cluster.audit().since(mark)?;
        let asked: Vec<_> = asked
            .iter()
            .filter(|entry| filter.takes(entry) && entry.user.username.contains("kthena"))
            .collect();
        assert!(asked.is_empty(), "{verb}: {asked:?}");
    }

    // It goes on from there: more groups, and nothing of what is there is touched.
    for (name, _) in names {
        api.patch(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({ "spec": { "replicas": 3 } })),
        )
        .await?;
        let _serving: ModelServing = space.until(name, "one more group", is_ours).await?;
    }
    let after = pods(&space).await?;
    assert_eq!(after.len(), before.len() + 6);
    assert!(before.iter().all(|(name, uid)| after.get(name) == Some(uid)));
    let new = space.api::<Pod>().await?.get("by-group-2-decode-0-0").await?;
    let old = space.api::<Pod>().await?.get("by-group-0-decode-0-0").await?;
    assert_eq!(new.labels()[labels::REVISION], old.labels()[labels::REVISION]);
    Ok(())
}
