//! Writing statuses to the API server.
//!
//! Every replica of the proxy comes to the same statuses. To keep them from all writing each one, a replica waits for a moment
//! that differs from the others' and then looks again at what there is: the first one writes, the others find it done.

use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use kthena_api::{ModelRoute, ModelServer};
use kube::api::{Patch, PatchParams};
use kube::core::{NamespaceResourceScope, Resource};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::{Statuses, outdated};
use crate::cluster::index::View;
use crate::cluster::objects::Key;
use crate::telemetry::metrics::Metrics;

/// The name that owns the fields.
pub const FIELD_MANAGER: &str = "kthena-proxy";
/// Changes that come within this time are written together.
const PAUSE: Duration = Duration::from_millis(200);
/// How much longer a replica may wait, so that replicas do not write at once.
const SPREAD: Duration = Duration::from_millis(800);
/// How long to wait after the API server refused or was away; doubles up to the longest.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Keeps statuses up to date for as long as the index publishes.
pub async fn run(client: Client, mut view: View, metrics: Metrics) {
    let mut failures = 0_u32;
    let mut last = Outcome::Written;
    loop {
        let wait = tokio::time::sleep(RETRY.saturating_mul(1 << failures.min(6)).min(LONGEST_RETRY));
        match last {
            // A change is no reason to ask an API server again that does not answer.
            Outcome::Unanswered => wait.await,
            Outcome::Written | Outcome::Refused => tokio::select! {
                changed = view.published.changed() => if changed.is_err() {
                    return;
                },
                () = wait, if failures > 0 => {}
            },
        }
        let spread = rand::Rng::random_range(&mut rand::rng(), Duration::ZERO..SPREAD);
        tokio::time::sleep(PAUSE + spread).await;
        let statuses = {
            // What is published belongs to the objects for as long as they are locked.
            let objects = view.objects.read();
            let published = view.published.borrow_and_update();
            if !published.synced {
                continue;
            }
            outdated(
                &objects,
                &view.snapshot.load(),
                &published.problems,
                Timestamp::now(),
            )
        };
        last = write(&client, statuses, &metrics).await;
        failures = match last {
            Outcome::Written => 0,
            Outcome::Refused | Outcome::Unanswered => failures + 1,
        };
    }
}

/// What became of a round of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All is written.
    Written,
    /// The API server refused some. The others are written.
    Refused,
    /// The API server does not answer.
    Unanswered,
}

async fn write(client: &Client, statuses: Statuses, metrics: &Metrics) -> Outcome {
    let begun = Instant::now();
    let count = statuses.routes.len() + statuses.servers.len();
    let routes = statuses.routes.into_iter().map(|(key, status)| {
        let write = patch::<ModelRoute>(client, key.clone(), status);
        (key, write.boxed())
    });
    let servers = statuses.servers.into_iter().map(|(key, status)| {
        let write = patch::<ModelServer>(client, key.clone(), status);
        (key, write.boxed())
    });
    let mut outcome = Outcome::Written;
    for ((namespace, name), write) in routes.chain(servers) {
        let Err(error) = write.await else { continue };
        metrics.config_error("status");
        tracing::warn!(namespace, name, %error, "a status cannot be written; requests are not affected");
        if !matches!(error, kube::Error::Api(_)) {
            return Outcome::Unanswered;
        }
        outcome = Outcome::Refused;
    }
    if count > 0 {
        tracing::debug!(count, ?outcome, elapsed = ?begun.elapsed(), "statuses written");
    }
    outcome
}

async fn patch<K>(client: &Client, (namespace, name): Key, status: impl Serialize) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let object = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&name, &parameters, &Patch::Apply(object)).await {
        // The object went meanwhile: there is nothing to tell it any more.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(|_| ()),
    }
}

#[cfg(test)]
mod tests;
