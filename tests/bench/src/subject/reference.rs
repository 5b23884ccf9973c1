//! The Kthena router written in Go. It takes its objects from an API server and its settings from a fixed path.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kthena_tests::cluster::{Cluster, Namespace};
use kthena_tests::reserve::Port;
use kthena_tests::tools;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Mode;
use crate::bed::{Bed, Running};

/// The settings that its chart ships.
const CONFIGURATION: &str = include_str!("../../peers/reference.yaml");

/// A control plane with the objects of the bench.
#[derive(Debug)]
pub(super) struct Reference {
    cluster: Cluster,
    space: Namespace,
}

pub(super) fn installed() -> Result<Option<PathBuf>> {
    let router = tools::ALL.iter().find(|tool| tool.name == "kthena-router");
    router.context("the bed knows the router")?.installed()
}

pub(super) fn install() -> Result<PathBuf> {
    tools::reference_router()
}

impl Reference {
    pub(super) async fn prepare(bed: &Bed) -> Result<Self> {
        let cluster = Cluster::builder()
            .start()
            .await
            .context("starting a control plane")?;
        let space = cluster.namespace("bench").await?;
        let port = bed.engine(0).port();
        space
            .apply(&objects(port))
            .await
            .context("creating its objects")?;
        let pods = space.api::<Pod>().await?;
        for (name, engine) in [("plain", 0), ("prefill", 1), ("decode", 2)] {
            let status = json!({"status": {
                "phase": "Running",
                "podIP": bed.engine(engine).ip(),
                "podIPs": [{"ip": bed.engine(engine).ip()}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }});
            let patched = pods
                .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
                .await;
            patched.with_context(|| format!("giving pod {name} its address"))?;
        }
        Ok(Self { cluster, space })
    }

    pub(super) async fn start(&self, bed: &Bed, program: &Path, mode: Mode) -> Result<Running> {
        let folder = bed.folder("reference")?;
        let etc = folder.join("etc");
        let write = |name: &str, text: &str| {
            let path = etc.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        std::fs::create_dir_all(etc.join("config")).context("making its folder of settings")?;
        write("config/routerConfiguration.yaml", CONFIGURATION)?;
        write("hosts", "127.0.0.1 localhost\n")?;
        let ports = vec![Port::reserve()?, Port::reserve()?];
        let [port, debug] = [0, 1].map(|n: usize| ports[n].number().to_string());
        // The path of its settings is fixed, so it gets an /etc of its own; a user namespace makes that possible for anyone.
        let script = "mount --bind \"$1\" /etc && shift && exec \"$@\"";
        let mut command = self.cluster.command(Path::new("unshare"));
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(&etc)
            .arg(program)
            .args(["--port", &port, "--debug-port", &debug])
            .arg("--enable-webhook=false")
            .env("POD_NAMESPACE", self.space.name());
        let model = match mode {
            Mode::Plain => "bench",
            Mode::Split => "bench-pd",
        };
        bed.serve("kthena-router", &mut command, &folder, ports, model)
            .await
    }
}

fn objects(port: u16) -> String {
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}, model: bench, group: g, role: {name}}}}}\n\
             spec: {{containers: [{{name: engine, image: mock, ports: [{{containerPort: {port}}}]}}]}}\n---\n"
        )
    };
    let route = |model: &str| {
        format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {model}}}\n\
             spec: {{modelName: {model}, rules: [{{name: all, targetModels: [{{modelServerName: {model}}}]}}]}}\n---\n"
        )
    };
    let server = |model: &str, rest: &str| {
        format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: {model}}}\n\
             spec:\n  inferenceEngine: vLLM\n  model: bench\n  workloadPort: {{port: {port}}}\n{rest}---\n"
        )
    };
    let plain = "  workloadSelector: {matchLabels: {app: plain}}\n";
    let split = "  kvConnector: {type: nixl}\n  workloadSelector:\n    matchLabels: {model: bench}\n    pdGroup:\n      groupKey: group\n      \
                 prefillLabels: {role: prefill}\n      decodeLabels: {role: decode}\n";
    [
        pod("plain"),
        pod("prefill"),
        pod("decode"),
        server("bench", plain),
        server("bench-pd", split),
        route("bench"),
        route("bench-pd"),
    ]
    .concat()
}
