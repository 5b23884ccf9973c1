//! A proxy and engines for one test.

use std::net::SocketAddr;
use std::time::Duration;

use kthena_api::labels;
use kthena_proxy::cluster::index::Published;
use kthena_proxy::cluster::objects::{Event, Update};
use kthena_proxy::cluster::source::manifest::{self, Object};
use kthena_proxy::server::{Config, Proxy, SourceConfig};
use kthena_sim::{Connector, Engine, Handle, Role, Rule, Stats};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::client::{self, Answer, PATIENCE};

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const COMPLETIONS: &str = "/v1/completions";
/// The series of attempts after the first.
pub(crate) const RETRIES: &str = "kthena_router_retries_total{backend_name=\"default/s\"}";

/// A proxy whose objects come from the test.
pub(crate) struct Bed {
    pub(crate) proxy: Proxy,
    pub(crate) updates: mpsc::Sender<Update>,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A proxy before one engine that answers whole requests.
    pub(crate) async fn plain() -> (Self, Handle) {
        Self::plain_with(|_| {}).await
    }

    pub(crate) async fn plain_with(change: impl FnOnce(&mut Config)) -> (Self, Handle) {
        let (bed, engine) = (Self::with(change).await, plain().await);
        bed.apply(&[route(), plain_server(&[&engine])]).await;
        (bed, engine)
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        // Which test comes first does not matter.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let (updates, receiver) = mpsc::channel(64);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config {
            listen: vec![any],
            metrics: vec![any],
            debug: any,
            tls: None,
            source: SourceConfig::Channel(receiver),
            access_log: None,
            expose_metrics: false,
            body_limit: 64 << 20,
            drain_timeout: Duration::from_secs(10),
            webhook: None,
        };
        change(&mut config);
        let proxy = Proxy::start(config).await.expect("the proxy starts");
        Self { proxy, updates }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address
    }

    /// Applies objects, and waits until requests see them.
    pub(crate) async fn apply(&self, objects: &[Value]) {
        let text = objects
            .iter()
            .map(|object| format!("---\n{object}\n"))
            .collect::<String>();
        for object in manifest::parse(text.as_bytes()).expect("objects that the API server accepts") {
            self.update(match object {
                Object::Route(route) => Update::Route(Event::Apply(*route)),
                Object::Server(server) => Update::Server(Event::Apply(*server)),
                Object::Provider(provider) => Update::Provider(Event::Apply(*provider)),
                Object::Secret(secret) => Update::Secret(Event::Apply(secret)),
            })
            .await;
        }
        self.update(Update::Synced).await;
        self.published().await;
    }

    pub(crate) async fn update(&self, update: Update) {
        self.updates.send(update).await.expect("the index listens");
    }

    /// Waits until everything that was sent so far is in the snapshot.
    pub(crate) async fn published(&self) {
        let mut published = self.proxy.view.published.clone();
        let generation = |published: &Published| published.generation;
        let before = generation(&published.borrow_and_update());
        // The marker is a change like any other: the next publication has everything before it.
        self.update(Update::Synced).await;
        tokio::time::timeout(PATIENCE, published.wait_for(|now| generation(now) > before))
            .await
            .expect("in time")
            .expect("alive");
        let idle = || self.updates.capacity() == self.updates.max_capacity();
        while !idle() {
            tokio::time::timeout(PATIENCE, published.changed())
                .await
                .expect("in time")
                .expect("alive");
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        client::post(self.address(), path, body).await
    }

    /// A chat with greedy sampling.
    pub(crate) async fn chat(&self, prompt: &str, stream: bool) -> Answer {
        self.post(CHAT, &chat(prompt, stream)).await
    }

    pub(crate) async fn metrics(&self) -> String {
        client::get(self.proxy.metrics_address, "/metrics").await.text()
    }

    /// The value of a series; zero if it is not there.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        value(&self.metrics().await, series)
    }

    /// Waits until a series has a value: a request is counted a moment after its answer has ended.
    pub(crate) async fn counts(&self, series: &str, expected: f64) {
        eventually_ok(&format!("{series} {expected}"), async || {
            let text = self.metrics().await;
            if value(&text, series) == expected {
                Ok(())
            } else {
                Err(text)
            }
        })
        .await;
    }
}

fn value(metrics: &str, series: &str) -> f64 {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
        .unwrap_or(0.0)
}

pub(crate) fn chat(prompt: &str, stream: bool) -> Value {
    json!({
        "model": "m", "stream": stream, "max_tokens": 12, "temperature": 0,
        "messages": [{"role": "user", "content": prompt}],
    })
}

/// A route from model `m` to ModelServer `s`.
pub(crate) fn route() -> Value {
    json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
        "metadata": {"name": "r"},
        "spec": {"modelName": "m", "rules": [{"targetModels": [{"modelServerName": "s"}]}]},
    })
}

/// ModelServer `s` with these engines.
pub(crate) fn server(spec: Value) -> Value {
    let mut all = json!({"inferenceEngine": "vLLM", "model": "sim", "workloadPort": {"port": 8000}});
    for (name, value) in spec.as_object().expect("an object") {
        all[name] = value.clone();
    }
    json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelServer",
        "metadata": {"name": "s"}, "spec": all,
    })
}

pub(crate) async fn engine(config: kthena_sim::Config) -> Handle {
    Engine::start(config).await.expect("the engine starts")
}

pub(crate) async fn plain() -> Handle {
    engine(kthena_sim::Config::instant()).await
}

/// What an engine says to a client of its own.
pub(crate) async fn direct(engine: &Handle, path: &str, body: &Value) -> Answer {
    let mut body = body.clone();
    body["model"] = "sim".into();
    client::post(engine.addr(), path, &body).await
}

/// Adds the same rule to several engines.
pub(crate) fn fail<'a>(engines: impl IntoIterator<Item = &'a Handle>, rule: Rule) {
    for engine in engines {
        engine.faults().add(rule.clone());
    }
}

/// The entry of `spec.endpoints` for an engine.
pub(crate) fn endpoint(engine: &Handle) -> Value {
    json!({"address": engine.addr().ip().to_string(), "port": engine.addr().port()})
}

/// A whole ModelServer of plain engines.
pub(crate) fn plain_server(engines: &[&Handle]) -> Value {
    server(json!({"endpoints": engines.iter().map(|engine| endpoint(engine)).collect::<Vec<_>>()}))
}

/// How a connector is set up on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) sim: Connector,
    pub(crate) engine: &'static str,
    /// `kvConnector.type`.
    pub(crate) connector: Option<&'static str>,
}

pub(crate) const NIXL: Way = Way {
    name: "nixl",
    sim: Connector::Nixl,
    engine: "vLLM",
    connector: Some("nixl"),
};

/// Every way to hand over.
pub(crate) const WAYS: &[Way] = &[
    Way {
        name: "auto",
        sim: Connector::Nixl,
        engine: "vLLM",
        connector: None,
    },
    NIXL,
    Way {
        name: "nixl before Ascend's Mooncake",
        sim: Connector::MooncakeAscend,
        engine: "vLLM",
        connector: Some("nixl"),
    },
    Way {
        name: "mooncake on Ascend",
        sim: Connector::MooncakeAscend,
        engine: "vLLM",
        connector: Some("mooncake"),
    },
    Way {
        name: "mooncake of vLLM",
        sim: Connector::Mooncake,
        engine: "vLLM",
        connector: Some("mooncake"),
    },
    Way {
        name: "sglang",
        sim: Connector::Sglang,
        engine: "SGLang",
        connector: None,
    },
    Way {
        name: "sglang with the default connector",
        sim: Connector::Sglang,
        engine: "SGLang",
        connector: Some("http"),
    },
    Way {
        name: "lmcache",
        sim: Connector::Lmcache,
        engine: "vLLM",
        connector: Some("lmcache"),
    },
    Way {
        name: "http",
        sim: Connector::Lmcache,
        engine: "vLLM",
        connector: Some("http"),
    },
];

impl Way {
    pub(crate) async fn prefill(&self, change: impl FnOnce(&mut kthena_sim::Config)) -> Handle {
        self.start(Role::Prefill, change).await
    }

    pub(crate) async fn decode(&self, change: impl FnOnce(&mut kthena_sim::Config)) -> Handle {
        self.start(Role::Decode, change).await
    }

    /// A proxy before one prefill and one decode engine, with a `trafficPolicy`.
    pub(crate) async fn bed(
        &self,
        change: impl Fn(&mut kthena_sim::Config),
        policy: Value,
    ) -> (Bed, Handle, Handle) {
        let (prefill, decode) = (self.prefill(&change).await, self.decode(&change).await);
        let bed = Bed::start().await;
        let server = self.server(
            &[(&prefill, "g"), (&decode, "g")],
            json!({"trafficPolicy": policy}),
        );
        bed.apply(&[route(), server]).await;
        (bed, prefill, decode)
    }

    /// A whole engine of the same make, to compare with.
    pub(crate) async fn plain(&self) -> Handle {
        let kind = kthena_sim::Config::instant().paired(Role::Plain, self.sim).kind;
        engine(kthena_sim::Config {
            kind,
            ..kthena_sim::Config::instant()
        })
        .await
    }

    async fn start(&self, role: Role, change: impl FnOnce(&mut kthena_sim::Config)) -> Handle {
        let mut config = kthena_sim::Config::instant().paired(role, self.sim);
        change(&mut config);
        engine(config).await
    }

    /// ModelServer `s` of these engines, each with its group.
    pub(crate) fn server(&self, engines: &[(&Handle, &str)], mut more: Value) -> Value {
        let endpoints: Vec<Value> = engines
            .iter()
            .map(|(engine, group)| {
                let role = if engine.stats().role == Role::Prefill {
                    "prefill"
                } else {
                    "decode"
                };
                let mut entry = endpoint(engine);
                entry["labels"] = json!({"group": group, "role": role});
                let port = engine
                    .side_channel_addr()
                    .map(|address| address.port().to_string());
                let setting = match self.sim {
                    Connector::Mooncake => Some(labels::MOONCAKE_BOOTSTRAP_PORT),
                    Connector::Sglang => Some(labels::SGLANG_BOOTSTRAP_PORT),
                    _ => None,
                };
                if let (Some(setting), Some(port)) = (setting, port) {
                    entry["labels"][setting] = port.into();
                }
                entry
            })
            .collect();
        more["inferenceEngine"] = self.engine.into();
        more["endpoints"] = endpoints.into();
        more["workloadSelector"] = json!({"pdGroup": {
            "groupKey": "group", "prefillLabels": {"role": "prefill"}, "decodeLabels": {"role": "decode"},
        }});
        if let Some(connector) = self.connector {
            more["kvConnector"] = json!({"type": connector});
        }
        server(more)
    }
}

/// What an engine has counted when all its requests are over: a client may have its answer before the engine has counted
/// it, and of a pair that works at the same time, either may end first.
pub(crate) async fn settled(engine: &Handle) -> Stats {
    engine.settled(PATIENCE).await.expect("an end of all requests")
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what} did not come about"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The same for what has to be asked for, with what came instead.
pub(crate) async fn eventually_ok(what: &str, mut ask: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(instead) = ask().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what} did not come about: {instead}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
