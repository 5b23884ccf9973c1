//! The world as a request sees it: routes, servers and endpoints, never changed once published.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kthena_api::model_server::InferenceEngine;

use super::endpoint::Endpoint;
use crate::connector::Protocol;
use crate::exchange::budget::Budget;
use crate::route::Route;

/// Everything that a request needs to know. A request keeps the one it started with.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Routes by `spec.modelName`, oldest first.
    pub models: HashMap<Arc<str>, Vec<Arc<Route>>>,
    /// Routes by the names in `spec.loraAdapters`, oldest first.
    pub adapters: HashMap<Arc<str>, Vec<Arc<Route>>>,
    /// The answer to `GET /v1/models`.
    pub model_list: Bytes,
    /// ModelServers by `namespace/name`.
    pub servers: HashMap<Arc<str>, Arc<Server>>,
}

/// A ModelServer with its engines.
#[derive(Debug)]
pub struct Server {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// What `model` is rewritten to, as a JSON string.
    pub model: Option<Rename>,
    /// The engine software.
    pub engine: InferenceEngine,
    /// How prefill hands over to decode.
    pub protocol: Protocol,
    /// `trafficPolicy.timeout`.
    pub timeout: Option<Duration>,
    /// `trafficPolicy.retry`.
    pub retry: Retry,
    /// The engines.
    pub pool: Pool,
    /// What retries may cost; shared by all snapshots of this server.
    pub budget: Arc<Budget>,
}

/// A model name and its JSON text.
#[derive(Debug, Clone)]
pub struct Rename {
    /// The name.
    pub name: Arc<str>,
    /// The name as a JSON string.
    pub json: Bytes,
}

impl Rename {
    /// A name and its JSON text.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            json: serde_json::Value::from(name).to_string().into(),
        }
    }
}

/// How often an attempt is repeated before the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts; none: up to four, each at another candidate.
    pub attempts: Option<u32>,
    /// The pause before each.
    pub interval: Duration,
}

/// The engines of a ModelServer.
#[derive(Debug)]
pub enum Pool {
    /// Each answers whole requests.
    Whole(Vec<Arc<Endpoint>>),
    /// Prefill and decode are apart.
    Split(SplitPool),
}

/// The engines of a disaggregated ModelServer.
#[derive(Debug, Default)]
pub struct SplitPool {
    /// Engines that may work with each other.
    pub cells: Vec<Cell>,
    /// All decode engines with a prefill engine in their cell, and the cell's index.
    pub decode: Vec<(Arc<Endpoint>, usize)>,
    /// Prefill engines of any group, for requests without a decode phase.
    pub all_prefill: Vec<Arc<Endpoint>>,
    /// Decode engines of any group, for requests that cannot be split.
    pub all_decode: Vec<Arc<Endpoint>>,
}

/// Prefill and decode engines that may work with each other: one PD group and, while a rollout runs, one revision.
#[derive(Debug, Default)]
pub struct Cell {
    /// The value of the group label.
    pub group: Arc<str>,
    /// Prefill engines.
    pub prefill: Vec<Arc<Endpoint>>,
    /// Decode engines.
    pub decode: Vec<Arc<Endpoint>>,
}

impl Pool {
    /// Every endpoint of the pool.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let (first, second) = match self {
            Self::Whole(all) => (all.as_slice(), &[][..]),
            Self::Split(split) => (split.all_prefill.as_slice(), split.all_decode.as_slice()),
        };
        first.iter().chain(second)
    }

    /// Whether there is no engine at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endpoints().next().is_none()
    }
}

impl Snapshot {
    /// The shared form of a name that some route knows.
    #[must_use]
    pub fn label(&self, model: &str) -> Option<Arc<str>> {
        let (name, _) = self
            .models
            .get_key_value(model)
            .or_else(|| self.adapters.get_key_value(model))?;
        Some(name.clone())
    }

    /// Whether any route knows a model or adapter of this name.
    #[must_use]
    pub fn knows(&self, model: &str) -> bool {
        self.models.contains_key(model) || self.adapters.contains_key(model)
    }
}
