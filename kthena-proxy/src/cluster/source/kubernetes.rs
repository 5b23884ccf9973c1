//! Objects from the API server.
//!
//! Each kind has a watch. While the API server is away the last state stays; when it is back a full list replaces it, so nothing
//! that went in the meantime is missed.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1 as core;
use kthena_api::{ExternalModelProvider, ModelRoute, ModelServer, labels};
use kthena_sdk::watch::{self, Change, Selector};
use kube::core::Resource;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::{Barrier, mpsc};
use tokio::task::JoinSet;

use super::super::objects::{Event, Pod, Secret, Update, key_of};
use super::manifest;
use crate::telemetry::metrics::Metrics;

/// How many watches there are.
const WATCHES: usize = 5;

/// Follows all kinds until nobody listens any more.
pub async fn run(client: Client, metrics: Metrics, updates: mpsc::Sender<Update>) {
    let source = Source {
        client,
        metrics,
        updates,
        first: Arc::new(Barrier::new(WATCHES + 1)),
    };
    let mut watches = JoinSet::new();
    let labelled = |label: &str| Selector {
        labels: Some(format!("{label}={}", labels::TRUE)),
        ..Selector::default()
    };
    watches.spawn(
        source
            .clone()
            .follow::<ModelServer, _>(Selector::default(), Some, Update::Server),
    );
    watches.spawn(
        source
            .clone()
            .follow::<ModelRoute, _>(Selector::default(), Some, Update::Route),
    );
    watches.spawn(source.clone().follow::<ExternalModelProvider, _>(
        Selector::default(),
        Some,
        Update::Provider,
    ));
    watches.spawn(
        source
            .clone()
            .follow::<core::Pod, _>(Selector::default(), pod, Update::Pod),
    );
    let secret = |secret: core::Secret| Some(manifest::from_secret(secret));
    watches.spawn(source.clone().follow::<core::Secret, Secret>(
        labelled(labels::UPSTREAM_TLS),
        secret,
        Update::Secret,
    ));
    source.first.wait().await;
    // Every watch has delivered its first list.
    if source.updates.send(Update::Synced).await.is_ok() {
        while watches.join_next().await.is_some() {}
    }
}

#[derive(Clone)]
struct Source {
    client: Client,
    metrics: Metrics,
    updates: mpsc::Sender<Update>,
    first: Arc<Barrier>,
}

impl Source {
    async fn follow<K, T>(self, selector: Selector, keep: fn(K) -> Option<T>, wrap: fn(Event<T>) -> Update)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
        T: Send + 'static,
    {
        let kind = K::kind(&()).into_owned();
        let mut changes = std::pin::pin!(watch::changes(Api::<K>::all(self.client.clone()), selector));
        let mut first = Some(self.first.clone());
        while let Some(change) = changes.next().await {
            let mut is_list = false;
            let event = match change {
                Change::Reset(all) => {
                    is_list = true;
                    Event::Reset(all.into_iter().filter_map(keep).collect())
                }
                Change::Apply(object) => {
                    let key = key_of(object.meta());
                    keep(object).map_or(Event::Delete(key), Event::Apply)
                }
                Change::Delete(object) => Event::Delete(key_of(object.meta())),
                Change::Undecodable {
                    namespace,
                    name,
                    error,
                } => {
                    tracing::warn!(%kind, %namespace, %name, %error, "the object cannot be decoded and is not used");
                    self.metrics.config_error("kubernetes");
                    Event::Delete((namespace, name))
                }
                Change::Interrupted(error) => {
                    tracing::warn!(%kind, %error, "the watch broke; what is known stays in use");
                    continue;
                }
            };
            if self.updates.send(wrap(event)).await.is_err() {
                return;
            }
            if is_list && let Some(first) = first.take() {
                first.wait().await;
            }
        }
    }
}

/// What the proxy keeps of a pod; nothing of pods that can never serve.
fn pod(pod: core::Pod) -> Option<Pod> {
    let status = pod.status.unwrap_or_default();
    let ready_condition = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let running = status.phase.as_deref() == Some("Running");
    let meta = &pod.metadata;
    let annotations = meta.annotations.iter().flatten();
    Some(Pod {
        key: key_of(meta),
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: annotations
            .filter(|(name, _)| name.starts_with(labels::NETWORKING_GROUP))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        ready: running && ready_condition && meta.deletion_timestamp.is_none(),
        node: pod.spec.and_then(|spec| spec.node_name),
        phase: status.phase,
        started: status.start_time.map(|time| time.0.to_string()),
    })
}
