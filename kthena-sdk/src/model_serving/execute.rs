//! Doing what a plan says.
//!
//! ```
//! use std::sync::Arc;
//!
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::k8s_openapi::jiff::Timestamp;
//! use kthena_sdk::kube::Client;
//! use kthena_sdk::model_serving::execute::{Error, Executor};
//! use kthena_sdk::model_serving::index::Index;
//! use kthena_sdk::model_serving::plan;
//!
//! /// Goes one step towards what a ModelServing asks for.
//! async fn step(client: Client, index: Arc<Index>, serving: &ModelServing) -> Result<(), Error> {
//!     let key = ("default".to_owned(), serving.metadata.name.clone().unwrap_or_default());
//!     let plan = plan(serving, &index.observe(&key), Timestamp::now());
//!     let executor = Executor { client, index };
//!     executor.run(&key, &plan.actions).await?;
//!     executor.write_status(&key, &plan.status).await?;
//!     Ok(())
//! }
//! ```

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod as KubePod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kthena_api::{ModelServing, ModelServingStatus};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource};
use serde_json::json;

use super::gang::{self, PodGroup, PodGroupObject};
use super::index::{Index, Indexed, Key};
use super::lean::LeanPod;
use super::{Action, NewPod, Pods, Target, controller};
use crate::rbac::{Rights, Rule, Verb};

/// Who writes, as server-side apply and audit logs know it.
pub const FIELD_MANAGER: &str = "kthena-controller";
/// Requests of one plan that are under way at a time. Workers multiply it; with many more an API server does less, not more.
pub(super) const AT_ONCE: usize = 4;

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {kind} {name} failed")]
pub struct Error {
    /// What was tried.
    pub verb: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// What the API server says.
    #[source]
    pub source: Box<kube::Error>,
}

/// What a ModelServing may own.
trait Own:
    Indexed
    + Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
{
}

impl<K> Own for K where
    K: Indexed
        + Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
{
}

/// Carries out plans.
#[derive(Clone)]
pub struct Executor {
    /// The API server.
    pub client: Client,
    /// What is told what was done.
    pub index: Arc<Index>,
}

/// Actions in the order of their kinds: what later ones rely on comes first.
pub(super) const fn stage(action: &Action) -> u8 {
    match action {
        Action::CreateRevision(_) | Action::RenumberRevision { .. } => 0,
        Action::ApplyPodGroup(_) => 1,
        Action::DeletePods(_) => 2,
        Action::DeletePodGroup(_) | Action::DeleteService(_) => 3,
        Action::CreatePod(_) | Action::CreateService(_) => 4,
        // Where somebody else's budget has the name, everything else is done all the same.
        Action::CreateBudget(_) | Action::UpdateBudget(_) | Action::DeleteBudget(_) => 5,
        Action::DeleteRevision { .. } => 6,
    }
}

/// What carrying out plans takes, in every namespace with ModelServings.
///
/// ```
/// use kthena_sdk::rbac::Verb;
///
/// let rights = kthena_sdk::model_serving::execute::rights();
/// assert!(rights.allow_everywhere("", "pods", Verb::DeleteCollection, None));
/// assert!(!rights.allow_everywhere("", "pods", Verb::Watch, None));
/// ```
#[must_use]
pub fn rights() -> Rights {
    // What was to be made and is there already is read. Applying takes the right to make, also where there is something.
    let make = [Verb::Create, Verb::Get];
    let apply = [Verb::Create, Verb::Patch];
    Rights::everywhere([
        Rule::of::<KubePod>(make),
        Rule::of::<KubePod>([Verb::Delete, Verb::DeleteCollection]),
        Rule::of::<Service>(make),
        Rule::of::<Service>([Verb::Delete]),
        Rule::of::<ControllerRevision>(make),
        // Its number.
        Rule::of::<ControllerRevision>([Verb::Patch, Verb::Delete]),
        Rule::of::<PodGroupObject>(apply),
        Rule::of::<PodGroupObject>([Verb::Delete]),
        Rule::of::<PodDisruptionBudget>(make),
        Rule::of::<PodDisruptionBudget>(apply),
        Rule::of::<PodDisruptionBudget>([Verb::Delete]),
        Rule::of::<ModelServing>([Verb::Patch]).subresource("status"),
        // Owner references that block the owner's deletion, where the API server asks for it.
        Rule::of::<ModelServing>([Verb::Update]).subresource("finalizers"),
    ])
}

impl Executor {
    /// Does what a plan says, stage by stage. After the first failure nothing new is begun.
    ///
    /// # Errors
    ///
    /// The first failure. The next plan goes on from what was done.
    pub async fn run(&self, key: &Key, actions: &[Action]) -> Result<(), Error> {
        for number in 0..=6 {
            let mut requests = Vec::<BoxFuture<'_, Result<(), Error>>>::new();
            for action in actions {
                if stage(action) == number {
                    requests.push(self.act(key, action).boxed());
                }
            }
            let mut results = stream::iter(requests).buffer_unordered(AT_ONCE);
            while let Some(result) = results.next().await {
                result?;
            }
        }
        Ok(())
    }

    async fn act(&self, key: &Key, action: &Action) -> Result<(), Error> {
        match action {
            Action::CreateRevision(object) => self.create(key, object.as_ref()).await,
            Action::CreateService(object) => self.create(key, object.as_ref()).await,
            Action::CreatePod(new) => self.create_pod(key, new).await,
            Action::RenumberRevision { object, number } => self.renumber(key, object, *number).await,
            Action::DeleteRevision { object } => self.delete::<ControllerRevision>(key, object, None).await,
            Action::ApplyPodGroup(object) => self.apply_pod_group(key, object).await,
            Action::DeletePodGroup(Target { name, uid }) => {
                self.delete::<PodGroupObject>(key, name, Some(uid)).await
            }
            Action::DeleteService(Target { name, uid }) => self.delete::<Service>(key, name, Some(uid)).await,
            Action::CreateBudget(object) => self.create(key, object.as_ref()).await,
            Action::UpdateBudget(object) => {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                self.apply::<PodDisruptionBudget>(key, name, object)
                    .await
                    .map(drop)
            }
            Action::DeleteBudget(Target { name, uid }) => {
                self.delete::<PodDisruptionBudget>(key, name, Some(uid)).await
            }
            Action::DeletePods(pods) => self.delete_pods(key, pods).await,
        }
    }

    fn api<K>(&self, key: &Key) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &key.0)
    }

    async fn create<K>(&self, key: &Key, object: &K) -> Result<(), Error>
    where
        K: Own + serde::Serialize,
    {
        let api = self.api::<K>(key);
        let meta = object.meta();
        let name = meta.name.clone().unwrap_or_default();
        match api.create(&post(), object).await {
            Ok(made) => self.index.made(&made),
            Err(error) if is_conflict(&error) => self.find::<K>(key, &name, meta, error).await?,
            Err(source) => return Err(failed("creating", kind_of::<K>(), name, source)),
        }
        Ok(())
    }

    async fn create_pod(&self, key: &Key, new: &NewPod) -> Result<(), Error> {
        // As JSON: the types know neither every field nor every notation. Of the answer, nobody needs more than the metadata.
        let name = new.pod["metadata"]["name"].as_str().unwrap_or_default();
        let failed = |error| failed("creating", "Pod", name.to_owned(), error);
        let body = serde_json::to_vec(&new.pod)
            .map_err(kube::Error::SerdeError)
            .map_err(failed)?;
        let path = KubePod::url_path(&(), Some(&key.0));
        let request = kube::core::Request::new(path)
            .create(&post(), body)
            .map_err(kube::Error::BuildRequest)
            .map_err(failed)?;
        match self.client.request::<LeanPod>(request).await {
            Ok(made) => {
                self.index.made(&made);
                Ok(())
            }
            Err(error) if is_conflict(&error) => {
                let metadata = serde_json::from_value(new.pod["metadata"].clone())
                    .map_err(kube::Error::SerdeError)
                    .map_err(failed)?;
                self.find::<LeanPod>(key, name, &metadata, error).await
            }
            Err(source) => Err(failed(source)),
        }
    }

    /// Finds what has the name of something that was to be made. If it is that very thing, of which the watch has not told yet, all is well.
    async fn find<K: Own>(
        &self,
        key: &Key,
        name: &str,
        wanted: &ObjectMeta,
        conflict: kube::Error,
    ) -> Result<(), Error> {
        let found = self.api::<K>(key).get_opt(name).await;
        let found = found.map_err(|source| failed("reading", kind_of::<K>(), name.to_owned(), source))?;
        let Some(found) = found else {
            // It is gone. The next plan makes it.
            return Err(failed("creating", kind_of::<K>(), name.to_owned(), conflict));
        };
        let owner = |metadata: &ObjectMeta| controller(metadata).map(|owner| owner.uid.clone());
        if owner(found.meta()) != owner(wanted) {
            return Err(failed("creating", kind_of::<K>(), name.to_owned(), conflict));
        }
        self.index.made(&found);
        Ok(())
    }

    async fn renumber(&self, key: &Key, object: &str, number: i64) -> Result<(), Error> {
        let patch = Patch::Merge(json!({ "revision": number }));
        let api = self.api::<ControllerRevision>(key);
        let patched = api
            .patch(object, &PatchParams::default(), &patch)
            .await
            .map_err(|source| failed("renumbering", "ControllerRevision", object.to_owned(), source))?;
        self.index.made(&patched);
        Ok(())
    }

    async fn apply<K: Own>(
        &self,
        key: &Key,
        name: &str,
        object: &(impl serde::Serialize + std::fmt::Debug),
    ) -> Result<K, Error> {
        let applied = self
            .api::<K>(key)
            .patch(name, &apply(), &Patch::Apply(object))
            .await
            .map_err(|source| failed("applying", kind_of::<K>(), name.to_owned(), source))?;
        self.index.made(&applied);
        Ok(applied)
    }

    async fn apply_pod_group(&self, key: &Key, object: &serde_json::Value) -> Result<(), Error> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let applied = self.apply::<PodGroupObject>(key, name, object).await?;
        let Some(surplus) = gang::surplus(object, &PodGroup::of(&applied)) else {
            return Ok(());
        };
        let api = self.api::<PodGroupObject>(key);
        let patched = api
            .patch(name, &PatchParams::default(), &Patch::Merge(surplus))
            .await
            .map_err(|source| failed("patching", "PodGroup", name.to_owned(), source))?;
        self.index.made(&patched);
        Ok(())
    }

    async fn delete<K: Own>(&self, key: &Key, name: &str, uid: Option<&str>) -> Result<(), Error> {
        match self.api::<K>(key).delete(name, &with_uid(uid)).await {
            Ok(_) => {}
            // It is gone, or another one by now.
            Err(error) if is_not_found(&error) || is_conflict(&error) => {}
            Err(source) => return Err(failed("deleting", kind_of::<K>(), name.to_owned(), source)),
        }
        self.index.removed::<K>(key, name, uid);
        Ok(())
    }

    async fn delete_pods(&self, key: &Key, going: &Pods) -> Result<(), Error> {
        let api = self.api::<KubePod>(key);
        let uids = || going.pods.iter().map(|pod| pod.uid.as_str());
        if let (Some(selector), 2..) = (&going.selector, going.pods.len()) {
            let all = ListParams::default().labels(selector);
            api.delete_collection(&DeleteParams::default(), &all)
                .await
                .map_err(|source| failed("deleting", "Pods", selector.clone(), source))?;
            self.index.told_to_go(key, uids());
            return Ok(());
        }
        for pod in &going.pods {
            match api.delete(&pod.name, &with_uid(Some(&pod.uid))).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) || is_conflict(&error) => {}
                Err(source) => return Err(failed("deleting", "Pod", pod.name.clone(), source)),
            }
            self.index.told_to_go(key, [pod.uid.as_str()]);
        }
        Ok(())
    }

    /// Writes the status. Returns the version of the object that came of it; `None` if the object is gone.
    ///
    /// # Errors
    ///
    /// What the API server says.
    pub async fn write_status(&self, key: &Key, status: &ModelServingStatus) -> Result<Option<u64>, Error> {
        let object = json!({
            "apiVersion": ModelServing::api_version(&()),
            "kind": ModelServing::kind(&()),
            "metadata": { "name": key.1 },
            "status": status,
        });
        let failed = |error| failed("writing the status of", "ModelServing", key.1.clone(), error);
        let path = ModelServing::url_path(&(), Some(&key.0));
        let request = kube::core::Request::new(path)
            .patch_subresource("status", &key.1, &apply(), &Patch::Apply(&object))
            .map_err(kube::Error::BuildRequest)
            .map_err(failed)?;
        match self.client.request::<Version>(request).await {
            Ok(written) => {
                let version = written.metadata.resource_version;
                Ok(version.and_then(|version| version.parse().ok()))
            }
            Err(error) if is_not_found(&error) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }
}

/// What is read of an answer.
#[derive(serde::Deserialize)]
struct Version {
    metadata: VersionMeta,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionMeta {
    resource_version: Option<String>,
}

fn kind_of<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "object",
    }
}

fn failed(verb: &'static str, kind: &'static str, name: String, source: kube::Error) -> Error {
    Error {
        verb,
        kind,
        name,
        source: Box::new(source),
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

fn with_uid(uid: Option<&str>) -> DeleteParams {
    DeleteParams {
        preconditions: uid.map(|uid| Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    code(error) == Some(409)
}

fn is_not_found(error: &kube::Error) -> bool {
    code(error) == Some(404)
}

#[cfg(test)]
mod tests;
