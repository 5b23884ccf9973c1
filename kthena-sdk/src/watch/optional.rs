//! Following kinds that may not be there: their definition comes and goes while a process runs.
//!
//! ```no_run
//! use futures::StreamExt;
//! use kthena_sdk::kube::Client;
//! use kthena_sdk::watch::optional::{self, Task};
//!
//! # async fn follow(client: Client) {}
//! # async fn example() -> Result<(), kthena_sdk::kube::Error> {
//! let client = Client::try_default().await?;
//! let mut definitions = std::pin::pin!(optional::definition(client.clone(), "podgroups.scheduling.volcano.sh"));
//! let mut task = None;
//! while let Some(definition) = definitions.next().await {
//!     match definition {
//!         Some(_) if task.is_none() => task = Some(Task::spawn(follow(client.clone()))),
//!         Some(_) => {}
//!         None => task = None,
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use futures::{Stream, StreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use tokio::task::AbortHandle;

use super::{Change, Selector};
use crate::rbac::Rights;

/// Follows the definition of a kind by its name, `<plural>.<group>`: first as it is now, then after each change. `None` where the API
/// server does not serve the kind: there is no definition, it is not established yet, or it is being deleted.
///
/// Trouble with the watch is logged; what was said last holds meanwhile.
pub fn definition(
    client: Client,
    name: &'static str,
) -> impl Stream<Item = Option<CustomResourceDefinition>> + Send {
    let selector = Selector {
        fields: Some(format!("metadata.name={name}")),
        ..Selector::default()
    };
    let changes = super::changes(Api::<CustomResourceDefinition>::all(client), selector);
    changes.filter_map(move |change| std::future::ready(served(name, change)))
}

/// What following the definition of that name takes.
///
/// ```
/// use kthena_sdk::rbac::Verb;
///
/// let rights = kthena_sdk::watch::optional::rights("things.example.com");
/// let definitions = ("apiextensions.k8s.io", "customresourcedefinitions");
/// assert!(rights.allow_everywhere(definitions.0, definitions.1, Verb::Watch, Some("things.example.com")));
/// assert!(!rights.allow_everywhere(definitions.0, definitions.1, Verb::Watch, Some("others.example.com")));
/// ```
#[must_use]
pub fn rights(name: &str) -> Rights {
    Rights::everywhere([super::rule::<CustomResourceDefinition>().named([name])])
}

/// Whether the API server serves a version of a kind.
///
/// ```
/// use kthena_sdk::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
/// use kthena_sdk::watch::optional::has_version;
///
/// let definition: CustomResourceDefinition = serde_json::from_value(serde_json::json!({
///     "metadata": {},
///     "spec": {
///         "group": "example.com", "scope": "Namespaced", "names": { "kind": "Thing", "plural": "things" },
///         "versions": [{ "name": "v1", "served": true, "storage": true }],
///     },
/// }))?;
/// assert!(has_version(&definition, "v1"));
/// assert!(!has_version(&definition, "v2"));
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn has_version(definition: &CustomResourceDefinition, version: &str) -> bool {
    let mut versions = definition.spec.versions.iter();
    versions.any(|it| it.served && it.name == version)
}

/// A task that ends with this value.
#[derive(Debug)]
pub struct Task(AbortHandle);

/// What a change comes to; `None` if it says nothing about the definition.
fn served(name: &str, change: Change<CustomResourceDefinition>) -> Option<Option<CustomResourceDefinition>> {
    match change {
        Change::Reset(all) => Some(all.into_iter().next().filter(is_established)),
        Change::Apply(definition) => Some(Some(definition).filter(is_established)),
        Change::Delete(_) => Some(None),
        Change::Undecodable { error, .. } => {
            tracing::warn!(name, %error, "the definition cannot be read");
            None
        }
        Change::Interrupted(error) => {
            tracing::warn!(name, %error, "the watch of the definition broke");
            None
        }
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.iter().flat_map(|it| &it.conditions).flatten();
    let mut established = conditions.filter(|it| it.type_ == "Established" && it.status == "True");
    definition.metadata.deletion_timestamp.is_none() && established.next().is_some()
}

impl Task {
    /// Starts it on the current runtime.
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn definition(metadata: Value, established: &str) -> CustomResourceDefinition {
        serde_json::from_value(json!({
            "metadata": metadata,
            "spec": {
                "group": "example.com",
                "names": { "kind": "Thing", "plural": "things" },
                "scope": "Namespaced",
                "versions": [
                    { "name": "v1", "served": true, "storage": true },
                    { "name": "v1beta1", "served": false, "storage": false },
                ],
            },
            "status": { "conditions": [
                { "type": "NamesAccepted", "status": "True" },
                { "type": "Established", "status": established },
            ] },
        }))
        .unwrap()
    }

    #[test]
    fn a_kind_is_there_from_its_establishment_to_its_deletion() {
        let is_there = |change| served("things.example.com", change).map(|it| it.is_some());
        let established = || definition(json!({}), "True");
        let ending = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
        assert_eq!(is_there(Change::Reset(Vec::new())), Some(false));
        assert_eq!(is_there(Change::Reset(vec![established()])), Some(true));
        assert_eq!(
            is_there(Change::Apply(definition(json!({}), "False"))),
            Some(false)
        );
        assert_eq!(is_there(Change::Apply(established())), Some(true));
        assert_eq!(is_there(Change::Apply(definition(ending, "True"))), Some(false));
        assert_eq!(is_there(Change::Delete(established())), Some(false));
    }

    #[test]
    fn a_version_must_be_served() {
        let definition = definition(json!({}), "True");
        let served = ["v1", "v1beta1", "v2"].map(|version| has_version(&definition, version));
        assert_eq!(served, [true, false, false]);
    }

    #[tokio::test]
    async fn a_task_ends_with_its_value() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let task = Task::spawn(async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        drop(task);
        assert!(receiver.await.is_err());
    }
}
