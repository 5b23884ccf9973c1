//! The Kthena router written in Go. It takes its objects from an API server and its settings from a fixed path.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kthena_tests::cluster::{Cluster, Namespace};
use kthena_tests::reserve::Port;
use kthena_tests::tools;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Mode;
use crate::bed::{Bed, Running};

/// The settings that its chart ships.
const CONFIGURATION: &str = include_str!("../../peers/reference.yaml");

/// A control plane with the objects of the bench.
#[derive(Debug)]
pub(super) struct Reference {
    cluster: Cluster,
    space: Namespace,
    /// What Kubernetes puts into a pod's `/run`: the router knows no other credentials.
    run: PathBuf,
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
        let run = bed.folder("reference-run")?;
        credentials(&cluster, &space, &run).await?;
        Ok(Self { cluster, space, run })
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
        // The paths of its settings and credentials are fixed, so it gets an /etc and a /run of its own; a user namespace makes
        // that possible for anyone.
        let script = "mount --bind \"$1\" /etc && mount --bind \"$2\" /run && shift 2 && exec \"$@\"";
        let api = self.cluster.url().trim_start_matches("https://");
        let (host, api_port) = api.split_once(':').context("the API server has a port")?;
        let mut command = self.cluster.command(Path::new("unshare"));
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .args([&etc, &self.run])
            .arg(program)
            .args(["--port", &port, "--debug-port", &debug])
            .arg("--enable-webhook=false")
            .env("KUBERNETES_SERVICE_HOST", host)
            .env("KUBERNETES_SERVICE_PORT", api_port)
            .env("POD_NAMESPACE", self.space.name());
        let model = match mode {
            Mode::Plain => "bench",
            Mode::Split => "bench-pd",
        };
        bed.serve("kthena-router", &mut command, &folder, ports, model)
            .await
    }
}

/// Writes token and authority of a service account that may do everything.
async fn credentials(cluster: &Cluster, space: &Namespace, run: &Path) -> Result<()> {
    let account = cluster.service_account(space.name(), "router").await?;
    let binding = serde_json::from_value(json!({
        "metadata": {"name": "bench-router"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "router", "namespace": space.name()}],
    }))?;
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client().await?);
    let bound = bindings.create(&PostParams::default(), &binding).await;
    bound.context("binding the router's role")?;
    let text = std::fs::read(account.kubeconfig()).context("reading its kubeconfig")?;
    let config: Value = serde_json::from_slice(&text).context("reading its kubeconfig")?;
    let token = config["users"][0]["user"]["token"].as_str();
    let authority = config["clusters"][0]["cluster"]["certificate-authority"].as_str();
    let folder = run.join("secrets/kubernetes.io/serviceaccount");
    std::fs::create_dir_all(&folder).context("making its folder of credentials")?;
    std::fs::write(folder.join("token"), token.context("it has a token")?).context("writing its token")?;
    std::fs::copy(authority.context("it names an authority")?, folder.join("ca.crt"))
        .context("copying the authority")?;
    Ok(())
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
