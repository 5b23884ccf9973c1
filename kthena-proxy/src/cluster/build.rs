//! Making a snapshot of the objects.
//!
//! Everything is derived anew from what there is now, so the order in which objects appear never matters. Only endpoints and
//! budgets live on from one snapshot to the next, because they carry connections and counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kthena_api::annotation::EngineSettings;
use kthena_api::model_server::{InferenceEngine, Protocol as Scheme};
use kthena_api::{ModelServer, labels};

use super::endpoint::{Address, Endpoint, EndpointKey, Ports};
use super::objects::{Key, Objects, key_of, qualified};
use super::snapshot::{Pool, Rename, Retry, Server, Snapshot};
use super::tls::{Material, UpstreamTls, Verify};
use crate::connector::Protocol;
use crate::exchange::budget::Budget;

/// What lives on between snapshots.
#[derive(Debug, Default)]
pub struct Builder {
    endpoints: HashMap<EndpointKey, Arc<Endpoint>>,
    budgets: HashMap<Arc<str>, Arc<Budget>>,
}

/// A snapshot, and what could not be used of the objects.
#[derive(Debug)]
pub struct Built {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Objects with a problem: kind, `namespace/name`, what is wrong.
    pub problems: Vec<Problem>,
}

/// Something in an object that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The kind.
    pub kind: &'static str,
    /// `namespace/name`.
    pub name: String,
    /// What is wrong, and what the proxy does instead.
    pub message: String,
    /// Whether it is not the object itself that is wrong but something it refers to.
    pub is_reference: bool,
}

impl Builder {
    /// Makes the snapshot. Endpoints that are in none of its pools any more are retired.
    pub fn build(&mut self, objects: &Objects) -> Built {
        let mut problems = Vec::new();
        let mut endpoints = HashMap::with_capacity(self.endpoints.len());
        let mut servers: HashMap<Arc<str>, Arc<Server>> = HashMap::with_capacity(objects.servers.len());
        for server in objects.servers.values() {
            let key = key_of(&server.metadata);
            let mut make = Make {
                builder: self,
                objects,
                endpoints: &mut endpoints,
                problems: &mut problems,
                key: &key,
            };
            if let Some(made) = make.server(server) {
                servers.insert(made.name.clone(), Arc::new(made));
            }
        }
        for (key, endpoint) in &self.endpoints {
            if !endpoints.get(key).is_some_and(|kept| Arc::ptr_eq(kept, endpoint)) {
                endpoint.retire();
            }
        }
        self.endpoints = endpoints;
        self.budgets.retain(|name, _| servers.contains_key(name));
        let snapshot = routes::routes(objects, servers, &mut problems);
        Built { snapshot, problems }
    }

    /// Every endpoint of the last snapshot.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }
}

struct Make<'a> {
    builder: &'a mut Builder,
    objects: &'a Objects,
    endpoints: &'a mut HashMap<EndpointKey, Arc<Endpoint>>,
    problems: &'a mut Vec<Problem>,
    key: &'a Key,
}

impl Make<'_> {
    fn problem(&mut self, message: impl Into<String>) {
        self.report(message.into(), false);
    }

    fn report(&mut self, message: String, is_reference: bool) {
        let problem = Problem {
            kind: "ModelServer",
            name: qualified(self.key),
            message,
            is_reference,
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn server(&mut self, object: &ModelServer) -> Option<Server> {
        let spec = &object.spec;
        if let InferenceEngine::Unknown(engine) = &spec.inference_engine {
            self.problem(format!(
                "inferenceEngine {engine:?} is not known; the ModelServer is not used"
            ));
            return None;
        }
        let name: Arc<str> = qualified(self.key).into();
        let policy = spec.traffic_policy.as_ref();
        let timeout = policy
            .and_then(|policy| policy.timeout.as_ref())
            .and_then(|text| match text.to_std() {
                Ok(timeout) => Some(timeout).filter(|timeout| !timeout.is_zero()),
                Err(error) => {
                    self.problem(format!("trafficPolicy.timeout: {error}; no timeout is applied"));
                    None
                }
            });
        let retry = policy.and_then(|policy| policy.retry.as_ref()).map_or(
            Retry {
                attempts: None,
                interval: Duration::ZERO,
            },
            |retry| {
                let interval = retry
                    .retry_interval
                    .as_ref()
                    .map_or(Ok(Duration::from_millis(100)), |text| text.to_std());
                let interval = interval.unwrap_or_else(|error| {
                    self.problem(format!(
                        "trafficPolicy.retry.retryInterval: {error}; 100ms is applied"
                    ));
                    Duration::from_millis(100)
                });
                Retry {
                    attempts: retry.attempts.map(|n| u32::try_from(n).unwrap_or(0)),
                    interval,
                }
            },
        );
        let pool = self.pool(object);
        Some(Server {
            model: spec
                .model
                .as_deref()
                .filter(|model| !model.is_empty())
                .map(Rename::new),
            engine: spec.inference_engine.clone(),
            protocol: Protocol::of(&spec.inference_engine, spec.kv_connector_type()),
            timeout,
            retry,
            pool,
            budget: self.builder.budgets.entry(name.clone()).or_default().clone(),
            name,
        })
    }

    /// The engines: pods that the selector finds, or the endpoints that are listed.
    fn pool(&mut self, object: &ModelServer) -> Pool {
        let spec = &object.spec;
        let engines: Vec<Engine> = match spec.match_labels() {
            Some(labels) => self
                .objects
                .pods
                .select(&self.key.0, labels)
                .filter(|pod| pod.ready)
                .filter_map(|pod| {
                    let port = u16::try_from(spec.workload_port.port).ok()?;
                    Some(Engine {
                        uid: pod.uid.clone(),
                        name: qualified(&pod.key),
                        address: Address::Ip((pod.ip?, port).into()),
                        labels: pod.labels.clone(),
                        overrides: pod.annotations.clone(),
                    })
                })
                .collect(),
            None => spec
                .endpoints
                .iter()
                .filter_map(|endpoint| {
                    let port = u16::try_from(endpoint.effective_port(&spec.workload_port)).ok()?;
                    let address = Address::new(&endpoint.address, port);
                    Some(Engine {
                        uid: format!("{}#{address}", qualified(self.key)).into(),
                        name: format!("{}/{address}", self.key.0),
                        address,
                        labels: endpoint.labels.clone(),
                        overrides: endpoint.labels.clone(),
                    })
                })
                .collect(),
        };
        let annotations = object.metadata.annotations.clone().unwrap_or_default();
        let https = matches!(spec.workload_port.effective_protocol(), Scheme::Https);
        let mut made = Vec::with_capacity(engines.len());
        for engine in engines {
            if let Some(endpoint) = self.endpoint(&engine, &annotations, https) {
                made.push((engine, endpoint));
            }
        }
        let Some(group) = spec.pd_group() else {
            return Pool::Whole(made.into_iter().map(|(_, endpoint)| endpoint).collect());
        };
        pairs::split(made.iter().filter_map(|(engine, endpoint)| {
            let role = group.role(&engine.labels)?;
            let value = group.group(&engine.labels).filter(|value| !value.is_empty())?;
            let revision = engine.labels.get(labels::REVISION).map_or("", String::as_str);
            Some(pairs::Member {
                group: value,
                revision,
                role,
                endpoint,
            })
        }))
    }

    fn endpoint(
        &mut self,
        engine: &Engine,
        annotations: &BTreeMap<String, String>,
        https: bool,
    ) -> Option<Arc<Endpoint>> {
        let settings = match EngineSettings::resolve(annotations, &engine.overrides) {
            Ok(settings) => settings,
            Err(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                self.problem(format!(
                    "{}: {}; the engine is not used",
                    engine.name,
                    errors.join("; ")
                ));
                return None;
            }
        };
        let tls = match https.then(|| self.tls(&settings)) {
            None => None,
            Some(Ok(tls)) => Some(Arc::new(tls)),
            Some(Err(message)) => {
                self.report(format!("{message}; engines that need it are not used"), true);
                return None;
            }
        };
        let ports = Ports {
            mooncake_bootstrap: settings.mooncake_bootstrap_port,
            sglang_bootstrap: Some(settings.sglang_bootstrap_port),
        };
        let key = EndpointKey {
            uid: engine.uid.clone(),
            address: engine.address.clone(),
            tls: tls.as_ref().map(|tls| tls.fingerprint()),
        };
        let known = self
            .endpoints
            .get(&key)
            .or_else(|| self.builder.endpoints.get(&key));
        let endpoint = match known {
            Some(known) if known.ports() == ports && *known.name().as_ref() == *engine.name => known.clone(),
            _ => Endpoint::new(key.clone(), engine.name.as_str().into(), ports, tls),
        };
        self.endpoints.insert(key, endpoint.clone());
        Some(endpoint)
    }

    fn tls(&self, settings: &EngineSettings) -> Result<UpstreamTls, String> {
        let secret = |name: &str| {
            let key = (self.key.0.clone(), name.to_owned());
            self.objects.secrets.get(&key).ok_or_else(|| {
                format!(
                    "Secret {name} is missing, or lacks the label {}: \"true\"",
                    labels::UPSTREAM_TLS
                )
            })
        };
        let value = |name: &str, key: &str| {
            let secret = secret(name)?;
            secret
                .data
                .get(key)
                .cloned()
                .ok_or_else(|| format!("Secret {name} has no {key}"))
        };
        let wanted = &settings.upstream_tls;
        let ca = wanted
            .ca_secret
            .as_deref()
            .map(|name| value(name, "ca.crt"))
            .transpose()?;
        let client = wanted
            .client_cert_secret
            .as_deref()
            .map(|name| Ok::<_, String>((value(name, "tls.crt")?, value(name, "tls.key")?)))
            .transpose()?;
        let server_name = wanted.server_name.as_deref().unwrap_or_default();
        let verify = if wanted.insecure_skip_verify {
            Verify::Skip
        } else {
            Verify::Full
        };
        UpstreamTls::new(&Material { ca, client }, server_name, verify).map_err(|error| error.to_string())
    }
}

/// An engine before it is an endpoint.
struct Engine {
    uid: Arc<str>,
    name: String,
    address: Address,
    labels: BTreeMap<String, String>,
    /// Settings of its own that go before the server's.
    overrides: BTreeMap<String, String>,
}

mod pairs;
mod routes;
#[cfg(test)]
mod tests;
