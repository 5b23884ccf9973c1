//! The published examples, on nodes that KWOK plays and with the schedulers that they name: all of them come to run, and their objects are
//! what one expects of their specs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kthena_api::ModelServing;
use kthena_api::model_serving::Role;
use kthena_api::name::{Serving, role_instance};
use kthena_sdk::model_serving::gang::PodGroupObject;
use kthena_tests::{
    cluster::{Cluster, Namespace, documents, documents_at, yaml_files},
    controller::Controller,
    setting,
};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

fn servings(folder: &Path) -> Result<Vec<(PathBuf, Value)>> {
    let mut all = Vec::new();
    for path in yaml_files(folder)? {
        for document in documents_at(&path)? {
            if document["kind"] == "ModelServing" {
                all.push((path.clone(), document));
            }
        }
    }
    Ok(all)
}

/// The ModelServings that guides have one apply. One page has lost its indentation; its object is among the examples.
fn printed(folder: &Path) -> Result<Vec<(PathBuf, Value)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).context("listing the guides")? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for block in here_documents(&text) {
            if block.contains("\nkind: ModelServing\n") && !block.contains("\nmetadata:\nname:") {
                all.extend(
                    documents(&block)?
                        .into_iter()
                        .map(|serving| (path.clone(), serving)),
                );
            }
        }
    }
    Ok(all)
}

/// What is between lines with `<<EOF`, however it is written, and `EOF`.
fn here_documents(text: &str) -> Vec<String> {
    let (mut blocks, mut block) = (Vec::new(), None::<String>);
    for line in text.lines() {
        match &mut block {
            Some(_) if line.trim() == "EOF" => blocks.extend(block.take()),
            Some(block) => *block += &format!("{line}\n"),
            None if line.contains("<<") && line.contains("EOF") => block = Some("\n".to_owned()),
            None => {}
        }
    }
    blocks
}

/// Every resource that pods ask for.
fn resources(value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::Object(amounts) if name == "requests" || name == "limits" => {
                        all.extend(amounts.keys().cloned());
                    }
                    value => resources(value, all),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| resources(item, all)),
        _ => {}
    }
}

fn node(number: usize, resources: &BTreeSet<String>) -> String {
    let mut room: BTreeMap<&str, &str> = resources.iter().map(|name| (name.as_str(), "10000")).collect();
    room.extend([
        ("cpu", "10000"),
        ("memory", "100Ti"),
        ("pods", "1000"),
        ("ephemeral-storage", "100Ti"),
    ]);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": format!("node-{number}"), "labels": {
            "type": "kwok",
            "kubernetes.io/hostname": format!("node-{number}"),
            "topology.kubernetes.io/zone": format!("zone-{}", number % 2),
        } },
        "status": { "allocatable": room, "capacity": room },
    })
    .to_string()
}

#[tokio::test]
async fn published_model_servings_come_to_run() -> Result<()> {
    let Some(shared) = setting::shared_dir() else {
        println!("skipped: KTHENA_SHARED is not set");
        return Ok(());
    };
    let mut all = servings(&shared.join("manifests"))?;
    assert!(all.len() > 20, "{} ModelServings", all.len());
    let guides = printed(&shared.join("guides"))?;
    assert_eq!(guides.len(), 2);
    all.extend(guides);
    let cluster = Cluster::builder()
        .controller_manager()
        .scheduler()
        .volcano()
        .kwok()
        .start()
        .await?;
    let mut named = BTreeSet::new();
    all.iter().for_each(|(_, serving)| resources(serving, &mut named));
    for number in 0..8 {
        cluster.apply(&node(number, &named)).await?;
    }
    let own = cluster.namespace("kthena").await?;
    let controller = Controller::start(&Controller::account(&cluster, &own).await?).await?;
    let mut spaces = Vec::new();
    for (path, mut serving) in all {
        let space = cluster.namespace("example").await?;
        if let Some(metadata) = serving["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        space
            .apply(&serving.to_string())
            .await
            .with_context(|| path.display().to_string())?;
        let name = serving["metadata"]["name"].as_str().context("a name")?.to_owned();
        spaces.push((path, space, name));
    }
    for (path, space, name) in spaces {
        let is_there = |serving: &ModelServing| {
            let status = serving.status.clone().unwrap_or_default();
            status.available_replicas == Some(serving.spec.effective_replicas())
        };
        let found = space.until(&name, "all groups to be available", is_there).await;
        let serving: ModelServing = found.with_context(|| {
            let tail = controller.tail();
            format!("{}; the controller's last lines:\n{tail}", path.display())
        })?;
        check(&space, &serving)
            .await
            .with_context(|| path.display().to_string())?;
        if name == "llama-multinode" && path.extension().is_some_and(|end| end == "txt") {
            check_multinode(&space, &name).await?;
        }
    }
    Ok(())
}

/// What a guide shows of the ModelServing that it has one make.
async fn check_multinode(space: &Namespace, name: &str) -> Result<()> {
    let group: PodGroupObject = space.api().await?.get(&format!("{name}-0")).await?;
    ensure!(group.spec.all["minMember"] == 2, "{:?}", group.spec.all);
    // One instance must fit. Its containers say of most resources what they may use at most, and nothing else.
    let expected =
        json!({ "cpu": "250", "memory": "2248Gi", "ephemeral-storage": "1600Gi", "nvidia.com/gpu": "16" });
    ensure!(group.spec.all["minResources"] == expected, "{:?}", group.spec.all);
    Ok(())
}

/// Compares what there is with what the spec asks for.
async fn check(space: &Namespace, serving: &ModelServing) -> Result<()> {
    let name = serving.name_any();
    let (mut pods, mut services, mut groups) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for group in 0..u32::try_from(serving.spec.effective_replicas())? {
        groups.insert(Serving(&name).group(group));
        for role in &serving.spec.template.roles {
            for instance in 0..u32::try_from(role.effective_replicas())? {
                for index in 0..=u32::try_from(role.effective_worker_replicas())? {
                    pods.insert(Serving(&name).pod(group, &role.name, instance, index));
                }
                if role.worker_template.is_some() {
                    services.insert(Serving(&name).service(group, &role.name, instance));
                }
            }
        }
    }
    let found = space
        .api::<Pod>()
        .await?
        .list(&ListParams::default())
        .await?
        .items;
    for pod in &found {
        check_pod(serving, pod).with_context(|| pod.name_any())?;
    }
    let names: BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
    ensure!(names == pods, "pods {names:?}, not {pods:?}");
    let found = space
        .api::<Service>()
        .await?
        .list(&ListParams::default())
        .await?
        .items;
    let names: BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
    ensure!(names == services, "services {names:?}, not {services:?}");
    for service in &found {
        let spec = service.spec.as_ref().context("a spec")?;
        let keys: Vec<&str> = spec
            .selector
            .iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect();
        ensure!(spec.cluster_ip.as_deref() == Some("None") && spec.publish_not_ready_addresses == Some(true));
        let expected =
            ["entry", "group-name", "role", "role-id"].map(|key| format!("modelserving.volcano.sh/{key}"));
        ensure!(keys == expected, "{keys:?}");
    }
    let found = space
        .api::<PodGroupObject>()
        .await?
        .list(&ListParams::default())
        .await?
        .items;
    let names: BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
    let is_gang = serving.spec.effective_scheduler() == "volcano";
    ensure!(
        names == if is_gang { groups } else { BTreeSet::new() },
        "PodGroups {names:?}"
    );
    let size = pods.len() / usize::try_from(serving.spec.effective_replicas())?;
    let policy = serving.spec.template.gang_policy.as_ref();
    for group in found
        .iter()
        .filter(|_| policy.is_none_or(|it| it.min_role_replicas.is_none()))
    {
        ensure!(
            group.spec.all["minMember"] == size,
            "{} of {size}",
            group.spec.all["minMember"]
        );
    }
    Ok(())
}

fn check_pod(serving: &ModelServing, pod: &Pod) -> Result<()> {
    let labels = pod.labels();
    let label = |key: &str| {
        labels
            .get(&format!("modelserving.volcano.sh/{key}"))
            .map(String::as_str)
    };
    let role = label("role").context("a role")?;
    let role: &Role = serving
        .spec
        .template
        .roles
        .iter()
        .find(|it| it.name == role)
        .context("its role")?;
    let name = pod.name_any();
    let (rest, index) = name.rsplit_once('-').context("an index")?;
    let (_, instance) = rest.rsplit_once('-').context("an ordinal")?;
    ensure!(label("name") == Some(serving.name_any().as_str()));
    ensure!(label("role-id") == Some(role_instance(&role.name, instance.parse()?).as_str()));
    ensure!(label("entry") == (index == "0").then_some("true"));
    ensure!(
        label("revision").is_some_and(|it| !it.is_empty())
            && label("role-template-hash").is_some_and(|it| !it.is_empty())
    );
    let spec = pod.spec.as_ref().context("a spec")?;
    ensure!(spec.scheduler_name.as_deref() == Some(serving.spec.effective_scheduler()));
    ensure!(spec.hostname.is_none() && spec.subdomain.is_none());
    let owners = pod.owner_references();
    ensure!(owners.len() == 1 && owners[0].uid == serving.uid().unwrap_or_default());
    ensure!(owners[0].controller == Some(true) && owners[0].block_owner_deletion == Some(true));
    let entry = format!("{rest}-0.{}", pod.namespace().unwrap_or_default());
    let size = (role.effective_worker_replicas() + 1).to_string();
    let expected = [
        ("GROUP_SIZE", size.as_str()),
        ("ENTRY_ADDRESS", &entry),
        ("WORKER_INDEX", index),
    ];
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let env: Vec<(&str, &str)> = container
            .env
            .iter()
            .flatten()
            .map(|it| (it.name.as_str(), it.value.as_deref().unwrap_or_default()))
            .collect();
        ensure!(env.ends_with(&expected), "{}: {env:?}", container.name);
    }
    Ok(())
}
