//! The Node object and the lease that says its kubelet lives.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Node},
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::NODE_LABEL;

/// As often as a kubelet does.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Creates the node, or takes it over, and makes it Ready.
pub(super) async fn register(
    client: &Client,
    name: &str,
    labels: &[(String, String)],
    address: Ipv4Addr,
) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let force = PatchParams::apply("kthena-tests-kubelet").force();
    let mut all = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", NODE_LABEL: "true"});
    for (key, value) in labels {
        all[key] = Value::from(value.as_str());
    }
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": all}});
    nodes
        .patch(name, &force, &Patch::Apply(&node))
        .await
        .context("registering the node")?;
    let status = json!({"status": status(name, address)});
    let ready = nodes
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(&status))
        .await;
    ready.context("making the node ready")?;
    // New nodes carry a taint until a controller has seen them ready; there may be no controller.
    let untainted = json!({"spec": {"taints": null}});
    nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(&untainted))
        .await
        .context("removing the node's taint")?;
    beat(client, name).await.context("taking the node's lease")
}

/// Renews the lease for ever. While the API server is away, the lease just waits.
pub(super) async fn keep_alive(client: Client, name: String) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        beat(&client, &name).await.ok();
    }
}

async fn beat(client: &Client, name: &str) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": MicroTime(Timestamp::now())},
    });
    let force = PatchParams::apply("kthena-tests-kubelet").force();
    leases.patch(name, &force, &Patch::Apply(&lease)).await?;
    Ok(())
}

fn status(name: &str, address: Ipv4Addr) -> Value {
    let now = Time(Timestamp::now());
    let resources = json!({"cpu": "64", "memory": "512Gi", "ephemeral-storage": "1Ti", "pods": "250", "nvidia.com/gpu": "8"});
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": reason,
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    json!({
        "addresses": [
            {"type": "InternalIP", "address": address.to_string()},
            {"type": "Hostname", "address": name},
        ],
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("Ready", "True", "KubeletReady"),
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        ],
        "nodeInfo": {
            "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "kthena-tests",
            "containerRuntimeVersion": "process://1", "kubeletVersion": "v1.34.2", "kubeProxyVersion": "",
            "operatingSystem": "linux", "architecture": "amd64",
        },
    })
}
