//! Making a snapshot of the objects.
//!
//! Everything is derived anew from what there is now, so the order in which objects appear never matters. Only endpoints and
//! budgets live on from one snapshot to the next, because they carry connections and counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kthena_api::annotation::EngineSettings;
use kthena_api::model_server::{InferenceEngine, PdRole, Protocol as Scheme};
use kthena_api::{ModelRoute, ModelServer, labels};

use super::endpoint::{Address, Endpoint, EndpointKey, Ports};
use super::objects::{Key, Objects, key_of};
use super::snapshot::{Cell, Pool, Rename, Retry, Server, Snapshot, SplitPool};
use super::tls::{Material, UpstreamTls, Verify};
use crate::connector::Protocol;
use crate::exchange::budget::Budget;
use crate::openai::models;
use crate::route::{Backend, Condition, Route, Rule, Target};

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
        let snapshot = routes(objects, servers, &mut problems);
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
        let name = format!("{}/{}", self.key.0, self.key.1);
        self.problems.push(Problem {
            kind: "ModelServer",
            name,
            message: message.into(),
        });
    }

    fn server(&mut self, object: &ModelServer) -> Option<Server> {
        let spec = &object.spec;
        if let InferenceEngine::Unknown(engine) = &spec.inference_engine {
            self.problem(format!(
                "inferenceEngine {engine:?} is not known; the ModelServer is not used"
            ));
            return None;
        }
        let name: Arc<str> = format!("{}/{}", self.key.0, self.key.1).into();
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
                        name: format!("{}/{}", pod.key.0, pod.key.1),
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
                        uid: format!("{}/{}#{address}", self.key.0, self.key.1).into(),
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
        split(made.iter().filter_map(|(engine, endpoint)| {
            let role = group.role(&engine.labels)?;
            let value = group.group(&engine.labels).filter(|value| !value.is_empty())?;
            let revision = engine.labels.get(labels::REVISION).map_or("", String::as_str);
            Some(Member {
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
                self.problem(format!("{}: {message}; the engine is not used", engine.name));
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

struct Member<'a> {
    group: &'a str,
    revision: &'a str,
    role: PdRole,
    endpoint: &'a Arc<Endpoint>,
}

/// Sorts engines into cells: those of one group may work with each other, and while a rollout replaces them one revision after
/// another, those of one revision. Where no revision of a group has both roles, the group is one cell: roles that are updated
/// apart have different revisions for good.
fn split<'a>(members: impl Iterator<Item = Member<'a>>) -> Pool {
    let mut groups: BTreeMap<&str, BTreeMap<&str, Cell>> = BTreeMap::new();
    let mut pool = SplitPool::default();
    for member in members {
        let cell = groups
            .entry(member.group)
            .or_default()
            .entry(member.revision)
            .or_default();
        let (side, all) = match member.role {
            PdRole::Prefill => (&mut cell.prefill, &mut pool.all_prefill),
            PdRole::Decode => (&mut cell.decode, &mut pool.all_decode),
        };
        side.push(member.endpoint.clone());
        all.push(member.endpoint.clone());
    }
    for (group, revisions) in groups {
        let whole = |cell: &Cell| !cell.prefill.is_empty() && !cell.decode.is_empty();
        let cells: Vec<Cell> = if revisions.values().any(whole) {
            revisions.into_values().filter(whole).collect()
        } else {
            let mut one = Cell::default();
            for mut cell in revisions.into_values() {
                one.prefill.append(&mut cell.prefill);
                one.decode.append(&mut cell.decode);
            }
            vec![one]
        };
        for mut cell in cells {
            cell.group = group.into();
            if !cell.prefill.is_empty() {
                let index = pool.cells.len();
                pool.decode
                    .extend(cell.decode.iter().map(|endpoint| (endpoint.clone(), index)));
            }
            pool.cells.push(cell);
        }
    }
    Pool::Split(pool)
}

fn routes(
    objects: &Objects,
    servers: HashMap<Arc<str>, Arc<Server>>,
    problems: &mut Vec<Problem>,
) -> Snapshot {
    let mut snapshot = Snapshot {
        servers,
        ..Snapshot::default()
    };
    let mut sorted: Vec<&Arc<ModelRoute>> = objects.routes.values().collect();
    // The oldest first; equals by namespace and name, which is the map's order.
    sorted.sort_by_key(|route| route.metadata.creation_timestamp.as_ref().map(|time| time.0));
    for object in sorted {
        let route = Arc::new(route(object, &snapshot.servers, problems));
        if let Some(model) = object.spec.model_name.as_deref().filter(|name| !name.is_empty()) {
            snapshot
                .models
                .entry(model.into())
                .or_default()
                .push(route.clone());
        }
        for adapter in object.spec.lora_adapters.iter().filter(|name| !name.is_empty()) {
            snapshot
                .adapters
                .entry(adapter.as_str().into())
                .or_default()
                .push(route.clone());
        }
    }
    snapshot.model_list = models::list(
        snapshot
            .models
            .keys()
            .chain(snapshot.adapters.keys())
            .map(AsRef::as_ref),
    );
    snapshot
}

fn route(
    object: &ModelRoute,
    servers: &HashMap<Arc<str>, Arc<Server>>,
    problems: &mut Vec<Problem>,
) -> Route {
    let (namespace, name) = key_of(&object.metadata);
    let mut problem = |message: String| {
        problems.push(Problem {
            kind: "ModelRoute",
            name: format!("{namespace}/{name}"),
            message,
        });
    };
    let rules = object
        .spec
        .rules
        .iter()
        .enumerate()
        .map(|(index, rule)| Rule {
            condition: condition(rule, &mut |message| problem(format!("rules[{index}]: {message}"))),
            targets: rule
                .target_models
                .iter()
                .filter_map(|target| {
                    use kthena_api::model_route::Target as Named;
                    let key = |name: &str| Arc::<str>::from(format!("{namespace}/{name}"));
                    let backend = match target.target() {
                        Some(Named::ModelServer(name)) => {
                            let key = key(name);
                            let server = servers.get(&key).cloned();
                            Backend::Server(key, server)
                        }
                        Some(Named::ExternalModelProvider(name)) => Backend::Provider(key(name)),
                        None => {
                            problem(format!(
                                "rules[{index}]: a target names no backend, or two; it is not used"
                            ));
                            return None;
                        }
                    };
                    Some(Target {
                        backend,
                        weight: target.effective_weight(),
                    })
                })
                .collect(),
        })
        .collect();
    Route {
        name: format!("{namespace}/{name}").into(),
        gateways_only: !object.spec.parent_refs.is_empty(),
        rules,
    }
}

fn condition(rule: &kthena_api::model_route::RouteRule, problem: &mut dyn FnMut(String)) -> Condition {
    let mut condition = Condition::default();
    let Some(matches) = &rule.model_match else {
        return condition;
    };
    for (name, value) in &matches.headers {
        match (http::HeaderName::try_from(name.as_str()), value.matcher()) {
            (Ok(name), Ok(matcher)) => condition.headers.push((name, matcher)),
            (Err(_), _) => {
                problem(format!("{name:?} is no header name; the rule never applies"));
                condition.never = true;
            }
            (_, Err(error)) => {
                problem(format!("header {name}: {error}; the rule never applies"));
                condition.never = true;
            }
        }
    }
    match matches
        .uri
        .as_ref()
        .map(kthena_api::model_route::StringMatch::matcher)
    {
        None => {}
        Some(Ok(matcher)) => condition.path = Some(matcher),
        Some(Err(error)) => {
            problem(format!("uri: {error}; the rule never applies"));
            condition.never = true;
        }
    }
    condition.model = matches
        .body
        .as_ref()
        .and_then(|body| body.model.clone())
        .filter(|model| !model.is_empty());
    condition
}
