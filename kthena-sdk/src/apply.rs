//! Server-side apply, always as the same field manager.
//!
//! ```no_run
//! use kthena_sdk::api::{ModelServing, ModelServingSpec};
//! use kthena_sdk::apply::Applier;
//! use kthena_sdk::kube::Client;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let applier = Applier::new(Client::try_default().await?, "my-operator");
//! let mut serving = ModelServing::new("llama", ModelServingSpec::default());
//! serving.metadata.namespace = Some("default".into());
//! let applied = applier.apply(&serving).await?;
//! println!("{:?} is at generation {:?}", applied.metadata.name, applied.metadata.generation);
//! # Ok(())
//! # }
//! ```

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Why something could not be applied.
#[derive(Debug, thiserror::Error)]
#[error("applying {kind} {name} failed")]
pub struct Error {
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// What the API server says, or why it was not asked.
    #[source]
    pub source: Box<kube::Error>,
}

/// Who applies: a client, and the name under which fields are owned. Fields of the same name that others own are taken over.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # #[cfg(feature = "testing")] {
/// use kthena_sdk::apply::Applier;
/// use kthena_sdk::testing::{FakeApi, serving};
///
/// let api = FakeApi::new();
/// let applier = Applier::new(api.client(), "my-operator");
/// let made = applier.apply(&serving("llama").build()).await.unwrap();
/// let same = applier.apply(&made).await.unwrap();
/// assert_eq!(same.metadata.resource_version, made.metadata.resource_version);
/// # }
/// # });
/// ```
#[derive(Clone)]
pub struct Applier {
    client: Client,
    manager: String,
}

impl Applier {
    /// Applies under this name, which is to stay the same for as long as the operator exists.
    #[must_use]
    pub fn new(client: Client, manager: impl Into<String>) -> Self {
        Self {
            client,
            manager: manager.into(),
        }
    }

    /// Makes an object, or makes it what is given here. What was applied before and is left out now goes; what others have written
    /// besides stays. The status is not touched.
    ///
    /// # Errors
    ///
    /// What the API server says; or that the object is not JSON.
    pub async fn apply<K>(&self, object: &K) -> Result<K, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let mut value =
            serde_json::to_value(object).map_err(|error| failed(object, kube::Error::SerdeError(error)))?;
        let typed = value.as_object_mut().into_iter();
        for members in typed {
            members.remove("status");
            members.insert("apiVersion".to_owned(), K::api_version(&()).into());
            members.insert("kind".to_owned(), K::kind(&()).into());
        }
        if let Some(metadata) = value["metadata"].as_object_mut() {
            // What the API server writes is nobody's to own.
            for key in [
                "managedFields",
                "resourceVersion",
                "uid",
                "generation",
                "creationTimestamp",
            ] {
                metadata.remove(key);
            }
        }
        let (name, api) = self.place(object);
        let params = PatchParams::apply(&self.manager).force();
        let applied = api.patch(name, &params, &Patch::Apply(value)).await;
        applied.map_err(|source| failed(object, source))
    }

    /// Makes the status of an object what is given here, and nothing else of it. `None` if the object is gone.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # #[cfg(feature = "testing")] {
    /// use kthena_sdk::apply::Applier;
    /// use kthena_sdk::testing::{FakeApi, serving};
    ///
    /// let api = FakeApi::new();
    /// let applier = Applier::new(api.client(), "my-operator");
    /// let serving = api.add(&serving("llama").build());
    /// let status = serde_json::json!({ "replicas": 1 });
    /// let written = applier.apply_status(&serving, &status).await.unwrap().unwrap();
    /// assert_eq!(written.status.unwrap().replicas, Some(1));
    /// # }
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// What the API server says; or that the status is not JSON.
    pub async fn apply_status<K>(
        &self,
        object: &K,
        status: &(impl Serialize + Sync),
    ) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let (name, api) = self.place(object);
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name },
            "status": status,
        });
        let params = PatchParams::apply(&self.manager).force();
        match api.patch_status(name, &params, &Patch::Apply(patch)).await {
            Ok(written) => Ok(Some(written)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(source) => Err(failed(object, source)),
        }
    }

    fn place<'a, K>(&self, object: &'a K) -> (&'a str, Api<K>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let metadata = object.meta();
        let client = self.client.clone();
        let api = match &metadata.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        (metadata.name.as_deref().unwrap_or_default(), api)
    }
}

fn failed<K: Resource<DynamicType = ()>>(object: &K, source: kube::Error) -> Error {
    Error {
        kind: K::kind(&()).into_owned(),
        name: object.meta().name.clone().unwrap_or_default(),
        source: Box::new(source),
    }
}

/// Whether all that is wanted is there: each member with its value, each list with as many elements that are so. Then there is no need to apply it, unless something
/// was applied before that is left out now, which this cannot see.
///
/// ```
/// use kthena_sdk::apply::covers;
/// use serde_json::json;
///
/// let found = json!({ "replicas": 2, "schedulerName": "volcano", "roles": [{ "name": "a", "replicas": 1 }] });
/// assert!(covers(&found, &json!({ "replicas": 2, "roles": [{ "name": "a" }] })));
/// assert!(!covers(&found, &json!({ "replicas": 3 })));
/// assert!(!covers(&found, &json!({ "roles": [] })), "there is one too many");
/// ```
pub fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| found.get(key).is_some_and(|found| covers(found, wanted))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found
                    .iter()
                    .zip(wanted)
                    .all(|(found, wanted)| covers(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}
