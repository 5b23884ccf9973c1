//! The objects that tests are about, as JSON, which is YAML to the API server.

use std::net::Ipv4Addr;

use kthena_api::labels;
use kthena_tests::kubelet;
use serde_json::{Value, json};

/// The model that all engines serve; clients ask for another name.
pub(crate) const SERVED: &str = "tiny";

/// The name of the ModelServing that pods seem to belong to, unless a test says otherwise.
pub(crate) const SERVING: &str = "llm";

/// An engine's pod, labelled as a ModelServing's controller labels it.
#[derive(Debug, Clone)]
pub(crate) struct Pod(Value);

impl Pod {
    /// A prefill engine of group 0.
    pub(crate) fn prefill(name: &str) -> Self {
        Self::member(name, "prefill").argument("--role", "prefill")
    }

    /// A decode engine of group 0.
    pub(crate) fn decode(name: &str) -> Self {
        Self::member(name, "decode").argument("--role", "decode")
    }

    /// An engine of group 0 that can do either; its label says what it does.
    pub(crate) fn either(name: &str, role: &str) -> Self {
        Self::member(name, role)
    }

    /// An engine that answers whole requests.
    pub(crate) fn plain(name: &str) -> Self {
        Self::bare(name).label(labels::MODEL_SERVING_NAME, SERVING)
    }

    fn member(name: &str, role: &str) -> Self {
        Self::plain(name)
            .label(labels::GROUP_NAME, &format!("{SERVING}-0"))
            .label(labels::ROLE, role)
            .label(labels::ROLE_ID, &format!("{role}-0"))
            .label(labels::ENTRY, labels::TRUE)
            .argument("--connector", "nixl")
    }

    fn bare(name: &str) -> Self {
        let engine = json!({
            "name": "engine",
            "image": "kthena-sim",
            "args": ["--model", SERVED, "--eos", "never"],
            "ports": [{"containerPort": 8000}],
        });
        Self(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {}, "annotations": {}},
            "spec": {"containers": [engine], "terminationGracePeriodSeconds": 30},
        }))
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = value.into();
        self
    }

    /// The group that it shares with those that it works with.
    pub(crate) fn group(self, name: &str) -> Self {
        self.label(labels::GROUP_NAME, name)
    }

    /// An argument of the simulator.
    pub(crate) fn argument(mut self, name: &str, value: &str) -> Self {
        let arguments = self.0["spec"]["containers"][0]["args"].as_array_mut();
        arguments
            .expect("the arguments are a list")
            .extend([name.into(), value.into()]);
        self
    }

    /// An engine that takes this long for a token.
    pub(crate) fn tokens_per_second(self, rate: u32) -> Self {
        self.argument("--decode-tokens-per-second", &rate.to_string())
    }

    /// Serves for so many seconds after its deletion, as pods behind a load balancer should.
    pub(crate) fn pre_stop(mut self, seconds: u32) -> Self {
        self.0["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": seconds}}});
        self
    }

    /// Is ready once it listens: for engines whose probe speaks no TLS.
    pub(crate) fn tcp_probe(mut self) -> Self {
        self.0["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 8000}});
        self
    }

    /// Gets an address that another pod had.
    pub(crate) fn address(self, address: Ipv4Addr) -> Self {
        self.annotation(kubelet::ADDRESS, &address.to_string())
    }

    pub(crate) fn node(mut self, name: &str) -> Self {
        self.0["spec"]["nodeName"] = name.into();
        self
    }

    /// Listens at another port than 8000.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.0["spec"]["containers"][0]["ports"] = json!([{"containerPort": port}]);
        self
    }

    /// Shares its node's address, and listens at another port than its neighbours.
    pub(crate) fn host_network(mut self, port: u16) -> Self {
        self.0["spec"]["hostNetwork"] = true.into();
        self.port(port)
    }

    pub(crate) fn restart_policy(mut self, policy: &str) -> Self {
        self.0["spec"]["restartPolicy"] = policy.into();
        self
    }

    pub(crate) fn yaml(&self) -> String {
        self.0.to_string()
    }
}

/// A ModelServer for prefill and decode pods of a ModelServing, as the guides write it.
pub(crate) fn split_server(name: &str, serving: &str) -> Value {
    let mut server = plain_server(name, serving);
    server["spec"]["kvConnector"] = json!({"type": "nixl"});
    server["spec"]["workloadSelector"]["pdGroup"] = json!({
        "groupKey": labels::GROUP_NAME,
        "prefillLabels": {labels::ROLE: "prefill"},
        "decodeLabels": {labels::ROLE: "decode"},
    });
    server
}

/// A ModelServer for pods that answer whole requests.
pub(crate) fn plain_server(name: &str, serving: &str) -> Value {
    json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": name},
        "spec": {
            "model": SERVED,
            "inferenceEngine": "vLLM",
            "workloadSelector": {"matchLabels": {labels::MODEL_SERVING_NAME: serving}},
            "workloadPort": {"port": 8000},
        },
    })
}

/// A ModelRoute that leads a model to ModelServers with weights.
pub(crate) fn route(name: &str, model: &str, targets: &[(&str, u32)]) -> Value {
    let targets = targets
        .iter()
        .map(|(server, weight)| json!({"modelServerName": server, "weight": weight}));
    json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": name},
        "spec": {
            "modelName": model,
            "rules": [{"name": "default", "targetModels": targets.collect::<Vec<_>>()}],
        },
    })
}
