//! Following objects of a kind: the whole state first, then each change.
//!
//! ```no_run
//! use futures::StreamExt;
//! use kthena_sdk::api::ModelRoute;
//! use kthena_sdk::kube::{Api, Client};
//! use kthena_sdk::watch::{self, Change};
//!
//! # async fn example() -> Result<(), kthena_sdk::kube::Error> {
//! let routes: Api<ModelRoute> = Api::all(Client::try_default().await?);
//! let mut changes = std::pin::pin!(watch::changes(routes, watch::Selector::default()));
//! while let Some(change) = changes.next().await {
//!     match change {
//!         Change::Reset(all) => println!("there are {} routes", all.len()),
//!         Change::Apply(route) => println!("{:?} changed", route.metadata.name),
//!         Change::Delete(route) => println!("{:?} is gone", route.metadata.name),
//!         Change::Undecodable { name, error, .. } => println!("{name} cannot be read: {error}"),
//!         Change::Interrupted(error) => println!("the watch broke and is made anew: {error}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod guard;
pub mod optional;

use std::fmt::Debug;

use futures::{Stream, StreamExt, stream};
use kube::Api;
use kube::core::Resource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;

use self::guard::Guarded;
use crate::rbac::{Rule, Verb};

/// Which objects to follow.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// A label selector as `kubectl get -l` takes it; none for all objects.
    pub labels: Option<String>,
    /// A field selector as `kubectl get --field-selector` takes it; none for all objects.
    pub fields: Option<String>,
}

/// What happened to the objects of a kind.
#[derive(Debug)]
pub enum Change<K> {
    /// These are all there are. Comes first, and again whenever the watch had to be made anew: what is not among them is gone,
    /// also if nobody saw it go.
    Reset(Vec<K>),
    /// An object is new or different.
    Apply(K),
    /// An object is gone; this is how it last was.
    Delete(K),
    /// An object is stored that this version cannot decode. The others go on; one bad object does not stop the watch.
    Undecodable {
        /// Its namespace; empty for kinds without.
        namespace: String,
        /// Its name.
        name: String,
        /// What is wrong with it.
        error: String,
    },
    /// The connection to the API server broke. What is known stays as it is; a [`Change::Reset`] follows once it is back.
    Interrupted(watcher::Error),
}

/// Follows the objects of an API for as long as the stream is polled, through restarts of the API server, with growing pauses
/// between attempts.
pub fn changes<K>(api: Api<K>, selector: Selector) -> impl Stream<Item = Change<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let guarded: Api<Guarded<K>> = guard(api);
    let config = selector
        .labels
        .iter()
        .fold(watcher::Config::default(), |config, labels| config.labels(labels));
    let config = selector
        .fields
        .iter()
        .fold(config, |config, fields| config.fields(fields));
    let events = watcher::watcher(guarded, config).default_backoff();
    stream::unfold(
        (Box::pin(events), Vec::new()),
        |(mut events, mut listed)| async move {
            loop {
                let change = match events.next().await? {
                    Err(error) => Change::Interrupted(error),
                    Ok(Event::Init) => {
                        listed.clear();
                        continue;
                    }
                    Ok(Event::InitApply(object)) => match decoded(object) {
                        Ok(object) => {
                            listed.push(object);
                            continue;
                        }
                        Err(undecodable) => undecodable,
                    },
                    Ok(Event::InitDone) => Change::Reset(std::mem::take(&mut listed)),
                    Ok(Event::Apply(object)) => {
                        decoded(object).map_or_else(|undecodable| undecodable, Change::Apply)
                    }
                    Ok(Event::Delete(object)) => {
                        decoded(object).map_or_else(|undecodable| undecodable, Change::Delete)
                    }
                };
                return Some((change, (events, listed)));
            }
        },
    )
}

/// What following a kind takes, in all namespaces or in those that are followed.
///
/// ```
/// use kthena_sdk::api::ModelServer;
///
/// let rule = kthena_sdk::watch::rule::<ModelServer>();
/// assert_eq!((rule.resource.as_str(), rule.verbs.len()), ("modelservers", 2));
/// ```
#[must_use]
pub fn rule<K: Resource<DynamicType = ()>>() -> Rule {
    Rule::of::<K>([Verb::List, Verb::Watch])
}

/// The same API, with objects that may fail to decode one by one.
fn guard<K>(api: Api<K>) -> Api<Guarded<K>>
where
    K: Resource<DynamicType = ()>,
{
    match api.namespace().map(str::to_owned) {
        Some(namespace) => Api::namespaced_with(api.into_client(), &namespace, &()),
        None => Api::all(api.into_client()),
    }
}

fn decoded<K: Resource>(object: Guarded<K>) -> Result<K, Change<K>> {
    object.0.map_err(|invalid| Change::Undecodable {
        namespace: invalid.metadata.namespace.unwrap_or_default(),
        name: invalid.metadata.name.unwrap_or_default(),
        error: invalid.error,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::Client;

    use super::*;

    #[tokio::test]
    async fn an_api_of_one_namespace_is_followed_there() {
        let silent = tower::service_fn(|_request: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, tower::BoxError>>()
        });
        let client = Client::new(silent, "default");
        let one = guard(Api::<Pod>::namespaced(client.clone(), "models"));
        assert_eq!(one.resource_url(), "/api/v1/namespaces/models/pods");
        assert_eq!(guard(Api::<Pod>::all(client)).resource_url(), "/api/v1/pods");
    }
}
