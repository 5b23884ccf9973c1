//! The proxy in front of the engines, as a process that reads its objects from a folder.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use kthena_tests::{cargo, process::Process, reserve::Port};
use serde_json::{Value, json};

use crate::{pair::Pair, wire};

const API_VERSION: &str = "networking.serving.volcano.sh/v1alpha1";
const BOOTSTRAP_PORT: &str = "networking.serving.volcano.sh/mooncake-bootstrap-port";
const STOP: Duration = Duration::from_secs(10);

/// What the ModelServer says about moving caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connector {
    Nixl,
    /// Nothing: the proxy finds out.
    Unnamed,
    Mooncake,
}

/// A running proxy. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Process,
    address: SocketAddr,
    _ports: [Port; 3],
}

impl Proxy {
    /// Starts a proxy in front of a pair, and waits until it is ready.
    pub(crate) async fn start(connector: Connector, pair: &Pair, dir: &Path) -> Result<Self> {
        let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
        let [port, metrics, debug] = [0, 1, 2].map(|n: usize| ports[n].number());
        let objects = dir.join(format!("objects-{port}"));
        fs::create_dir_all(&objects).with_context(|| format!("creating {}", objects.display()))?;
        let text: String = objects_for(connector, pair)
            .iter()
            .map(|object| format!("---\n{object}\n"))
            .collect();
        fs::write(objects.join("model.yaml"), text).context("writing the proxy's objects")?;
        let mut command = Command::new(cargo::binary("kthena-proxy")?);
        command
            .args(["--resource-source", "file", "--resource-dir"])
            .arg(&objects)
            .args([
                "--port",
                &port.to_string(),
                "--metrics-port",
                &metrics.to_string(),
            ])
            .args(["--debug-port", &debug.to_string()]);
        let mut proxy = Self {
            process: Process::start(
                "kthena-proxy",
                &mut command,
                dir.join(format!("proxy-{port}.log")),
            )?,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            _ports: ports,
        };
        proxy.until_ready().await?;
        Ok(proxy)
    }

    async fn until_ready(&mut self) -> Result<()> {
        let address = self.address;
        let is_ready = || async move {
            let answer = wire::get(address, "/readyz").await?;
            Ok((answer.status == 200).then_some(()))
        };
        self.process.until("the proxy to be ready", is_ready).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What OpenAI clients call their base URL.
    pub(crate) fn base(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn tail(&self) -> String {
        self.process.tail()
    }

    pub(crate) async fn stop(mut self) {
        self.process.stop(STOP).await;
    }
}

/// Routes for the models that the questions ask for, and the one server.
fn objects_for(connector: Connector, pair: &Pair) -> [Value; 3] {
    let route = |name: &str, spec: Value| {
        let mut object = json!({"apiVersion": API_VERSION, "kind": "ModelRoute", "metadata": {"name": name}, "spec": spec});
        object["spec"]["rules"] = json!([{"name": "default", "targetModels": [{"modelServerName": "tiny"}]}]);
        object
    };
    let endpoint = |address: SocketAddr, role: &str| {
        let labels = json!({"group": "a", "role": role});
        json!({"address": address.ip(), "port": address.port(), "labels": labels})
    };
    let mut server = json!({
        "apiVersion": API_VERSION, "kind": "ModelServer", "metadata": {"name": "tiny"},
        "spec": {
            "model": "tiny",
            "inferenceEngine": "vLLM",
            "workloadPort": {"port": 8000},
            "endpoints": [endpoint(pair.prefill.address(), "prefill"), endpoint(pair.decode.address(), "decode")],
            "workloadSelector": {"pdGroup": {
                "groupKey": "group", "prefillLabels": {"role": "prefill"}, "decodeLabels": {"role": "decode"},
            }},
        },
    });
    match connector {
        Connector::Nixl => server["spec"]["kvConnector"] = json!({"type": "nixl"}),
        Connector::Unnamed => {}
        Connector::Mooncake => {
            server["spec"]["kvConnector"] = json!({"type": "mooncake"});
            // vLLM's own dialect, not vLLM-Ascend's.
            server["metadata"]["annotations"] = json!({BOOTSTRAP_PORT: pair.prefill.side_port().to_string()});
        }
    }
    [
        route(
            "tiny",
            json!({"modelName": "tiny", "loraAdapters": ["tiny-lora"]}),
        ),
        route("renamed", json!({"modelName": crate::question::RENAMED})),
        server,
    ]
}
